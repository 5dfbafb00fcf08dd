//! What the operator decides about the client API. Parsed and validated by the binary.

mod rate_limits;
mod registration;

use std::{sync::Arc, time::Duration};

pub use rhizome_edge::limits::Rate;
pub use rhizome_rooms::create::plan::{Entrance, Policies, Policy};
use ruma::{OwnedServerName, OwnedUserId, RoomVersionId};
use serde::Serialize;
use serde_json::{Map, Value};

pub use self::rate_limits::{Network, RateLimits, UserRates};
pub use self::registration::{
    Captcha, CaptchaKind, ContactRule, Document, Registration, RegistrationRules, TermsPolicy,
};
use crate::{Channels, JwtLogin, Mailing, Networks};

/// Settings of the client API.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The name after the colon in our users' ids.
    pub server_name: OwnedServerName,
    /// `m.homeserver.base_url` of `/.well-known/matrix/client`; also sent with a login. `None`: 404.
    pub well_known_client: Option<String>,
    /// `m.server` of `/.well-known/matrix/server` (`host:port`). `None`: 404.
    pub well_known_server: Option<String>,
    /// The version of rooms whose creator names none.
    pub default_room_version: RoomVersionId,
    /// Which new rooms are encrypted although their creator doesn't say so.
    pub encryption_by_default: EncryptionByDefault,
    /// What is so in new rooms instead of what their preset says.
    pub room_policies: Policies,
    /// Whether users forget rooms as they leave them.
    pub forget_on_leave: bool,
    /// Who tells users what the operator has to say; without it nobody does.
    pub notices: Option<Notices>,
    /// Who is found by a search for people.
    pub found_users: FoundUsers,
    /// Which fields of their profiles users may change.
    pub profile_fields: ProfileFields,
    /// Other networks that are reached from here.
    pub networks: Networks,
    /// Who may register.
    pub registration: Registration,
    /// What else that takes, and what new accounts are like.
    pub registration_rules: RegistrationRules,
    /// Whether there may be guests.
    pub guests: bool,
    /// Enables `/_synapse/admin/v1/register` for whoever knows the secret.
    pub registration_shared_secret: Option<String>,
    /// Requests per user or address.
    pub rate_limits: RateLimits,
    /// How long an access token lives that came with a refresh token.
    pub access_token_lifetime_ms: u64,
    /// How long a refresh token lives; `None`: until it is used, or its session ends.
    pub refresh_token_lifetime: Option<Duration>,
    /// How long an access token lives that came without a refresh token; `None`: until its session ends.
    pub lasting_token_lifetime: Option<Duration>,
    /// How long who has proved on a device whose it is needn't do so again there for what isn't worse than what they could do
    /// anyhow; zero: each time.
    pub reauthentication_window: Duration,
    /// How long a token is good that somebody who is logged in gets for another device; `None`: nobody gets one.
    pub login_tokens: Option<Duration>,
    /// Takes tokens of the operator's own system for logins.
    pub jwt: Option<Arc<JwtLogin>>,
    /// How often the WebSocket stream pings; a peer that is silent for two and a half times as
    /// long is given up.
    pub stream_heartbeat: Duration,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// About how many bytes of events the timelines of an answer, or a page of history, hold at most: the
    /// rest is found by paging, however many the client asks for at once.
    pub max_timeline_bytes: usize,
    /// The cost of hashing a password.
    pub password_cost: PasswordCost,
    /// Which files are given to who doesn't say who they are.
    pub unauthenticated_media: Unauthenticated,
    /// The ways on which notifications go out.
    pub channels: Channels,
    /// Devices aren't told while their users are active on others, nor for so long after it; `None`: always at once.
    pub quiet_while_active: Option<Duration>,
    /// How much users may have sent for later.
    pub delayed: DelayedLimits,
    /// What it takes to send mails; without it none are sent.
    pub mailing: Option<Arc<Mailing>>,
    /// Addresses and telephone numbers of users.
    pub identity: Identity,
    /// What else whoever asks is told of this server.
    pub discovery: Discovery,
    /// The TURN server that users are told.
    pub turn: Option<Turn>,
    /// The page for people who open the server's address; `None`: there is none.
    pub welcome: Option<Welcome>,
}

impl ClientConfig {
    /// Sensible defaults for a server of this name: registration closed, rate limits on.
    pub fn new(server_name: OwnedServerName) -> Self {
        Self {
            server_name,
            well_known_client: None,
            well_known_server: None,
            default_room_version: RoomVersionId::V12,
            encryption_by_default: EncryptionByDefault::Off,
            room_policies: Policies::default(),
            forget_on_leave: false,
            notices: None,
            found_users: FoundUsers::Known,
            profile_fields: ProfileFields::default(),
            networks: Networks::default(),
            registration: Registration::Closed,
            registration_rules: RegistrationRules::default(),
            guests: false,
            registration_shared_secret: None,
            rate_limits: RateLimits::default(),
            access_token_lifetime_ms: 60 * 60 * 1000,
            refresh_token_lifetime: None,
            lasting_token_lifetime: None,
            reauthentication_window: Duration::ZERO,
            login_tokens: Some(Duration::from_mins(2)),
            jwt: None,
            stream_heartbeat: Duration::from_secs(30),
            max_body_bytes: 1024 * 1024,
            max_timeline_bytes: 32 << 20,
            password_cost: PasswordCost::default(),
            unauthenticated_media: Unauthenticated::Closed,
            channels: Channels::default(),
            quiet_while_active: None,
            delayed: DelayedLimits::default(),
            mailing: None,
            identity: Identity::default(),
            discovery: Discovery::default(),
            turn: None,
            welcome: None,
        }
    }
}

