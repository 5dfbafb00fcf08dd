//! What isn't sent, and what an operator wants done about a destination.

use rhizome_storage::Pos;
use ruma::ServerName;

use super::{Queue, Sender};
use crate::sender::queues::Beside;

impl Sender {
    /// A destination is tried at once, however long it was to be left alone.
    pub(in crate::sender) fn try_again(&self, server: &ServerName) {
        let mut state = self.state();
        let Some(queue) = state.queues.get_mut(server) else {
            return;
        };
        let Some(stand) = queue.stand.as_mut().filter(|stand| stand.failures > 0) else {
            return;
        };
        stand.retry_at = 0;
        let stand = *stand;
        let waits = queue.is_left_alone();
        let written = queue.run.as_ref().map_or(stand, |run| run.written(stand));
        // What is being written down, or is to be, says otherwise. Who works on it now writes how that has ended.
        if let Some(dirty) = state.dirty.get_mut(server) {
            dirty.retry_at = 0;
        } else if waits {
            state.dirty.insert(server.to_owned(), written);
        }
        if waits {
            state.make_ready(server);
            self.changed.notify_one();
        }
    }

    /// What waits for a destination up to here is let go.
    pub(in crate::sender) fn let_go(&self, server: &ServerName, upto: Pos) {
        let mut state = self.state();
        if let Some(stand) = state.dirty.get_mut(server) {
            stand.sent = stand.sent.max(upto);
        }
        let Some(queue) = state.queues.get_mut(server) else {
            return;
        };
        queue.let_go = queue.let_go.max(upto);
        // What its run has passed over is let go as well.
        queue.run = None;
        queue.forget_ephemeral();
        let Some(stand) = &mut queue.stand else {
            return;
        };
        stand.sent = stand.sent.max(upto);
        let stand = *stand;
        state.dirty.insert(server.to_owned(), stand);
    }

    /// Up to where what there was for a destination was let go.
    pub(in crate::sender) fn let_go_upto(&self, server: &ServerName) -> Pos {
        let state = self.state();
        let queue = state.queues.get(server);
        queue.map(|queue| queue.let_go).unwrap_or_default()
    }

    /// Takes all that there is for a destination, which isn't to get it. Up to where, if this process sends what is in the
    /// log.
    pub(in crate::sender) fn take_all(&self, server: &ServerName) -> Option<Pos> {
        let mut state = self.state();
        let upto = state.leads().then_some(state.looked_at);
        if let Some(queue) = state.queues.get_mut(server) {
            queue.log = false;
            queue.beside = Beside::NOTHING;
            queue.run = None;
            queue.forget_ephemeral();
        }
        upto
    }

    /// Why a destination failed last, to be written down.
    pub(in crate::sender) fn failed_because(&self, server: &ServerName, why: String) {
        self.state().reasons.insert(server.to_owned(), why);
    }
}

impl Queue {
    fn forget_ephemeral(&mut self) {
        self.typing.clear();
        self.edus.clear();
        self.presence.clear();
    }
}
