//! Several rendezvous under one virtual clock, with a store and a fabric that fail in every way that these can: late, lost,
//! doubled, out of order, cut in two; a store that is away, or has forgotten its newest writes; an instance that stands still
//! for a minute and goes on, or dies.

mod chance;
mod faults;
mod life;
mod verdict;
mod ways;
mod worker;
mod world;

pub use chance::Chance;
pub use verdict::Broken;

/// One thing that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Packets between instances are lost, doubled, and late.
    Fabric,
    /// Two instances do not hear each other.
    Partition,
    /// The store is away.
    Store,
    /// The store loses what it was told in the last moments.
    FailOver,
    /// An instance stands still, and goes on.
    Pause,
    /// An instance dies, and another one begins in its place.
    Crash,
    /// A worker loses its connection.
    Connection,
}

impl Failing {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Fabric,
        Self::Partition,
        Self::Store,
        Self::FailOver,
        Self::Pause,
        Self::Crash,
        Self::Connection,
    ];
}

/// What a history is made of.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// How many rendezvous there are.
    pub instances: usize,
    /// How many workers.
    pub workers: usize,
    /// What may fail.
    pub faults: &'static [Failing],
}

impl Setting {
    /// What a fuzzer's bytes are: how many instances and workers, with everything that may fail, and the decisions.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> (Self, Chance) {
        let mut chance = Chance::of_bytes(bytes);
        let instances = 1 + chance.below(3) as usize;
        let workers = 2 + chance.below(7) as usize;
        (Self { instances, workers, faults: &Failing::ALL }, chance)
    }
}

/// Plays one history, two minutes long, and a time without faults after it; how many sessions there were.
///
/// # Errors
/// What must hold did not.
pub fn play(setting: Setting, chance: Chance) -> Result<usize, Broken> {
    let mut world = world::World::new(setting, chance);
    world.run()
}
