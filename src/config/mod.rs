//! The configuration: one TOML file, every key of it also settable by environment.
//!
//! 1. Parse the file ([`source`]); a wrong type or an unknown key is refused with its line.
//! 2. Lay the environment over it: `RHIZOME__SECTION__KEY`, lists and tables as TOML or JSON.
//! 3. Read the secrets that `…_file` keys name.
//! 4. Check what a type can't say; every problem is reported at once, with line and remedy.
//!
//! One struct per section, one file each, the defaults beside the fields.

mod appservices;
mod database;
mod delayed_events;
mod federation;
mod identity;
mod jwt;
mod listeners;
mod logging;
mod mail;
mod media;
mod media_store;
mod metrics;
mod new_accounts;
mod presence;
mod profiles;
mod push;
mod rate_limits;
mod registration;
mod rooms;
mod secrets;
mod server;
mod server_notices;
mod sessions;
mod source;
mod turn;
mod units;
mod url_previews;
mod user_directory;
mod video_still;
mod welcome;
mod well_known;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::appservices::Appservices;
pub use self::database::Database;
pub use self::delayed_events::DelayedEvents;
pub use self::federation::{Federation, LAST_TIME, OldVerifyKey};
pub use self::identity::Identity;
pub use self::jwt::Jwt;
pub use self::listeners::{Api, Http, Listener, Tls};
pub use self::logging::{LogFormat, Logging};
pub use self::mail::Mail;
pub use self::media::{LOCAL, Media, Quota, Scanner, UnauthenticatedDownloads};
pub use self::media_store::{MediaStore, StoreKind};
pub use self::metrics::Metrics;
pub use self::new_accounts::NewAccounts;
pub use self::presence::Presence;
pub use self::profiles::Profiles;
pub use self::push::{Apns, Fcm, Push, WebPush};
pub use self::rate_limits::{Exempt, Override, OwnRates, Rate, RateLimits};
pub use self::registration::{
    Captcha, CaptchaKind, ContactRule, DisplayName, Policy, Registration, RegistrationMode,
};
pub use self::rooms::{EncryptionByDefault, Entrance, RoomPolicy, Rooms};
pub use self::server::Server;
pub use self::server_notices::ServerNotices;
pub use self::sessions::Sessions;
use self::source::Source;
pub use self::turn::Turn;
pub use self::units::{Secret, Size, Span, server_name};
pub use self::url_previews::UrlPreviews;
pub use self::user_directory::{UserDirectory, VisibleUsers};
pub use self::welcome::{Welcome, WelcomeClient};
pub use self::well_known::{Contact, WellKnown};

/// The commented example with every setting, printed by `rhizome config example`.
pub const EXAMPLE: &str = include_str!("example.toml");

/// The prefix of environment variables that set keys.
pub const ENV_PREFIX: &str = "RHIZOME__";

/// Read from the environment only: the name of the point at which a test wants the process to die.
const CRASH_POINT: &str = "RHIZOME__TESTING__CRASH_POINT";

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who this server is.
    pub server: Server,
    /// Where it is, when it isn't at its name.
    pub well_known: WellKnown,
    /// Where the truth lies.
    pub database: Database,
    /// Where we listen.
    pub listeners: Vec<Listener>,
    /// What a peer may cost.
    pub http: Http,
    /// Who may make an account.
    pub registration: Registration,
    /// How often a user may do what costs.
    pub rate_limits: RateLimits,
    /// Other servers.
    pub federation: Federation,
    /// Uploaded files.
    pub media: Media,
    /// Previews of links.
    pub url_previews: UrlPreviews,
    /// Notifications to users' apps.
    pub push: Push,
    /// Mails to users.
    pub mail: Mail,
    /// Addresses and telephone numbers of users.
    pub identity: Identity,
    /// Where calls come through.
    pub turn: Turn,
    /// The page for people.
    pub welcome: Welcome,
    /// Who is there.
    pub presence: Presence,
    /// Who is found by a search for people.
    pub user_directory: UserDirectory,
    /// What users may say of themselves.
    pub profiles: Profiles,
    /// Events that users have sent for later.
    pub delayed_events: DelayedEvents,
    /// What accounts may do at first.
    pub new_accounts: NewAccounts,
    /// Logging in with tokens of the operator's own system.
    pub jwt: Jwt,
    /// How long what clients log in with is good.
    pub sessions: Sessions,
    /// What is so in rooms unless people say otherwise.
    pub rooms: Rooms,
    /// What the operator tells users.
    pub server_notices: ServerNotices,
    /// Bridges and bots.
    pub appservices: Appservices,
    /// Log lines.
    pub logging: Logging,
    /// Figures for who watches.
    pub metrics: Metrics,
    /// For tests: where to die. Only from the environment.
    #[serde(skip)]
    pub crash_point: Option<rhizome_storage::CrashPoint>,
    /// The file that was read, for messages.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            well_known: WellKnown::default(),
            database: Database::default(),
            listeners: listeners::default_listeners(),
            http: Http::default(),
            registration: Registration::default(),
            rate_limits: RateLimits::default(),
            federation: Federation::default(),
            media: Media::default(),
            url_previews: UrlPreviews::default(),
            push: Push::default(),
            mail: Mail::default(),
            identity: Identity::default(),
            turn: Turn::default(),
            welcome: Welcome::default(),
            presence: Presence::default(),
            user_directory: UserDirectory::default(),
            profiles: Profiles::default(),
            delayed_events: DelayedEvents::default(),
            new_accounts: NewAccounts::default(),
            jwt: Jwt::default(),
            sessions: Sessions::default(),
            rooms: Rooms::default(),
            server_notices: ServerNotices::default(),
            appservices: Appservices::default(),
            logging: Logging::default(),
            metrics: Metrics::default(),
            crash_point: None,
            file: None,
        }
    }
}

