//! A bound on what strangers can make the server log.

use std::time::{Duration, Instant};

use holepunch_wire::rate::{Lines, Rate};

const SECOND: Duration = Duration::from_secs(1);
/// Lines about what happens. A fleet of thousands that registers and is paired at once stays below.
pub(crate) const LINES: Rate = Rate { count: 20_000, per: SECOND, burst: 20_000 };
/// Warnings that clients cause by what they do wrong: of one that comes again and again, or of a
/// fleet whose settings are wrong, some are enough, and nobody pays for the others.
pub(crate) const WARNINGS: Rate = Rate { count: 200, per: SECOND, burst: 200 };
/// Beside those, lines about HTTP requests that were refused: anybody causes them with a single request, and they must
/// not use up what is meant for those who have got in. None saves any up, so that no second has more.
pub(crate) const REFUSALS: Rate = Rate { count: 10, per: SECOND, burst: 1 };
/// Lines that say that no connection can be taken: nobody but the operator can change that.
pub(crate) const ACCEPT_FAILURES: Rate = Rate { count: 1, per: Duration::from_secs(10), burst: 1 };
/// Characters of what a client has written that a line repeats: enough to recognise it.
pub(crate) const LOGGED_CHARS_MAX: usize = 200;

/// Counts lines.
#[derive(Debug)]
pub(crate) struct LogBudget(Lines);

impl LogBudget {
    pub(crate) fn new(rate: Rate) -> Self {
        Self(Lines::new(rate))
    }

    /// Whether one more line may be written.
    pub(crate) fn allows_one(&self) -> bool {
        self.0.allows_one(Instant::now(), |left_out| {
            tracing::warn!(left_out, "log lines were left out: too many of them");
        })
    }
}

/// The beginning of what a client has written, with nothing that a terminal would obey.
pub(crate) fn excerpt(written: &[u8]) -> String {
    written.escape_ascii().map(char::from).take(LOGGED_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_has_written_is_cut_and_its_control_characters_are_escaped() {
        assert_eq!(excerpt(b"https://own.example:8080"), "https://own.example:8080");
        assert_eq!(excerpt(b"\x1b[2J\n\xff"), r"\x1b[2J\n\xff");
        let cut = excerpt(&[0xff; 15_000]);
        assert_eq!((cut.len(), cut), (LOGGED_CHARS_MAX, r"\xff".repeat(LOGGED_CHARS_MAX / 4)));
    }
}
