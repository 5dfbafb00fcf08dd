//! `[rate_limits]`: how often a user, a server or an address may do what costs.

use ipnet::IpNet;
use ruma::OwnedUserId;
use serde::Deserialize;

use super::Problems;

/// How often a user, a server or an address may do what costs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimits {
    /// The off switch, for load tests.
    pub enabled: bool,
    /// Events sent, per user.
    pub message: Rate,
    /// Attempts to log in, per address and per account.
    pub login: Rate,
    /// Attempts to register, per address.
    pub registration: Rate,
    /// Rooms created and joined, per user.
    pub join: Rate,
    /// Invites, per user.
    pub invite: Rate,
    /// Invites of users of ours by another server, per server.
    pub federation_invite: Rate,
    /// Messages to devices, per user: one for each two KiB of each.
    pub to_device: Rate,
    /// Servers that are in no room here and nobody has written to yet, per user whose messages to devices go there.
    pub new_server: Rate,
    /// Files uploaded, and ids for them, per user.
    pub upload: Rate,
    /// Files and pictures of them downloaded, per user or address.
    pub download: Rate,
    /// Of those, files that aren't here and are fetched from other servers, per user or address.
    pub fetch: Rate,
    /// Links that aren't known and are visited for a preview, per user.
    pub url_preview: Rate,
    /// Codes by which addresses are confirmed, per address that they go to and per address that they are asked from.
    pub validation: Rate,
    /// Everything else that the specification calls rate-limited, per user or address.
    pub other: Rate,
    /// Transactions of another server.
    pub federation_transaction: Rate,
    /// What is much at once, for another server: states, auth chains, joins, room lists.
    pub federation_state: Rate,
    /// Files of ours and pictures of them, for another server.
    pub federation_media: Rate,
    /// Everything else that another server asks for.
    pub federation_other: Rate,
    /// Requests of servers that needn't be signed, per address.
    pub federation_unsigned: Rate,
    /// Servers whose keys are asked for or have to be fetched, per address.
    pub federation_keys: Rate,
    /// Milliseconds of work for another server: whose transactions take more is served later.
    pub federation_work: Rate,
    /// Users, and networks, whom none of the clients' limits holds back.
    pub exempt: Vec<Exempt>,
    /// Users who have limits of their own.
    pub overrides: Vec<Override>,
}

/// Who isn't held back: a user's id, or a network.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "a user's id, such as \"@bot:example.org\", or a network, such as \"10.0.0.0/8\""
)]
pub enum Exempt {
    /// A user, but for attempts to log in.
    User(OwnedUserId),
    /// The addresses of a network, while nobody says which user it is.
    Network(IpNet),
}

/// A user's own limits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The user.
    pub user: OwnedUserId,
    /// Those that are others than usual, by what they are called in [`RateLimits`].
    #[serde(default)]
    pub rates: OwnRates,
}

/// See [`RateLimits`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as in RateLimits")]
pub struct OwnRates {
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

/// A bucket of `burst` actions that refills at `per_second`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Actions per second in the long run.
    pub per_second: f64,
    /// Actions at once after a pause.
    pub burst: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            enabled: true,
            message: rate(10.0, 100),
            login: rate(0.5, 10),
            registration: rate(0.2, 10),
            join: rate(1.0, 30),
            invite: rate(1.0, 50),
            federation_invite: rate(1.0, 100),
            to_device: rate(500.0, 50_000),
            new_server: rate(0.02, 100),
            upload: rate(5.0, 100),
            download: rate(100.0, 2_000),
            fetch: rate(10.0, 500),
            url_preview: rate(1.0, 50),
            validation: rate(0.003, 5),
            other: rate(20.0, 100),
            federation_transaction: rate(100.0, 1_000),
            federation_state: rate(5.0, 200),
            federation_media: rate(50.0, 1_000),
            federation_other: rate(50.0, 1_000),
            federation_unsigned: rate(20.0, 400),
            federation_keys: rate(5.0, 500),
            federation_work: rate(2_000.0, 300_000),
            exempt: Vec::new(),
            overrides: Vec::new(),
        }
    }
}

impl RateLimits {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (name, rate) in [
            ("message", self.message),
            ("login", self.login),
            ("registration", self.registration),
            ("join", self.join),
            ("invite", self.invite),
            ("federation_invite", self.federation_invite),
            ("to_device", self.to_device),
            ("new_server", self.new_server),
            ("upload", self.upload),
            ("download", self.download),
            ("fetch", self.fetch),
            ("url_preview", self.url_preview),
            ("validation", self.validation),
            ("other", self.other),
            ("federation_transaction", self.federation_transaction),
            ("federation_state", self.federation_state),
            ("federation_media", self.federation_media),
            ("federation_other", self.federation_other),
            ("federation_unsigned", self.federation_unsigned),
            ("federation_keys", self.federation_keys),
            ("federation_work", self.federation_work),
        ] {
            if !rate.is_usable() {
                problems.add(
                    format!("rate_limits.{name}"),
                    "a rate needs `per_second` above 0 and `burst` of at least 1",
                    "write e.g. { per_second = 10, burst = 100 }; to switch all limits off set rate_limits.enabled = false",
                );
            }
        }
        let own = self.overrides.iter().flat_map(|own| own.rates.named());
        if (own.filter_map(|(_, rate)| rate)).any(|rate| !rate.is_usable()) {
            problems.add(
                "rate_limits.overrides",
                "a rate needs `per_second` above 0 and `burst` of at least 1",
                "write e.g. { user = \"@bot:example.org\", rates = { message = { per_second = 100, burst = 1000 } } }",
            );
        }
    }
}

impl Rate {
    fn is_usable(self) -> bool {
        self.per_second.is_finite() && self.per_second > 0.0 && self.burst > 0
    }
}

impl OwnRates {
    /// All of them, by what they are called.
    pub(crate) fn named(&self) -> [(&'static str, Option<Rate>); 9] {
        [
            ("message", self.message),
            ("join", self.join),
            ("invite", self.invite),
            ("to_device", self.to_device),
            ("new_server", self.new_server),
            ("upload", self.upload),
            ("download", self.download),
            ("fetch", self.fetch),
            ("other", self.other),
        ]
    }
}
