//! The files that describe application services.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ruma::ServerName;

use crate::Registrations;
use crate::problem::{LoadError, Problem};
use crate::read::registration;

/// The most bytes of a file.
const MAX_FILE: u64 = 1 << 20;
/// The most files.
const MAX_FILES: usize = 1000;

/// Reads the files that these paths name, in which `*`, `?`, `[…]` and `**` stand for what they do in a shell. A path
/// without any of these has to be there.
///
/// # Errors
/// Every problem of every file.
pub fn load(paths: &[String], server_name: &ServerName) -> Result<Registrations, LoadError> {
    let mut problems = Vec::new();
    let mut files = BTreeSet::new();
    for path in paths {
        match named_by(path) {
            Ok(named) => files.extend(named),
            Err(problem) => problems.push(problem),
        }
    }
    if files.len() > MAX_FILES {
        let what = format!("these are more than {MAX_FILES} files");
        let remedy = "name the files of application services only";
        return Err(LoadError(vec![Problem::new(
            "appservices.files",
            what,
            remedy,
        )]));
    }
    let mut texts = Vec::new();
    for file in &files {
        match text_of(file) {
            Ok(text) => texts.push((file.display().to_string(), text)),
            Err(problem) => problems.push(problem),
        }
    }
    read(&texts, server_name, problems)
}

/// Reads registrations from texts: pairs of a name, for messages, and YAML.
///
/// # Errors
/// Every problem of every text.
pub fn parse(texts: &[(&str, &str)], server_name: &ServerName) -> Result<Registrations, LoadError> {
    read(texts, server_name, Vec::new())
}

fn read<T: AsRef<str>>(
    texts: &[(T, T)],
    server_name: &ServerName,
    mut problems: Vec<Problem>,
) -> Result<Registrations, LoadError> {
    let mut services = Vec::new();
    for (name, text) in texts {
        match registration(name.as_ref(), text.as_ref(), server_name) {
            Ok(service) => services.push(service),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(LoadError(problems));
    }
    Registrations::new(server_name, services)
}

fn named_by(path: &str) -> Result<Vec<PathBuf>, Problem> {
    if !path.contains(['*', '?', '[']) {
        return Ok(vec![path.into()]);
    }
    let files = glob::glob(path).map_err(|error| {
        let remedy = "write a path, with `*` for any characters";
        Problem::new(path, format!("this is no pattern: {error}"), remedy)
    })?;
    let mut named = Vec::new();
    for file in files {
        let file = file.map_err(|error| {
            let what = format!("this can't be read: {}", error.error());
            Problem::new(error.path().display().to_string(), what, READABLE)
        })?;
        if !file.is_dir() {
            named.push(file);
        }
    }
    Ok(named)
}

const READABLE: &str = "create the file and let the server's user read it";

fn text_of(file: &Path) -> Result<String, Problem> {
    let name = file.display().to_string();
    let unreadable = |error: std::io::Error| {
        Problem::new(&name, format!("this can't be read: {error}"), READABLE)
    };
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    let read = opened.take(MAX_FILE + 1).read_to_end(&mut bytes);
    if read.map_err(unreadable)? as u64 > MAX_FILE {
        let what = format!("the file is larger than {MAX_FILE} bytes");
        return Err(Problem::new(&name, what, "name registrations only"));
    }
    String::from_utf8(bytes)
        .map_err(|_| Problem::new(&name, "the file isn't UTF-8", "save it as UTF-8"))
}

#[cfg(test)]
mod tests;
