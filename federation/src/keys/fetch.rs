//! Asking for keys: the server itself, and notaries.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use http::Method;
use rhizome_protocol::{canonical, receive::KeyLookup, server_keys, sign};
use ruma::ServerName;
use serde_json::{Map, Value, json};

use super::{KeyAnswer, KeyRing, KnownKeys, Needed};
use crate::outbound::{Limits, answer};

/// The limits of one question about keys.
const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_secs(12)),
    max_body: answer::KEYS,
};
/// Servers in one question to a notary.
pub(super) const BATCH: usize = 50;
/// Notaries that are asked at the same time.
const AT_ONCE: usize = 3;

/// A server, and what is needed of it.
pub(super) type Question<'a> = (&'a ServerName, &'a Needed<'a>);
/// What servers have said of themselves.
type Answers<'a> = Vec<(&'a ServerName, KeyAnswer)>;

impl KeyRing {
    /// `GET /_matrix/key/v2/server` at the server itself.
    pub(super) async fn ask_server(&self, server: &ServerName) -> Result<KeyAnswer, String> {
        let asked = self.inner.store.clock().now_ms();
        let body = self
            .inner
            .outbound
            .call(server, Method::GET, "/_matrix/key/v2/server", None, LIMITS)
            .await
            .map_err(|error| error.to_string())?;
        let object = canonical::parse_object(&body).map_err(|error| error.to_string())?;
        verified(&object, server, Some(asked))
    }

