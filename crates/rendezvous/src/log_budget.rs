//! A bound on what strangers can make the server log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in a second. A fleet of thousands that registers and is paired at once stays below.
const LINES_PER_SECOND_MAX: u32 = 20_000;
/// Warnings in a second that clients cause by what they do wrong: of one that comes again and again, or of a
/// fleet whose settings are wrong, some are enough, and nobody pays for the others.
const WARNINGS_PER_SECOND_MAX: u32 = 200;
/// Beside those, lines about HTTP requests that were refused: anybody causes them with a single request, and they must
/// not use up what is meant for those who have got in.
const REFUSALS_PER_SECOND_MAX: u32 = 10;
/// Characters of what a client has written that a line repeats: enough to recognise it.
pub(crate) const LOGGED_CHARS_MAX: usize = 200;
const SECOND: Duration = Duration::from_secs(1);
/// Between two lines that say that no connection can be taken: nobody but the operator can change that.
const ACCEPT_FAILURES_PERIOD: Duration = Duration::from_secs(10);

/// Counts lines, second by second.
#[derive(Debug)]
pub(crate) struct LogBudget(Mutex<Window>);

#[derive(Debug)]
struct Window {
    lines_max: u32,
    period: Duration,
    started: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogBudget {
    /// For what happens.
    pub(crate) fn of_lines() -> Self {
        Self(Mutex::new(Window::new(LINES_PER_SECOND_MAX, SECOND)))
    }

    /// For warnings that clients cause.
    pub(crate) fn of_warnings() -> Self {
        Self(Mutex::new(Window::new(WARNINGS_PER_SECOND_MAX, SECOND)))
    }

    /// For HTTP requests that are refused.
    pub(crate) fn of_refusals() -> Self {
        Self(Mutex::new(Window::new(REFUSALS_PER_SECOND_MAX, SECOND)))
    }

    /// For connections that cannot be taken.
    pub(crate) fn of_accept_failures() -> Self {
        Self(Mutex::new(Window::new(1, ACCEPT_FAILURES_PERIOD)))
    }

    /// Whether one more line may be written. What was left out is said with the next second,
    /// or period.
    pub(crate) fn allows_one(&self) -> bool {
        let (allowed, left_out) =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if left_out > 0 {
            tracing::warn!(left_out, "log lines were left out: too many of them");
        }
        allowed
    }
}

/// The beginning of what a client has written, with nothing that a terminal would obey.
pub(crate) fn excerpt(written: &[u8]) -> String {
    written.escape_ascii().map(char::from).take(LOGGED_CHARS_MAX).collect()
}

impl Window {
    fn new(lines_max: u32, period: Duration) -> Self {
        Self { lines_max, period, started: None, lines: 0, left_out: 0 }
    }

    /// Whether a line is allowed now, and how many were left out in a second that has just ended.
    fn take(&mut self, now: Instant) -> (bool, u64) {
        let mut left_out = 0;
        if self.started.is_none_or(|started| now.saturating_duration_since(started) >= self.period)
        {
            left_out = self.left_out;
            *self = Self { started: Some(now), ..Self::new(self.lines_max, self.period) };
        }
        let allowed = self.lines < self.lines_max;
        if allowed {
            self.lines += 1;
        } else {
            self.left_out += 1;
        }
        (allowed, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_what_is_left_out_is_counted() {
        let start = Instant::now();
        for (lines_max, period, left_out) in [
            (LINES_PER_SECOND_MAX, SECOND, 30_000),
            (WARNINGS_PER_SECOND_MAX, SECOND, 49_800),
            (REFUSALS_PER_SECOND_MAX, SECOND, 49_990),
            (1, ACCEPT_FAILURES_PERIOD, 49_999),
        ] {
            let mut window = Window::new(lines_max, period);
            let allowed = (0..50_000).filter(|_| window.take(start).0).count();
            assert_eq!(allowed, 50_000 - left_out);
            assert_eq!(window.take(start + period), (true, left_out as u64));
            assert_eq!(window.take(start + 2 * period), (true, 0));
        }
    }

    #[test]
    fn what_a_client_has_written_is_cut_and_its_control_characters_are_escaped() {
        assert_eq!(excerpt(b"https://own.example:8080"), "https://own.example:8080");
        assert_eq!(excerpt(b"\x1b[2J\n\xff"), r"\x1b[2J\n\xff");
        let cut = excerpt(&[0xff; 15_000]);
        assert_eq!((cut.len(), cut), (LOGGED_CHARS_MAX, r"\xff".repeat(LOGGED_CHARS_MAX / 4)));
    }
}
