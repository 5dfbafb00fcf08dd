//! Mails of a few lines: whose address it is, whether it wants mails, a new password, an account that is there or that may be
//! used now. They may go to somebody who never heard of us, so nothing is in them that users chose freely: they are called by
//! their ids.

use serde::Serialize;

use crate::clean;
use crate::link::Link;

/// The most characters of a user's id or a server's name.
const MAX_ID: usize = 255;
/// The most characters of a code.
const MAX_CODE: usize = 64;

/// Asks whether an address wants mails about missed messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// Our server's name.
    pub server: String,
    /// The id of the user who asked.
    pub user: String,
    /// By it mails begin.
    pub link: Link,
}

/// Asks whether an address is that of who said so.
#[derive(Clone, PartialEq, Eq)]
pub struct Verify {
    /// Our server's name.
    pub server: String,
    /// What is to be entered.
    pub code: String,
    /// Does the same.
    pub link: Link,
}

/// Lets somebody set a new password.
#[derive(Clone, PartialEq, Eq)]
pub struct Reset {
    /// Our server's name.
    pub server: String,
    /// The user's id.
    pub user: String,
    /// What is to be entered.
    pub code: String,
    /// Does the same.
    pub link: Link,
}

/// Tells somebody that their address is that of an account already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Our server's name.
    pub server: String,
    /// The user's id.
    pub user: String,
}

/// Tells somebody that the operator has approved their account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// Our server's name.
    pub server: String,
    /// The user's id.
    pub user: String,
}

/// Any of them as templates see it.
#[derive(Serialize)]
pub(crate) struct LetterView {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

impl LetterView {
    fn new(server: &str, user: Option<&str>, code: Option<&str>, link: Option<&Link>) -> Self {
        Self {
            server: clean::line(server, MAX_ID),
            user: user.map(|user| clean::line(user, MAX_ID)),
            code: code.map(|code| clean::line(code, MAX_CODE)),
            link: link.map(|link| link.as_str().to_owned()),
        }
    }
}

impl Confirm {
    pub(crate) fn view(&self) -> LetterView {
        LetterView::new(&self.server, Some(&self.user), None, Some(&self.link))
    }
}

impl Verify {
    pub(crate) fn view(&self) -> LetterView {
        LetterView::new(&self.server, None, Some(&self.code), Some(&self.link))
    }
}

impl Reset {
    pub(crate) fn view(&self) -> LetterView {
        let (user, code) = (Some(self.user.as_str()), Some(self.code.as_str()));
        LetterView::new(&self.server, user, code, Some(&self.link))
    }
}

impl Known {
    pub(crate) fn view(&self) -> LetterView {
        LetterView::new(&self.server, Some(&self.user), None, None)
    }
}

impl Approved {
    pub(crate) fn view(&self) -> LetterView {
        LetterView::new(&self.server, Some(&self.user), None, None)
    }
}
