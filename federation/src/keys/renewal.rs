//! Keys of servers that we share rooms with are asked for anew before they end.
//!
//! Otherwise the first message after that would wait for its server's keys, and be refused if the server is down just
//! then, although it is no stranger. Servers are asked a few at a time; those that don't answer come from the notaries,
//! all with one question. It is done at a time that differs from process to process, so one process finds what
//! another has done already. Whose keys have ended is asked when it is needed.
//!
//! Anybody can come into a public room with hundreds of names, whose keys end whenever they like. So domains take turns
//! ([`in_turn`]): those names wait for each other, not others for them.

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use rhizome_storage::{Error, millis, random};
use ruma::{OwnedServerName, ServerName};

use super::{KeyRing, Needed, fetch::Question};
use crate::Federation;

/// How often it is looked for keys that end, about.
const EVERY: Duration = Duration::from_mins(30);
/// Keys that end within this time are renewed: enough for a server that is down for a while.
const AHEAD: Duration = Duration::from_hours(6);
/// So are those that ended no longer ago: we may have been down ourselves. Servers that are gone for good aren't asked on.
const BEHIND: Duration = Duration::from_hours(1);
/// How many servers are asked at one time of looking, out of how many, and of those at the same time.
const MOST: usize = 500;
const LOOKED_AT: usize = 20_000;
const AT_ONCE: usize = 4;
/// How long one server has for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Works until it is dropped.
///
/// # Errors
/// The database's.
pub(crate) async fn run(fed: &Federation) -> Result<(), Error> {
    loop {
        // Without randomness there is no jitter.
        let [jitter] = random::bytes().unwrap_or_default();
        fed.store().clock().sleep(pause(jitter)).await;
        fed.keys().renew().await?;
    }
}

/// A quarter more or less than usual. `jitter`: any byte.
fn pause(jitter: u8) -> Duration {
    EVERY.mul_f64(0.75 + 0.5 * f64::from(jitter) / 255.0)
}

impl KeyRing {
    /// Asks the servers in rooms of ours whose keys end soon.
    async fn renew(&self) -> Result<(), Error> {
        let store = &self.inner.store;
        let now = store.clock().now_ms();
        let from = now.saturating_sub(millis(BEHIND));
        let until = now.saturating_add(millis(AHEAD));
        let ours = &self.inner.server_name;
        let ending = store.servers_whose_keys_end(ours, from, until, LOOKED_AT);
        let servers = in_turn(ending.await?, MOST);
        let silent: Vec<OwnedServerName> = stream::iter(servers)
            .map(|server| self.renewed(server, until))
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        self.renew_by_notaries(&silent, until).await;
        Ok(())
    }

    /// Asks one server, unless somebody else has. The server, if it doesn't answer.
    fn renewed(
        &self,
        server: OwnedServerName,
        until: i64,
    ) -> BoxFuture<'_, Option<OwnedServerName>> {
        Box::pin(async move {
            let turn = self.turn(&server);
            let _turn = turn.lock().await;
            let known = self.newest(&server).await;
            if known.ends().is_some_and(|ends| ends >= until) {
                return None;
            }
            if !self.may_ask(&server, &known) {
                return Some(server);
            }
            let asked = tokio::time::timeout(PATIENCE, self.ask_server(&server)).await;
            let answered = match asked {
                Ok(Ok(answer)) => {
                    self.admit(&server, answer).await;
                    true
                }
                Ok(Err(_)) | Err(_) => false,
            };
            self.note_outcome(&server, answered);
            (!answered).then_some(server)
        })
    }

    /// Asks the notaries for the keys that these servers had last, as they are now.
    async fn renew_by_notaries(&self, servers: &[OwnedServerName], until: i64) {
        let mut known = Vec::with_capacity(servers.len());
        for server in servers {
            known.push(self.at_hand(server).await);
        }
        let needed: Vec<Needed<'_>> = known
            .iter()
            .map(|known| known.newest().map(|id| (id, until)).collect())
            .collect();
        let wanted: Vec<Question<'_>> = servers
            .iter()
            .zip(&needed)
            .map(|(server, keys)| (&**server, keys))
            .collect();
        self.ask_notaries(&wanted).await;
    }
}

/// The first `most` of these servers, one of each domain in turn, the order of each domain's kept.
fn in_turn(servers: Vec<OwnedServerName>, most: usize) -> Vec<OwnedServerName> {
    let mut places = HashMap::new();
    let mut domains: VecDeque<VecDeque<OwnedServerName>> = VecDeque::new();
    for server in servers {
        let place = *places.entry(domain(&server)).or_insert(domains.len());
        match domains.get_mut(place) {
            Some(others) => others.push_back(server),
            None => domains.push_back(VecDeque::from([server])),
        }
    }
    let mut taken = Vec::new();
    while taken.len() < most
        && let Some(mut of_one) = domains.pop_front()
    {
        taken.extend(of_one.pop_front());
        if !of_one.is_empty() {
            domains.push_back(of_one);
        }
    }
    taken
}

/// The domain that a server's name is in, about: its last two labels. Of an IPv6 address the first 48 bits, of another all.
fn domain(server: &ServerName) -> String {
    let host = server.host();
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        let [a, b, c, ..] = address.segments();
        return format!("{a:x}:{b:x}:{c:x}");
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return host.to_owned();
    }
    let mut labels: Vec<&str> = host.rsplit('.').take(2).collect();
    labels.reverse();
    labels.join(".").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_take_turns() {
        let names = |names: &[&str]| -> Vec<OwnedServerName> {
            let names = names.iter().copied();
            names.map(|name| name.try_into().unwrap()).collect()
        };
        let many = names(&[
            "a.evil.org",
            "b.evil.org:1",
            "c.EVIL.org",
            "one.org",
            "x.two.org",
        ]);
        let order = [
            "a.evil.org",
            "one.org",
            "x.two.org",
            "b.evil.org:1",
            "c.EVIL.org",
        ];
        assert_eq!(in_turn(many.clone(), 9), names(&order));
        assert_eq!(in_turn(many, 3), names(&order[..3]));
        assert_eq!(in_turn(Vec::new(), 3), names(&[]));
        for (name, of) in [
            ("a.b.c.example:8448", "c.example"),
            ("localhost", "localhost"),
            ("1.2.3.4:1", "1.2.3.4"),
            ("[2001:db8:1:2::3]:1", "2001:db8:1"),
        ] {
            assert_eq!(domain(&names(&[name])[0]), of);
        }
    }

    #[test]
    fn processes_look_at_different_times() {
        assert_eq!(pause(0), EVERY.mul_f64(0.75));
        assert_eq!(pause(255), EVERY.mul_f64(1.25));
        assert!(pause(100) < pause(101));
    }
}
