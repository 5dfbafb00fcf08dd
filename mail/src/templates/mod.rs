//! Templates of mails: ours in English, or files of the operator's instead.
//!
//! Each mail has three: `NAME.subject.txt`, `NAME.txt` and `NAME.html`, in the language of
//! [minijinja](https://docs.rs/minijinja/latest/minijinja/syntax/), which is Jinja's. What is put into HTML is escaped,
//! whatever a template says.

mod check;
mod load;
mod sample;

use std::fmt;
use std::path::Path;

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use crate::content::Content;
use crate::digest::{Digest, DigestView};
use crate::error::TemplateError;
use crate::letters::{Approved, Confirm, Known, Reset, Verify};

/// The parts that each mail has.
const PARTS: [&str; 3] = ["subject.txt", "txt", "html"];

/// Checked templates of all mails: `digest`, `confirm`, `verify`, `reset`, `known`, `approved`, each as `.subject.txt`, `.txt` and `.html`.
///
/// What they are given:
///
/// | mail | |
/// |---|---|
/// | `digest` | `user`, `server`, `unsubscribe`; `subject`, `rooms`, `more_rooms`, `invites`, `more_invites` |
/// | … `subject` | `case` (`direct`, `one_sender`, `one_room`, `rooms`, `invite`, `invites`, `mixed`), `person`, `room`, `other_rooms`, `invites` |
/// | … each of `rooms` | `name` (may be empty), `is_direct`, `link`, `messages`, `more` |
/// | … each of `messages` | `sender`, `at` (UTC), `link`, `text`, `kind` (`text`, `emote`, `picture`, `video`, `audio`, `file`, `sticker`, `location`, `encrypted`, `other`) |
/// | … each of `invites` | `room` (may be empty), `is_direct`, `inviter`, `link` |
/// | `confirm` | `server`, `user`, `link` |
/// | `verify` | `server`, `code`, `link` |
/// | `reset` | `server`, `user`, `code`, `link` |
/// | `known` | `server`, `user` |
/// | `approved` | `server`, `user` |
pub struct Templates {
    environment: Environment<'static>,
    /// What each template is called in errors.
    names: load::Names,
}

impl Templates {
    /// Those that are built in.
    pub fn built_in() -> Result<Self, TemplateError> {
        Self::load(None)
    }

    /// Those in a folder, and those that are built in for what isn't there. All are tried with made-up mails: what is
    /// wrong shows at start, not when the first mail goes out.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let (environment, names) = load::load(folder)?;
        let templates = Self { environment, names };
        for sample in sample::all() {
            check::check(&templates, &sample)?;
        }
        Ok(templates)
    }

    /// A mail about missed messages. There is at least one, or an invite.
    pub fn digest(&self, digest: &Digest) -> Result<Content, TemplateError> {
        self.render("digest", &DigestView::new(digest))
    }

    /// A mail that asks whether this address wants mails.
    pub fn confirm(&self, confirm: &Confirm) -> Result<Content, TemplateError> {
        self.render("confirm", &confirm.view())
    }

    /// A mail that asks whether this address is somebody's.
    pub fn verify(&self, verify: &Verify) -> Result<Content, TemplateError> {
        self.render("verify", &verify.view())
    }

    /// A mail by which somebody gets a new password.
    pub fn reset(&self, reset: &Reset) -> Result<Content, TemplateError> {
        self.render("reset", &reset.view())
    }

    /// A mail that says that there is an account already.
    pub fn known(&self, known: &Known) -> Result<Content, TemplateError> {
        self.render("known", &known.view())
    }

    /// A mail that says that an account may be used now.
    pub fn approved(&self, approved: &Approved) -> Result<Content, TemplateError> {
        self.render("approved", &approved.view())
    }

    fn render(&self, mail: &str, view: &impl Serialize) -> Result<Content, TemplateError> {
        let [subject, text, html] = PARTS.map(|part| self.part(mail, part, view));
        Ok(Content {
            subject: subject?.split_whitespace().collect::<Vec<_>>().join(" "),
            text: text?,
            html: html?,
        })
    }

    fn part(&self, mail: &str, part: &str, view: &impl Serialize) -> Result<String, TemplateError> {
        let name = format!("{mail}.{part}");
        let template = self.environment.get_template(&name);
        let rendered = template.and_then(|template| template.render(Serde(view)));
        rendered.map_err(|error| self.names.error(&name, &error))
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Templates({:?})", self.names)
    }
}

#[cfg(test)]
mod tests;
