//! Reports for people to read on a terminal.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use rhizome_inspect::{
    CandidateReport, EventLine, EventReport, ForkReport, Graph, Mention, Place, Reason, Recomputed,
    RoomReport,
};

use crate::cli::clean;

/// More servers than this aren't named.
const MAX_SERVERS: usize = 20;

/// Writes a line; writing to a string doesn't fail.
macro_rules! line {
    ($out:expr, $($what:tt)*) => {{
        let _ = writeln!($out, $($what)*);
    }};
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// `m.room.member "@alice:here"`, or the type alone.
fn key(kind: &str, state_key: Option<&str>) -> String {
    match state_key {
        Some(key) => format!("{} {:?}", clean(kind), clean(key)),
        None => clean(kind),
    }
}

fn event_line(event: &EventLine) -> String {
    format!(
        "{}  {}  {}  depth {}  {} {}",
        clean(&event.event_id),
        key(&event.kind, event.state_key.as_deref()),
        clean(&event.sender),
        event.depth,
        event.status,
        event.placement
    )
}

fn why(out: &mut String, reason: Option<&Reason>, indent: &str) {
    let Some(reason) = reason else { return };
    line!(out, "{indent}because: {}", clean(&reason.text));
    if let Some(rule) = &reason.rule {
        let at = reason.reference.map(|at| format!(", {at}"));
        line!(
            out,
            "{indent}rule:    {}{}",
            clean(rule),
            at.unwrap_or_default()
        );
    }
}

fn counts(counts: &BTreeMap<impl Display, i64>) -> String {
    list(counts.iter().map(|(what, count)| format!("{count} {what}")))
}

pub(super) fn room(report: &RoomReport) -> String {
    let out = &mut String::new();
    line!(out, "room       {}", clean(&report.room_id));
    line!(out, "version    {}", report.version);
    line!(out, "aliases    {}", list(report.aliases.iter().map(clean)));
    let snapshots = &report.snapshots;
    let snapshot = report.snapshot.map(|no| format!("snapshot {no}"));
    line!(
        out,
        "state      version {}, {}, {} entries",
        report.state_version,
        snapshot.unwrap_or_else(|| "no snapshot".to_owned()),
        snapshots.current_entries
    );
    let others = if report.partial {
        "; the others aren't known yet"
    } else {
        ""
    };
    line!(out, "members    {}{others}", counts(&report.members));
    line!(out, "servers    {}", servers(report));
    for (status, places) in &report.events {
        line!(out, "events     {status}: {}", counts(places));
    }
    let each = snapshots.bytes_per_state_event;
    let each = each.map(|bytes| {
        format!(
            ", {bytes} for each of {} state events",
            snapshots.state_events
        )
    });
    line!(
        out,
        "snapshots  {}, {} bytes{}",
        snapshots.count,
        snapshots.bytes,
        each.unwrap_or_default()
    );
    line!(out, "heads      {}", report.heads.len());
    for head in &report.heads {
        line!(out, "  {}", event_line(head));
    }
    if let Some(fork) = &report.resolution {
        fork_text(out, fork);
    }
    line!(out, "gaps       {}", some(report.gaps.len()));
    for gap in &report.gaps {
        line!(
            out,
            "  {} is missing before {}",
            clean(&gap.missing),
            clean(&gap.named_by)
        );
    }
    line!(out, "refused    {}", some(report.refused.len()));
    for event in &report.refused {
        line!(out, "  {}", event_line(event));
        why(out, event.reason.as_ref(), "    ");
    }
    std::mem::take(out)
}

fn some(count: usize) -> String {
    if count == 0 {
        "none".to_owned()
    } else {
        format!("{count} shown")
    }
}

fn servers(report: &RoomReport) -> String {
    let shown = report.servers.iter().take(MAX_SERVERS).map(clean);
    let more = report.servers.len().saturating_sub(MAX_SERVERS);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", list(shown))
}

pub(super) fn event(report: &EventReport) -> String {
    let out = &mut String::new();
    let event = &report.event;
    line!(out, "event      {}", clean(&event.event_id));
    line!(out, "room       {}", clean(&report.room_id));
    line!(
        out,
        "type       {}",
        key(&event.kind, event.state_key.as_deref())
    );
    line!(out, "sender     {}", clean(&event.sender));
    line!(out, "made at    {} ms", report.origin_server_ts);
    let order = report
        .order
        .map_or_else(|| "none".to_owned(), |order| order.to_string());
    line!(
        out,
        "place      depth {}, order {order}, {}",
        event.depth,
        event.placement
    );
    line!(out, "status     {}", event.status);
    why(out, event.reason.as_ref(), "  ");
    if let Some(by) = &report.redacted_by {
        line!(out, "redacted   by {}", clean(by));
    }
    let snapshot = |no: Option<_>| {
        no.map_or_else(
            || "none".to_owned(),
            |no: rhizome_storage::SnapshotNo| no.to_string(),
        )
    };
    line!(
        out,
        "state      snapshot {} before, {} after",
        snapshot(report.state_before),
        snapshot(report.state_after)
    );
    for change in &report.changes {
        let id = |id: Option<&_>| id.map_or_else(|| "nothing".to_owned(), clean);
        line!(
            out,
            "  {}: {} → {}",
            key(&change.kind, Some(&change.state_key)),
            id(change.old.as_ref()),
            id(change.new.as_ref())
        );
    }
    mentions(out, "prev events", &report.prev_events);
    mentions(out, "auth events", &report.auth_events);
    if let Some(fork) = &report.resolution {
        fork_text(out, fork);
    }
    graph(out, &report.around);
    std::mem::take(out)
}

fn mention(mention: &Mention) -> String {
    match &mention.stored {
        Some(event) => event_line(event),
        None => format!("{}  not stored", clean(&mention.event_id)),
    }
}

fn mentions(out: &mut String, title: &str, events: &[Mention]) {
    line!(out, "{title}");
    for event in events {
        line!(out, "  {}", mention(event));
        why(
            out,
            event
                .stored
                .as_ref()
                .and_then(|event| event.reason.as_ref()),
            "    ",
        );
    }
}

fn fork_text(out: &mut String, fork: &ForkReport) {
    let agrees = match fork.agrees {
        Some(true) => "what is stored is what it gives",
        Some(false) => "WHAT IS STORED IS NOT WHAT IT GIVES",
        None => "it can't be played again: events that it looks at aren't stored",
    };
    line!(
        out,
        "resolution of {} states by version {} of state resolution: {agrees}",
        fork.sides.len(),
        fork.algorithm
    );
    for (index, side) in fork.sides.iter().enumerate() {
        line!(
            out,
            "  side {}: after {}",
            index + 1,
            list(side.after.iter().map(clean))
        );
    }
    for conflict in &fork.conflicts {
        let winner = conflict
            .winner
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), clean);
        line!(
            out,
            "  {} is settled to {winner}",
            key(&conflict.kind, Some(&conflict.state_key))
        );
        for candidate in &conflict.candidates {
            candidate_text(out, candidate);
        }
    }
    if !fork.steps.is_empty() {
        line!(out, "  the events that were tried, in order");
    }
    for (index, step) in fork.steps.iter().enumerate() {
        let became = match &step.refused {
            None => "applied".to_owned(),
            Some(reason) => format!("refused: {}", clean(&reason.text)),
        };
        line!(
            out,
            "    {:>3} {:8} {}  {}  {became}",
            index + 1,
            step.order,
            clean(&step.event_id),
            key(&step.kind, Some(&step.state_key))
        );
    }
}

