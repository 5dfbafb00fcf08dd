//! Work that goes on when the client hangs up.
//!
//! A handler is dropped with its connection, wherever it stands. One that writes several times, each resting on
//! the one before, must come to its end all the same. It is moved to a task of its own in the moment in which it
//! is dropped, and not before: a request whose client waits costs no task.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::response::Response;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// How many requests whose clients have hung up are finished at a time; further ones end where they are.
const MOST_UNFINISHED: usize = 1_000;

/// A handler that runs.
pub(crate) type Answering<T = Response> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A handler that runs to its end, whoever still waits for it.
pub struct ToTheEnd<'a, T: Send + 'static> {
    answer: Option<Answering<T>>,
    unfinished: &'a TaskTracker,
}

impl<'a, T: Send + 'static> ToTheEnd<'a, T> {
    /// What is left of `answer` when this is dropped becomes one of the `unfinished`.
    pub fn new(answer: Answering<T>, unfinished: &'a TaskTracker) -> Self {
        Self {
            answer: Some(answer),
            unfinished,
        }
    }
}

impl<T: Send + 'static> Future for ToTheEnd<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out while it runs: one that panics isn't finished.
        let Some(mut answer) = self.answer.take() else {
            return Poll::Pending;
        };
        let polled = answer.as_mut().poll(context);
        if polled.is_pending() {
            self.answer = Some(answer);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<'_, T> {
    fn drop(&mut self) {
        // A client that asks and hangs up again and again mustn't fill the memory.
        if self.unfinished.len() >= MOST_UNFINISHED {
            return;
        }
        // Without a runtime nothing can go on: the process ends.
        if let (Some(answer), Ok(runtime)) = (self.answer.take(), Handle::try_current()) {
            tracing::debug!("the client hung up; its request is finished");
            self.unfinished.spawn_on(answer.in_current_span(), &runtime);
        }
    }
}
