//! `rhizome federation inbound`: what other servers have sent and what became of it. Reads the database, to which a server
//! that runs adds once a minute.

use anyhow::Context as _;
use clap::Args;
use rhizome_storage::{InboundCounts, InboundSeen, Store};
use ruma::ServerName;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::cli::{how_long, media::size, say};

#[derive(Debug, Args)]
pub(in crate::cli) struct InboundArgs {
    /// All that is known of this server; without it, the servers that make most work
    server: Option<String>,
    /// How many servers to list
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10000), conflicts_with = "server")]
    limit: u16,
    /// Write JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn inbound(store: &Store, args: &InboundArgs) -> anyhow::Result<()> {
    let now_ms = store.clock().now_ms();
    let seen = match &args.server {
        Some(server) => vec![of(store, &super::name(server)?).await?],
        None => store.inbound_most(args.limit.into()).await?,
    };
    if args.json {
        let all: Vec<Value> = seen.iter().map(json_of).collect();
        say(serde_json::to_string_pretty(&all)?);
    } else if args.server.is_some() {
        seen.iter()
            .flat_map(|seen| page(seen, now_ms))
            .for_each(say);
    } else {
        seen.iter().map(|seen| line(seen, now_ms)).for_each(say);
    }
    Ok(())
}

async fn of(store: &Store, server: &ServerName) -> anyhow::Result<InboundSeen> {
    let seen = store.inbound_of(server).await?;
    seen.with_context(|| {
        format!(
            "nothing is known of {server}: it has sent nothing for 30 days, or in the last minute for the first time"
        )
    })
}

/// What a server has sent, as a part of all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inbound(InboundSeen);

impl Inbound {
    pub(super) async fn look_up(
        store: &Store,
        server: &ServerName,
    ) -> anyhow::Result<Option<Self>> {
        Ok(store.inbound_of(server).await?.map(Self))
    }

    /// For people to read.
    pub(super) fn lines(&self, now_ms: i64) -> Vec<String> {
        lines(&self.0, now_ms)
    }
}

impl Serialize for Inbound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json_of(&self.0).serialize(serializer)
    }
}

/// A server in the list.
fn line(seen: &InboundSeen, now_ms: i64) -> String {
    let counts = &seen.counts;
    let mut parts = vec![format!(
        "{}  {} ago  {} requests  {}  {} of work  {} events  {} EDUs",
        seen.server.as_str().escape_debug(),
        how_long(now_ms.saturating_sub(seen.last_seen_ms)),
        counts.requests,
        size(counts.bytes),
        work(counts.work_us),
        events(counts),
        edus(counts),
    )];
    let odd = [
        (counts.refused + counts.rejected, "refused"),
        (counts.soft_failed, "soft-failed"),
        (counts.limited, "told to come later"),
    ];
    let odd = odd.iter().filter(|(count, _)| *count > 0);
    parts.extend(odd.map(|(count, what)| format!("{count} {what}")));
    parts.extend(quarantine(seen, now_ms));
    parts.join("  ")
}

/// All of one server, a line each.
fn page(seen: &InboundSeen, now_ms: i64) -> Vec<String> {
    let mut page = vec![seen.server.as_str().escape_debug().to_string()];
    page.extend(lines(seen, now_ms));
    page
}

/// What it has sent, and what became of that.
fn lines(seen: &InboundSeen, now_ms: i64) -> Vec<String> {
    let counts = &seen.counts;
    let ago = |at_ms: i64| how_long(now_ms.saturating_sub(at_ms));
    let mut lines = vec![
        format!("  there last: {} ago", ago(seen.last_seen_ms)),
        format!("  counted for: {}", ago(seen.since_ms)),
        format!("  requests: {} ({})", counts.requests, size(counts.bytes)),
        format!("  of those told to come later: {}", counts.limited),
        format!("  work: {}", work(counts.work_us)),
        format!("  transactions: {}", counts.transactions),
        format!("  events that were accepted: {}", counts.accepted),
        format!("  that were known: {}", counts.known),
        format!("  that waited for what they need: {}", counts.waiting),
        format!("  that were soft-failed: {}", counts.soft_failed),
        format!("  that were rejected: {}", counts.rejected),
        format!("  that were refused: {}", counts.refused),
        format!(
            "  of those its own that can't be verified: {}",
            counts.unverified
        ),
        format!(
            "  pairs of events that say two things in one place: {}",
            counts.equivocations
        ),
        format!(
            "  EDUs: {} typing, {} presence, {} receipts, {} messages to devices, {} changes of devices, {} others",
            counts.typing,
            counts.presence,
            counts.receipts,
            counts.to_device,
            counts.devices,
            counts.other_edus
        ),
        format!("  times in quarantine: {}", counts.quarantines),
    ];
    lines.extend(quarantine(seen, now_ms).map(|told| format!("  {told}")));
    if !seen.reasons.is_empty() {
        lines.push("  refused last:".to_owned());
    }
    // Strangers have a say in what stands there: a terminal must not do what that says.
    lines.extend((seen.reasons.iter().rev()).map(|reason| {
        format!(
            "    {} ago: {}",
            ago(reason.at_ms),
            reason.why.escape_debug()
        )
    }));
    lines
}

