//! Secrets and names that nobody can guess.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rhizome_federation::MatrixError;
use ring::rand::{SecureRandom as _, SystemRandom};

/// `N` random bytes of the operating system.
pub fn bytes<const N: usize>() -> Result<[u8; N], MatrixError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        tracing::error!("the operating system gives no random bytes");
        MatrixError::internal()
    })?;
    Ok(bytes)
}

/// A secret of 256 bits, as text for a header or a URL.
pub fn secret() -> Result<String, MatrixError> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<32>()?))
}

/// `N` random letters of `alphabet`.
pub fn name<const N: usize>(alphabet: &[u8]) -> Result<String, MatrixError> {
    let letter = |byte: u8| char::from(alphabet[usize::from(byte) % alphabet.len()]);
    Ok(bytes::<N>()?.into_iter().map(letter).collect())
}

/// A device id: ten capitals, about 47 bits, which need only be unique within one user.
pub fn device_id() -> Result<ruma::OwnedDeviceId, MatrixError> {
    Ok(name::<10>(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")?.into())
}