impl Config {
    /// Reads `file` (or none) and the process's environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            None => None,
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                ConfigError::one(
                    path.display().to_string(),
                    format!("the configuration can't be read: {error}"),
                    "check the path after --config; `rhizome config example > rhizome.toml` makes a file to start from",
                )
            })?),
        };
        let name = file.map(|path| path.display().to_string());
        let mut variables = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else {
                continue;
            };
            if name.starts_with(ENV_PREFIX) {
                let value = value.into_string().map_err(|_| {
                    ConfigError::one(
                        name.clone(),
                        "the value is not UTF-8",
                        "set it to UTF-8 text",
                    )
                })?;
                variables.insert(name, value);
            }
        }
        let mut config = Self::from_parts(name.as_deref().zip(text.as_deref()), variables)?;
        config.file = file.map(Path::to_owned);
        Ok(config)
    }

    /// The same from values: `file` is its name and text, `environment` the variables that start
    /// with [`ENV_PREFIX`].
    pub fn from_parts(
        file: Option<(&str, &str)>,
        mut environment: BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let crash_point = environment
            .remove(CRASH_POINT)
            .filter(|point| !point.is_empty());
        let source = Source::parse(file)?;
        let (mut config, from_env) = source.read(&environment)?;
        let mut problems = Problems::default();
        config.read_secrets(&mut problems);
        config.check(&mut problems);
        if let Some(point) = crash_point {
            match point.parse() {
                Ok(point) => config.crash_point = Some(point),
                Err(error) => {
                    return Err(ConfigError::one(
                        format!("environment variable {CRASH_POINT}"),
                        error,
                        "unset it: it is for tests, and ends the process",
                    ));
                }
            }
        }
        if problems.0.is_empty() {
            return Ok(config);
        }
        let problems = problems.0.into_iter().map(|(path, what, remedy)| Problem {
            place: source.place(&path, &from_env),
            what,
            remedy,
        });
        Err(ConfigError(problems.collect()))
    }

    /// Where the client API is, as users reach it; without a slash at its end.
    pub fn client_base(&self) -> String {
        match &self.well_known.client {
            Some(base) => base.trim_end_matches('/').to_owned(),
            None => format!("https://{}", self.server.name),
        }
    }

    fn check(&self, problems: &mut Problems) {
        self.server.check(problems);
        self.well_known.check(problems);
        self.database.check(problems);
        listeners::check(&self.listeners, &self.http, problems);
        self.registration
            .check(&self.mail, &self.identity, problems);
        self.rate_limits.check(problems);
        self.federation.check(problems);
        self.media.check(problems);
        self.url_previews.check(problems);
        self.push.check(problems);
        self.mail.check(problems);
        self.identity.check(problems);
        self.turn.check(problems);
        self.welcome.check(problems);
        self.delayed_events.check(problems);
        self.new_accounts.check(problems);
        self.sessions.check(problems);
        self.rooms.check(problems);
        self.jwt.check(problems);
        self.server_notices.check(&self.server.name, problems);
        self.appservices.check(problems);
        self.logging.check(problems);
        self.metrics.check(&self.listeners, problems);
    }
}

/// Collects what is wrong: (key's path, what, remedy).
#[derive(Default)]
struct Problems(Vec<(String, String, String)>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push((path.into(), what.into(), remedy.into()));
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `file:line: key`, or the environment variable.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// The configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

impl ConfigError {
    fn one(place: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self(vec![Problem {
            place: place.into(),
            what: what.into(),
            remedy: remedy.into(),
        }])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(
                f,
                "{}: {}\n  to fix it: {}",
                problem.place, problem.what, problem.remedy
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
