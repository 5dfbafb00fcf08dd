//! `rhizome appservice`: bridges and bots, as their files describe them, and how they are doing. Works on files and the
//! database, so the server may run or not; one that runs hears of it.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use rhizome_appservice::{
    AppserviceClient, CallError, Namespace, PingError, Registration, Registrations,
};
use rhizome_storage::{ServiceState, Store};
use serde_json::{Value, json};

use crate::config::Config;
use crate::server;

use super::{ago, block_on, clean, on_store, say};

#[derive(Debug, Subcommand)]
pub(super) enum AppserviceCommand {
    /// List them, with whether they are told what happens
    List {
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Say all that is known of one: what is its, and how far it has got
    Show {
        /// The id of its registration
        id: String,
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Ask one, or all, whether they are there, and say what to do if not. Ends with 1 if one isn't
    Test {
        /// The id of its registration
        id: Option<String>,
    },
    /// Tell one nothing for a while: what happens meanwhile it is told afterwards
    Pause {
        /// The id of its registration
        id: String,
    },
    /// Let one go on, or try again at once what it didn't take
    Resume {
        /// The id of its registration
        id: String,
    },
    /// Have the server read the registrations again
    Reload,
}

pub(super) fn appservice(config: &Config, command: AppserviceCommand) -> anyhow::Result<()> {
    let services = config.appservices.load(&config.server.name)?;
    match command {
        AppserviceCommand::List { json } => {
            on_store(config, async |store| list(store, &services, json).await)
        }
        AppserviceCommand::Show { id, json } => on_store(config, async |store| {
            show(store, named(&services, &id)?, json).await
        }),
        AppserviceCommand::Test { id } => {
            let asked = match &id {
                Some(id) => vec![named(&services, id)?],
                None => services.iter().map(|service| &**service).collect(),
            };
            block_on(test(config, &asked))
        }
        AppserviceCommand::Pause { id } => on_store(config, async |store| {
            pause(store, named(&services, &id)?, true).await
        }),
        AppserviceCommand::Resume { id } => on_store(config, async |store| {
            pause(store, named(&services, &id)?, false).await
        }),
        AppserviceCommand::Reload => on_store(config, async |store| {
            store.reload_appservices().await?;
            let count = services.len();
            say(format_args!(
                "{count} registrations are fine; the server reads them again within a second, if it runs"
            ));
            Ok(())
        }),
    }
}

fn named<'a>(services: &'a Registrations, id: &str) -> anyhow::Result<&'a Registration> {
    services
        .by_id(id)
        .map(|service| &**service)
        .with_context(|| {
            format!("no registration has the id {id:?}; `rhizome appservice list` names them")
        })
}

