//! Links in mails: web addresses and nothing else.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use url::Url;

/// The most bytes of a link, so that it fits into a header's line.
const MAX: usize = 970;
/// What may stand in a path or a fragment as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b':')
    .remove(b'@');

/// An `http` or `https` address.
#[derive(Clone, PartialEq, Eq)]
pub struct Link(String);

/// Why a text is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LinkError {
    /// It is too long.
    #[error("must have at most {MAX} characters")]
    TooLong,
    /// It is no web address.
    #[error("must be an address that begins with https:// or http://, without a user's name")]
    NotWeb,
    /// Of a template: it names something else.
    #[error("must name {{room}}, may name {{event}} and nothing else, both after the host's name")]
    Places,
}

impl Link {
    /// Reads a link.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let url = Url::parse(text).map_err(|_| LinkError::NotWeb)?;
        let is_web = matches!(url.scheme(), "https" | "http") && url.has_host();
        if !is_web || !url.username().is_empty() || url.password().is_some() {
            return Err(LinkError::NotWeb);
        }
        let text = String::from(url);
        if text.len() > MAX {
            return Err(LinkError::TooLong);
        }
        Ok(Self(text))
    }

    /// The link.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that leads nowhere.
    pub(crate) fn sample() -> Self {
        Self("https://example.org/sample".to_owned())
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Debug for Link {
    /// What comes after the host's name may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Url::parse(&self.0).ok();
        let host = host.as_ref().and_then(Url::host_str).unwrap_or_default();
        write!(f, "Link({host}…)")
    }
}

/// How links to rooms and events are made, such as `https://matrix.to/#/{room}/{event}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTemplate(String);

impl LinkTemplate {
    /// Reads a template. It names `{room}`, and may name `{event}`.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let rest = text.replacen("{room}", "", 1).replacen("{event}", "", 1);
        let host = text.find("://").map_or(0, |at| at + 3);
        let path = text[host..].find(['/', '?', '#']).map(|at| host + at);
        let place = text.find('{').unwrap_or_default();
        if rest.contains(['{', '}']) || !text.contains("{room}") || path.is_none_or(|at| at > place)
        {
            return Err(LinkError::Places);
        }
        let template = Self(text.to_owned());
        Link::parse(&template.event("!r:example.org", "$e"))?;
        Ok(template)
    }

    /// A link to a room.
    pub(crate) fn room(&self, room: &str) -> String {
        let text = self.0.replacen("/{event}", "", 1);
        fill(&text.replacen("{event}", "", 1), room, "")
    }

    /// A link to an event.
    pub(crate) fn event(&self, room: &str, event: &str) -> String {
        fill(&self.0, room, event)
    }
}

impl Default for LinkTemplate {
    /// To matrix.to, which asks people which client they use.
    fn default() -> Self {
        Self("https://matrix.to/#/{room}/{event}".to_owned())
    }
}

fn fill(text: &str, room: &str, event: &str) -> String {
    let escaped = |id| utf8_percent_encode(id, ESCAPED).to_string();
    // What is filled in has no braces any more.
    text.replacen("{room}", &escaped(room), 1)
        .replacen("{event}", &escaped(event), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_web_addresses() {
        let link = Link::parse("https://example.org/a?b=c#d").unwrap();
        assert_eq!(link.as_str(), "https://example.org/a?b=c#d");
        assert!(Link::parse("http://localhost:8008/x").is_ok());
        for text in [
            "javascript:alert(1)",
            "data:text/html,x",
            "mailto:a@example.org",
            "file:///etc/passwd",
            "https://",
            "https://alice:secret@example.org/",
            "https://alice@example.org/",
            "//example.org/",
            "",
        ] {
            assert_eq!(Link::parse(text), Err(LinkError::NotWeb), "{text}");
        }
        let long = format!("https://example.org/{}", "a".repeat(MAX));
        assert_eq!(Link::parse(&long), Err(LinkError::TooLong));
    }

    #[test]
    fn links_have_nothing_that_ends_a_header() {
        let link = Link::parse("https://example.org/\r\nBcc: a@b>,<mailto:x> \u{e9}").unwrap();
        assert_eq!(
            link.as_str(),
            "https://example.org/Bcc:%20a@b%3E,%3Cmailto:x%3E%20%C3%A9"
        );
    }

    #[test]
    fn what_links_hold_stays_out_of_logs() {
        let link = Link::parse("https://example.org/?token=secret").unwrap();
        assert_eq!(format!("{link:?}"), "Link(example.org…)");
    }

    #[test]
    fn templates_make_links_to_rooms_and_events() {
        let template = LinkTemplate::default();
        assert_eq!(
            template.event("!r:example.org", "$e-_1"),
            "https://matrix.to/#/!r:example.org/$e-_1"
        );
        assert_eq!(
            template.room("!r:example.org"),
            "https://matrix.to/#/!r:example.org"
        );
        let template = LinkTemplate::parse("https://app.example/?room={room}&at={event}").unwrap();
        assert_eq!(template.room("!r"), "https://app.example/?room=!r&at=");
        assert_eq!(
            template.event("!{event}\"><", "$/&#"),
            "https://app.example/?room=!%7Bevent%7D%22%3E%3C&at=$%2F%26%23"
        );
    }

    #[test]
    fn templates_that_cant_be() {
        for text in [
            "https://example.org/",
            "https://example.org/{event}",
            "https://example.org/{room}/{user}",
            "https://example.org/{room}{room}",
            "https://{room}/",
            "https://{room}.example.org/",
            "https://example.org{room}",
            "{room}",
        ] {
            assert_eq!(LinkTemplate::parse(text), Err(LinkError::Places), "{text}");
        }
        for text in ["javascript:/{room}", "ftp://a.example/{room}"] {
            assert_eq!(LinkTemplate::parse(text), Err(LinkError::NotWeb), "{text}");
        }
    }
}