fn events(counts: &InboundCounts) -> u64 {
    let InboundCounts {
        accepted,
        known,
        waiting,
        soft_failed,
        rejected,
        refused,
        ..
    } = *counts;
    accepted + known + waiting + soft_failed + rejected + refused
}

fn edus(counts: &InboundCounts) -> u64 {
    let InboundCounts {
        typing,
        presence,
        receipts,
        to_device,
        devices,
        other_edus,
        ..
    } = *counts;
    typing + presence + receipts + to_device + devices + other_edus
}

fn quarantine(seen: &InboundSeen, now_ms: i64) -> Option<String> {
    let left = seen.quarantined_until_ms.saturating_sub(now_ms);
    (left > 0).then(|| format!("in quarantine for {} more", how_long(left)))
}

/// Seconds and tenths.
fn work(work_us: u64) -> String {
    format!("{}.{} s", work_us / 1_000_000, work_us / 100_000 % 10)
}

fn json_of(seen: &InboundSeen) -> Value {
    let counts = &seen.counts;
    let reasons = seen.reasons.iter();
    let reasons: Vec<Value> = reasons
        .map(|reason| json!({ "at_ms": reason.at_ms, "why": reason.why }))
        .collect();
    json!({
        "server": seen.server,
        "since_ms": seen.since_ms,
        "last_seen_ms": seen.last_seen_ms,
        "quarantined_until_ms": seen.quarantined_until_ms,
        "requests": counts.requests,
        "limited": counts.limited,
        "bytes": counts.bytes,
        "work_us": counts.work_us,
        "transactions": counts.transactions,
        "events": {
            "accepted": counts.accepted,
            "known": counts.known,
            "waiting": counts.waiting,
            "soft_failed": counts.soft_failed,
            "rejected": counts.rejected,
            "refused": counts.refused,
            "unverified": counts.unverified,
        },
        "edus": {
            "typing": counts.typing,
            "presence": counts.presence,
            "receipts": counts.receipts,
            "to_device": counts.to_device,
            "devices": counts.devices,
            "others": counts.other_edus,
        },
        "equivocations": counts.equivocations,
        "quarantines": counts.quarantines,
        "reasons": reasons,
    })
}

#[cfg(test)]
mod tests {
    use rhizome_storage::InboundReason;
    use ruma::owned_server_name;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn seen() -> InboundSeen {
        InboundSeen {
            since_ms: NOW - 10 * 86_400_000,
            counts: InboundCounts {
                requests: 12,
                bytes: 3 << 20,
                work_us: 1_250_000,
                accepted: 40,
                refused: 5,
                rejected: 1,
                receipts: 7,
                ..InboundCounts::default()
            },
            ..InboundSeen::at(owned_server_name!("a.example"), NOW - 180_000)
        }
    }

    #[test]
    fn a_line_says_who_makes_how_much_work() {
        let mut seen = seen();
        let told = "a.example  3 minutes ago  12 requests  3.0 MiB  1.2 s of work  46 events  7 EDUs  6 refused";
        assert_eq!(line(&seen, NOW), told);
        seen.counts.refused = 0;
        seen.counts.rejected = 0;
        seen.quarantined_until_ms = NOW + 600_000;
        assert!(line(&seen, NOW).ends_with("7 EDUs  in quarantine for 10 minutes more"));
        assert!(line(&seen, NOW + 600_000).ends_with("7 EDUs"), "it is over");
    }

    #[test]
    fn a_page_says_what_was_refused_and_why() {
        let mut seen = seen();
        for (at_ms, why) in [(NOW - 300_000, "first"), (NOW - 120_000, "odd \u{1b}[2J")] {
            let why = why.to_owned();
            seen.reasons.push(InboundReason { at_ms, why });
        }
        let page = page(&seen, NOW).join("\n");
        assert!(page.contains("  counted for: 10 days\n"), "{page}");
        assert!(
            page.ends_with("    2 minutes ago: odd \\u{1b}[2J\n    5 minutes ago: first"),
            "{page}"
        );
        assert!(!page.contains("quarantine for"));
        let json = json_of(&seen);
        assert_eq!(json["events"]["refused"], 5);
        assert_eq!(json["reasons"][1]["at_ms"], NOW - 120_000);
    }

    /// Where all is told of a server, this is under its name.
    #[test]
    fn a_part_of_a_page_is_all_but_the_name() {
        let inbound = Inbound(seen());
        let page = page(&inbound.0, NOW);
        assert_eq!(page[0], "a.example");
        assert_eq!(inbound.lines(NOW), page[1..]);
        let json = serde_json::to_value(&inbound).unwrap();
        assert_eq!(json, json_of(&inbound.0));
    }
}