    /// `POST /_matrix/key/v2/query` at the notaries, a few at the same time, until all is known: who is slow holds up nobody
    /// who has it. What comes back is admitted if its server has signed it; the notary's own signature must hold too.
    ///
    /// Boxed: the compiler can't see through the questions under way that the whole is `Send`.
    pub(super) fn ask_notaries<'a>(&'a self, wanted: &'a [Question<'a>]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut notaries: Vec<&ServerName> =
                self.inner.notaries.iter().map(|name| &**name).collect();
            for batch in wanted.chunks(BATCH) {
                self.ask_about(batch, &mut notaries).await;
            }
        })
    }

    /// Asks notaries about a batch. One that doesn't answer is none any more.
    async fn ask_about<'a>(
        &'a self,
        batch: &'a [Question<'a>],
        notaries: &mut Vec<&'a ServerName>,
    ) {
        let mut waiting = notaries.clone().into_iter();
        let mut asking = FuturesUnordered::new();
        asking.extend(
            waiting
                .by_ref()
                .take(AT_ONCE)
                .map(|one| self.hear(one, batch)),
        );
        while let Some((notary, heard)) = asking.next().await {
            match heard {
                Ok(answers) => {
                    for (server, answer) in answers {
                        self.admit(server, answer).await;
                    }
                }
                Err(reason) => {
                    tracing::debug!(%notary, reason, "the notary didn't answer");
                    notaries.retain(|other| *other != notary);
                }
            }
            if self.unknown(batch).await.is_empty() {
                return;
            }
            asking.extend(waiting.next().map(|one| self.hear(one, batch)));
        }
    }

    /// What one notary says of those of a batch that aren't known yet.
    fn hear<'a>(
        &'a self,
        notary: &'a ServerName,
        batch: &'a [Question<'a>],
    ) -> BoxFuture<'a, (&'a ServerName, Result<Answers<'a>, String>)> {
        Box::pin(async move {
            let mut open = self.unknown(batch).await;
            open.retain(|(server, _)| *server != notary);
            if open.is_empty() {
                return (notary, Ok(Answers::new()));
            }
            let heard = match self.notary_keys(notary).await {
                Some(keys) => self.ask_notary(notary, &keys, &open).await,
                None => Err("its own keys can't be had".to_owned()),
            };
            (notary, heard)
        })
    }

    /// Those of a batch of which something isn't known that asking could tell.
    async fn unknown<'a>(&self, batch: &'a [Question<'a>]) -> Vec<Question<'a>> {
        let mut unknown = Vec::new();
        for (server, keys) in batch {
            if !self.at_hand(server).await.satisfies(keys) {
                unknown.push((*server, *keys));
            }
        }
        unknown
    }

    /// A notary's keys: at hand, or asked for at itself.
    pub(super) async fn notary_keys(&self, notary: &ServerName) -> Option<Arc<KnownKeys>> {
        let now = self.inner.store.clock().now_ms();
        let known = self.at_hand(notary).await;
        if known.has_current(now) || !self.may_ask(notary, &known) {
            return Some(known);
        }
        if let Ok(answer) = self.ask_server(notary).await {
            Some(self.admit(notary, answer).await)
        } else {
            self.note_outcome(notary, false);
            None
        }
    }

    pub(super) async fn ask_notary<'a>(
        &self,
        notary: &ServerName,
        keys_of_notary: &KnownKeys,
        batch: &[(&'a ServerName, &Needed<'_>)],
    ) -> Result<Answers<'a>, String> {
        let mut servers = Map::new();
        for (server, keys) in batch {
            let criteria: Map<String, Value> = keys
                .iter()
                .map(|(id, at)| ((*id).to_owned(), json!({ "minimum_valid_until_ts": *at })))
                .collect();
            servers.insert(server.to_string(), Value::Object(criteria));
        }
        let body = crate::xmatrix::canonical_text(&json!({ "server_keys": servers }));
        let limits = Limits {
            max_body: answer::NOTARY,
            ..LIMITS
        };
        let answer = self
            .inner
            .outbound
            .call_canonical(
                notary,
                Method::POST,
                "/_matrix/key/v2/query",
                Some(body),
                limits,
            )
            .await
            .map_err(|error| error.to_string())?;
        let answer = canonical::parse_object(&answer).map_err(|error| error.to_string())?;
        let list = answer
            .get("server_keys")
            .and_then(Value::as_array)
            .ok_or("no server_keys")?;
        let now = self.inner.store.clock().now_ms();
        let mut found = Answers::new();
        for object in list.iter().filter_map(Value::as_object).take(4 * BATCH) {
            let name = object.get("server_name").and_then(Value::as_str);
            let Some((server, _)) = batch
                .iter()
                .find(|(server, _)| name == Some(server.as_str()))
            else {
                continue;
            };
            if !signed_by(object, notary, keys_of_notary, now) {
                tracing::info!(%notary, %server, "a notary's answer isn't signed by it");
                continue;
            }
            match verified(object, server, None) {
                Ok(answer) => found.push((*server, answer)),
                Err(reason) => {
                    tracing::info!(%notary, %server, reason, "a notary passed on bad keys");
                }
            }
        }
        Ok(found)
    }
}

/// Whether one of a server's current keys has signed the object.
fn signed_by(
    object: &Map<String, Value>,
    server: &ServerName,
    known: &KnownKeys,
    now: i64,
) -> bool {
    let signatures = object
        .get("signatures")
        .and_then(|all| all.get(server.as_str()))
        .and_then(Value::as_object);
    signatures
        .into_iter()
        .flat_map(|by_key| by_key.keys())
        .take(8)
        .any(|key_id| match known.lookup(key_id, now) {
            KeyLookup::Found(public) => sign::verify_json(object, server, key_id, &public).is_ok(),
            KeyLookup::Unknown | KeyLookup::Expired => false,
        })
}

/// An answer that its server has signed itself, reduced to that server's signatures.
fn verified(
    object: &Map<String, Value>,
    server: &ServerName,
    asked: Option<i64>,
) -> Result<KeyAnswer, String> {
    let keys = server_keys::verify(object, server).map_err(|error| error.to_string())?;
    let mut own = object.clone();
    if let Some(Value::Object(signatures)) = own.get_mut("signatures") {
        signatures.retain(|name, _| name == server.as_str());
    }
    let json = crate::xmatrix::canonical_text(&Value::Object(own));
    if json.len() > answer::KEYS {
        return Err("it is too long".to_owned());
    }
    Ok(KeyAnswer { keys, json, asked })
}
