//! What can be wrong: with the operator's settings, with templates, with a mail.

use std::fmt;

use thiserror::Error;

/// What is wrong with what the operator set. Nothing of a secret is in its text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key} {why}")]
pub struct ConfigError {
    /// Which setting.
    pub key: &'static str,
    /// What it has to be.
    pub why: String,
}

impl ConfigError {
    pub(crate) fn new(key: &'static str, why: impl Into<String>) -> Self {
        Self {
            key,
            why: why.into(),
        }
    }
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct TemplateError {
    /// Which file; for one that is built in, its name.
    pub file: String,
    /// Where in it, if that is known.
    pub line: Option<usize>,
    /// What.
    pub why: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.why)
    }
}

/// Why a mail didn't go out. Texts are for the log: the address isn't in them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MailError {
    /// It is worth another try, later.
    #[error("the mail didn't go out now: {why}")]
    Temporary {
        /// The mail server's answer, if there was one: 400 to 499.
        code: Option<u16>,
        /// Why.
        why: String,
    },
    /// This mail is never taken. Others may be.
    #[error("the mail isn't taken: {why}")]
    Permanent {
        /// The mail server's answer, if there was one: 500 to 599.
        code: Option<u16>,
        /// Why.
        why: String,
        /// Whether the mail server says that the address itself takes no mail.
        no_such_address: bool,
    },
    /// No mail goes out until the operator changes something, here or at the mail server. The mail may be tried again
    /// then.
    #[error("no mail goes out: {why}")]
    Config {
        /// The mail server's answer, if there was one.
        code: Option<u16>,
        /// Why.
        why: String,
    },
}
