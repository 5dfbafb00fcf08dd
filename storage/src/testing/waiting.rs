//! Waiting for what has to come.

use std::{future::Future, time::Duration};

/// How long a test waits for what has to come. Nothing is decided by it but when to call a test failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for what has to come, or fails with its name.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("it never happened: {what}"))
}

/// The pauses between looks at what has to come, which get longer: tests have no other place that sleeps.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pauses {
    /// The next one.
    pub async fn next(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_millis(32));
    }
}

/// Waits until something is so, or fails with its name. It is looked at again and again, less and less often.
pub async fn eventually<R>(what: &str, holds: impl Fn() -> R)
where
    R: Future<Output = bool>,
{
    let looking = async {
        let mut pauses = Pauses::default();
        while !holds().await {
            pauses.next().await;
        }
    };
    soon(what, looking).await;
}
