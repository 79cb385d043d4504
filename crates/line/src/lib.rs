//! A line between two machines in virtual time, with the QUIC machine of a link at each end of every flow on it.
//!
//! [`run`] makes a [`Line`] in each direction, connects its flows, sends on each as much as it takes, and tells what
//! has arrived. Nothing sleeps and nothing reads a clock: the next event is the next moment. What the real driver does
//! to a sender (segments that leave together, timers that fire late, datagrams that are read in batches), and what a busy
//! machine does to both ends (a process that does not run, or that is woken late) is an option, [`Driver`].

mod end;
mod line;
pub mod pair;
mod run;

pub use end::Driver;
pub use line::{Line, LineConfig, Loss};
pub use run::{Flow, FlowReport, Report, Setup, run};
