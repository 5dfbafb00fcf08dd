//! Services that the operator names.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use url::Url;

use crate::error::ConfigError;

/// Base64 with or without padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Checks an address that the operator set. `http` is for tests and proxies beside us.
pub(crate) fn check(what: &'static str, text: &str) -> Result<Url, ConfigError> {
    let why = "must be an HTTPS URL without a user's name and without a fragment";
    let url = Url::parse(text).map_err(|_| ConfigError::Value { what, why })?;
    let web = matches!(url.scheme(), "https" | "http");
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if web && plain {
        return Ok(url);
    }
    Err(ConfigError::Value { what, why })
}

/// An address below this one.
pub(crate) fn join(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn addresses_below_one_that_is_set() {
        let below = |base, segments: &[&str]| join(&url(base), segments).to_string();
        assert_eq!(
            below("https://a.example", &["3", "device", "x"]),
            "https://a.example/3/device/x"
        );
        assert_eq!(
            below("https://a.example/b/", &["3"]),
            "https://a.example/b/3"
        );
        assert_eq!(
            below("https://a.example/b?c=d", &["../e"]),
            "https://a.example/b/..%2Fe?c=d"
        );
    }

    #[test]
    fn what_is_set_is_an_address_of_the_web() {
        for good in ["https://a.example", "http://127.0.0.1:1234/b"] {
            assert!(check("it", good).is_ok());
        }
        for bad in [
            "ftp://a.example",
            "data:,",
            "https://me@a.example",
            "https://a.example/#b",
            "",
            "a.example",
        ] {
            assert!(check("it", bad).is_err(), "{bad}");
        }
    }
}
