//! The scenarios, in the order in which they run.

mod federation;
mod history;
mod idle;
mod join;
mod keys;
mod seen;
mod send;
mod sync;
mod to_device;

use clap::ValueEnum;

use crate::{outcome::Outcome, world::World};

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Accounts registered, few at a time (password hashing dominates)
    Register,
    /// 8 senders in one room, closed loop
    SendHot,
    /// 8 senders with a room each, closed loop
    SendMany,
    /// 1,000 users join one room, 8 at a time, and whether that becomes slower
    Join,
    /// One message at a time into the room of 1,000
    SendCrowd,
    /// From sending to seeing it in /sync: 1 listener
    #[value(name = "seen-1")]
    Seen1,
    /// The same with 50 listeners
    #[value(name = "seen-50")]
    Seen50,
    /// The same with 500 listeners
    #[value(name = "seen-500")]
    Seen500,
    /// From a change of somebody's device to seeing it in /sync: 500 listeners
    DeviceStorm,
    /// From sending to a device to its seeing it in /sync
    ToDevice,
    /// The same for 8 pairs, closed loop
    ToDeviceMany,
    /// Devices upload their keys, 50 one-time keys each
    KeyUpload,
    /// 8 claim one-time keys, one by each request, closed loop
    KeyClaim,
    /// The same, 25 by each request
    KeyClaimMany,
    /// /sync without a token, account in 300 rooms
    SyncInitial,
    /// /sync with a token when nothing is new, account in 300 rooms
    SyncEmpty,
    /// /sync with a token when one message is new, account in 300 rooms
    SyncOne,
    /// A room's history backwards, 100 events a page
    History,
    /// 2,000 connections that wait in /sync
    Idle,
    /// 2,000 WebSocket streams that wait
    IdleSockets,
    /// From sending to seeing it in /sync on the other server
    FederationSeen,
    /// 200 messages at once until all are seen in /sync on the other server
    FederationBurst,
    /// Joining rooms of 100 members on the other server
    FederationJoin,
}

impl Scenario {
    /// All, in order.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// One line about it.
    pub fn help(self) -> String {
        let value = self.to_possible_value();
        let help = value.as_ref().and_then(|value| value.get_help());
        help.map_or_else(String::new, ToString::to_string)
    }

    /// Whether it needs two servers.
    pub fn federated(self) -> bool {
        matches!(
            self,
            Self::FederationSeen | Self::FederationBurst | Self::FederationJoin
        )
    }

    /// Prepares, warms up and measures.
    pub async fn run(self, world: &mut World) -> anyhow::Result<Outcome> {
        world.probe.federated = self.federated();
        let outcome = match self {
            Self::Register => join::register(world).await,
            Self::SendHot => send::hot(world).await,
            Self::SendMany => send::many(world).await,
            Self::Join => join::join(world).await,
            Self::SendCrowd => send::crowd(world).await,
            Self::Seen1 => seen::local(world, 0).await,
            Self::Seen50 => seen::local(world, 1).await,
            Self::Seen500 => seen::local(world, 2).await,
            Self::DeviceStorm => seen::devices(world).await,
            Self::ToDevice => to_device::one(world).await,
            Self::ToDeviceMany => to_device::many(world).await,
            Self::KeyUpload => keys::upload(world).await,
            Self::KeyClaim => keys::claim(world, 1, None).await,
            Self::KeyClaimMany => keys::claim(world, 25, Some("6,000")).await,
            Self::SyncInitial => sync::initial(world).await,
            Self::SyncEmpty => sync::empty(world).await,
            Self::SyncOne => sync::one(world).await,
            Self::History => history::backwards(world).await,
            Self::Idle => idle::polls(world).await,
            Self::IdleSockets => idle::sockets(world).await,
            Self::FederationSeen => federation::seen(world).await,
            Self::FederationBurst => federation::burst(world).await,
            Self::FederationJoin => federation::join(world).await,
        };
        let mut outcome = outcome?;
        outcome.scenario = self.name();
        outcome.memory = world.probe.memory()?;
        Ok(outcome)
    }
}
