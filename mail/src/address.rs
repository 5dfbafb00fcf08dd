//! Addresses that mail goes to.

use std::fmt;

use thiserror::Error;

/// The most bytes of an address (RFC 5321 with its erratum 1690).
const MAX: usize = 254;
/// The most bytes of what stands before the `@`.
const MAX_LOCAL: usize = 64;

/// One address, as strict as can be: no name, no comments, no quotes, no routes, no literal addresses of hosts. Its
/// domain is lower case and ASCII.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(lettre::Address);

/// Why a text is no address that mail goes to: in words for those who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It is too long.
    #[error("an address has at most {MAX} characters, {MAX_LOCAL} of them before the @")]
    TooLong,
    /// It isn't one.
    #[error("an address has one @")]
    NotOne,
    /// The part before the `@`.
    #[error("before the @ are letters a to z, digits, single dots and some signs, such as + and -")]
    Local,
    /// The part after the `@`.
    #[error("after the @ is the name of a domain, such as example.org")]
    Domain,
}

impl Address {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // Names of other scripts get longer in ASCII, never shorter than a quarter.
        if text.len() > 4 * MAX {
            return Err(AddressError::TooLong);
        }
        let (local, domain) = text.split_once('@').ok_or(AddressError::NotOne)?;
        if domain.contains('@') {
            return Err(AddressError::NotOne);
        }
        if !is_local(local) {
            return Err(AddressError::Local);
        }
        let domain = domain_of(domain).ok_or(AddressError::Domain)?;
        if local.len() > MAX_LOCAL || local.len() + 1 + domain.len() > MAX {
            return Err(AddressError::TooLong);
        }
        let address = lettre::Address::new(local, domain).map_err(|_| AddressError::NotOne)?;
        Ok(Self(address))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    /// What stands after the `@`.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    pub(crate) fn for_smtp(&self) -> lettre::Address {
        self.0.clone()
    }
}

impl fmt::Debug for Address {
    /// Who it is stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address(…@{})", self.domain())
    }
}

/// Atoms with single dots between them. What some servers take for routes or commands is none.
fn is_local(local: &str) -> bool {
    let is_sign = |c: char| c.is_ascii_alphanumeric() || "#$&'*+-/=?^_{}~".contains(c);
    let mut atoms = local.split('.');
    atoms.all(|atom| !atom.is_empty() && atom.chars().all(is_sign))
}

/// A domain's name in ASCII; at least two labels.
fn domain_of(text: &str) -> Option<String> {
    let domain = idna::domain_to_ascii(text).ok()?;
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = domain.rsplit('.').next()?;
    let is_domain = domain.contains('.')
        && domain.split('.').all(is_label)
        && !top.bytes().all(|b| b.is_ascii_digit());
    is_domain.then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, AddressError> {
        Address::parse(text).map(|address| address.as_str().to_owned())
    }

    #[test]
    fn usual_addresses() {
        for text in [
            "alice@example.org",
            "Alice.B+matrix@mail.example.org",
            "o'neil_{x}=#$&*/?^~-1@a-b.example",
            "a@b.co",
        ] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn domains_become_lower_case_and_ascii() {
        assert_eq!(read("A@Example.ORG").unwrap(), "A@example.org");
        assert_eq!(read("a@bücher.example").unwrap(), "a@xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_single_plain_address() {
        use AddressError::{Domain, Local, NotOne};
        for (text, why) in [
            ("", NotOne),
            ("alice", NotOne),
            ("a@b.example,c@d.example", NotOne),
            ("<@a.example,@b.example:c@d.example>", NotOne),
            ("@example.org", Local),
            ("Alice <a@example.org>", Local),
            ("\"a b\"@example.org", Local),
            ("a(comment)@example.org", Local),
            ("a..b@example.org", Local),
            (".a@example.org", Local),
            ("a.@example.org", Local),
            ("a%b.example@example.org", Local),
            ("b.example!a@example.org", Local),
            ("|program@example.org", Local),
            ("zoë@example.org", Local),
            (" a@example.org", Local),
            ("a\r\n@example.org", Local),
            ("a@", Domain),
            ("a@localhost", Domain),
            ("a@[127.0.0.1]", Domain),
            ("a@127.0.0.1", Domain),
            ("a@-a.example", Domain),
            ("a@a..example", Domain),
            ("a@example.org.", Domain),
            ("a@example.org\r\nRCPT TO:<b@example.org>", NotOne),
            ("a@example.org\r\nDATA", Domain),
            ("a@exa mple.org", Domain),
            ("a@example.org(comment)", Domain),
            ("a@%65xample.org", Domain),
            ("a@under_score.example", Domain),
        ] {
            assert_eq!(read(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn addresses_have_their_length() {
        let domain = |len: usize| {
            let label = "a".repeat(61);
            let long = format!("{label}.{label}.{label}.{}", "a".repeat(61));
            long[long.len() - len..].to_owned()
        };
        let local = "l".repeat(64);
        assert!(read(&format!("{local}@{}", domain(189))).is_ok());
        let too_long = Err(AddressError::TooLong);
        assert_eq!(read(&format!("{local}@{}", domain(190))), too_long);
        assert_eq!(read(&format!("l{local}@example.org")), too_long);
        assert_eq!(read(&"a".repeat(100_000)), too_long);
    }

    #[test]
    fn logs_dont_show_who_it_is() {
        let address = Address::parse("alice@example.org").unwrap();
        assert_eq!(format!("{address:?}"), "Address(…@example.org)");
    }
}
