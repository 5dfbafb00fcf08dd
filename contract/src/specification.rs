//! The operations of the specification, as `scripts/contract` wrote them down.

use std::{collections::BTreeMap, sync::LazyLock};

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::schema::{Definitions, Schema};

/// One of the APIs.
#[derive(Debug, Deserialize)]
pub struct Api {
    /// By method and path: `GET /_matrix/client/v3/sync`.
    pub operations: BTreeMap<String, Operation>,
    pub definitions: Definitions,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Whether it is only for who says who it is.
    #[serde(default)]
    pub auth: bool,
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// A JSON body's schema; nothing where there is no body or any may come.
    pub body: Option<Schema>,
    #[serde(default)]
    pub body_required: bool,
    /// By status; nothing where the body may be anything.
    pub responses: BTreeMap<u16, Option<Schema>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    #[serde(rename = "in")]
    pub place: In,
    pub name: String,
    #[serde(default)]
    pub required: bool,
    pub schema: Schema,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum In {
    Path,
    Query,
    Header,
}

/// All.
static APIS: LazyLock<[Api; 3]> = LazyLock::new(|| {
    [
        read(include_str!("../data/client-server.json")),
        read(include_str!("../data/server-server.json")),
        read(include_str!("../data/application-service.json")),
    ]
});

fn read(text: &str) -> Api {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("contract/data: {error}"))
}

pub fn client_server() -> &'static Api {
    &APIS[0]
}

pub fn server_server() -> &'static Api {
    &APIS[1]
}

/// What application services answer, which ours ask.
pub fn application_service() -> &'static Api {
    &APIS[2]
}

/// An operation that a request is for.
pub struct Found {
    pub api: &'static Api,
    /// Its method and path.
    pub key: &'static str,
    pub operation: &'static Operation,
    /// What stands for the path's variables, decoded.
    pub variables: Vec<(&'static str, String)>,
}

impl Found {
    /// What stands for a variable of the path.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let mut named = self.variables.iter().filter(|(of, _)| *of == name);
        named.next().map(|(_, text)| text.as_str())
    }
}

/// What a request to `path` is for. Where several fit, the one with the fewest variables.
pub fn find(method: &str, path: &str) -> Option<Found> {
    let apis: &'static [Api; 3] = &APIS;
    let all = apis.iter().flat_map(|api| {
        let operations = api.operations.iter();
        operations.map(move |(key, operation)| (api, key.as_str(), operation))
    });
    let fitting = all.filter_map(|(api, key, operation)| {
        let template = key.strip_prefix(method)?.strip_prefix(' ')?;
        let variables = variables(template, path)?;
        Some(Found {
            api,
            key,
            operation,
            variables,
        })
    });
    fitting.min_by_key(|found| found.variables.len())
}

/// Whether another method has an operation at this path.
pub fn is_path(path: &str) -> bool {
    ["GET", "PUT", "POST", "DELETE"]
        .iter()
        .any(|method| find(method, path).is_some())
}

fn variables<'a>(template: &'a str, path: &str) -> Option<Vec<(&'a str, String)>> {
    let mut parts = path.split('/');
    let mut found = Vec::new();
    for segment in template.split('/') {
        let variable = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match (variable, parts.next()) {
            // The prose of the specification lets an empty state key and the slash before it be left out.
            (Some("stateKey"), None) => found.push(("stateKey", String::new())),
            (Some(name), Some(part)) if !part.is_empty() || name == "stateKey" => {
                found.push((
                    name,
                    percent_decode_str(part).decode_utf8_lossy().into_owned(),
                ));
            }
            (None, Some(part)) if part == segment => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(found)
}

/// The method and path of every operation of servers.
pub fn all() -> impl Iterator<Item = &'static str> {
    let apis: &'static [Api; 3] = &APIS;
    apis[..2]
        .iter()
        .flat_map(|api| api.operations.keys().map(String::as_str))
}

/// The method and path of every operation that is limited in how often it may be asked for.
pub fn limited() -> impl Iterator<Item = &'static str> {
    let apis: &'static [Api; 3] = &APIS;
    let all = apis.iter().flat_map(|api| &api.operations);
    all.filter(|(_, operation)| operation.responses.contains_key(&429))
        .map(|(key, _)| key.as_str())
}