/// What whoever asks is told of this server, beside where it is.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// What else `/.well-known/matrix/client` says.
    pub client_extra: Map<String, Value>,
    /// Whom people may turn to.
    pub contacts: Vec<Contact>,
    /// A page that helps people.
    pub support_page: Option<String>,
    /// The public ed25519 key, unpadded base64, of a policy server that has this server's name.
    pub policy_server_key: Option<String>,
}

/// Somebody whom people may turn to.
#[derive(Debug, Clone, Serialize)]
pub struct Contact {
    /// What for: `m.role.admin`, `m.role.security`, or another one.
    pub role: String,
    /// Their user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix_id: Option<OwnedUserId>,
    /// Their mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_address: Option<String>,
}

/// A TURN server.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its addresses.
    pub uris: Vec<String>,
    /// How users say there who they are.
    pub credentials: TurnCredentials,
    /// How long what they are told is good.
    pub ttl: Duration,
    /// Whether guests are told, too.
    pub guests: bool,
}

/// How users say at a TURN server who they are.
#[derive(Clone)]
pub enum TurnCredentials {
    /// By names that end, of which the server knows by a secret that they are ours.
    Secret(String),
    /// All by the same name and password.
    Shared {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for TurnCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TurnCredentials")
    }
}

/// The page for people who open the server's address.
#[derive(Debug, Clone, Default)]
pub struct Welcome {
    /// What stands on top of it; `None`: the server's name.
    pub title: Option<String>,
    /// What it says first.
    pub text: Option<String>,
    /// Apps that people can use: names and addresses.
    pub clients: Vec<(String, String)>,
    /// Which software it says that this is.
    pub software: Option<String>,
}

/// How much users may have sent for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayedLimits {
    /// How much later at most.
    pub max_delay: Duration,
    /// How many events a user may have scheduled at a time; 0: nobody may schedule any.
    pub most: usize,
}

impl Default for DelayedLimits {
    fn default() -> Self {
        Self {
            max_delay: Duration::from_hours(30 * 24),
            most: 100,
        }
    }
}

/// Which files are given to who doesn't say who they are: the specification wants those that are new to be given to users
/// only (<https://spec.matrix.org/v1.19/client-server-api/#content-repo-client-behaviour>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// None.
    Closed,
    /// Those that came here before this time, milliseconds since 1970. Nothing is fetched of other servers.
    Before(i64),
    /// All.
    Open,
}

/// E-mail addresses and telephone numbers of users: how it is found out whose they are, and who else knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Where the client API is, as clients reach it; ends without a slash.
    pub base: String,
    /// Who sends text messages; without it telephone numbers can't be validated.
    pub sms: Option<Sms>,
    /// The hosts where users may go on from the page on which they confirm an address; `None`: that of
    /// [`ClientConfig::well_known_client`], if there is one.
    pub next_hosts: Option<Vec<String>>,
    /// Who asks for a code isn't told which addresses accounts have.
    pub hide_known: bool,
    /// The identity servers that users may use; `None`: any.
    pub servers: Option<Vec<OwnedServerName>>,
}

/// Who sends text messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Sms {
    /// To this address goes a POST for each, with the JSON `{"to": "+44…", "text": "…"}`.
    pub url: String,
    /// The bearer token for it.
    pub token: Option<String>,
}

impl std::fmt::Debug for Sms {
    /// Neither the token, nor what of the address may be one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sms(…)")
    }
}

/// Who is found by a search for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundUsers {
    /// Who shares a room with whoever searches, or is in a room that anybody may look into.
    Known,
    /// These, and all users of this server.
    AllLocal,
}

impl FoundUsers {
    /// Whether all users of this server are found.
    pub fn are_all_local(self) -> bool {
        self == Self::AllLocal
    }
}

/// Which fields of their profiles users may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileFields {
    /// These alone; all if there is none.
    pub allowed: Vec<String>,
    /// Not these, if all others are.
    pub disallowed: Vec<String>,
}

impl ProfileFields {
    /// Whether they may change this one.
    pub fn allow(&self, field: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|one| one == field);
        if self.allowed.is_empty() {
            !is_in(&self.disallowed)
        } else {
            is_in(&self.allowed)
        }
    }
}

/// Who tells users what the operator has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notices {
    /// The user who speaks.
    pub user: OwnedUserId,
    /// What they are shown as.
    pub display_name: Option<String>,
    /// Their picture and the rooms', an `mxc://` address.
    pub avatar_url: Option<String>,
    /// What the rooms are called.
    pub room_name: Option<String>,
}

/// Which new rooms are encrypted although their creator doesn't say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionByDefault {
    /// None.
    Off,
    /// Those that people come into by invitation: made with another preset than `public_chat`.
    Invite,
    /// All.
    All,
}

/// The memory and passes of argon2id.
#[derive(Debug, Clone, Copy)]
pub struct PasswordCost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// How many hashes may run at once.
    pub concurrency: usize,
}

impl Default for PasswordCost {
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            concurrency: 4,
        }
    }
}
