//! Keys of servers that we share rooms with are asked for anew before they end.
//!
//! Otherwise the first message after that would wait for its server's keys, and be refused if the server is down just
//! then, although it is no stranger. Servers are asked a few at a time; those that don't answer come from the notaries,
//! all with one question. It is done at a time that differs from process to process, so one process finds what
//! another has done already. Whose keys have ended is asked when it is needed.

use std::time::Duration;

use futures_util::{StreamExt as _, future::BoxFuture, stream};
use rhizome_storage::{Error, millis, random};
use ruma::OwnedServerName;

use super::{KeyRing, Needed, fetch::Question};
use crate::Federation;

/// How often it is looked for keys that end, about.
const EVERY: Duration = Duration::from_mins(30);
/// Keys that end within this time are renewed: enough for a server that is down for a while.
const AHEAD: Duration = Duration::from_hours(6);
/// So are those that ended no longer ago: we may have been down ourselves. Servers that are gone for good aren't asked on.
const BEHIND: Duration = Duration::from_hours(1);
/// How many servers are asked at one time of looking, and of those at the same time.
const MOST: usize = 500;
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
        let servers = store.servers_whose_keys_end(from, until, MOST).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_look_at_different_times() {
        assert_eq!(pause(0), EVERY.mul_f64(0.75));
        assert_eq!(pause(255), EVERY.mul_f64(1.25));
        assert!(pause(100) < pause(101));
    }
}
