//! What the task that works on a destination tells of it, and asks.

use rhizome_storage::Pos;
use ruma::ServerName;

use super::{
    Beside, Queue, Sender, Share, State,
    turns::{Pace, Place},
};
use crate::sender::run::Run;

impl Queue {
    /// Which workers it is for. What is known of it is looked up by the first: that is soon done.
    pub(super) fn share(&self) -> Share {
        match self.stand {
            Some(stand) if stand.failures > 0 => Share::Failed,
            Some(_) if self.pace != Pace::Quick => Share::Doubtful,
            _ => Share::Healthy,
        }
    }
}

/// Whose worker a task is after its destination has shown which share it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// That share's, as before.
    Kept,
    /// That share's from now on.
    Moved,
    /// Another's: that share has no room.
    Nothing,
}

impl State {
    /// A task goes on as one of the share that its destination is of now, if there is room.
    fn take_place(&mut self, server: &ServerName) -> Taken {
        let Some(queue) = self.queues.get_mut(server) else {
            return Taken::Nothing;
        };
        let (Place::Running(share), right) = (queue.place, queue.share()) else {
            return Taken::Nothing;
        };
        if share == right {
            return Taken::Kept;
        }
        if self.busy.of(right) >= self.most.of(right) {
            return Taken::Nothing;
        }
        queue.place = Place::Running(right);
        let left = self.busy.of_mut(share);
        *left = left.saturating_sub(1);
        *self.busy.of_mut(right) += 1;
        Taken::Moved
    }
}

impl Sender {
    /// Which workers a destination is for, as far as is known.
    pub(in crate::sender) fn share(&self, server: &ServerName) -> Share {
        let state = self.state();
        let queue = state.queues.get(server);
        queue.map_or(Share::Healthy, Queue::share)
    }

    /// Whether the task at a destination may go on: that is up again, or has become slow, and then takes nobody's place among
    /// those that aren't. Otherwise it is somebody's turn later.
    pub(in crate::sender) fn goes_on(&self, server: &ServerName) -> bool {
        let taken = self.state().take_place(server);
        self.made_room(taken);
        taken != Taken::Nothing
    }

    fn made_room(&self, taken: Taken) {
        if taken == Taken::Moved {
            self.changed.notify_one();
        }
    }

    /// It was reached before this process began: it isn't doubted before it gives a reason.
    pub(in crate::sender) fn was_reached(&self, server: &ServerName) {
        if let Some(queue) = self.state().queues.get_mut(server)
            && queue.pace == Pace::Unknown
        {
            queue.pace = Pace::Quick;
        }
    }

    /// It has answered at once.
    pub(in crate::sender) fn was_quick(&self, server: &ServerName) {
        if let Some(queue) = self.state().queues.get_mut(server) {
            queue.pace = Pace::Quick;
        }
    }

    /// It takes its time to answer. What waits for that makes room for others. `false`: those for slow ones are all
    /// busy, and more than half of the others as well: it is given up until it is its turn.
    pub(in crate::sender) fn is_slow(&self, server: &ServerName) -> bool {
        let mut state = self.state();
        if let Some(queue) = state.queues.get_mut(server) {
            queue.pace = Pace::Slow;
        }
        let taken = state.take_place(server);
        let is_tight = state.busy.healthy > state.most.healthy / 2;
        drop(state);
        self.made_room(taken);
        taken != Taken::Nothing || !is_tight
    }

    /// The log still holds something, perhaps this too.
    pub(in crate::sender) fn look_again(&self, server: &ServerName, beside: Beside) {
        if let Some(queue) = self.state().queues.get_mut(server) {
            queue.log = true;
            queue.beside.add(beside);
        }
    }

    /// The log still holds events.
    pub(in crate::sender) fn look_again_for_events(&self, server: &ServerName) {
        self.look_again(server, Beside::NOTHING);
    }

    /// What is remembered of its run, for who works on it.
    pub(in crate::sender) fn take_run(&self, server: &ServerName) -> Run {
        let mut state = self.state();
        let kept = state
            .queues
            .get_mut(server)
            .and_then(|queue| queue.run.take());
        kept.map_or_else(Run::default, |run| *run)
    }

    /// Keeps that for the next time, unless what was passed over has been let go: it began at `sent`.
    pub(in crate::sender) fn keep_run(&self, server: &ServerName, sent: Pos, run: Run) {
        if let Some(queue) = self.state().queues.get_mut(server) {
            let is_let_go = queue.let_go > sent;
            queue.run = if is_let_go { None } else { run.kept() };
        }
    }
}