async fn list(store: &Store, services: &Registrations, as_json: bool) -> anyhow::Result<()> {
    let states = store.service_states().await?;
    let state_of = |service: &Registration| states.iter().find(|state| state.id == service.id);
    if as_json {
        let all: Vec<Value> = (services.iter())
            .map(|service| described(service, state_of(service)))
            .collect();
        say(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    if services.is_empty() {
        say("there are none; docs/bridges.md says how one is set up");
    }
    for service in services.iter() {
        let standing = standing(store, service, state_of(service));
        let (id, sender) = (clean(&service.id), &service.sender);
        say(format_args!("{id}  as {sender}, {standing}"));
    }
    Ok(())
}

async fn show(store: &Store, service: &Registration, as_json: bool) -> anyhow::Result<()> {
    let states = store.service_states().await?;
    let state = states.iter().find(|state| state.id == service.id);
    if as_json {
        say(serde_json::to_string_pretty(&described(service, state))?);
        return Ok(());
    }
    for line in details(store, service, state) {
        say(line);
    }
    Ok(())
}

/// How a service is doing, in a few words.
fn standing(store: &Store, service: &Registration, state: Option<&ServiceState>) -> String {
    if service.url.is_none() {
        return "told nothing, as its url is null".to_owned();
    }
    let Some(state) = state else {
        return "not told anything yet".to_owned();
    };
    if state.paused {
        return "paused".to_owned();
    }
    if state.failures > 0 {
        let since = ago(store, state.failing_since_ms);
        let error = clean(&state.error);
        return format!("failing for {since}: {error}");
    }
    if state.waiting.is_some() {
        return "is being told".to_owned();
    }
    "has all".to_owned()
}

fn details(store: &Store, service: &Registration, state: Option<&ServiceState>) -> Vec<String> {
    let yes = |what: bool| if what { "yes" } else { "no" };
    let url = service.url.as_ref().map_or("null", |url| url.as_str());
    let mut lines = vec![
        format!("id            {}", clean(&service.id)),
        format!("file          {}", clean(&service.file)),
        format!("url           {url}"),
        format!("its user      {}", service.sender),
        format!("rate limited  {}", yes(service.rate_limited)),
        format!("ephemeral     {}", yes(service.receive_ephemeral)),
        format!("encryption    {}", yes(service.msc3202)),
        format!("own devices   {}", yes(service.msc4190)),
    ];
    for protocol in &service.protocols {
        lines.push(format!("network       {}", clean(protocol)));
    }
    let namespaces = service.namespaces();
    for (kind, entries) in [
        ("users", namespaces.users()),
        ("aliases", namespaces.aliases()),
        ("rooms", namespaces.rooms()),
    ] {
        for Namespace { regex, exclusive } in entries {
            let whose = if *exclusive { "its alone" } else { "shared" };
            lines.push(format!("{kind:<13} {} ({whose})", clean(regex)));
        }
    }
    lines.push(format!("is told       {}", standing(store, service, state)));
    if let Some(state) = state {
        lines.push(format!(
            "behind by     {} positions of the log",
            state.behind
        ));
        lines.push(format!("transactions  {}", state.txn));
        if let Some((made_ms, bytes)) = state.waiting {
            let since = ago(store, made_ms);
            lines.push(format!("waiting       {bytes} bytes, for {since}"));
        }
        if state.failures > 0 {
            lines.push(format!("failures      {} in a row", state.failures));
        }
        if state.acknowledged_ms > 0 {
            let since = ago(store, state.acknowledged_ms);
            lines.push(format!("last took     one {since} ago"));
        }
    }
    lines
}

/// The same for programs. Tokens are in neither.
fn described(service: &Registration, state: Option<&ServiceState>) -> Value {
    let entries = |entries: &[Namespace]| -> Value {
        let one = |entry: &Namespace| json!({ "regex": entry.regex, "exclusive": entry.exclusive });
        entries.iter().map(one).collect()
    };
    let namespaces = service.namespaces();
    let told = state.map(|state| {
        json!({
            "position": state.pos.0,
            "behind": state.behind,
            "paused": state.paused,
            "transactions": state.txn,
            "waiting_since_ms": state.waiting.map(|(made, _)| made),
            "waiting_bytes": state.waiting.map(|(_, bytes)| bytes),
            "failures": state.failures,
            "failing_since_ms": Some(state.failing_since_ms).filter(|_| state.failures > 0),
            "error": Some(&state.error).filter(|_| state.failures > 0),
            "next_try_ms": Some(state.next_ms).filter(|_| state.failures > 0),
            "acknowledged_ms": Some(state.acknowledged_ms).filter(|ms| *ms > 0),
        })
    });
    json!({
        "id": service.id,
        "file": service.file,
        "url": service.url.as_ref().map(ToString::to_string),
        "sender": service.sender,
        "rate_limited": service.rate_limited,
        "receive_ephemeral": service.receive_ephemeral,
        "org.matrix.msc3202": service.msc3202,
        "io.element.msc4190": service.msc4190,
        "protocols": service.protocols,
        "namespaces": {
            "users": entries(namespaces.users()),
            "aliases": entries(namespaces.aliases()),
            "rooms": entries(namespaces.rooms()),
        },
        "told": told,
    })
}

/// Pings services from here, as the server does.
async fn test(config: &Config, services: &[&Registration]) -> anyhow::Result<()> {
    let settings = server::federation_config(config, Vec::new())?;
    let client = AppserviceClient::new(settings.extra_ca_pem);
    let mut absent = 0;
    for service in services {
        let id = clean(&service.id);
        match client.ping(service, Some("rhizome-test")).await {
            Ok(took) => say(format_args!("{id}: is there, took {} ms", took.as_millis())),
            // Nothing has to be there.
            Err(PingError::Call(CallError::NoUrl)) => {
                say(format_args!("{id}: has no url, so it is told nothing"));
            }
            Err(error) => {
                absent += 1;
                say(format_args!("{id}: {}", clean(&error)));
                say(format_args!("  to fix it: {}", remedy(&error)));
            }
        }
    }
    if absent > 0 {
        bail!("{absent} of {} can't be told anything", services.len());
    }
    Ok(())
}

fn remedy(error: &PingError) -> &'static str {
    match error {
        PingError::Call(CallError::NoUrl) => "set `url` in the registration",
        PingError::Call(CallError::Timeout | CallError::Unreachable(_)) => {
            "start the bridge, and see that it listens at the `url` of the registration, as seen from this machine"
        }
        PingError::Status { status, .. } => match status.as_u16() {
            401 | 403 => {
                "give the bridge and the server the same registration: its `hs_token` isn't what the bridge expects"
            }
            404 | 405 => {
                "if the bridge is older than this question (Matrix 1.7), nothing; else see what listens at the `url`"
            }
            _ => "see what the bridge's log says",
        },
    }
}

async fn pause(store: &Store, service: &Registration, paused: bool) -> anyhow::Result<()> {
    store.pause_service(&service.id, paused).await?;
    let id = clean(&service.id);
    if paused {
        say(format_args!(
            "{id} is paused: what happens now, it is told after `rhizome appservice resume`"
        ));
    } else {
        say(format_args!("{id} goes on"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Registrations {
        let text = "id: irc\nurl: null\nas_token: SECRET-A\nhs_token: SECRET-H\nsender_localpart: ircbot\n\
                    rate_limited: false\nprotocols: [irc]\nnamespaces:\n  users:\n  - {exclusive: true, regex: '@irc_.*'}\n";
        rhizome_appservice::parse(&[("irc.yaml", text)], ruma::server_name!("here")).unwrap()
    }

    #[test]
    fn nothing_that_is_shown_has_tokens() {
        let services = services();
        let service = named(&services, "irc").unwrap();
        let told = described(service, None);
        assert_eq!(told["sender"], "@ircbot:here");
        assert_eq!(told["namespaces"]["users"][0]["regex"], "@irc_.*");
        assert_eq!(told["rate_limited"], false);
        assert!(!told.to_string().contains("SECRET"), "{told}");
        assert!(named(&services, "xmpp").is_err());
    }

    #[test]
    fn each_trouble_has_a_remedy() {
        let status = |status: u16| PingError::Status {
            status: axum::http::StatusCode::from_u16(status).unwrap(),
            body: String::new(),
        };
        assert!(remedy(&status(403)).contains("hs_token"));
        assert!(remedy(&status(500)).contains("log"));
        assert!(remedy(&PingError::Call(CallError::Timeout)).contains("start the bridge"));
    }
}
