//! Publishing our keys, and passing on those of others as a notary
//! (<https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>).

use std::collections::BTreeSet;

use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use rhizome_edge::{Table, Undecoded};
use rhizome_protocol::{Object, canonical, server_keys, sign};
use rhizome_storage::KeyResponse;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName,
    api::{
        auth_scheme::NoAuthentication,
        federation::discovery::{
            get_remote_server_keys, get_remote_server_keys_batch, get_server_keys,
        },
    },
    metadata,
};
use serde_json::json;

use super::{
    KeyRing,
    former::{self, Criteria},
    known::public_key,
};
use crate::{Federation, MatrixError, RawJson, Ruma};

/// For how long our answer may be used, ms.
const VALIDITY: i64 = 24 * 60 * 60 * 1000;
/// Servers that a notary question may name.
const MAX_QUERIED: usize = 100;
/// Servers that are asked at once for one notary question.
const PARALLEL: usize = 8;

/// `/_matrix/key/v2/…`
pub(crate) fn endpoints(table: Table<Federation>) -> Table<Federation> {
    table
        .serve(own)
        .serve(query)
        .serve(query_batch)
        // Deprecated spellings that name a key.
        .serve(own_slash)
        .serve(own_by_id)
        .serve(query_by_id)
}

struct OwnSlash;
metadata! {
    @for OwnSlash,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/key/v2/server/",
}

struct OwnById;
metadata! {
    @for OwnById,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/key/v2/server/{key_id}",
}

struct QueryById;
metadata! {
    @for QueryById,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/key/v2/query/{server_name}/{key_id}",
}

/// `GET /_matrix/key/v2/server`
async fn own(
    State(fed): State<Federation>,
    _: Ruma<get_server_keys::v2::Request>,
) -> Result<RawJson, MatrixError> {
    Ok(RawJson::from_text(fed.keys().our_answer()?))
}

/// `GET /_matrix/key/v2/server/`
async fn own_slash(
    State(fed): State<Federation>,
    _: Ruma<Undecoded<OwnSlash>>,
) -> Result<RawJson, MatrixError> {
    Ok(RawJson::from_text(fed.keys().our_answer()?))
}

/// `GET /_matrix/key/v2/server/{keyId}`
async fn own_by_id(
    State(fed): State<Federation>,
    _: Ruma<Undecoded<OwnById>>,
) -> Result<RawJson, MatrixError> {
    Ok(RawJson::from_text(fed.keys().our_answer()?))
}

/// `GET /_matrix/key/v2/query/{serverName}`
async fn query(
    State(fed): State<Federation>,
    Ruma { req, peer, .. }: Ruma<get_remote_server_keys::v2::Request>,
) -> Result<RawJson, MatrixError> {
    fed.budgets().keys(peer, 1)?;
    let at = i64::try_from(u64::from(req.minimum_valid_until_ts.get())).unwrap_or(i64::MAX);
    let wanted = (req.server_name, Criteria::new());
    fed.keys().notarised(vec![wanted], at).await
}

/// `GET /_matrix/key/v2/query/{serverName}/{keyId}`
async fn query_by_id(
    State(fed): State<Federation>,
    Ruma { req, peer, .. }: Ruma<Undecoded<QueryById>>,
) -> Result<RawJson, MatrixError> {
    fed.budgets().keys(peer, 1)?;
    let now = fed.store().clock().now_ms();
    let server = OwnedServerName::try_from(req.part(0))
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let wanted = (server, Criteria::from([(req.part(1).to_owned(), now)]));
    fed.keys().notarised(vec![wanted], now).await
}

/// `POST /_matrix/key/v2/query`
async fn query_batch(
    State(fed): State<Federation>,
    Ruma { req, peer, .. }: Ruma<get_remote_server_keys_batch::v2::Request>,
) -> Result<RawJson, MatrixError> {
    if req.server_keys.len() > MAX_QUERIED {
        return Err(MatrixError::too_large(format!(
            "At most {MAX_QUERIED} servers at a time"
        )));
    }
    fed.budgets().keys(peer, req.server_keys.len())?;
    let now = fed.store().clock().now_ms();
    let wanted = req.server_keys.into_iter().map(|(server, keys)| {
        let until =
            |at: Option<MilliSecondsSinceUnixEpoch>| at.map_or(now, |at| i64::from(at.get()));
        let criteria = keys
            .into_iter()
            .map(|(id, key)| (id.to_string(), until(key.minimum_valid_until_ts)));
        (server, criteria.collect())
    });
    fed.keys().notarised(wanted.collect(), now).await
}

impl KeyRing {
    /// Our own keys, signed.
    fn our_answer(&self) -> Result<String, MatrixError> {
        let inner = &self.inner;
        let old: Vec<_> = inner
            .old
            .iter()
            .filter_map(|old| Some((old.key_id.clone(), public_key(&old.public)?, old.expired_ts)))
            .collect();
        let until = inner.store.clock().now_ms().saturating_add(VALIDITY);
        let object = server_keys::build(&inner.server_name, &[&inner.key], &old, until);
        object
            .and_then(|object| canonical::to_canonical(&object))
            .map_err(|error| {
                tracing::error!(%error, "our own keys can't be encoded");
                MatrixError::internal()
            })
    }

    /// The answers of the servers that have the wanted keys, with our signature added. Where no keys are named, all
    /// that we have, the newest valid at `at` (ms) if possible. A server whose keys can't be had is left out.
    async fn notarised(
        &self,
        wanted: Vec<(OwnedServerName, Criteria)>,
        at: i64,
    ) -> Result<RawJson, MatrixError> {
        let answers: Vec<_> = stream::iter(wanted)
            .map(async |(server, keys)| self.signed_answers(&server, &keys, at).await)
            .buffered(PARALLEL)
            .collect()
            .await;
        let answers: Vec<Object> = answers.into_iter().flatten().collect();
        RawJson::of(&json!({ "server_keys": answers }))
    }

    async fn signed_answers(&self, server: &ServerName, wanted: &Criteria, at: i64) -> Vec<Object> {
        let inner = &self.inner;
        if server == inner.server_name {
            let ours = self.our_answer().ok();
            let ours = ours.and_then(|text| canonical::parse_object(text.as_bytes()).ok());
            return ours.into_iter().collect();
        }
        let mut stored = self.answers(server).await;
        let (mut chosen, met) = former::chosen(&stored, wanted, at);
        if !met {
            // A key that no server has: whatever is known, the server itself is asked.
            self.fetch(server, &BTreeSet::from([("", at)])).await;
            stored = self.answers(server).await;
            chosen = former::chosen(&stored, wanted, at).0;
        }
        let signed = |index: usize| {
            let mut object = canonical::parse_object(stored[index].response.as_bytes()).ok()?;
            sign::sign_json(&mut object, &inner.server_name, &inner.key).ok()?;
            Some(object)
        };
        chosen.into_iter().filter_map(signed).collect()
    }

    /// What a server has answered, the newest first.
    async fn answers(&self, server: &ServerName) -> Vec<KeyResponse> {
        let answers = self.inner.store.key_responses(server).await;
        answers.unwrap_or_else(|error| {
            tracing::warn!(%server, %error, "stored keys can't be read");
            Vec::new()
        })
    }
}
