//! How many connections fit under the system's limit of open files.

/// Descriptors that are for no client: what listens, STUN, the log, the runtime, name look-ups, and clients that have
/// been ended and whose socket is about to be closed.
pub const RESERVED: usize = 64;
/// Connections that are neither workers nor relays, beside those that are admitted: handshakes under way, health
/// checks, listings.
const OTHER_CONNECTIONS_MAX: usize = 1024;
/// Where the limit is low, one in so many connections may be such a one.
const SHARE_OF_OTHERS: usize = 4;

/// How many connections of which kind may be open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) websockets: usize,
    pub(crate) others: usize,
}

impl Places {
    /// The places for so many WebSockets, within `limit` open files; and the limit that all of them need, where this
    /// one is too low.
    pub(crate) fn within(limit: Option<usize>, websockets: usize) -> (Self, Option<usize>) {
        // Those that are told goodbye are connected still when others have their places already.
        let wanted = websockets.saturating_add(OTHER_CONNECTIONS_MAX);
        let needed = wanted.saturating_add(OTHER_CONNECTIONS_MAX + RESERVED);
        let Some(limit) = limit else {
            return (Self { websockets: wanted, others: OTHER_CONNECTIONS_MAX }, None);
        };
        let free = limit.saturating_sub(RESERVED);
        let others = OTHER_CONNECTIONS_MAX.min(free / SHARE_OF_OTHERS).max(1);
        let left = free.saturating_sub(others);
        let places = Self { websockets: wanted.min(left), others };
        (places, (left < websockets).then_some(needed))
    }
}

/// The limit of this process, if it has one that can be told.
#[must_use]
pub fn limit() -> Option<usize> {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit: Option<u64> = None;
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fit_under_a_high_limit_and_none_at_all() {
        let wanted = Places { websockets: 102_048 + 1024, others: 1024 };
        assert_eq!(Places::within(None, 102_048), (wanted, None));
        assert_eq!(Places::within(Some(524_288), 102_048), (wanted, None));
    }

    #[test]
    fn under_a_low_limit_some_stay_for_health_checks_and_the_limit_that_is_needed_is_told() {
        let low = Places { websockets: 720, others: 240 };
        assert_eq!(Places::within(Some(1024), 102_048), (low, Some(104_160)));
        let middle = Places { websockets: 18_912, others: 1024 };
        assert_eq!(Places::within(Some(20_000), 102_048), (middle, Some(104_160)));
        let none = Places { websockets: 0, others: 1 };
        assert_eq!(Places::within(Some(10), 5).0, none);
    }
}
