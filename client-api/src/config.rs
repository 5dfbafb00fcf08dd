//! What the operator decides about the client API. Parsed and validated by the binary.

mod registration;

use std::{sync::Arc, time::Duration};

pub use rhizome_edge::limits::Rate;
pub use rhizome_rooms::create::plan::{Entrance, Policies, Policy};
use ruma::{OwnedServerName, OwnedUserId, RoomVersionId};

pub use self::registration::{
    Captcha, CaptchaKind, ContactRule, Document, Policy, Registration, RegistrationRules,
};
use crate::{Channels, Mailing};

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
            registration: Registration::Closed,
            registration_rules: RegistrationRules::default(),
            guests: false,
            registration_shared_secret: None,
            rate_limits: RateLimits::default(),
            access_token_lifetime_ms: 60 * 60 * 1000,
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
        }
    }
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
    /// The hosts where users may go on from the page on which they confirm an address; `None`: any.
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

/// Rate limits by kind of request.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// `false` switches all of them off (load tests).
    pub enabled: bool,
    /// Events sent, per user.
    pub message: Rate,
    /// Registrations, per address.
    pub registration: Rate,
    /// Logins and refreshes, per address and per account.
    pub login: Rate,
    /// Joins and created rooms, per user.
    pub join: Rate,
    /// Invites, per user.
    pub invite: Rate,
    /// Messages to devices, per user: one for each two KiB of each.
    pub to_device: Rate,
    /// Servers that are in no room of ours and nobody has written to yet, per user whose messages to devices go there.
    pub new_server: Rate,
    /// Files uploaded, and ids for them, per user.
    pub upload: Rate,
    /// Files and pictures of them downloaded, per user or address.
    pub download: Rate,
    /// Of those, files that aren't here and have to be fetched from other servers, per user or address.
    pub fetch: Rate,
    /// Codes by which addresses are validated, per address that they go to and per address that they are asked from.
    pub validation: Rate,
    /// Everything else that the specification calls rate-limited, per user or address.
    pub other: Rate,
}

impl RateLimits {
    /// No limits: for load tests.
    pub fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            enabled: true,
            message: rate(10.0, 50),
            registration: rate(0.2, 5),
            login: rate(0.5, 10),
            join: rate(1.0, 20),
            invite: rate(1.0, 50),
            to_device: rate(500.0, 50_000),
            new_server: rate(0.02, 100),
            upload: rate(5.0, 100),
            download: rate(100.0, 2_000),
            fetch: rate(10.0, 500),
            validation: rate(0.003, 5),
            other: rate(20.0, 100),
        }
    }
}
