//! What templates have to be, tried with made-up mails.

use super::sample::{MARKUP, Sample, View};
use super::{PARTS, Templates};
use crate::clean;
use crate::error::TemplateError;

/// The most characters of a subject of a made-up mail.
const MAX_SUBJECT: usize = 200;
/// Attributes that hold addresses.
const ATTRIBUTES: [&str; 5] = ["href", "src", "action", "background", "formaction"];

/// Renders a made-up mail, and looks at what comes out.
pub(super) fn check(templates: &Templates, sample: &Sample) -> Result<(), TemplateError> {
    for part in PARTS {
        let name = format!("{}.{part}", sample.mail);
        let text = match &sample.view {
            View::Digest(view) => templates.part(sample.mail, part, view),
            View::Letter(view) => templates.part(sample.mail, part, view),
        }?;
        let wrong = |why: String| {
            let file = templates.names.file(&name);
            let line = None;
            Err(TemplateError { file, line, why })
        };
        if part == "subject.txt" {
            if !(1..=MAX_SUBJECT).contains(&clean::line(&text, 10 * MAX_SUBJECT).chars().count()) {
                return wrong(format!("gives no subject of 1 to {MAX_SUBJECT} characters"));
            }
            continue;
        }
        if let Some((what, _)) = sample.must.iter().find(|(_, value)| !text.contains(value)) {
            return wrong(format!("must show {{{{ {what} }}}}"));
        }
        if part == "html" {
            if text.contains(MARKUP) {
                return wrong("puts in what people wrote without escaping it".to_owned());
            }
            if let Some((_, address)) = addresses(&text).find(|(_, address)| !is_web(address)) {
                return wrong(format!("makes a link to {address:?}, {ONLY_WEB}"));
            }
        }
    }
    Ok(())
}

const ONLY_WEB: &str = "but addresses begin with https:// or http://";

/// Looks at the addresses that stand in a template itself.
pub(super) fn source(file: &str, text: &str) -> Result<(), TemplateError> {
    let is_fine = |address: &str| is_web(address) || address.starts_with("{{");
    match addresses(text).find(|(_, address)| !is_fine(address)) {
        None => Ok(()),
        Some((at, address)) => Err(TemplateError {
            file: file.to_owned(),
            line: Some(text[..at].matches('\n').count() + 1),
            why: format!("has a link to {address:?}, {ONLY_WEB}"),
        }),
    }
}

fn is_web(address: &str) -> bool {
    let lower = address.to_ascii_lowercase();
    lower.starts_with("https://") || lower.starts_with("http://")
}

/// The values of attributes that hold addresses, and where they are.
fn addresses(html: &str) -> impl Iterator<Item = (usize, &str)> {
    let equals = html.match_indices('=').map(|(at, _)| at);
    equals.filter_map(|at| {
        let name = html[..at].trim_end();
        let start = name.rfind(|c: char| !c.is_ascii_alphabetic())? + 1;
        let name = name[start..].to_ascii_lowercase();
        // `data-href` isn't one, nor is what stands in another address.
        let before = html[..start].chars().next_back()?;
        let is_attribute = before.is_whitespace() || matches!(before, '"' | '\'' | '/');
        if !ATTRIBUTES.contains(&name.as_str()) || !is_attribute {
            return None;
        }
        let value = html[at + 1..].trim_start();
        let end = match value.chars().next()? {
            quote @ ('"' | '\'') => value[1..].find(quote).map(|end| (1, end + 1)),
            _ => value.find([' ', '\n', '\t', '>']).map(|end| (0, end)),
        };
        let (start, end) = end.unwrap_or((0, value.len()));
        Some((at, value[start..end].trim()))
    })
}
