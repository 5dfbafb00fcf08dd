//! After COMMIT: caches and tail, in position order, before any answer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rhizome_protocol::Membership;

use super::Written;
use crate::commit::Job;
use crate::commit::rows::Planned;
use crate::commit::rows::events::txn_owner;
use crate::facts::decision::Decision;
use crate::facts::entry::{EventRestored, LiveEvent, StateChanged};
use crate::{
    Entry, EntryKind, Error, EventNo, NewEvent, Partial, Pos, Result, RoomNo, RoomWrite, ServerNo,
    Store, StoredEvent,
};

/// How often reading other processes' entries is tried before the tail is left behind.
const TRIES: u32 = 20;

pub(super) async fn publish(store: &Store, jobs: &[Job], written: &mut Written) -> Result<()> {
    let tail = &store.core.tail;
    let positions = written.plan.positions();
    let _filling = tail.filling.lock().await;
    if positions > 0 && tail.head() < written.base {
        pull(store, written.base).await?;
    }
    // Somebody has read our entries from the database already, and maybe later ones of others: what we
    // know about rooms may be older than what they have brought.
    let overtaken = positions > 0 && tail.head() > written.base;
    let last = Pos(written.base.0 + positions);
    let events = events(jobs, written);
    remember_events(store, &events, written);
    // Before the rooms: whoever sees that one is complete sees what was decided again.
    let reread = reread(store, jobs, written).await;
    remember_rooms(store, written, overtaken);
    forget(store, jobs, written);
    let mut entries = Vec::with_capacity(written.plan.log.len());
    for (planned, pos) in written.plan.log.iter().zip(written.base.0 + 1..) {
        let kind = entry(jobs, planned, Pos(pos), &events)?;
        kind.forget_fact(store);
        entries.push(Arc::new(Entry {
            pos: Pos(pos),
            kind,
        }));
    }
    reread?;
    if positions > 0 && !overtaken {
        store.counters().timings().tells(written.committed_at);
        store.append(&entries, last).await?;
    } else if tail.head() < last && positions > 0 {
        pull(store, last).await?;
    }
    Ok(())
}

