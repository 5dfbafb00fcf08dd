//! Secrets and names that nobody can guess: all that is random here comes from the operating system.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::db;
use crate::{Error, Result};

/// `N` random bytes.
///
/// # Errors
/// The operating system gives none.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::broken("the operating system gives no random bytes"))?;
    Ok(bytes)
}

/// `N` random bytes as hexadecimal digits, two for each.
///
/// # Errors
/// As [`bytes`].
pub fn hex<const N: usize>() -> Result<String> {
    Ok(db::hex(&bytes::<N>()?))
}

/// A secret of 256 bits, as text for a header or a URL.
///
/// # Errors
/// As [`bytes`].
pub fn secret() -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<32>()?))
}

/// Random characters of `alphabet` (1 to 256 ASCII characters), none likelier than another.
///
/// # Errors
/// As [`bytes`].
pub fn letters(alphabet: &[u8], count: usize) -> Result<String> {
    let mut letters = String::with_capacity(count);
    // Only bytes below a multiple of the alphabet's length.
    let usable = 256 - 256 % alphabet.len();
    while letters.len() < count {
        let fair = bytes::<32>()?.into_iter().map(usize::from);
        let fair = fair
            .filter(|byte| *byte < usable)
            .take(count - letters.len());
        letters.extend(fair.map(|byte| char::from(alphabet[byte % alphabet.len()])));
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_length_and_all_letters_of_their_alphabet() {
        let name = letters(b"abc", 1_000).unwrap();
        assert_eq!(name.len(), 1_000);
        for letter in ['a', 'b', 'c'] {
            let count = name.chars().filter(|other| *other == letter).count();
            assert!((200..=500).contains(&count), "{letter}: {count} of 1,000");
        }
        assert_eq!(letters(b"x", 3).unwrap(), "xxx");
    }

    #[test]
    fn nothing_comes_twice() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
        assert_ne!(secret().unwrap(), secret().unwrap());
        assert_eq!(hex::<6>().unwrap().len(), 12);
    }
}
