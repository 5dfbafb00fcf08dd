//! Where templates come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, Output, State, UndefinedBehavior, Value};
use tracing::warn;

use super::check;
use crate::error::TemplateError;

/// The most bytes of a template.
const MAX: u64 = 256 * 1024;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("en/", $name)))),*]
    };
}

const BUILT_IN: [(&str, &str); 18] = built_in!(
    "approved.html",
    "approved.subject.txt",
    "approved.txt",
    "confirm.html",
    "confirm.subject.txt",
    "confirm.txt",
    "digest.html",
    "digest.subject.txt",
    "digest.txt",
    "known.html",
    "known.subject.txt",
    "known.txt",
    "reset.html",
    "reset.subject.txt",
    "reset.txt",
    "verify.html",
    "verify.subject.txt",
    "verify.txt",
);

/// What each template is called where it comes from.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<&'static str, String>);

impl Names {
    pub(super) fn file(&self, name: &str) -> String {
        self.0.get(name).map_or(name, String::as_str).to_owned()
    }

    /// What went wrong, without what was to be put in.
    pub(super) fn error(&self, name: &str, error: &Error) -> TemplateError {
        let kind = error.kind();
        TemplateError {
            file: self.file(name),
            line: error.line(),
            why: match error.detail() {
                Some(detail) => format!("{kind}: {detail}"),
                None => kind.to_string(),
            },
        }
    }
}

/// Reads all templates, those in the folder first.
pub(super) fn load(folder: Option<&Path>) -> Result<(Environment<'static>, Names), TemplateError> {
    let mut environment = environment()?;
    let mut names = Names::default();
    if let Some(folder) = folder {
        look_at(folder)?;
    }
    for (name, built_in) in BUILT_IN {
        let own = folder.map(|folder| read(&folder.join(name))).transpose()?;
        let (file, text) = match own.flatten() {
            Some((file, text)) => (file, text),
            None => (format!("{name} (built in)"), built_in.to_owned()),
        };
        names.0.insert(name, file);
        if is(name, "html") {
            check::source(&names.file(name), &text)?;
        }
        let added = environment.add_template_owned(name, text);
        added.map_err(|error| names.error(name, &error))?;
    }
    Ok((environment, names))
}

fn environment() -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| Names::default().error("templates", &error))?);
    // A name that is misspelled is an error, not an empty place.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| {
        if is(name, "html") {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    environment.set_formatter(put);
    // Nothing that people wrote is HTML.
    environment.remove_filter("safe");
    Ok(environment)
}

/// Puts a value into a text. Unlike the engine's own way, links keep their slashes.
fn put(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if matches!(state.auto_escape(), AutoEscape::None) || value.is_safe() {
        return Ok(write!(out, "{value}")?);
    }
    for c in value.to_string().chars() {
        match c {
            '&' => out.write_str("&amp;")?,
            '<' => out.write_str("&lt;")?,
            '>' => out.write_str("&gt;")?,
            '"' => out.write_str("&quot;")?,
            '\'' => out.write_str("&#39;")?,
            c => write!(out, "{c}")?,
        }
    }
    Ok(())
}

/// Whether a file is of this kind.
fn is(name: &str, kind: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| end == kind)
}

/// Says what in the folder looks like a template, but is none.
fn look_at(folder: &Path) -> Result<(), TemplateError> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let name = entry
            .map_err(|error| unreadable(folder, &error))?
            .file_name();
        let Some(name) = name.to_str() else { continue };
        let is_known = BUILT_IN.iter().any(|(known, _)| *known == name);
        if (is(name, "txt") || is(name, "html")) && !is_known {
            warn!(folder = %folder.display(), name, "no mail has a template of this name");
        }
    }
    Ok(())
}

/// A template of the operator's, if it is there.
fn read(path: &Path) -> Result<Option<(String, String)>, TemplateError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| unreadable(path, &error))?,
    };
    let mut text = String::new();
    let read = file.take(MAX + 1).read_to_string(&mut text);
    let length = read.map_err(|error| unreadable(path, &error))?;
    if u64::try_from(length).is_ok_and(|length| length > MAX) {
        let error = io::Error::other(format!("it has more than {MAX} bytes"));
        return Err(unreadable(path, &error));
    }
    Ok(Some((path.display().to_string(), text)))
}

fn unreadable(path: &Path, error: &io::Error) -> TemplateError {
    TemplateError {
        file: path.display().to_string(),
        line: None,
        why: format!("can't be read: {error}"),
    }
}
