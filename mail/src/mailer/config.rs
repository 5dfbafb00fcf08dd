//! What the operator sets of the mail server.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::address::Address;
use crate::error::ConfigError;

/// The most mails at once.
const MOST_AT_ONCE: usize = 64;
/// The longest that a mail may take.
const LONGEST: Duration = Duration::from_mins(10);

/// How the connection to the mail server is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// With STARTTLS; without it nothing is sent.
    #[default]
    Required,
    /// From the first byte on.
    Implicit,
    /// Not at all.
    None,
}

/// A password. It can't be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Which mail server takes our mails, and who we are there.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// Its name or address.
    pub host: String,
    /// Its port; if none is named, the usual one: 587, or 465 for implicit TLS, or 25 without.
    pub port: Option<u16>,
    /// How it is encrypted.
    pub tls: TlsMode,
    /// Whether mails, and the password, may go over a network unencrypted. To this machine itself they may.
    pub allow_plain: bool,
    /// A file with certificates (PEM) that are trusted as well as those of the system.
    pub ca_file: Option<PathBuf>,
    /// Who we are there; without, nobody.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Password>,
    /// A file that holds it.
    pub password_file: Option<PathBuf>,
    /// The name that mails come from.
    pub from_name: String,
    /// The address that mails come from. What is in its domain: ids of mails, and how we greet.
    pub from: Address,
    /// How long a mail may take, connecting included.
    pub timeout: Duration,
    /// How many mails go at once; others wait.
    pub at_once: usize,
    /// How long a connection is kept for the next mail.
    pub idle: Duration,
}

impl MailConfig {
    /// A mail server, with what is usual otherwise.
    pub fn new(host: impl Into<String>, from: Address) -> Self {
        Self {
            host: host.into(),
            port: None,
            tls: TlsMode::default(),
            allow_plain: false,
            ca_file: None,
            user: None,
            password: None,
            password_file: None,
            from_name: String::new(),
            from,
            timeout: Duration::from_mins(1),
            at_once: 4,
            idle: Duration::from_secs(30),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            TlsMode::Required => 587,
            TlsMode::Implicit => 465,
            TlsMode::None => 25,
        })
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, why: &str| Err(ConfigError::new(key, why));
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
        if self.host.is_empty() || self.host.len() > 253 || !self.host.chars().all(is_host) {
            return wrong("host", "must be the name or the address of a mail server");
        }
        if self.port == Some(0) {
            return wrong("port", "must be a port");
        }
        if self.tls == TlsMode::None && !self.allow_plain && !is_loopback(&self.host) {
            return wrong(
                "tls",
                "can only be none if the mail server is on this machine, or allow_plain is set",
            );
        }
        if self.timeout.is_zero() || self.timeout > LONGEST {
            return wrong(
                "timeout",
                "must be more than nothing and at most 10 minutes",
            );
        }
        if !(1..=MOST_AT_ONCE).contains(&self.at_once) {
            let why = format!("must be from 1 to {MOST_AT_ONCE}");
            return Err(ConfigError::new("at_once", why));
        }
        Ok(())
    }

    /// The user and their password, if there are any.
    pub(super) fn login(&self) -> Result<Option<(String, Password)>, ConfigError> {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                let why = "can't be set beside password: keep one of them";
                return Err(ConfigError::new("password_file", why));
            }
            (None, Some(file)) => Some(read_password(file)?),
            (password, None) => password.clone(),
        };
        match (&self.user, password) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => {
                let fits = |text: &str| !text.is_empty() && !text.contains(['\0', '\r', '\n']);
                if !fits(user) || !fits(password.expose()) {
                    let why = "and the password must be one line each";
                    return Err(ConfigError::new("user", why));
                }
                Ok(Some((user.clone(), password)))
            }
            (Some(_), None) => Err(ConfigError::new("password", "is missing for the user")),
            (None, Some(_)) => Err(ConfigError::new("user", "is missing for the password")),
        }
    }
}

fn read_password(file: &Path) -> Result<Password, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let why = format!("can't be read, {}: {error}", file.display());
        ConfigError::new("password_file", why)
    })?;
    Ok(Password::new(text.trim_end_matches(['\r', '\n'])))
}

fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.parse();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &str) -> MailConfig {
        MailConfig::new(host, Address::parse("matrix@example.org").unwrap())
    }

    fn wrong(config: &MailConfig) -> Option<&'static str> {
        config.check().err().map(|error| error.key)
    }

    #[test]
    fn plain_mail_stays_on_the_machine_unless_the_operator_wants_it() {
        for (host, allow_plain, why) in [
            ("localhost", false, None),
            ("127.0.0.1", false, None),
            ("::1", false, None),
            ("mail.example.org", false, Some("tls")),
            ("10.0.0.1", false, Some("tls")),
            ("localhost.example.org", false, Some("tls")),
            ("mail.example.org", true, None),
        ] {
            let config = MailConfig {
                tls: TlsMode::None,
                allow_plain,
                ..config(host)
            };
            assert_eq!(wrong(&config), why, "{host}");
        }
    }

    #[test]
    fn what_cant_be_set() {
        assert_eq!(wrong(&config("mail.example.org")), None);
        assert_eq!(wrong(&config("")), Some("host"));
        assert_eq!(wrong(&config("smtp://mail.example.org")), Some("host"));
        assert_eq!(wrong(&config("a\r\nb")), Some("host"));
        let mut other = config("a.example");
        other.at_once = 0;
        assert_eq!(wrong(&other), Some("at_once"));
        let mut other = config("a.example");
        other.timeout = Duration::ZERO;
        assert_eq!(wrong(&other), Some("timeout"));
    }

    #[test]
    fn each_way_has_its_port() {
        let port = |tls| {
            let config = MailConfig {
                tls,
                ..config("a.example")
            };
            config.port()
        };
        let modes = [TlsMode::Required, TlsMode::Implicit, TlsMode::None];
        assert_eq!(modes.map(port), [587, 465, 25]);
    }

    #[test]
    fn a_password_comes_from_a_file_or_the_settings_and_is_never_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "se cret\n").unwrap();
        let mut config = config("a.example");
        assert_eq!(config.login(), Ok(None));
        config.user = Some("us".to_owned());
        assert_eq!(config.login().unwrap_err().key, "password");
        config.password_file = Some(file.path().to_owned());
        let login = config.login().unwrap().unwrap();
        assert_eq!(login.1.expose(), "se cret");
        config.password = Some(Password::new("se cret"));
        assert_eq!(config.login().unwrap_err().key, "password_file");
        config.password_file = Some("/nonexistent".into());
        config.password = None;
        let error = config.login().unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
        config.password = Some(Password::new("se cret"));
        assert!(!format!("{config:?}").contains("se cret"));
        config.password_file = None;
        config.user = None;
        assert_eq!(config.login().unwrap_err().key, "user");
    }
}
