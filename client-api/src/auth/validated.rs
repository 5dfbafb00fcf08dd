//! Third-party identifiers whose owner has shown that they are theirs.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_mail::Address;
pub(crate) use rhizome_storage::{Medium, ThirdParty};

use crate::{App, auth::token::hash_of};

/// A telephone number has at most so many digits (E.164), and the shortest that anybody has are not shorter than that.
const DIGITS: std::ops::RangeInclusive<usize> = 5..=15;

/// For what an identifier was validated: it is good for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To register with it.
    Registration,
    /// To set a new password.
    PasswordReset,
    /// To add it to an account.
    Adding,
}

impl Purpose {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Registration => "register",
            Self::PasswordReset => "password",
            Self::Adding => "add",
        }
    }
}

/// What was validated in a session, for this purpose and by who knows the client's secret. The session goes on until
/// [`used`].
///
/// # Errors
/// 401 `M_THREEPID_AUTH_FAILED` if there is no such session, or nobody has entered its code yet: all of that is one, so that
/// nobody learns of sessions of others.
pub(crate) async fn validated(
    app: &App,
    sid: &str,
    client_secret: &str,
    purpose: Purpose,
) -> Result<ThirdParty, MatrixError> {
    let found = app.store.validation(sid).await?;
    let found = found.filter(|found| {
        found.purpose == purpose.name()
            && found.secret == hash_of(client_secret)
            && found.validated_ms.is_some()
    });
    found
        .map(|found| found.third_party)
        .ok_or_else(not_validated)
}

/// Nothing was validated, or not by whoever says so, or for something else.
pub(crate) fn not_validated() -> MatrixError {
    let message = "The address hasn't been confirmed in this session, or not for this purpose";
    MatrixError::new(StatusCode::UNAUTHORIZED, "M_THREEPID_AUTH_FAILED", message)
}

/// Ends a session that has served; `false` if another request was first: then nothing may come of this one.
pub(crate) async fn used(app: &App, sid: &str) -> Result<bool, MatrixError> {
    Ok(app.store.end_validation(sid).await?)
}

/// An identifier in its canonical form (specification, appendices, "3PID Types").
///
/// # Errors
/// 400 `M_INVALID_PARAM` if it is none, or of an unknown medium.
pub(crate) fn third_party(medium: &str, address: &str) -> Result<ThirdParty, MatrixError> {
    match Medium::named(medium) {
        Some(Medium::Email) => email(address),
        Some(Medium::Msisdn) => msisdn(address),
        None => Err(MatrixError::invalid_param(
            "The medium is either email or msisdn",
        )),
    }
}

/// An e-mail address, to which mail goes as it is: what stands before its `@` is ASCII, so that small letters are all that it
/// takes to fold its case.
pub(crate) fn email(address: &str) -> Result<ThirdParty, MatrixError> {
    let address = Address::parse(address);
    let address = address.map_err(|error| MatrixError::invalid_param(format!("email: {error}")))?;
    Ok(ThirdParty {
        medium: Medium::Email,
        address: address.as_str().to_ascii_lowercase(),
    })
}

/// A telephone number as E.164 has it, without a plus sign and with or without what people put between digits.
pub(crate) fn msisdn(number: &str) -> Result<ThirdParty, MatrixError> {
    let number = number.trim();
    let number = number.strip_prefix('+').unwrap_or(number);
    let is_between = |c: char| matches!(c, ' ' | '-' | '.' | '/' | '(' | ')');
    let digits: String = number.chars().filter(|c| !is_between(*c)).collect();
    let is_number = DIGITS.contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    if !is_number {
        let message = "A telephone number has its country's code and at most 15 digits";
        return Err(MatrixError::invalid_param(message));
    }
    Ok(ThirdParty {
        medium: Medium::Msisdn,
        address: digits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_one_form() {
        for (medium, given, canonical) in [
            ("email", "Bob@Example.COM", "bob@example.com"),
            (
                "email",
                "b.o+x@bücher.example",
                "b.o+x@xn--bcher-kva.example",
            ),
            ("msisdn", "+44 (1632) 960-001", "441632960001"),
            ("msisdn", "441632960001", "441632960001"),
        ] {
            let read = third_party(medium, given).unwrap();
            assert_eq!(read.address, canonical);
            let again = third_party(medium, &read.address).unwrap();
            assert_eq!(again, read);
        }
    }

    #[test]
    fn what_is_none() {
        let long = "1".repeat(16);
        for (medium, given) in [
            ("email", "bob"),
            ("email", "Bob <bob@example.com>"),
            ("email", "a@x.example\r\nTo: b@x.example"),
            ("msisdn", ""),
            ("msisdn", "0163296000"),
            ("msisdn", "12a45678"),
            ("msisdn", &long),
            ("pigeon", "bob@example.com"),
        ] {
            assert!(third_party(medium, given).is_err(), "{given}");
        }
    }
}
