//! Keys that the server adds which gave an answer, for those whose owners are gone.
//!
//! Nobody could join a room otherwise, without a notary, whose oldest events are of a server that is no more. But who
//! gives keys can make them up: that their owner has signed them is said by those same keys. So the owner comes first,
//! then the notaries that the operator trusts; what is left counts for this one answer only, whose giver we must
//! believe in much else. It is neither kept nor used to tell who sends a request, and it can't gainsay what we know.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ruma::ServerName;

use super::{GatheredKeys, KeyRing, KnownKeys, Needed, Wanted, by_server, fetch::BATCH};

/// How long each owner has for its answer.
const OWNER_TIME: Duration = Duration::from_secs(5);
/// How long the giver has for all of its own.
const GIVER_TIME: Duration = Duration::from_secs(20);
/// Of so many servers it is asked for keys.
const MAX_OWNERS: usize = 1_000;

impl KeyRing {
    /// [`KeyRing::prefetch`] for the events of an answer of `giver`, which is asked for what can't be had elsewhere.
    pub(crate) async fn prefetch_with(
        &self,
        wanted: &[Wanted],
        giver: &ServerName,
    ) -> GatheredKeys {
        let wanted = by_server(wanted);
        let mut gathered = self.gather(&wanted, Some(OWNER_TIME)).await;
        let open = |gathered: &GatheredKeys| -> Vec<_> {
            let lacks = |(server, keys): &(&&ServerName, &Needed<'_>)| {
                let known = gathered.servers.get(**server);
                !known.is_some_and(|known| known.satisfies(keys))
            };
            let lacking = wanted.iter().filter(lacks);
            lacking.map(|(server, keys)| (*server, keys)).collect()
        };
        let mut missing = open(&gathered);
        if !missing.is_empty() && !self.inner.notaries.is_empty() {
            // Who was slow has used up the time in which they would have been asked.
            self.ask_notaries(&missing).await;
            for (server, _) in &missing {
                let known = self.at_hand(server).await;
                gathered.servers.insert((*server).to_owned(), known);
            }
            missing = open(&gathered);
        }
        missing.retain(|(server, _)| *server != giver && *server != self.inner.server_name);
        missing.truncate(MAX_OWNERS);
        for (server, known) in self.heard_from(giver, &missing).await {
            gathered.servers.insert(server.to_owned(), Arc::new(known));
        }
        gathered
    }

    /// What the giver says of these servers' keys, as far as it may be so, with what was known.
    async fn heard_from<'a>(
        &self,
        giver: &ServerName,
        missing: &[(&'a ServerName, &Needed<'_>)],
    ) -> HashMap<&'a ServerName, KnownKeys> {
        let mut heard = HashMap::new();
        if missing.is_empty() {
            return heard;
        }
        let work = async {
            let Some(keys_of_giver) = self.notary_keys(giver).await else {
                return Err("its own keys can't be had".to_owned());
            };
            for batch in missing.chunks(BATCH) {
                for (server, answer) in self.ask_notary(giver, &keys_of_giver, batch).await? {
                    let known = self.at_hand(server).await;
                    if known.agrees_with(&answer.keys) {
                        let now = self.inner.store.clock().now_ms();
                        let before = heard
                            .entry(server)
                            .or_insert_with(|| KnownKeys::clone(&known));
                        *before = before.joined_with(&answer.keys, false, now);
                    } else {
                        tracing::warn!(%giver, %server, "a server gives keys for another that aren't its");
                    }
                }
            }
            Ok(())
        };
        let done = tokio::time::timeout(GIVER_TIME, work).await;
        if let Err(reason) = done.unwrap_or_else(|_| Err("it took too long".to_owned())) {
            tracing::info!(%giver, reason, "a server didn't give the keys for its answer");
        }
        if !heard.is_empty() {
            tracing::info!(%giver, servers = heard.len(), "believed a server's word about the keys of others, for one answer");
        }
        heard
    }
}
