//! `[database]`: where the truth lies.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Problems;
use super::units::Secret;

/// Where the truth lies.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:path` or `postgres://user:password@host/name`. Default: `rhizome.db` in `data_dir`.
    pub url: Option<Secret>,
    /// A file that holds the URL, for one with a password.
    pub url_file: Option<PathBuf>,
    /// Connections in the pool. Ignored for what SQLite does with one writer.
    pub max_connections: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            max_connections: 10,
        }
    }
}

impl Database {
    /// The URL to open.
    pub fn url(&self, data_dir: &Path) -> String {
        match &self.url {
            Some(url) => url.expose().to_owned(),
            None => format!("sqlite:{}", data_dir.join("rhizome.db").display()),
        }
    }

    /// What the operator may see of the URL: no user, no password, no query.
    pub fn url_for_display(&self, data_dir: &Path) -> String {
        let url = self.url(data_dir);
        let Some((scheme, rest)) = url.split_once("://") else {
            return url;
        };
        let rest = rest.split('?').next().unwrap_or_default();
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{host}")
    }

    /// Whether it is a PostgreSQL database.
    pub fn is_postgres(&self) -> bool {
        self.url
            .as_ref()
            .is_some_and(|url| url.expose().starts_with("postgres"))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(url) = &self.url {
            let known = ["sqlite:", "postgres://", "postgresql://"];
            if !known.iter().any(|scheme| url.expose().starts_with(scheme)) {
                problems.add(
                    "database.url",
                    "the database URL has a scheme that is not supported",
                    "write \"sqlite:/path/to/rhizome.db\" or \"postgres://user:password@host/database\"",
                );
            }
        }
        if self.max_connections == 0 {
            problems.add(
                "database.max_connections",
                "the pool needs at least one connection",
                "set it to 10, or remove the line",
            );
        }
    }
}
