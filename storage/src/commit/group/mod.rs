//! One transaction for a group of write sets.

mod find;
mod load;
mod publish;
mod write;

use find::find;
use load::load;

use super::decide::{GroupState, decide};
use super::rows::{self, Found, Plan};
use super::{CommitResult, Job};
use crate::engine::db::Tx;
use crate::engine::error::is_unwritable;
use crate::engine::trouble::Trouble;
use crate::facts::decision::Decision;
use crate::rooms::summary;
use crate::{CommitError, Committed, CrashAt, Error, LostAnswer, Pos, Store};

/// What became of a group that was committed, or that had nothing to commit.
pub(super) struct Answered {
    /// Whether there was something to commit.
    pub(super) written: bool,
    pub(super) answers: Vec<(Job, CommitResult)>,
    pub(super) deferred: Vec<Job>,
}

/// Nothing is written, or (at COMMIT) nobody knows.
pub(super) struct Failed {
    pub(super) jobs: Vec<Job>,
    pub(super) trouble: Trouble,
}

/// In a transaction of its own, or in one that is `held`.
pub(super) async fn attempt(
    store: &Store,
    jobs: Vec<Job>,
    held: Option<Tx>,
) -> Result<Answered, Failed> {
    let mut written = match write_group(store, &jobs, held).await {
        Ok(written) => written,
        Err(trouble) => return Err(Failed { jobs, trouble }),
    };
    if written.committed {
        let counters = &store.core.counters;
        counters.groups(1);
        counters.write_sets(written.plan.spans.len());
        if let Err(error) = publish::publish(store, &jobs, &mut written).await {
            // It is durable, but the tail can't be brought up to date: the next group will try again.
            tracing::error!(%error, "the log's tail is behind");
        }
        if store.core.positions.has_others() {
            store.core.positions.outbox().speak_up();
        }
    }
    if written
        .decisions
        .iter()
        .any(|decision| matches!(decision, Decision::Done(_)))
        && let Err(error) = store.log().refresh().await
    {
        tracing::error!(%error, "the log's tail is behind");
    }
    Ok(answer(store, jobs, written))
}

/// A group that was written.
pub(super) struct Written {
    pub(super) known: GroupState,
    pub(super) decisions: Vec<Decision>,
    pub(super) plan: Plan,
    pub(super) found: Found,
    /// The position before the group's first.
    pub(super) base: Pos,
    /// The order after the group's last backfilled event.
    pub(super) back: i64,
    pub(super) committed: bool,
    /// When, as the timings count.
    pub(super) committed_at: u64,
}

async fn write_group(store: &Store, jobs: &[Job], held: Option<Tx>) -> Result<Written, Trouble> {
    let timings = store.counters().timings();
    let begun = timings.now();
    let mut tx = match held {
        Some(tx) => tx,
        None => store.begin_commit().await?,
    };
    let mut known = load(store, &mut tx, jobs).await?;
    let decisions: Vec<_> = (jobs.iter().enumerate())
        .map(|(index, job)| decide(index, job, &mut known))
        .collect();
    let accepted: Vec<(usize, &Job)> = (jobs.iter().enumerate())
        .filter(|(index, _)| matches!(decisions[*index], Decision::Accept))
        .collect();
    if accepted.is_empty() {
        tx.rollback().await;
        return Ok(Written {
            known,
            decisions,
            plan: Plan::new(store.core.dialect),
            found: Found::default(),
            base: store.core.tail.head(),
            back: 0,
            committed: false,
            committed_at: 0,
        });
    }
    let found = find(store, &mut tx, &accepted, &known).await?;
    let now = store.clock().now_ms();
    let plan = rows::plan(store.core.dialect, &accepted, &mut known, &found, now)?;
    let (base, back) = write::write(&mut tx, &plan).await?;
    if !plan.summarised.is_empty() {
        summary::rows::write(&mut tx, &plan.summarised, store.summary_keys().await?).await?;
    }
    store.crash_if(CrashAt::BeforeCommit);
    commit(store, tx).await?;
    let committed_at = timings.committed(begun, accepted.len());
    store.crash_if(CrashAt::AfterCommit);
    Ok(Written {
        known,
        decisions,
        plan,
        found,
        base,
        back,
        committed: true,
        committed_at,
    })
}

async fn commit(store: &Store, tx: Tx) -> Result<(), Trouble> {
    let lost = store.next_lost_answer();
    if lost == Some(LostAnswer::RolledBack) {
        tx.rollback().await;
    } else {
        let done = tx.commit().await;
        done.map_err(|error| {
            if is_unwritable(&error) {
                Trouble::Unwritable(error.into())
            } else {
                Trouble::AtCommit(error.into())
            }
        })?;
    }
    match lost {
        Some(_) => Err(Trouble::AtCommit(Error::Busy("the answer is lost".into()))),
        None => Ok(()),
    }
}

fn answer(store: &Store, jobs: Vec<Job>, written: Written) -> Answered {
    let head = store.core.tail.head();
    let mut answered = Answered {
        written: written.committed,
        answers: Vec::with_capacity(jobs.len()),
        deferred: Vec::new(),
    };
    let mut spans = written.plan.spans.into_iter();
    for (job, decision) in jobs.into_iter().zip(written.decisions) {
        let answer = match decision {
            Decision::Accept => {
                let span = spans.next().unwrap_or_default();
                let at = |offset: i64| Pos(written.base.0 + offset);
                Ok(if span.is_empty() {
                    Committed {
                        first: head,
                        last: head,
                    }
                } else {
                    Committed {
                        first: at(span.start + 1),
                        last: at(span.end),
                    }
                })
            }
            Decision::Refuse(error) => {
                store.core.counters.refused(1);
                // Whoever decided on a room as it was may have read that here.
                if matches!(
                    error,
                    CommitError::StateMoved { .. } | CommitError::DuplicateEvent { .. }
                ) {
                    for write in &job.set.rooms {
                        store.core.caches.rooms.remove(&write.room);
                    }
                }
                Err(error)
            }
            Decision::Done(order) => {
                let pos = Pos(order.unwrap_or(head.0).max(0));
                Ok(Committed {
                    first: pos,
                    last: pos,
                })
            }
            Decision::Defer => {
                answered.deferred.push(job);
                continue;
            }
        };
        answered.answers.push((job, answer));
    }
    answered
}
