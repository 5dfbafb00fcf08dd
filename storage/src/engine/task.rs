//! Work that comes to its end, whoever waits for it.

/// Does it in a task of its own: whether or not somebody looks at what this gives, or drops it. What this gives is small.
pub(super) fn to_its_end<T, W>(work: W) -> impl Future<Output = sqlx::Result<T>> + Send + use<T, W>
where
    T: Send + 'static,
    W: Future<Output = sqlx::Result<T>> + Send + 'static,
{
    let works = tokio::spawn(work);
    async move {
        works
            .await
            .unwrap_or_else(|ended| match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(sqlx::Error::WorkerCrashed),
            })
    }
}
