//! The laboratory: both real machines, `traversal` and `matchmaker`, on the simulated network.
//!
//! [`Scenario`] says what two workers stand behind and what happens to them; [`Scenario::run`] plays
//! one history, by its seed; [`Summary`] sums up many. [`catalogue`] is the list of pairs with what
//! has to hold for each. A [`Journey`] is made from any bytes.

mod catalogue;
mod journey;
mod outcome;
mod requirement;
mod scenario;
mod summary;
mod telling;
mod worker;
mod world;

pub use catalogue::{Group, Pair, catalogue, plain_pairs, wrong_profile};
pub use journey::Journey;
pub use outcome::{Outcome, Verdict};
pub(crate) use requirement::percent;
pub use requirement::{Requirement, Violation};
pub use scenario::{Incident, Scenario};
pub use summary::{Percentiles, SEEDS_SHOWN, Seeds, Share, Summary};
pub(crate) use telling::ROWS;
pub use world::World;