/// Brings the tail up to `upto`, which is committed. Call with `filling` held.
async fn pull(store: &Store, upto: Pos) -> Result<()> {
    let mut tries = 0;
    loop {
        match store.pull(upto).await {
            Err(error) if tries < TRIES => {
                tracing::warn!(%error, "can't read other processes' entries: trying again");
                tries += 1;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            done => return done,
        }
    }
}

/// The stored form of the accepted write sets' events.
fn events(jobs: &[Job], written: &Written) -> Vec<Vec<Vec<Arc<StoredEvent>>>> {
    let mut orders = written.plan.offsets.clone();
    for order in orders.values_mut() {
        *order += written.back;
    }
    for (planned, pos) in written.plan.log.iter().zip(written.base.0 + 1..) {
        if let Planned::Event { job, room, event } = planned {
            orders.insert(jobs[*job].set.rooms[*room].events[*event].no, pos);
        }
    }
    let stored = |room: RoomNo, event: &NewEvent| {
        let stored = StoredEvent {
            no: event.no,
            room,
            pdu: event.pdu.clone(),
            order: orders.get(&event.no).copied(),
            depth: event.depth,
            status: event.status,
            reason: event.reason.clone(),
            placement: event.placement,
            state_before: event.state_before,
            state_after: event.state_after,
            visibility: event.visibility,
            redacted_by: None,
            txn: txn_owner(event),
            client: OnceLock::new(),
            replaces: OnceLock::new(),
        };
        Arc::new(match written.plan.redacted.get(&event.no) {
            Some(by) => stored.redacted(*by),
            None => stored,
        })
    };
    let mut all = Vec::with_capacity(jobs.len());
    for (job, decision) in jobs.iter().zip(&written.decisions) {
        let accepted = matches!(decision, Decision::Accept);
        let rooms = job.set.rooms.iter().filter(|_| accepted);
        all.push(
            rooms
                .map(|write| {
                    write
                        .events
                        .iter()
                        .map(|event| stored(write.room, event))
                        .collect()
                })
                .collect(),
        );
    }
    all
}

fn remember_events(store: &Store, events: &[Vec<Vec<Arc<StoredEvent>>>], written: &mut Written) {
    let caches = &store.core.caches;
    for event in events.iter().flatten().flatten() {
        // A join's state would push out what is in use; what is there already must not stay as it was.
        if event.placement != crate::Placement::Outlier || caches.events.get(&event.no).is_some() {
            store.remember_event(event);
        }
        if event.is_history() && !written.plan.gapped.contains(&event.no) {
            caches.gapless.insert(event.no, ());
        }
    }
    for (_, target) in std::mem::take(&mut written.found.targets) {
        if let Some(by) = written.plan.redacted.get(&target.no) {
            let redacted = match store.remembered_event(target.no) {
                Some(known) => known.redacted(*by),
                None => target.redacted(*by),
            };
            let redacted = Arc::new(redacted);
            store.remember_event(&redacted);
            store.core.tail.replace_event(&redacted);
        }
    }
}

fn remember_rooms(store: &Store, written: &mut Written, overtaken: bool) {
    let caches = &store.core.caches;
    for (room, head) in std::mem::take(&mut written.known.rooms) {
        if let Some(mut head) = head.filter(|_| !overtaken) {
            if let Some(offset) = written.plan.bumps.get(&room) {
                head.bump = Pos(written.base.0 + offset);
            }
            caches.room_ids.insert(head.room_id.clone(), room);
            caches.room_names.insert(room, head.room_id.clone());
            caches.rooms.insert(room, Arc::new(head));
        } else {
            caches.rooms.remove(&room);
        }
    }
}

/// What has got its content: there may have been a redaction of it before or in this group, so the database
/// says what it is now. And what was decided again, as far as anybody has it.
async fn reread(store: &Store, jobs: &[Job], written: &Written) -> Result<()> {
    let restored = written
        .plan
        .log
        .iter()
        .filter_map(|planned| match *planned {
            Planned::Restored {
                job,
                room,
                restored,
            } => Some(jobs[job].set.rooms[room].restored[restored].no),
            _ => None,
        });
    let again = accepted(jobs, written).flat_map(|job| &job.set.rooms);
    let again = again.filter_map(RoomWrite::completes);
    let again = again.flat_map(|completing| &completing.again);
    let held = again.map(|again| again.no);
    let held = held.filter(|no| store.remembered_event(*no).is_some());
    let stale: Vec<EventNo> = restored.chain(held).collect();
    if !stale.is_empty() {
        store.reload_events(&stale).await?;
    }
    Ok(())
}

/// Those of the write sets that stand.
fn accepted<'a>(jobs: &'a [Job], written: &'a Written) -> impl Iterator<Item = &'a Job> {
    let decided = jobs.iter().zip(&written.decisions);
    let accepted = decided.filter(|(_, decision)| matches!(decision, Decision::Accept));
    accepted.map(|(job, _)| job)
}

/// What the write sets have made stale, and the snapshots that are stored from now on.
fn forget(store: &Store, jobs: &[Job], written: &Written) {
    let caches = &store.core.caches;
    for job in accepted(jobs, written) {
        for (write, gathered) in job.set.rooms.iter().zip(&job.gathered.rooms) {
            for new in &write.snapshots {
                store.remember_snapshot(new.no, &new.nodes);
            }
            for member in gathered.all_members() {
                caches.memberships.remove(&member.user);
                if member.membership != Membership::Join
                    || !is_joined(store, write.room, member.server)
                {
                    caches.joined_servers.remove(&write.room);
                }
            }
            let given = gathered.given.iter().flatten();
            let given: Vec<_> = given
                .map(|member| (member.user, member.membership))
                .collect();
            store.members_given(write.room, &given);
            if matches!(write.partial, Partial::Begins(_) | Partial::Ends) {
                caches.joined_servers.remove(&write.room);
            }
        }
    }
    for room in &written.plan.summarised {
        caches.summaries.remove(room);
    }
    // Events whose auth events have come.
    if !written.known.wanted_auth.is_empty() {
        caches.auth.clear();
    }
}

/// Whether the cache says that the server is in the room, so that one more of its users changes nothing.
fn is_joined(store: &Store, room: RoomNo, server: ServerNo) -> bool {
    let caches = &store.core.caches;
    let (Some(servers), Some(name)) = (
        caches.joined_servers.get(&room),
        caches.server_names.get(&server),
    ) else {
        return false;
    };
    servers.contains(&name)
}

fn entry(
    jobs: &[Job],
    planned: &Planned,
    pos: Pos,
    events: &[Vec<Vec<Arc<StoredEvent>>>],
) -> Result<EntryKind> {
    Ok(match *planned {
        Planned::Event { job, room, event } => {
            let event = events[job][room][event].clone();
            EntryKind::Event(LiveEvent {
                room: event.room,
                event,
            })
        }
        Planned::State { job, room, change } => {
            let write = &jobs[job].set.rooms[room];
            let current = write.current.as_ref().ok_or_else(lost)?;
            let member = jobs[job].gathered.rooms[room].members[change];
            let change = current.changes[change];
            EntryKind::State(StateChanged {
                room: write.room,
                key: change.key,
                old: change.old,
                new: change.new,
                member: member.map(|member| (member.user, member.membership)),
            })
        }
        Planned::Restored {
            job,
            room,
            restored,
        } => {
            let write = &jobs[job].set.rooms[room];
            EntryKind::Restored(EventRestored {
                room: write.room,
                event: write.restored[restored].no,
            })
        }
        Planned::Fact { job, fact } => jobs[job].set.facts[fact].entry(pos).ok_or_else(lost)?,
    })
}

/// A fact that can't be published is a bug of this module.
fn lost() -> Error {
    Error::broken("a planned log entry has no source")
}
