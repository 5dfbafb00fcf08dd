//! What the next transaction to a destination holds.

use rhizome_storage::{Behind, DestinationState, Error, Pos};
use ruma::ServerName;

use super::{
    batch::{
        Batch, MAX_EDUS, MAX_PDUS, MAX_RECEIPT_EDUS, MAX_TO_DEVICE, edu, receipt_edus, typing_edu,
    },
    latest, presence,
    queues::Beside,
    run::Run,
    sticky::{self, Newcomer},
    to_device,
};
use crate::{
    Federation,
    devices::outgoing::{self, Changes},
};

/// Receipts that are looked at for one transaction.
const MAX_RECEIPTS: usize = 500;
/// Messages to devices that the first transaction has after a failure.
const FIRST_TO_DEVICE: usize = 5;

/// What is known while a task works on a destination, beside where that stands.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) newcomer: Newcomer,
    pub(super) run: Run,
    /// It failed last: the first transaction has little in it, until it is known whether the destination is up. So what
    /// those that are down cost doesn't follow how much waits for them.
    pub(super) probes: bool,
}

impl Round {
    /// So many events at most, where a transaction may have `limit`.
    fn most(&self, limit: Option<usize>) -> usize {
        let most = if self.probes { 1 } else { MAX_PDUS };
        limit.unwrap_or(most).min(most)
    }

    /// The same of messages to devices.
    fn most_to_device(&self, limit: Option<usize>) -> usize {
        let most = if self.probes {
            FIRST_TO_DEVICE
        } else {
            MAX_TO_DEVICE
        };
        limit.unwrap_or(most).min(most)
    }

    /// What a batch has from before the cursor has arrived.
    pub(super) fn told(&mut self, batch: &Batch) {
        self.newcomer.told(&batch.sticky);
        self.run.told(&batch.passed_over);
    }
}

/// What comes next for the destination: from the log after its cursor, and ephemeral data.
pub(super) async fn gather(
    fed: &Federation,
    to: &ServerName,
    stand: DestinationState,
    round: &mut Round,
) -> Result<Batch, Error> {
    let mut batch = Batch {
        upto: stand.reached(),
        ..Batch::default()
    };
    // All in one step with how far the log has been looked at, and with whether we lead: what comes later sets
    // `log` again.
    let (wanted, beside, limit, head) = {
        let mut state = fed.sender().state();
        let leads = state.leads();
        let head = state.looked_at.max(batch.upto);
        match state.queues.get_mut(to) {
            Some(queue) => {
                let wanted = leads && queue.log;
                let beside = queue.beside;
                queue.log = false;
                if wanted {
                    queue.beside = Beside::NOTHING;
                }
                (wanted, beside, queue.batch_limit, head)
            }
            None => (false, Beside::NOTHING, None, head),
        }
    };
    if wanted {
        let looked =
            gather_logged(fed, to, (stand, head), (limit, beside), round, &mut batch).await;
        if looked.is_err() || batch.upto < head || !batch.passed_over.is_empty() {
            fed.sender().look_again(to, beside);
        }
        looked?;
    }
    let most = MAX_EDUS - batch.to_device.len();
    if batch.edus.len() < most {
        presence::gather(fed, to, &mut batch).await?;
    }
    let mut state = fed.sender().state();
    if let Some(queue) = state.queues.get_mut(to) {
        while batch.edus.len() < most
            && let Some(((room, user), typing)) = queue.typing.pop_first()
        {
            batch.edus.push(typing_edu(&room, &user, typing));
        }
        while batch.edus.len() < most
            && let Some(edu) = queue.edus.pop_front()
        {
            batch.edus.push(edu);
        }
    }
    Ok(batch)
}

/// What has a position: what comes alone from before the cursor, or what stands after it.
async fn gather_logged(
    fed: &Federation,
    to: &ServerName,
    (stand, head): (DestinationState, Pos),
    (limit, beside): (Option<usize>, Beside),
    round: &mut Round,
    batch: &mut Batch,
) -> Result<(), Error> {
    let most = round.most(limit);
    if beside.sticky {
        let span = (batch.upto, head);
        batch.sticky = sticky::gather(fed, to, &mut round.newcomer, span, most).await?;
    }
    if batch.sticky.is_empty() && !round.probes {
        batch.passed_over = latest::passed_over(fed, to, &mut round.run, most).await?;
    }
    if batch.sticky.is_empty() && batch.passed_over.is_empty() {
        gather_log(fed, to, (stand, head), (limit, beside), round, batch).await?;
    }
    Ok(())
}

/// Events, and what else may be there, after the cursor and up to `head`, as many as fit: each that is looked at ends
/// where the one before it had to, and what goes beyond where the last ends is left for the next time.
async fn gather_log(
    fed: &Federation,
    to: &ServerName,
    (stand, head): (DestinationState, Pos),
    (limit, beside): (Option<usize>, Beside),
    round: &Round,
    batch: &mut Batch,
) -> Result<(), Error> {
    let (store, after, most) = (fed.store(), batch.upto, round.most(limit));
    batch.upto = head;
    batch.events = if round.probes {
        let first = store.outbound_first(to, (after, head)).await?;
        first.into_iter().collect()
    } else if after < stand.newest && round.run.is_planned(stand.newest) {
        batch.upto = stand.newest.min(head);
        latest::gather(fed, &round.run, after, most).await?
    } else {
        store.outbound_to(to, after, head, most).await?
    };
    if batch.events.len() >= most
        && let Some(last) = batch.events.last().and_then(|event| event.pos())
    {
        batch.upto = last;
    }
    if beside.to_device {
        let most = round.most_to_device(limit);
        to_device::gather(fed, to, after, most, batch).await?;
    }
    if (beside.lists || beside.receipts) && fed.store().is_in_a_room(to).await? {
        tell(fed, to, after, (limit, beside), batch).await?;
    } else if let Some(limit) = limit {
        batch.first(limit);
    }
    Ok(())
}

/// What is told of changes of devices and of receipts: to a server that is in a room.
async fn tell(
    fed: &Federation,
    to: &ServerName,
    after: Pos,
    (limit, beside): (Option<usize>, Beside),
    batch: &mut Batch,
) -> Result<(), Error> {
    let mut changes = Changes::default();
    if beside.lists {
        changes = outgoing::gather(fed, to, after, batch.upto).await?;
        batch.cut(changes.upto);
        batch.told.extend(changes.places());
    }
    let mut receipts = Vec::new();
    if beside.receipts {
        let behind = Behind {
            destination: to,
            ours: fed.server_name(),
            after,
            upto: batch.upto,
            limit: MAX_RECEIPTS,
        };
        receipts = fed.store().receipts_to(behind).await?;
        if let Some(last) = receipts.last()
            && receipts.len() >= MAX_RECEIPTS
        {
            batch.cut(last.pos);
        }
        batch
            .told
            .extend(receipts.iter().map(|receipt| receipt.pos));
    }
    if let Some(limit) = limit {
        batch.first(limit);
    }
    receipts.retain(|receipt| receipt.pos <= batch.upto);
    let (edus, stopped) = receipt_edus(&receipts, MAX_RECEIPT_EDUS);
    batch.edus = edus;
    if let Some(at) = stopped {
        batch.cut(Pos(at.0 - 1));
    }
    changes.cut(batch.upto);
    let told = changes.edus(fed).await?;
    let told = told.iter().map(|(kind, content)| edu(kind, content));
    batch.edus.extend(told);
    Ok(())
}