fn candidate_text(out: &mut String, candidate: &CandidateReport) {
    let sides = match candidate.sides.as_slice() {
        [] => "from the auth chains".to_owned(),
        sides => format!("side {}", list(sides)),
    };
    let step = match (candidate.step, candidate.order) {
        (Some(step), Some(order)) => format!(", step {step} ({order})"),
        _ => String::new(),
    };
    let sender = candidate
        .event
        .stored
        .as_ref()
        .map(|event| clean(&event.sender));
    line!(
        out,
        "    {:9} {}  {}  {sides}{step}",
        candidate.fate,
        clean(&candidate.event.event_id),
        sender.unwrap_or_default()
    );
    line!(out, "              {}", clean(&candidate.because));
}

fn graph(out: &mut String, graph: &Graph) {
    line!(
        out,
        "around it (follows ←){}",
        if graph.cut { ", cut" } else { "" }
    );
    for node in &graph.nodes {
        line!(
            out,
            "{} {} ← {}",
            if node.asked { ">" } else { " " },
            event_line(&node.line),
            list(node.prev_events.iter().map(clean))
        );
    }
}

pub(super) fn recomputed(done: &Recomputed) -> String {
    let out = &mut String::new();
    line!(
        out,
        "{} events looked at; {} merged different states, {} begin with a state that was given",
        done.events,
        done.merges,
        done.given
    );
    let Some(found) = &done.disagreement else {
        line!(
            out,
            "the stored states and the current state are what the events make"
        );
        return std::mem::take(out);
    };
    let place = match found.place {
        Place::Before => "the state before",
        Place::After => "the state after",
        Place::Current => "the room's current state",
        Place::Mirror => "the table current_state",
    };
    let event = found.event_id.as_ref().map(clean).unwrap_or_default();
    line!(out, "{place} {event}: {}", clean(&found.note));
    if let (Some(kind), state_key) = (&found.kind, found.state_key.as_deref()) {
        let id = |id: Option<&_>| id.map_or_else(|| "nothing".to_owned(), clean);
        line!(out, "  entry       {}", key(kind, state_key));
        line!(out, "  stored      {}", id(found.stored.as_ref()));
        line!(out, "  recomputed  {}", id(found.recomputed.as_ref()));
    }
    std::mem::take(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_does_not_reach_the_terminal() {
        assert_eq!(
            key("m.\u{1b}[31m", Some("a\n")),
            "m.\u{fffd}[31m \"a\u{fffd}\""
        );
        assert_eq!(clean("a\u{202e}b\u{2068}"), "a\u{fffd}b\u{fffd}");
    }
}
