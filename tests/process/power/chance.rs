//! Chance, the same for the same seed.

pub(crate) struct Chance {
    state: u64,
    /// How many of eight things that may be lost are kept.
    kept: usize,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Self {
            state: seed,
            kept: 0,
        };
        // What is lost as a whole, or not at all, hardly ever comes of a coin for each thing.
        chance.kept = [0, 1, 4, 7, 8][chance.below(5)];
        chance
    }

    /// One that keeps so many of eight.
    pub(crate) fn keeping(kept: usize) -> Self {
        Self { state: 1, kept }
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).expect("it is below a usize")
    }

    /// Whether something is kept that may be lost.
    pub(crate) fn keeps(&mut self) -> bool {
        self.below(8) < self.kept
    }

    /// SplitMix64.
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
