//! Encryption for one subscriber: the key of a message (RFC 8291), and its encoding `aes128gcm` (RFC 8188).

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::rand::SecureRandom;

/// The bytes of a public key, uncompressed.
pub(crate) const PUBLIC: usize = 65;
/// The bytes of an authentication secret.
pub(crate) const AUTH: usize = 16;

const SALT: usize = 16;
/// The size of a record: a message is always one.
const RECORD: u32 = 4096;
/// The bytes before the record: salt, size of records, length of the key's name, and the name.
const HEADER: usize = SALT + 4 + 1 + PUBLIC;
/// Ends the last record's text.
const LAST: u8 = 2;
/// The most bytes that every push service takes.
const MAX_BODY: usize = 4096;
/// The most bytes of a message.
pub(crate) const MAX_PLAINTEXT: usize = MAX_BODY - HEADER - 1 - AES_GCM_TAG;
const AES_GCM_TAG: usize = 16;

/// Encrypts a message for the holder of a private key, with a key and a salt that are used once. It's filled up to a
/// multiple of `padding`, so that its length says less.
pub(crate) fn encrypt(
    random: &dyn SecureRandom,
    subscriber: &[u8; PUBLIC],
    auth: &[u8; AUTH],
    plaintext: &[u8],
    padding: usize,
) -> Result<Vec<u8>, Unspecified> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Unspecified);
    }
    let private = EphemeralPrivateKey::generate(&ECDH_P256, random)?;
    let public = private.compute_public_key()?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, subscriber);
    let prk = agree_ephemeral(private, &peer, |shared| {
        Salt::new(HKDF_SHA256, auth).extract(shared)
    })?;
    let info = [b"WebPush: info\0", subscriber.as_slice(), public.as_ref()];
    let key: [u8; 32] = expand(&prk, &info)?;
    let mut salt = [0; SALT];
    random.fill(&mut salt)?;
    let length = (plaintext.len() + 1).next_multiple_of(padding.max(1));
    let padded = length.min(MAX_PLAINTEXT + 1);
    seal(&key, salt, public.as_ref(), plaintext, padded)
}

/// Encrypts a message as a single record, whose text is filled up to `padded` bytes.
fn seal(
    key: &[u8],
    salt: [u8; SALT],
    key_name: &[u8],
    plaintext: &[u8],
    padded: usize,
) -> Result<Vec<u8>, Unspecified> {
    let prk = Salt::new(HKDF_SHA256, &salt).extract(key);
    let key: [u8; 16] = expand(&prk, &[b"Content-Encoding: aes128gcm\0"])?;
    let nonce: [u8; NONCE_LEN] = expand(&prk, &[b"Content-Encoding: nonce\0"])?;
    let mut record = plaintext.to_vec();
    record.push(LAST);
    record.resize(padded.max(record.len()), 0);
    // The key is of this message alone, and there is no second record.
    let nonce = Nonce::assume_unique_for_key(nonce);
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?).seal_in_place_append_tag(
        nonce,
        Aad::empty(),
        &mut record,
    )?;
    let name_length = u8::try_from(key_name.len()).map_err(|_| Unspecified)?;
    let mut body = salt.to_vec();
    body.extend(RECORD.to_be_bytes());
    body.push(name_length);
    body.extend(key_name);
    body.extend(record);
    Ok(body)
}

/// How many bytes to derive.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> Result<[u8; N], Unspecified> {
    let mut bytes = [0; N];
    prk.expand(info, Length(N))?.fill(&mut bytes)?;
    Ok(bytes)
}

/// Whether this is a point on the curve.
pub(crate) fn is_public_key(random: &dyn SecureRandom, key: &[u8; PUBLIC]) -> bool {
    let Ok(private) = EphemeralPrivateKey::generate(&ECDH_P256, random) else {
        return false;
    };
    agree_ephemeral(private, &UnparsedPublicKey::new(&ECDH_P256, key), |_| ()).is_ok()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    #[allow(deprecated)] // Nothing else makes ring take the keys of test vectors.
    use ring::deprecated_test::rand::FixedSliceSequenceRandom;
    use ring::rand::SystemRandom;

    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap()
    }

    /// RFC 8188, section 3.1.
    #[test]
    fn the_encoding_is_that_of_rfc_8188() {
        let key: [u8; 16] = bytes("yqdlZ-tYemfogSmv7Ws5PQ");
        let salt = bytes("I1BsxtFttlv3u_Oo94xnmw");
        let sealed = seal(&key, salt, b"", b"I am the walrus", 0).unwrap();
        assert_eq!(
            URL_SAFE_NO_PAD.encode(sealed),
            "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg"
        );
    }

    /// RFC 8291, section 5 and appendix A.
    #[test]
    #[allow(deprecated)]
    fn a_message_is_encrypted_as_rfc_8291_says() {
        let private: [u8; 32] = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let salt: [u8; 16] = bytes("DGv6ra1nlYgDCS1FRnbzlw");
        let random = FixedSliceSequenceRandom {
            bytes: &[&private, &salt],
            current: std::cell::UnsafeCell::new(0),
        };
        let subscriber = bytes(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg");
        let plaintext = b"When I grow up, I want to be a watermelon";
        let body = encrypt(&random, &subscriber, &auth, plaintext, 1).unwrap();
        assert_eq!(
            URL_SAFE_NO_PAD.encode(body),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w\
             EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    #[test]
    fn lengths_say_little_and_stay_below_the_bound() {
        let random = SystemRandom::new();
        let subscriber = bytes(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let encrypted = |length| {
            let text = vec![b'x'; length];
            encrypt(&random, &subscriber, &[7; AUTH], &text, 256).map(|body| body.len())
        };
        let least = HEADER + AES_GCM_TAG;
        assert_eq!(encrypted(0).unwrap(), least + 256);
        assert_eq!(encrypted(255).unwrap(), least + 256);
        assert_eq!(encrypted(256).unwrap(), least + 512);
        assert_eq!(MAX_PLAINTEXT, 3993);
        assert_eq!(encrypted(MAX_PLAINTEXT).unwrap(), 4096);
        assert!(encrypted(MAX_PLAINTEXT + 1).is_err());
    }

    #[test]
    fn keys_and_salts_are_used_once() {
        let random = SystemRandom::new();
        let subscriber = bytes(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let head = || {
            let body = encrypt(&random, &subscriber, &[7; AUTH], b"x", 1).unwrap();
            (body[..SALT].to_vec(), body[SALT + 5..HEADER].to_vec())
        };
        let (one, other) = (head(), head());
        assert_ne!(one.0, other.0);
        assert_ne!(one.1, other.1);
    }

    #[test]
    fn a_key_is_a_point_on_the_curve() {
        let random = SystemRandom::new();
        let mut key: [u8; PUBLIC] = bytes(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        assert!(is_public_key(&random, &key));
        key[64] ^= 1;
        assert!(!is_public_key(&random, &key));
        assert!(!is_public_key(&random, &[4; PUBLIC]));
        assert!(!is_public_key(&random, &[0; PUBLIC]));
    }
}
