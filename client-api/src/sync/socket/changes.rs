//! What a client wants to be different, handed from the one who hears it to the one who reads the log, between two
//! of its turns: so that every frame is wholly of the old or wholly of the new.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::face::Change;
use crate::MatrixError;

/// The reader's end of a change.
pub(super) struct Taken {
    told: oneshot::Sender<bool>,
    said: oneshot::Receiver<Infallible>,
}

impl Taken {
    /// Tells whoever asked whether the change was taken up, or is of another shape of sync, and waits until the client is
    /// told: what is read from then on comes after that.
    pub(super) async fn tell(self, is_taken: bool) {
        if self.told.send(is_taken).is_ok() {
            // Nothing comes of the other end: it goes.
            let _ = self.said.await;
        }
    }
}

/// Dropped when the client has been told that its change is taken up.
#[derive(Debug)]
pub(super) struct Said(
    #[expect(dead_code, reason = "it is there to be dropped")] oneshot::Sender<Infallible>,
);

/// A place for one change: a client's frames are dealt with one after the other.
#[derive(Default)]
pub(super) struct Changes {
    slot: Mutex<Slot>,
    came: Notify,
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Asked(Change, Taken),
    /// Nobody reads any more.
    Closed,
}

impl Changes {
    /// Hands a change over, and waits until it is taken up. The reader goes on when the client has been told so.
    pub(super) async fn ask(&self, change: Change) -> Result<Said, MatrixError> {
        let Some((wait, said)) = self.put(change) else {
            return Err(MatrixError::busy());
        };
        self.came.notify_one();
        match wait.await {
            Ok(true) => Ok(said),
            Ok(false) => Err(MatrixError::new(
                http::StatusCode::BAD_REQUEST,
                "M_UNRECOGNIZED",
                "That is for the other mode of the stream",
            )),
            Err(_) => Err(MatrixError::busy()),
        }
    }

    /// Puts a change into the place, unless that is taken, or nobody reads any more.
    fn put(&self, change: Change) -> Option<(oneshot::Receiver<bool>, Said)> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*slot, Slot::Empty) {
            return None;
        }
        let (told, wait) = oneshot::channel();
        let (says, said) = oneshot::channel();
        *slot = Slot::Asked(change, Taken { told, said });
        Some((wait, Said(says)))
    }

    /// Waits for a change.
    pub(super) async fn come(&self) {
        self.came.notified().await;
    }

    /// What was asked, if anything was, and whom to tell that it is taken up.
    pub(super) fn take(&self) -> Option<(Change, Taken)> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *slot) {
            Slot::Asked(change, taken) => Some((change, taken)),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// From now on nobody reads: whoever waits is told so.
    pub(super) fn close(&self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Slot::Closed;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::poll_immediate;

    use super::*;

    fn filter() -> Change {
        Change::Filter(Arc::default())
    }

    #[tokio::test]
    async fn a_change_is_taken_up_once_and_its_end_is_told() {
        let changes = Changes::default();
        let reader = async {
            changes.come().await;
            let (_, taken) = changes.take().unwrap();
            assert!(changes.take().is_none());
            taken.tell(true).await;
        };
        tokio::pin!(reader);
        let said = tokio::select! {
            asked = changes.ask(filter()) => asked.unwrap(),
            () = &mut reader => panic!("the reader goes on before the client is told"),
        };
        assert!(poll_immediate(&mut reader).await.is_none());
        drop(said);
        reader.await;
        let refuse = async {
            changes.come().await;
            let (_, taken) = changes.take().unwrap();
            taken.tell(false).await;
        };
        let (asked, ()) = tokio::join!(changes.ask(filter()), refuse);
        assert_eq!(asked.unwrap_err().errcode, "M_UNRECOGNIZED");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_reader_that_has_ended() {
        let changes = Changes::default();
        let (asked, ()) = tokio::join!(changes.ask(filter()), async { changes.close() });
        assert!(asked.is_err());
        assert!(changes.ask(filter()).await.is_err());
    }

    #[tokio::test]
    async fn who_finds_the_place_taken_does_not_wait() {
        let changes = Changes::default();
        let second = async {
            let asked = changes.ask(filter()).await;
            changes.close();
            asked
        };
        let (first, second) = tokio::join!(changes.ask(filter()), second);
        assert!(first.is_err() && second.is_err());
    }
}
