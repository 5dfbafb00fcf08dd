//! Why this state stands where forks met.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_protocol::{
    Rejection, StateKey,
    explain::{self, Candidate, Conflict, Explanation, Fate, Order},
    resolve::StateMap,
    rules::Resolution,
};
use rhizome_storage::{RoomHead, SnapshotNo, Store, StoredEvent};
use ruma::OwnedEventId;
use serde::Serialize;

use crate::Result;
use crate::{
    Mention, Reason,
    line::{halves, mentions},
    loaded::{conflicted, state_map, with_events},
};

/// The merge of the states after several events.
#[derive(Debug, Clone, Serialize)]
pub struct ForkReport {
    /// The version of state resolution: `1`, `2` or `2.1`.
    pub algorithm: &'static str,
    /// The different states that met.
    pub sides: Vec<Side>,
    /// The entries that had to be settled. Empty if all sides had one state.
    pub conflicts: Vec<ConflictReport>,
    /// All events that resolution tried, in order. Empty for version 1, which knows no such order.
    pub steps: Vec<StepReport>,
    /// Whether what is stored is what resolution gives. `None` if resolution can't be played again, because
    /// events that it looks at aren't stored.
    pub agrees: Option<bool>,
}

/// One of the states that met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The events after which the room was in this state.
    pub after: Vec<OwnedEventId>,
    /// Its snapshot.
    pub snapshot: SnapshotNo,
}

/// An entry that had to be settled.
#[derive(Debug, Clone, Serialize)]
pub struct ConflictReport {
    /// The event type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The state key.
    pub state_key: String,
    /// What it was settled to.
    pub winner: Option<OwnedEventId>,
    /// What it might have been.
    pub candidates: Vec<CandidateReport>,
}

/// What might have been the value of an entry.
#[derive(Debug, Clone, Serialize)]
pub struct CandidateReport {
    /// The event.
    pub event: Mention,
    /// In which sides it stands, counted from 1; none: it came in through their auth chains.
    pub sides: Vec<usize>,
    /// In which step it was tried, counted from 1.
    pub step: Option<usize>,
    /// `power` (tried among the power events) or `mainline`.
    pub order: Option<&'static str>,
    /// `won`, `refused`, `replaced` or `outranked`.
    pub fate: &'static str,
    /// The rule that refused it.
    pub reason: Option<Reason>,
    /// A sentence for people.
    pub because: String,
}

/// An event that resolution tried.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// The event.
    pub event_id: OwnedEventId,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its state key.
    pub state_key: String,
    /// `power` or `mainline`.
    pub order: &'static str,
    /// The rule that refused it; `None` if it was applied.
    pub refused: Option<Reason>,
}

/// Explains the state after all of `ends`, which is stored as `stored`. `None` if they are fewer than two, or
/// the state after one isn't known.
pub(crate) async fn explain(
    store: &Store,
    head: &RoomHead,
    ends: &[Arc<StoredEvent>],
    stored: Option<SnapshotNo>,
) -> Result<Option<ForkReport>> {
    let mut sides: BTreeMap<SnapshotNo, Vec<OwnedEventId>> = BTreeMap::new();
    for end in ends {
        let Some(after) = end.state_after else {
            return Ok(None);
        };
        let of_side = sides.entry(after).or_default();
        of_side.push(end.pdu.event_id().to_owned());
    }
    if ends.len() < 2 {
        return Ok(None);
    }
    let sides: Vec<Side> = sides
        .into_iter()
        .map(|(snapshot, after)| Side { after, snapshot })
        .collect();
    let mut report = ForkReport {
        algorithm: match head.rules.resolution {
            Resolution::V1 => "1",
            Resolution::V2 => "2",
            Resolution::V2_1 => "2.1",
        },
        conflicts: Vec::new(),
        steps: Vec::new(),
        agrees: Some(true),
        sides,
    };
    if let [only] = report.sides.as_slice() {
        let settled = state_map(store, Some(only.snapshot)).await?;
        report.agrees = Some(state_map(store, stored).await? == settled);
        return Ok(Some(report));
    }
    let mut forks: Vec<StateMap> = Vec::with_capacity(report.sides.len());
    for side in &report.sides {
        forks.push(state_map(store, Some(side.snapshot)).await?);
    }
    let run = |events: &_| explain::explain(head.rules, &forks, events);
    let Some(told) = with_events(store, conflicted(&forks), run).await? else {
        report.agrees = None;
        return Ok(Some(report));
    };
    report.agrees = Some(told.agrees && state_map(store, stored).await? == told.state);
    for conflict in &told.conflicts {
        report
            .conflicts
            .push(conflict_report(store, conflict, &told).await?);
    }
    report.steps = told.steps.iter().map(step_report).collect();
    Ok(Some(report))
}

