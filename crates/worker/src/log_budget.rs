//! A bound on what a rendezvous can make a worker log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holepunch_wire::rate::{Lines, Rate};

/// Lines that a rendezvous causes. It offers a peer every few seconds, and those of a room of everyone with everyone at once:
/// with their offers, and an offer that is not followed, that is far less.
const LINES: Rate = Rate { count: 200, per: Duration::from_secs(1), burst: 200 };

/// Counts lines.
#[derive(Debug)]
pub(crate) struct LogBudget(Mutex<Lines>);

impl Default for LogBudget {
    fn default() -> Self {
        Self(Mutex::new(Lines::new(LINES)))
    }
}

impl LogBudget {
    /// Whether one more line may be written. What was left out is said before the next one that may.
    pub(crate) fn allows_one(&self) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (may, left_out) = lines.take(Instant::now());
        drop(lines);
        if let Some(left_out) = left_out {
            tracing::warn!(left_out, "log lines were left out: the rendezvous says too much");
        }
        may
    }
}
