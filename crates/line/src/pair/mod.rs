//! Two ends of a link with two routes, a direct one and a relay, that fail and come back.
//!
//! Each side has the QUIC machine of a link, the machine of its paths, and a stand-in for the checks of the traversal
//! machine, driven as the real driver drives them. What carries their packets are two routes: the direct one loses
//! what it does not carry; the relay is TCP, which is late instead. [`Scenario`] says what fails and when; [`play`] tells how
//! long nothing moved although a route worked.

mod checks;
mod scenario;
mod side;
mod way;
mod world;

pub use scenario::{Fault, Kind, Load, Outage, Scenario};
pub use world::{Outcome, Without, play};
