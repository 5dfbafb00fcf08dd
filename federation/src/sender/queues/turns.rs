//! Whose turn it is. Destinations that failed last have workers of their own, and so have those of whom isn't known whether
//! they answer, or that are slow: each may hold one until its time is over, and however many of them there are, nobody
//! else waits for that.

/// Where a destination is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: there is nothing to do.
    #[default]
    Idle,
    /// Among those that may have something to do.
    Ready,
    /// Left alone until this time (ms).
    Later(i64),
    /// A task of this share is at it, and looks again before it ends.
    Running(Share),
}

/// How a destination answers, as far as this process knows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It hasn't been asked, or has never answered.
    #[default]
    Unknown,
    /// At once.
    Quick,
    /// It takes its time.
    Slow,
}

/// Which workers a destination is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sender) enum Share {
    /// Those for who answered last, and at once; and for looking up what is known of one.
    Healthy,
    /// Those for who has never answered, or was slow.
    Doubtful,
    /// Those for who failed last.
    Failed,
}

impl Share {
    pub(super) const ALL: [Self; 3] = [Self::Healthy, Self::Doubtful, Self::Failed];
}

/// Something for each share.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::sender) struct Each<T> {
    pub(in crate::sender) healthy: T,
    pub(in crate::sender) doubtful: T,
    pub(in crate::sender) failed: T,
}

impl<T> Each<T> {
    pub(super) fn of(&self, share: Share) -> &T {
        match share {
            Share::Healthy => &self.healthy,
            Share::Doubtful => &self.doubtful,
            Share::Failed => &self.failed,
        }
    }

    pub(super) fn of_mut(&mut self, share: Share) -> &mut T {
        match share {
            Share::Healthy => &mut self.healthy,
            Share::Doubtful => &mut self.doubtful,
            Share::Failed => &mut self.failed,
        }
    }
}