fn order(order: Order) -> &'static str {
    match order {
        Order::Power => "power",
        Order::Mainline => "mainline",
    }
}

fn step_report(step: &explain::Step) -> StepReport {
    let (kind, state_key) = halves(&step.key);
    StepReport {
        event_id: step.event.clone(),
        kind,
        state_key,
        order: order(step.order),
        refused: step.refused.as_ref().map(Reason::from),
    }
}

async fn conflict_report(
    store: &Store,
    conflict: &Conflict,
    told: &Explanation,
) -> Result<ConflictReport> {
    let ids: Vec<OwnedEventId> = conflict
        .candidates
        .iter()
        .map(|candidate| candidate.event.clone())
        .collect();
    let mentions = mentions(store, &ids).await?;
    let (kind, state_key) = halves(&conflict.key);
    let candidates = conflict
        .candidates
        .iter()
        .zip(mentions)
        .map(|(candidate, event)| candidate_report(candidate, event, conflict, told))
        .collect();
    Ok(ConflictReport {
        kind,
        state_key,
        winner: conflict.winner.clone(),
        candidates,
    })
}

fn candidate_report(
    candidate: &Candidate,
    event: Mention,
    conflict: &Conflict,
    told: &Explanation,
) -> CandidateReport {
    let of = |step: Option<usize>| step.and_then(|index| told.steps.get(index));
    let own = of(candidate.step).map(|step| step.order);
    let winner = conflict
        .candidates
        .iter()
        .find(|other| Some(&other.event) == conflict.winner.as_ref());
    let theirs = of(winner.and_then(|winner| winner.step)).map(|step| step.order);
    let (fate, reason) = match &candidate.fate {
        Fate::Won => ("won", None),
        Fate::Refused(rejection) => ("refused", Some(Reason::from(rejection))),
        Fate::Replaced => ("replaced", None),
        Fate::Outranked => ("outranked", None),
    };
    CandidateReport {
        because: because(&candidate.fate, own, theirs, &conflict.key),
        event,
        sides: candidate.forks.iter().map(|index| index + 1).collect(),
        step: candidate.step.map(|index| index + 1),
        order: own.map(order),
        fate,
        reason,
    }
}

/// Why it won or lost, in a sentence.
fn because(fate: &Fate, own: Option<Order>, winner: Option<Order>, key: &StateKey) -> String {
    match fate {
        Fate::Won => match own {
            Some(Order::Power) => {
                "allowed; the last to be applied in reverse topological power ordering".to_owned()
            }
            Some(Order::Mainline) => {
                "allowed; the last to be applied in mainline ordering".to_owned()
            }
            None => format!("what version 1 settles {} on", key.kind),
        },
        Fate::Refused(Rejection { rule, reason }) => {
            let judge = if own.is_some() {
                "the state at its step"
            } else {
                "the settled state"
            };
            format!("refused by {judge}: {reason} ({rule})")
        }
        Fate::Replaced => match (own, winner) {
            (Some(Order::Power), Some(Order::Mainline)) => {
                "allowed as a power event, but the winner comes after all of those, in mainline ordering"
                    .to_owned()
            }
            (Some(Order::Power), _) => {
                "allowed, but the winner comes later in reverse topological power ordering"
                    .to_owned()
            }
            _ => "allowed, but the winner comes later in mainline ordering".to_owned(),
        },
        Fate::Outranked => "allowed, but the winner goes before it".to_owned(),
    }
}
