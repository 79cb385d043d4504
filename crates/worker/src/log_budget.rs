//! A bound on what a rendezvous can make a worker log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in a second. A rendezvous offers a peer every few seconds, and those of a room of everyone with
/// everyone at once: with their offers, and an offer that is not followed, that is far less.
const LINES_PER_SECOND_MAX: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Counts lines, second by second.
#[derive(Debug, Default)]
pub(crate) struct LogBudget(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    started: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogBudget {
    /// Whether one more line may be written. What was left out is said with the next one that may.
    pub(crate) fn allows_one(&self) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if let Some(left_out) = taken.filter(|left_out| *left_out > 0) {
            tracing::warn!(left_out, "log lines were left out: the rendezvous says too much");
        }
        taken.is_some()
    }
}

impl Window {
    /// `None`: no line is allowed now. Otherwise how many were left out in a second that has just ended.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let is_over = |started| now.saturating_duration_since(started) >= SECOND;
        if self.started.is_none_or(is_over) {
            let left_out = self.left_out;
            *self = Self { started: Some(now), lines: 1, left_out: 0 };
            return Some(left_out);
        }
        if self.lines == LINES_PER_SECOND_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_what_is_left_out_is_counted() {
        let start = Instant::now();
        let mut window = Window::default();
        let allowed = (0..5_000).filter(|_| window.take(start).is_some()).count();
        assert_eq!(allowed, 200);
        assert_eq!(window.take(start + SECOND), Some(4_800));
        assert_eq!(window.take(start + SECOND), Some(0));
    }
}
