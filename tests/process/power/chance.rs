//! What is lost and what is kept.

use crate::random::Random;

pub(crate) struct Chance {
    random: Random,
    /// How many of eight things that may be lost are kept.
    kept: usize,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // What is lost as a whole, or not at all, hardly ever comes of a coin for each thing.
        let kept = [0, 1, 4, 7, 8][random.below(5)];
        Self { random, kept }
    }

    /// One that keeps so many of eight.
    pub(crate) fn keeping(kept: usize) -> Self {
        let random = Random::new(1);
        Self { random, kept }
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }

    /// Whether something is kept that may be lost.
    pub(crate) fn keeps(&mut self) -> bool {
        self.below(8) < self.kept
    }
}
