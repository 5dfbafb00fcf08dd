//! Three processes on one database, of which one at a time is frozen, or killed and started again.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::net::TcpSocket;

use super::{balancer::Balancer, notes::Notes};
use crate::{
    client::Client,
    database::Database,
    process::{self, Process},
    random::Random,
};

const NODES: usize = 3;

pub(super) struct Nodes {
    database: Database,
    processes: Vec<Process>,
    pub(super) balancer: Balancer,
}

impl Nodes {
    pub(super) async fn start(database: Database) -> Self {
        let mut processes = Vec::new();
        for _ in 0..NODES {
            processes.push(process::start(&database, None).await);
        }
        let bases = processes.iter().map(|process| process.base.clone());
        let balancer = Balancer::open(bases.collect()).await;
        Self {
            database,
            processes,
            balancer,
        }
    }

    /// Where one of them answers itself.
    pub(super) fn first(&self) -> &str {
        &self.processes[0].base
    }

    /// The same person at each of them.
    pub(super) fn each(&self, client: &Client) -> Vec<Client> {
        let each = self.processes.iter();
        each.map(|process| client.at(&process.base)).collect()
    }

    /// CPU time of all, as far as they live.
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.processes.iter().map(Process::cpu_seconds).sum()
    }

    /// One is frozen, one is killed, and so on until the time is over. The next is disturbed when all are well, and the
    /// others have gone on.
    pub(super) async fn are_disturbed(
        &mut self,
        notes: &Notes,
        random: &mut Random,
        time: Duration,
    ) {
        let begun = Instant::now();
        // In a long run some are asleep for longer than a lease lasts.
        let longest = if time.is_zero() { 40 } else { 1_000 };
        for round in 0.. {
            if round >= 2 && begun.elapsed() >= time {
                break;
            }
            notes.goes_on(10 + random.below(30)).await;
            let at = random.below(NODES);
            let freezes = match round {
                0 => true,
                1 => false,
                _ => random.below(2) == 0,
            };
            let now = begun.elapsed();
            if freezes {
                let events = 10 + random.below(longest);
                println!("{now:.1?}: process {at} sleeps until {events} events are done");
                self.processes[at].freeze();
                self.balancer.is_unwell(at).await;
                notes.goes_on(events).await;
                self.processes[at].thaw();
            } else {
                println!("{now:.1?}: process {at} is killed");
                self.kill(at).await;
            }
            self.balancer.all_are_well().await;
        }
        notes.goes_on(10).await;
    }

    async fn kill(&mut self, at: usize) {
        self.processes[at].kill();
        let held = hold(&self.processes[at].base);
        let process = process::start(&self.database, None).await;
        self.balancer.moved_to(at, &process.base);
        drop(held);
        self.processes[at] = process;
    }
}

/// Takes the port of a process that has ended, without listening: the balancer is refused there, and no process of
/// another test answers it.
fn hold(base: &str) -> TcpSocket {
    let address: SocketAddr = base.strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    // Connections of the former process are still there.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
