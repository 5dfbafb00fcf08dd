//! What a moderation policy list says.

use rhizome_rooms::policies::{Entity, Policies, Rule};
use rhizome_storage::{RoomHead, Store};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Serialize;

use crate::Result;

/// The rules of a list, or those of them that are about somebody or something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyReport {
    /// The list's room.
    pub room_id: OwnedRoomId,
    /// How many rules the list has.
    pub total: usize,
    /// How many it has beside these that say nothing, as they are malformed or too long.
    pub malformed: usize,
    /// Whether it has more than are read: the newest are.
    pub cut: bool,
    /// By whom they are about, then by entity.
    pub rules: Vec<PolicyLine>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyLine {
    /// Whom it is about: `user`, `server` or `room`.
    pub subject: &'static str,
    /// Which of them: a name, or a pattern.
    pub entity: String,
    /// What is to be done, such as `m.ban`.
    pub recommendation: String,
    /// Why, if it is told.
    pub reason: Option<String>,
    /// Who wrote the rule.
    pub sender: OwnedUserId,
    /// The event that is the rule.
    pub event_id: OwnedEventId,
}

/// The rules that a room has now; of an `entity`, those about it.
///
/// # Errors
///
/// Those of the database.
pub async fn policies(
    store: &Store,
    head: &RoomHead,
    entity: Option<&Entity>,
) -> Result<PolicyReport> {
    let policies = Policies::of(store, head.room).await?;
    let rules = match entity {
        Some(entity) => policies.about(entity).into_iter().map(line).collect(),
        None => policies.rules.iter().map(line).collect(),
    };
    Ok(PolicyReport {
        room_id: head.room_id.clone(),
        total: policies.rules.len(),
        malformed: policies.malformed,
        cut: policies.is_cut,
        rules,
    })
}

fn line(rule: &Rule) -> PolicyLine {
    PolicyLine {
        subject: rule.subject.as_str(),
        entity: rule.entity.clone(),
        recommendation: rule.recommendation.as_str().to_owned(),
        reason: rule.reason.clone(),
        sender: rule.sender.clone(),
        event_id: rule.event_id.clone(),
    }
}
