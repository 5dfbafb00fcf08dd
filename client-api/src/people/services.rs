//! Networks that application services reach
//! (<https://spec.matrix.org/v1.19/application-service-api/#third-party-networks>). All that could know are asked side by
//! side; what one can't find out, in time or at all, it doesn't find.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use rhizome_appservice::{Registration, instance_id};
use rhizome_storage::Cache;
use ruma::thirdparty::Protocol;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::App;

/// What users look for on a network: the values of its fields.
pub type Fields = BTreeMap<String, String>;

/// How long a service may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MOST_BYTES: usize = 1 << 20;
/// The most things of an answer.
const MOST: usize = 1_000;
/// So many questions are under way for one of ours.
const AT_ONCE: usize = 16;
/// For how long it is remembered what a service says of a protocol, and that it says nothing.
const FRESH: Duration = Duration::from_mins(1);
const SILENT: Duration = Duration::from_secs(5);
/// So many protocols are remembered.
const REMEMBERED: usize = 1_000;

/// What services have said of their protocols lately.
#[derive(Debug)]
pub struct Protocols(Cache<(String, String), Said>);

/// When, by the monotonic clock; and what, if anything.
type Said = (Duration, Option<Arc<Protocol>>);

impl Default for Protocols {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// Services that speak a protocol, or any.
pub fn speaking(app: &App, protocol: Option<&str>) -> Vec<Arc<Registration>> {
    let services = app.federation.services().current();
    let speaks = |service: &&Arc<Registration>| {
        let mut spoken = service.protocols.iter();
        service.url.is_some() && spoken.any(|spoken| protocol.is_none_or(|wanted| spoken == wanted))
    };
    services.iter().filter(speaks).cloned().collect()
}

/// What services say of this protocol of theirs, or of all: of each service and protocol one.
pub async fn protocols(app: &App, wanted: Option<&str>) -> Vec<(String, Protocol)> {
    let mut asked = Vec::new();
    for service in speaking(app, wanted) {
        let spoken = service.protocols.iter();
        let spoken = spoken.filter(|spoken| wanted.is_none_or(|wanted| *spoken == wanted));
        asked.extend(spoken.map(|spoken| (service.clone(), spoken.clone())));
    }
    let asked = asked.into_iter().map(|(service, name)| async move {
        let said = protocol(app, &service, &name).await;
        said.map(|said| (name, Protocol::clone(&said)))
    });
    let mut said = stream::iter(asked).buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(said) = said.next().await {
        all.extend(said);
    }
    all
}

/// `GET /_matrix/app/v1/thirdparty/protocol/{protocol}`
async fn protocol(app: &App, service: &Registration, name: &str) -> Option<Arc<Protocol>> {
    let (known, now) = (&app.service_protocols.0, app.store.clock().monotonic());
    let key = (service.id.clone(), name.to_owned());
    if let Some((at, said)) = known.get(&key) {
        let fresh = if said.is_some() { FRESH } else { SILENT };
        if now.saturating_sub(at) < fresh {
            return said;
        }
    }
    let said: Option<Protocol> = get(app, service, &["protocol", name], &[]).await;
    let said = said.map(|mut said| {
        for instance in &mut said.instances {
            instance.instance_id = Some(instance_id(&service.id, &instance.network_id));
        }
        Arc::new(said)
    });
    known.insert(key, (now, said.clone()));
    said
}

/// What these services find: `GET /_matrix/app/v1/thirdparty/…` with a query.
pub async fn find<T: DeserializeOwned>(
    app: &App,
    services: Vec<Arc<Registration>>,
    path: &[&str],
    query: &Fields,
) -> Vec<T> {
    let query: Vec<(&str, &str)> = (query.iter())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let query = &query;
    let asked = services.into_iter().map(|service| async move {
        let found: Option<Vec<Box<RawValue>>> = get(app, &service, path, query).await;
        found.unwrap_or_default()
    });
    let mut found = stream::iter(asked).buffered(AT_ONCE);
    let mut all = Vec::new();
    while let Some(found) = found.next().await {
        // What isn't what it should be is left out by itself.
        let each = found.iter().take(MOST);
        all.extend(each.filter_map(|one| serde_json::from_str(one.get()).ok()));
    }
    all
}

async fn get<T: DeserializeOwned>(
    app: &App,
    service: &Registration,
    path: &[&str],
    query: &[(&str, &str)],
) -> Option<T> {
    let path: Vec<&str> = ["_matrix", "app", "v1", "thirdparty"]
        .iter()
        .chain(path)
        .copied()
        .collect();
    let client = app.federation.service_client();
    let answer = client.get(service, &path, query, (PATIENCE, MOST_BYTES));
    let why = match answer.await {
        Ok(answer) if answer.status == StatusCode::OK && !answer.is_cut => {
            match serde_json::from_slice(&answer.body) {
                Ok(said) => return Some(said),
                Err(error) => error.to_string(),
            }
        }
        // There is nothing like that.
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => return None,
        Ok(answer) => format!("it answers {}", answer.status),
        Err(error) => error.to_string(),
    };
    tracing::info!(
        service = service.id,
        why,
        "an application service can't look something up"
    );
    None
}

/// A query of one parameter.
pub fn one(name: &str, value: &str) -> Fields {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}
