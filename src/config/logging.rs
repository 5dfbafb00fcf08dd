//! `[logging]`: what is written to standard error.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::Problems;

/// What is written to standard error.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// One line of text, or one JSON object, per message.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,rhizome_federation=debug`.
    pub level: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".to_owned(),
        }
    }
}

impl Logging {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.level.trim().is_empty() || EnvFilter::try_new(&self.level).is_err() {
            problems.add(
                "logging.level",
                format!("`{}` is not a log level", self.level),
                "write error, warn, info, debug or trace, or a filter such as \"info,rhizome_federation=debug\"",
            );
        }
    }
}
