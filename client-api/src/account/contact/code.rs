//! Codes that are sent to addresses.

use rhizome_edge::MatrixError;
use rhizome_storage::random;

use crate::auth::{token::hash_of, validated::Medium};

/// Letters and digits that aren't taken for one another: 40 bits of them, of which ten may be tried.
const LETTERS: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
const DIGITS: &[u8] = b"0123456789";
const LENGTH: usize = 8;

/// How long a session lives until its code is entered, in milliseconds.
pub(super) const LIFETIME_MS: i64 = 24 * 60 * 60 * 1000;
/// How long it lives after that: as long as a registration may take. Who had a mailbox for a moment can't set a password
/// by it tomorrow.
pub(super) const VALIDATED_MS: i64 = 60 * 60 * 1000;

/// A new code: digits where it is typed off a telephone.
pub(super) fn new(medium: Medium) -> Result<String, MatrixError> {
    let alphabet = match medium {
        Medium::Email => LETTERS,
        Medium::Msisdn => DIGITS,
    };
    Ok(random::letters(alphabet, LENGTH)?)
}

/// What is kept of a code, however it was typed.
pub(super) fn hash(code: &str) -> String {
    let typed: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    hash_of(&typed.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_typed() {
        let code = new(Medium::Email).unwrap();
        assert_eq!(code.len(), LENGTH);
        assert_eq!(hash(&format!(" {} ", code.to_uppercase())), hash(&code));
        assert_ne!(hash("x"), hash("y"));
        let digits = new(Medium::Msisdn).unwrap();
        assert!(digits.bytes().all(|b| b.is_ascii_digit()));
    }
}
