//! What every pusher has to be, of whatever kind.

use url::Url;

use crate::error::PusherError;
use crate::notification::Device;

/// The most characters of an app's id.
const MAX_APP_ID: usize = 64;
/// The most bytes of a pushkey.
const MAX_PUSHKEY: usize = 512;
/// The most bytes of a pusher's `data` as JSON: it goes out with every notification.
const MAX_DATA: usize = 4096;
/// The most bytes of an address.
const MAX_URL: usize = 2048;

/// Which schemes will do for addresses that users name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Schemes {
    /// `https` alone, as the specification says.
    #[default]
    Https,
    /// `http`, too: for tests, and networks that the operator trusts.
    Any,
}

/// Checks what pushers of all kinds have.
pub(crate) fn check(device: &Device) -> Result<(), PusherError> {
    if device.app_id.is_empty() {
        return Err(PusherError::Missing("app_id"));
    }
    if device.pushkey.is_empty() {
        return Err(PusherError::Missing("pushkey"));
    }
    let most = |field, most, unit| PusherError::TooLarge { field, most, unit };
    if device.app_id.chars().count() > MAX_APP_ID {
        return Err(most("app_id", MAX_APP_ID, "characters"));
    }
    if device.pushkey.len() > MAX_PUSHKEY {
        return Err(most("pushkey", MAX_PUSHKEY, "bytes"));
    }
    let data = serde_json::to_vec(&device.data).map_or(usize::MAX, |data| data.len());
    if data > MAX_DATA {
        return Err(most("data", MAX_DATA, "bytes"));
    }
    Ok(())
}

/// The address in a pusher's `data`.
pub(crate) fn url(device: &Device, schemes: Schemes) -> Result<Url, PusherError> {
    const FIELD: &str = "data.url";
    let invalid = |why| PusherError::Invalid { field: FIELD, why };
    if !device.data.contains_key("url") {
        return Err(PusherError::Missing(FIELD));
    }
    let text = device.text("url").ok_or(invalid("must be a string"))?;
    address(FIELD, text, schemes)
}

/// An address that a user named in this field.
pub(crate) fn address(
    field: &'static str,
    text: &str,
    schemes: Schemes,
) -> Result<Url, PusherError> {
    let invalid = |why| PusherError::Invalid { field, why };
    if text.len() > MAX_URL {
        return Err(PusherError::TooLarge {
            field,
            most: MAX_URL,
            unit: "bytes",
        });
    }
    let url = Url::parse(text).map_err(|_| invalid("must be a URL"))?;
    match (url.scheme(), schemes) {
        ("https", _) | ("http", Schemes::Any) => {}
        _ => return Err(invalid("must be an HTTPS URL")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must not hold a user's name or password"));
    }
    if url.fragment().is_some() {
        return Err(invalid("must not have a fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::device;

    fn read(url: &serde_json::Value, schemes: Schemes) -> Result<String, String> {
        let device = device("key", &json!({ "url": url }));
        super::url(&device, schemes)
            .map(|url| url.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_https_and_hold_no_secrets_of_their_own() {
        let https = |url| read(&json!(url), Schemes::Https);
        assert_eq!(
            https("https://Push.Example.org/x?a=b").unwrap(),
            "https://push.example.org/x?a=b"
        );
        for (bad, why) in [
            ("http://example.org/", "data.url must be an HTTPS URL"),
            ("file:///etc/passwd", "data.url must be an HTTPS URL"),
            ("example.org", "data.url must be a URL"),
            ("https://", "data.url must be a URL"),
            (
                "https://me@example.org/",
                "data.url must not hold a user's name or password",
            ),
            (
                "https://:pw@example.org/",
                "data.url must not hold a user's name or password",
            ),
            (
                "https://example.org/#x",
                "data.url must not have a fragment",
            ),
        ] {
            assert_eq!(https(bad).unwrap_err(), why, "{bad}");
        }
        assert_eq!(
            read(&json!(1), Schemes::Https).unwrap_err(),
            "data.url must be a string"
        );
        let long = format!("https://example.org/{}", "x".repeat(MAX_URL));
        assert_eq!(
            read(&json!(long), Schemes::Https).unwrap_err(),
            "data.url has more than 2048 bytes"
        );
        assert!(read(&json!("http://example.org/"), Schemes::Any).is_ok());
        assert!(read(&json!("ftp://example.org/"), Schemes::Any).is_err());
    }

    #[test]
    fn what_pushers_hold_is_bounded() {
        let wrong = |app_id: &str, pushkey: &str, data| {
            let mut device = device(pushkey, &data);
            app_id.clone_into(&mut device.app_id);
            check(&device)
                .err()
                .map(|error| (error.errcode(), error.to_string()))
        };
        assert_eq!(wrong("app", "key", json!({})), None);
        assert_eq!(wrong(&"ä".repeat(64), &"k".repeat(512), json!({})), None);
        let missing = |what: &str| Some(("M_MISSING_PARAM", format!("{what} is missing")));
        assert_eq!(wrong("", "key", json!({})), missing("app_id"));
        assert_eq!(wrong("app", "", json!({})), missing("pushkey"));
        let large = |text: &str| Some(("M_INVALID_PARAM", text.to_owned()));
        assert_eq!(
            wrong(&"a".repeat(65), "key", json!({})),
            large("app_id has more than 64 characters")
        );
        assert_eq!(
            wrong("app", &"k".repeat(513), json!({})),
            large("pushkey has more than 512 bytes")
        );
        let data = json!({ "x": "y".repeat(MAX_DATA) });
        assert_eq!(
            wrong("app", "key", data),
            large("data has more than 4096 bytes")
        );
    }
}
