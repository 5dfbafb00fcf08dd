//! Threads that users follow
//! ([MSC4306](https://github.com/matrix-org/matrix-spec-proposals/pull/4306),
//! [MSC4308](https://github.com/matrix-org/matrix-spec-proposals/pull/4308)).

pub(crate) mod changes;
pub(crate) mod list;
pub(crate) mod subscription;
