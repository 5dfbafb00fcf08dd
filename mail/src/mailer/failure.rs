//! What it means that a mail didn't go out.

use std::error::Error as _;
use std::io;

use lettre::transport::smtp::Error;

use crate::clean;
use crate::error::MailError;

/// The most characters of a mail server's words.
const MAX_WORDS: usize = 200;

/// How far a mail got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Greeting, encryption, login, and whether our own address may send: the same for all mails.
    Ours,
    /// Who gets it, and what it says.
    Its,
}

/// What a failure means. The address of who should have got the mail is cut out of the mail server's words.
pub(super) fn read(error: &Error, stage: Stage, to: Option<&str>) -> MailError {
    let why = words(error, to);
    let Some(code) = error.status().map(u16::from) else {
        let code = None;
        let config = error.is_client() || is_untrusted(error);
        return if config {
            MailError::Config { code, why }
        } else {
            MailError::Temporary { code, why }
        };
    };
    let (answer, why) = (Some(code), format!("{code} {why}"));
    match code {
        400..=499 => MailError::Temporary { code: answer, why },
        // The mail server wants a login or encryption, or other ones.
        530 | 534 | 535 | 538 => MailError::Config { code: answer, why },
        _ if stage == Stage::Ours => MailError::Config { code: answer, why },
        _ => MailError::Permanent {
            code: answer,
            no_such_address: is_no_address(code, &why),
            why,
        },
    }
}

/// It took too long.
pub(super) fn late() -> MailError {
    MailError::Temporary {
        code: None,
        why: "the mail server took too long".to_owned(),
    }
}

/// Whether the answer came whole, so that both sides know where they are.
pub(super) fn is_answer(error: &Error) -> bool {
    error.status().is_some()
}

fn words(error: &Error, to: Option<&str>) -> String {
    let text = match (error.status(), error.source()) {
        (Some(_), Some(words)) => words.to_string(),
        _ => error.to_string(),
    };
    let mut text = clean::line(&text, 4 * MAX_WORDS);
    if let Some(to) = to {
        text = text.replace(to, "…");
    }
    clean::line(&text, MAX_WORDS)
}

/// Whether TLS failed for what the other side is, not for the network.
fn is_untrusted(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(inner) = error.downcast_ref().and_then(io::Error::get_ref)
            && inner.is::<rustls::Error>()
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// By the enhanced code (RFC 3463) if there is one: bad address, or a mailbox that is off.
fn is_no_address(code: u16, why: &str) -> bool {
    let enhanced = why.split(' ').nth(1).unwrap_or_default();
    if enhanced.starts_with("5.") && enhanced.split('.').count() == 3 {
        let known = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"];
        return known.contains(&enhanced);
    }
    matches!(code, 550 | 551 | 553)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_answers_say_that_there_is_no_such_address() {
        for (code, why, expected) in [
            (550, "550 5.1.1 no such user", true),
            (550, "550 No such user", true),
            (550, "550 5.7.1 relaying denied", false),
            (550, "550 5.2.2 mailbox full", false),
            (550, "550 5.2.1 mailbox disabled", true),
            (552, "552 too large", false),
            (554, "554 5.1.10 no MX accepts", true),
            (554, "554 spam", false),
            (553, "553", true),
        ] {
            assert_eq!(is_no_address(code, why), expected, "{why}");
        }
    }
}
