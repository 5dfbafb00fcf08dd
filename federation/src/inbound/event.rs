//! Single events and history for other servers, bounded and filtered by history visibility.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use axum::extract::State;
use rhizome_rooms::access;
use rhizome_storage::{Placement, RoomHead, StoredEvent};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, ServerName, UInt,
    api::federation::{
        backfill::get_backfill,
        event::{get_event, get_missing_events},
    },
};
use serde_json::value::RawValue;

use super::{guard, wire};
use crate::{Federation, MatrixError, Ruma};

/// The most events that one answer has, whatever was asked for.
const MAX_EVENTS: usize = 100;
/// The most ids that a request may start from.
const MAX_STARTS: usize = 50;
/// How many events are looked at for one that is given out.
const LOOKED_AT: usize = 5;

/// `GET /_matrix/federation/v1/event/{eventId}`
pub(super) async fn event(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_event::v1::Request>,
) -> Result<get_event::v1::Response, MatrixError> {
    let not_found = || MatrixError::not_found(format!("Could not find event {}", req.event_id));
    let event = fed
        .store()
        .event(&req.event_id)
        .await?
        .ok_or_else(not_found)?;
    if !access::is_given(&event) {
        return Err(not_found());
    }
    guard::resident(&fed, &who, event.pdu.room_id()).await?;
    let pdu = visible(&fed, &who, vec![event])
        .await?
        .pop()
        .ok_or_else(not_found)?;
    Ok(get_event::v1::Response::new(
        fed.server_name().to_owned(),
        now(&fed),
        pdu,
    ))
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`: the given events and what came before them, newest first.
pub(super) async fn backfill(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_backfill::v1::Request>,
) -> Result<get_backfill::v1::Response, MatrixError> {
    let head = guard::resident(&fed, &who, &req.room_id).await?;
    if req.v.len() > MAX_STARTS {
        return Err(MatrixError::invalid_param(format!(
            "At most {MAX_STARTS} event ids may be given"
        )));
    }
    let walk = Walk {
        limit: clamp(req.limit),
        stop_at: HashSet::new(),
        min_depth: i64::MIN,
    };
    let mut events = walk.back_from(&fed, &head, req.v).await?;
    events.sort_by_key(|event| std::cmp::Reverse(event.pdu.depth()));
    let pdus = visible(&fed, &who, events).await?;
    Ok(get_backfill::v1::Response::new(
        fed.server_name().to_owned(),
        now(&fed),
        pdus,
    ))
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`: what lies between two sets of events,
/// oldest first.
pub(super) async fn get_missing_events(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_missing_events::v1::Request>,
) -> Result<get_missing_events::v1::Response, MatrixError> {
    let head = guard::resident(&fed, &who, &req.room_id).await?;
    if req.latest_events.len() > MAX_STARTS {
        return Err(MatrixError::invalid_param(format!(
            "At most {MAX_STARTS} latest_events may be given"
        )));
    }
    let latest: HashSet<OwnedEventId> = req.latest_events.iter().cloned().collect();
    let starts = fed.store().events(&req.latest_events).await?;
    let prevs = starts
        .iter()
        .filter(|event| event.room == head.room)
        .flat_map(|event| event.pdu.prev_events().iter().cloned())
        .collect();
    let walk = Walk {
        limit: clamp(req.limit),
        stop_at: req.earliest_events.into_iter().chain(latest).collect(),
        min_depth: i64::try_from(u64::from(req.min_depth)).unwrap_or(i64::MAX),
    };
    let mut events = walk.back_from(&fed, &head, prevs).await?;
    events.reverse();
    Ok(get_missing_events::v1::Response::new(
        visible(&fed, &who, events).await?,
    ))
}

/// A breadth-first walk along `prev_events`.
struct Walk {
    limit: usize,
    /// Neither given out nor walked through.
    stop_at: HashSet<OwnedEventId>,
    /// Shallower events are neither given out nor walked through.
    min_depth: i64,
}

impl Walk {
    async fn back_from(
        mut self,
        fed: &Federation,
        head: &RoomHead,
        starts: Vec<OwnedEventId>,
    ) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        let mut found = Vec::new();
        let mut looked_at = 0;
        let mut wave: VecDeque<OwnedEventId> = starts.into();
        while !wave.is_empty() && found.len() < self.limit && looked_at < self.limit * LOOKED_AT {
            let ids: Vec<OwnedEventId> = wave
                .drain(..)
                .filter(|id| self.stop_at.insert(id.clone()))
                .take(MAX_EVENTS)
                .collect();
            looked_at += ids.len();
            let mut events = fed.store().events(&ids).await?;
            events.retain(|event| {
                event.room == head.room
                    && event.placement != Placement::Outlier
                    && event.pdu.depth() >= self.min_depth
            });
            events.sort_by_key(|event| std::cmp::Reverse(event.pdu.depth()));
            for event in events {
                wave.extend(event.pdu.prev_events().iter().cloned());
                // What isn't given is walked through all the same.
                if access::is_given(&event) && found.len() < self.limit {
                    found.push(event);
                }
            }
        }
        Ok(found)
    }
}

/// The events as `server` may see them: those that it may not are redacted, so that the graph stays whole.
async fn visible(
    fed: &Federation,
    server: &ServerName,
    events: Vec<Arc<StoredEvent>>,
) -> Result<Vec<Box<RawValue>>, MatrixError> {
    let visible = access::events_for_server(fed.store(), server, &events).await?;
    events
        .iter()
        .zip(visible)
        .map(|(event, visible)| {
            if visible {
                wire::raw(&event.pdu)
            } else {
                wire::raw(&event.pdu.redacted())
            }
        })
        .collect()
}

fn clamp(limit: UInt) -> usize {
    usize::try_from(u64::from(limit))
        .unwrap_or(MAX_EVENTS)
        .min(MAX_EVENTS)
}

fn now(fed: &Federation) -> MilliSecondsSinceUnixEpoch {
    let ms = u64::try_from(fed.store().clock().now_ms()).unwrap_or(0);
    MilliSecondsSinceUnixEpoch(UInt::new_saturating(ms))
}
