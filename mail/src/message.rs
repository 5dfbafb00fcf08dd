//! A mail as it goes over the wire (RFC 5322).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clean;
use crate::content::Mail;
use crate::error::MailError;

/// The most characters of a subject.
const MAX_SUBJECT: usize = 200;
/// The most bytes that are encoded as one word, so that its line has less than 76.
const MAX_WORD: usize = 36;
/// The most bytes of both bodies.
const MAX_BODIES: usize = 1024 * 1024;

/// Writes a mail down. Nothing in it can add a header, or end it early.
pub(crate) fn write(mail: &Mail, from: &Mailbox) -> Result<Vec<u8>, MailError> {
    let content = &mail.content;
    if content.text.len() + content.html.len() > MAX_BODIES {
        return Err(never("it is too large"));
    }
    let mut builder = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, mail.to.for_smtp()))
        .raw_header(subject(&clean::line(&content.subject, MAX_SUBJECT)))
        .message_id(Some(message_id(from.email.domain())?))
        .raw_header(header(AUTO_SUBMITTED, "auto-generated".to_owned()));
    if let Some(link) = &mail.unsubscribe {
        builder = builder.raw_header(header(UNSUBSCRIBE, format!("<{}>", link.as_str())));
        if link.is_https() {
            let one_click = "List-Unsubscribe=One-Click".to_owned();
            builder = builder.raw_header(header(UNSUBSCRIBE_POST, one_click));
        }
    }
    let (text, html) = (clean::body(&content.text), clean::body(&content.html));
    let message = builder.multipart(MultiPart::alternative_plain_html(text, html));
    let message = message.map_err(|error| never(&error.to_string()))?;
    Ok(message.formatted())
}

/// A subject. Where people wrote what looks encoded (RFC 2047), all of it is encoded, so that readers see just that.
fn subject(text: &str) -> HeaderValue {
    if !text.contains("=?") {
        return HeaderValue::new(SUBJECT, text.to_owned());
    }
    let mut words: Vec<String> = vec![String::new()];
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if word.len() + c.len_utf8() <= MAX_WORD => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    let words = words
        .iter()
        .map(|word| format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
    let encoded = words.collect::<Vec<_>>().join("\r\n ");
    HeaderValue::dangerous_new_pre_encoded(SUBJECT, text.to_owned(), encoded)
}

const SUBJECT: HeaderName = HeaderName::new_from_ascii_str("Subject");
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");
const UNSUBSCRIBE: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe");
const UNSUBSCRIBE_POST: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe-Post");

/// A header of which every byte is fit for one. It isn't folded or encoded, which would break links.
fn header(name: HeaderName, value: String) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(name, value.clone(), value)
}

fn message_id(domain: &str) -> Result<String, MailError> {
    let mut random = [0; 16];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| MailError::Temporary {
        code: None,
        why: "the system gives no randomness".to_owned(),
    })?;
    Ok(format!("<{:032x}@{domain}>", u128::from_be_bytes(random)))
}

fn never(why: &str) -> MailError {
    MailError::Permanent {
        code: None,
        why: why.to_owned(),
        no_such_address: false,
    }
}
