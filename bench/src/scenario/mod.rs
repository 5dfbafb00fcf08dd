//! The scenarios, in the order in which they run.

mod federation;
mod history;
mod idle;
mod join;
mod keys;
mod keywords;
mod media;
mod people;
mod presence;
mod push;
mod relations;
mod search;
mod seen;
mod send;
mod services;
mod sliding;
mod space;
mod storm;
mod sync;
mod to_device;

use clap::ValueEnum;

use crate::{follow::Form, outcome::Outcome, world::World};

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
    /// The same with 5,000 listeners
    #[value(name = "seen-5000")]
    Seen5000,
    /// From sending to seeing it by sliding sync: 1 listener
    #[value(name = "seen-sliding-1")]
    SeenSliding1,
    /// The same with 50 listeners
    #[value(name = "seen-sliding-50")]
    SeenSliding50,
    /// The same with 500 listeners
    #[value(name = "seen-sliding-500")]
    SeenSliding500,
    /// The same with 5,000 listeners
    #[value(name = "seen-sliding-5000")]
    SeenSliding5000,
    /// From sending to seeing it on Rhizome's WebSocket: 1 listener
    #[value(name = "seen-socket-1")]
    SeenSocket1,
    /// The same with 50 listeners
    #[value(name = "seen-socket-50")]
    SeenSocket50,
    /// The same with 500 listeners
    #[value(name = "seen-socket-500")]
    SeenSocket500,
    /// The same with 5,000 listeners
    #[value(name = "seen-socket-5000")]
    SeenSocket5000,
    /// Somebody in a room of 10,000 adds a device, until 500 who wait have seen that in /sync
    DeviceStorm,
    /// From sending to a device to its seeing it in /sync
    ToDevice,
    /// The same for 8 pairs, closed loop
    ToDeviceMany,
    /// From sending a message to the push gateway's request
    Push,
    /// The same for 64 pairs, closed loop
    PushMany,
    /// The same for 1,000 pairs with a gateway each
    PushGateways,
    /// Messages into a room of 10,000 members of whom 100 have keywords and half have phones
    Keywords,
    /// 10,000 users are online and change what they are, each once a minute
    Presence,
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
    /// Sliding sync without a position, 20 rooms of an account in 10
    #[value(name = "sliding-first-10")]
    SlidingFirst10,
    /// The same of an account in 1,000 rooms
    #[value(name = "sliding-first-1000")]
    SlidingFirst1000,
    /// The same of an account in 10,000 rooms
    #[value(name = "sliding-first-10000")]
    SlidingFirst10000,
    /// Sliding sync with a position when nothing is new, account in 300 rooms
    SlidingEmpty,
    /// Sliding sync with a position when one message is new, account in 300 rooms
    SlidingOne,
    /// A room's history backwards, 100 events a page
    History,
    /// Searching for words in 20,000 messages (`--searched`)
    Search,
    /// Searching for names among 10,000 users (`--people`)
    Directory,
    /// A display name is changed by somebody in 1,000 rooms
    Rename,
    /// The list of 1,000 threads in a room of 100,000 events, 20 a page
    Threads,
    /// What is in one of these threads, 50 events a page
    Relations,
    /// A space of 500 rooms, all of it in one page
    Hierarchy,
    /// Files of 1 MiB are uploaded by 4 clients, closed loop
    MediaUpload,
    /// The same are downloaded
    MediaDownload,
    /// A file of 1 GiB up and down, and the memory that takes
    MediaLarge,
    /// Thumbnails of pictures of 12 megapixels
    MediaThumbnail,
    /// 10,000 connections that wait in /sync
    Idle,
    /// 10,000 connections that wait in sliding sync
    IdleSliding,
    /// 10,000 of Rhizome's WebSockets that wait
    IdleSocket,
    /// 10 application services with 1,000 rooms each; needs `--services`, and another server without any
    Services,
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

    /// Whether it needs application services that the first server knows.
    pub fn of_services(self) -> bool {
        self == Self::Services
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
            Self::Seen1 => seen::local(world, Form::Poll, 0).await,
            Self::Seen50 => seen::local(world, Form::Poll, 1).await,
            Self::Seen500 => seen::local(world, Form::Poll, 2).await,
            Self::Seen5000 => seen::local(world, Form::Poll, 3).await,
            Self::SeenSliding1 => seen::local(world, Form::Sliding, 0).await,
            Self::SeenSliding50 => seen::local(world, Form::Sliding, 1).await,
            Self::SeenSliding500 => seen::local(world, Form::Sliding, 2).await,
            Self::SeenSliding5000 => seen::local(world, Form::Sliding, 3).await,
            Self::SeenSocket1 => seen::local(world, Form::Socket, 0).await,
            Self::SeenSocket50 => seen::local(world, Form::Socket, 1).await,
            Self::SeenSocket500 => seen::local(world, Form::Socket, 2).await,
            Self::SeenSocket5000 => seen::local(world, Form::Socket, 3).await,
            Self::DeviceStorm => storm::devices(world).await,
            Self::ToDevice => to_device::one(world).await,
            Self::ToDeviceMany => to_device::many(world).await,
            Self::Push => push::one(world).await,
            Self::PushMany => push::many(world).await,
            Self::PushGateways => push::gateways(world).await,
            Self::Keywords => keywords::keywords(world).await,
            Self::Presence => presence::changes(world).await,
            Self::KeyUpload => keys::upload(world).await,
            Self::KeyClaim => keys::claim(world, 1, None).await,
            Self::KeyClaimMany => keys::claim(world, 25, Some("6,000")).await,
            Self::SyncInitial => sync::initial(world).await,
            Self::SyncEmpty => sync::empty(world).await,
            Self::SyncOne => sync::one(world).await,
            Self::SlidingFirst10 => sliding::first(world, 0).await,
            Self::SlidingFirst1000 => sliding::first(world, 1).await,
            Self::SlidingFirst10000 => sliding::first(world, 2).await,
            Self::SlidingEmpty => sliding::next(world, false).await,
            Self::SlidingOne => sliding::next(world, true).await,
            Self::History => history::backwards(world).await,
            Self::Search => search::search(world).await,
            Self::Directory => people::directory(world).await,
            Self::Rename => people::renaming(world).await,
            Self::Threads => relations::threads(world).await,
            Self::Relations => relations::relations(world).await,
            Self::Hierarchy => space::hierarchy(world).await,
            Self::MediaUpload => media::small(world, false).await,
            Self::MediaDownload => media::small(world, true).await,
            Self::MediaLarge => media::large(world).await,
            Self::MediaThumbnail => media::thumbnails(world).await,
            Self::Idle => idle::idle(world, Form::Poll).await,
            Self::IdleSliding => idle::idle(world, Form::Sliding).await,
            Self::IdleSocket => idle::idle(world, Form::Socket).await,
            Self::Services => services::services(world).await,
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
