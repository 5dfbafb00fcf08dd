//! A mail before it is sent.

use std::fmt;

use crate::address::Address;
use crate::link::Link;

/// What a mail says.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Its subject.
    pub subject: String,
    /// As plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// A mail, to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub(crate) to: Address,
    pub(crate) content: Content,
    pub(crate) unsubscribe: Option<Link>,
}

impl Mail {
    /// A mail that somebody asked for.
    pub fn new(to: Address, content: Content) -> Self {
        Self {
            to,
            content,
            unsubscribe: None,
        }
    }

    /// A mail of many: by this link no more of them come. A `POST` to it with `List-Unsubscribe=One-Click` as its body
    /// ends them at once (RFC 8058); a `GET` must not, as mail scanners follow links.
    pub fn list(to: Address, content: Content, unsubscribe: Link) -> Self {
        Self {
            to,
            content,
            unsubscribe: Some(unsubscribe),
        }
    }
}

impl fmt::Debug for Content {
    /// What people write to each other, and what is secret in links, stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, html) = (self.text.len(), self.html.len());
        write!(f, "Content({text} bytes of text, {html} of HTML)")
    }
}
