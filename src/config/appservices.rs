//! `[appservices]`: bridges and bots.

use rhizome_appservice::Registrations;
use ruma::ServerName;
use serde::Deserialize;

use super::{ConfigError, Problem, Problems};

/// Bridges and bots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Appservices {
    /// The files that describe them. `*` stands for any characters of a name.
    pub files: Vec<String>,
}

impl Appservices {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong in them, with line and remedy.
    pub fn load(&self, server_name: &ServerName) -> Result<Registrations, ConfigError> {
        rhizome_appservice::load(&self.files, server_name).map_err(|error| {
            let problems = error.0.into_iter().map(|problem| Problem {
                place: problem.place,
                what: problem.what,
                remedy: problem.remedy,
            });
            ConfigError(problems.collect())
        })
    }

    /// What is in the files is read at the start, and again when it is asked for.
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.files.iter().any(|file| file.trim().is_empty()) {
            problems.add(
                "appservices.files",
                "one of these names no file",
                "write the paths of registrations, such as \"/etc/rhizome/appservices/*.yaml\"",
            );
        }
    }
}
