//! Where the decisions of a history come from.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Decisions: of a seed, or of a fuzzer, which gets the plainest history where it has nothing to say.
#[derive(Debug)]
pub struct Chance {
    bytes: Option<Vec<u8>>,
    at: usize,
    rng: StdRng,
}

impl Chance {
    /// Those of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self { bytes: None, at: 0, rng: StdRng::seed_from_u64(seed) }
    }

    /// Those of a fuzzer.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { bytes: Some(bytes.to_vec()), at: 0, rng: StdRng::seed_from_u64(0) }
    }

    /// A number below `n`; the smallest is the plainest.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        let Some(bytes) = &self.bytes else { return self.rng.random_range(0..n.max(1)) };
        let two = [0, 1].map(|at| bytes.get(self.at + at).copied().unwrap_or(0));
        self.at += 2;
        u64::from(u16::from_le_bytes(two)) % n.max(1)
    }

    /// Whether what happens `percent` times in a hundred does.
    pub(super) fn is(&mut self, percent: u64) -> bool {
        percent > 0 && self.below(100) >= 100 - percent
    }

    pub(super) fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    /// A seed for a machine.
    pub(super) fn rng(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.below(u64::from(u32::MAX)))
    }
}
