//! `rhizome room`: looks into the database, so the server may run or not. Changes nothing.

mod policies;
mod text;

use anyhow::{Context as _, bail};
use rhizome_inspect as inspect;
use rhizome_storage::{RoomHead, Store};
use ruma::OwnedEventId;
use serde::Serialize;

use crate::config::Config;

use super::{RoomInspect, RoomPolicies, on_store, say};

pub(super) fn inspect(config: &Config, args: RoomInspect) -> anyhow::Result<()> {
    on_store(config, async |store| run(store, args).await)
}

pub(super) fn policies(config: &Config, args: &RoomPolicies) -> anyhow::Result<()> {
    let entity = args.entity.as_deref().map(str::parse::<inspect::Entity>);
    let entity = entity.transpose()?;
    on_store(config, async |store| {
        let head = inspect::find(store, &args.room).await?;
        let report = inspect::policies(store, &head, entity.as_ref()).await?;
        tell(args.json, &report, policies::text)
    })
}

async fn run(store: &Store, args: RoomInspect) -> anyhow::Result<()> {
    let head = inspect::find(store, &args.room).await?;
    let event = match &args.event {
        None => None,
        Some(id) => Some(
            OwnedEventId::try_from(id.as_str())
                .with_context(|| format!("{id:?} is no event id"))?,
        ),
    };
    if args.recompute {
        return recompute(store, &head, args.json).await;
    }
    let generations = usize::from(args.around);
    match event {
        Some(id) => {
            let report = inspect::event(store, &head, &id, generations).await?;
            if args.graphviz {
                say(inspect::dot(&report.around, args.auth).trim_end());
            } else {
                tell(args.json, &report, text::event)?;
            }
        }
        None if args.graphviz => {
            let nos: Vec<_> = head.extremities.iter().map(|end| end.no).collect();
            let heads = store.events_by_no(&nos).await?;
            let graph = inspect::around(store, head.room, &heads, generations).await?;
            say(inspect::dot(&graph, args.auth).trim_end());
        }
        None => {
            let report = inspect::room(store, &head, usize::from(args.limit)).await?;
            tell(args.json, &report, text::room)?;
        }
    }
    Ok(())
}

async fn recompute(store: &Store, head: &RoomHead, json: bool) -> anyhow::Result<()> {
    let total: i64 = store
        .event_counts(head.room)
        .await?
        .iter()
        .map(|group| group.count)
        .sum();
    let mut told = 0;
    let done = inspect::recompute(store, head, |events| {
        // Only long work says how far it is.
        if events >= told + 10_000 {
            told = events;
            eprintln!("{events} of at most {total} events");
        }
    })
    .await?;
    tell(json, &done, text::recomputed)?;
    if done.disagreement.is_some() {
        bail!("what is stored of the room's state is not what its events make");
    }
    Ok(())
}

fn tell<T: Serialize>(json: bool, report: &T, text: fn(&T) -> String) -> anyhow::Result<()> {
    if json {
        say(serde_json::to_string_pretty(report)?);
    } else {
        say(text(report).trim_end());
    }
    Ok(())
}
