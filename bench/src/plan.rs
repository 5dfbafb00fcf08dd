//! How much of everything.

use std::time::Duration;

/// Counts and times of all scenarios.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Senders side by side.
    pub senders: usize,
    /// Before anything counts.
    pub warm: Duration,
    /// The measured time of a closed loop.
    pub measured: Duration,
    /// No scenario measures longer.
    pub limit: Duration,
    /// No preparation takes longer.
    pub setup_limit: Duration,
    /// Accounts that `register` makes.
    pub registrations: usize,
    /// Members of the large room.
    pub crowd: usize,
    /// Listeners of the `seen-…` scenarios.
    pub listeners: [usize; 4],
    /// Members of the room in which devices are added, and those of them who wait in `/sync`.
    pub storm: (usize, usize),
    /// Members of the room in which keywords are looked for, and those of them who have one.
    pub keywords: (usize, usize),
    /// Push gateways that each tell one phone.
    pub gateways: usize,
    /// Users who are online, in two rooms each, and how many are in a room.
    pub online: (usize, usize),
    /// How often each of them changes what they are, and how long that is watched.
    pub changes: (Duration, Duration),
    /// Messages whose latency is taken, where one is sent at a time.
    pub latencies: usize,
    /// The time between two of them.
    pub every: Duration,
    /// Devices that upload keys.
    pub devices: usize,
    /// One-time keys of each that are there to be claimed.
    pub one_time_keys: usize,
    /// Rooms of the account that syncs.
    pub rooms: usize,
    /// Rooms of the accounts whose first answers of sliding sync are compared.
    pub sliding_rooms: [usize; 3],
    /// Initial syncs.
    pub initial_syncs: usize,
    /// Events that are paged through.
    pub history: usize,
    /// Messages in which is searched.
    pub searched: usize,
    /// Users whose names are searched for.
    pub people: usize,
    /// Rooms of the account that changes its name.
    pub renamed: usize,
    /// Events of the room with threads, and threads.
    pub threaded: (usize, usize),
    /// Rooms of a space.
    pub space: usize,
    /// Clients that upload and download files, and the files' size in bytes.
    pub files: (usize, usize),
    /// The large file's size in bytes.
    pub large_file: usize,
    /// Pictures, their width and height.
    pub pictures: (usize, u16, u16),
    /// Polls that wait.
    pub idle: usize,
    /// How long they are watched.
    pub idle_time: Duration,
    /// Messages of a burst, and bursts.
    pub burst: (usize, usize),
    /// Rooms of each application service.
    pub service_rooms: usize,
    /// Messages that are sent as fast as they are answered, with services and without.
    pub service_messages: usize,
    /// Members of a room joined from outside, and such rooms.
    pub remote_join: (usize, usize),
}

impl Plan {
    /// The numbers that are quoted.
    pub fn full() -> Self {
        Self {
            senders: 8,
            warm: Duration::from_secs(1),
            measured: Duration::from_secs(5),
            limit: Duration::from_mins(1),
            setup_limit: Duration::from_mins(15),
            registrations: 40,
            crowd: 1000,
            listeners: [1, 50, 500, 5000],
            storm: (10_000, 500),
            keywords: (10_000, 100),
            gateways: 1000,
            online: (10_000, 25),
            changes: (Duration::from_mins(1), Duration::from_secs(30)),
            latencies: 200,
            every: Duration::from_millis(40),
            devices: 200,
            one_time_keys: 300,
            rooms: 300,
            sliding_rooms: [10, 1000, 10_000],
            initial_syncs: 30,
            history: 20_000,
            searched: 20_000,
            people: 10_000,
            renamed: 1_000,
            threaded: (100_000, 1_000),
            space: 500,
            files: (4, 1 << 20),
            large_file: 1 << 30,
            pictures: (10, 4000, 3000),
            idle: 10_000,
            idle_time: Duration::from_secs(10),
            burst: (200, 5),
            service_rooms: 1000,
            service_messages: 5000,
            remote_join: (100, 5),
        }
    }

    /// Seconds, to see that everything works.
    pub fn quick() -> Self {
        Self {
            senders: 3,
            warm: Duration::from_millis(50),
            measured: Duration::from_millis(200),
            limit: Duration::from_mins(1),
            setup_limit: Duration::from_mins(1),
            registrations: 2,
            crowd: 6,
            listeners: [1, 2, 4, 6],
            storm: (6, 3),
            keywords: (6, 3),
            gateways: 3,
            online: (6, 3),
            changes: (Duration::from_millis(100), Duration::from_millis(300)),
            latencies: 5,
            every: Duration::from_millis(5),
            devices: 8,
            one_time_keys: 200,
            rooms: 4,
            sliding_rooms: [2, 4, 8],
            initial_syncs: 2,
            history: 100,
            searched: 60,
            people: 60,
            renamed: 6,
            threaded: (150, 30),
            space: 5,
            files: (2, 10_000),
            large_file: 1 << 20,
            pictures: (2, 800, 600),
            idle: 8,
            idle_time: Duration::from_millis(200),
            burst: (12, 2),
            service_rooms: 2,
            service_messages: 30,
            remote_join: (3, 2),
        }
    }
}
