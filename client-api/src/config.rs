//! What the operator decides about the client API. Parsed and validated by the binary.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

pub use rhizome_edge::limits::Rate;
pub use rhizome_rooms::create::plan::{Entrance, Policies, Policy};
use ruma::{OwnedServerName, OwnedUserId, RoomVersionId};
use serde::Serialize;
use serde_json::{Map, Value};

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
            registration: Registration::Closed,
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

/// Who may make an account over `/register`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Nobody.
    Closed,
    /// Anyone who can reach the server.
    Open,
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
    /// Everything else that the specification calls rate-limited, per user or address.
    pub other: Rate,
    /// Users for whom none of these hold, but for what tries secrets.
    pub exempt_users: HashSet<OwnedUserId>,
    /// Networks whose addresses aren't counted.
    pub exempt_networks: Vec<Network>,
    /// Users who have rates of their own.
    pub overrides: HashMap<OwnedUserId, UserRates>,
}

/// Rates of a user's own; what isn't set is as for others.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "as in RateLimits")]
pub struct UserRates {
    pub message: Option<Rate>,
    pub join: Option<Rate>,
    pub invite: Option<Rate>,
    pub to_device: Option<Rate>,
    pub new_server: Option<Rate>,
    pub upload: Option<Rate>,
    pub download: Option<Rate>,
    pub fetch: Option<Rate>,
    pub other: Option<Rate>,
}

/// The addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// In how many bits they are alike.
    pub bits: u8,
}

impl Network {
    /// Whether an address is of the network.
    pub fn has(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing
                    .checked_shr(32_u32.saturating_sub(bits))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing
                    .checked_shr(128_u32.saturating_sub(bits))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
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
            other: rate(20.0, 100),
            exempt_users: HashSet::new(),
            exempt_networks: Vec::new(),
            overrides: HashMap::new(),
        }
    }
}
