//! `[mail]`: mails to users, through the operator's mail server.

use std::path::PathBuf;

use rhizome_mail::{Address, LinkTemplate, MailConfig, Password, TlsMode};
use serde::Deserialize;

use super::Problems;
use super::units::{Secret, Span};

/// Mails to users.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// The mail server's name or address; without it no mails are sent.
    pub host: Option<String>,
    /// Its port, if it isn't the usual one.
    pub port: Option<u16>,
    /// How the connection to it is encrypted.
    pub tls: TlsMode,
    /// Whether mails, and the password, may go over a network unencrypted.
    pub allow_plain: bool,
    /// A file with further certificates (PEM) that are trusted.
    pub ca_file: Option<PathBuf>,
    /// Who we are there.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The address that mails come from.
    pub from: Option<String>,
    /// The name that mails come from.
    pub from_name: Option<String>,
    /// A folder with templates to be taken instead of ours.
    pub templates_path: Option<PathBuf>,
    /// The secret of links in mails; it is made if it isn't there. Default: `mail.key` in `server.data_dir`.
    pub key_path: Option<PathBuf>,
    /// Where rooms and events are shown.
    pub link: String,
    /// How long a message waits to be read before there is a mail about it.
    pub digest_delay: Span,
    /// The least time between two mails to a user; it doubles while they read nothing.
    pub digest_pause: Span,
    /// The most that it grows to.
    pub digest_longest_pause: Span,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            tls: TlsMode::default(),
            allow_plain: false,
            ca_file: None,
            user: None,
            password: None,
            password_file: None,
            from: None,
            from_name: None,
            templates_path: None,
            key_path: None,
            link: "https://matrix.to/#/{room}/{event}".to_owned(),
            digest_delay: Span::secs(10 * 60),
            digest_pause: Span::secs(60 * 60),
            digest_longest_pause: Span::secs(24 * 60 * 60),
        }
    }
}

impl Mail {
    /// What the mail server is told; `None` if there is none, or it makes no sense.
    pub fn server(&self) -> Option<MailConfig> {
        let from = Address::parse(self.from.as_ref()?).ok()?;
        let password = self.password.as_ref();
        Some(MailConfig {
            port: self.port,
            tls: self.tls,
            allow_plain: self.allow_plain,
            ca_file: self.ca_file.clone(),
            user: self.user.clone(),
            password: password.map(|password| Password::new(password.expose())),
            from_name: self.from_name.clone().unwrap_or_default(),
            ..MailConfig::new(self.host.as_ref()?, from)
        })
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if LinkTemplate::parse(&self.link).is_err() {
            problems.add(
                "mail.link",
                format!("`{}` is no address with a place for a room", self.link),
                "write it as in `https://matrix.to/#/{room}/{event}`",
            );
        }
        if self.digest_pause.0 > self.digest_longest_pause.0 {
            problems.add(
                "mail.digest_longest_pause",
                "it is shorter than digest_pause, from which pauses grow",
                "make it at least as long as digest_pause",
            );
        }
        if self.host.is_none() {
            return;
        }
        let from = self.from.as_deref().unwrap_or_default();
        if let Err(error) = Address::parse(from) {
            problems.add(
                "mail.from",
                format!("`{from}` is no address that mails can come from: {error}"),
                "write one that people may answer to, such as `matrix@example.org`",
            );
        }
    }
}
