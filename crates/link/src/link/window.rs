//! How many unread bytes a link may be made to hold, and all links of a worker together.
//!
//! A window is what a peer may send before it is read from, so it is memory that others fill. QUIC counts it from the moment
//! at which the peer writes: with a small one, a thousand streams would stand behind each other for it, whatever the line
//! does. So a link gets the whole of it as long as there is enough for all, and less when many links are there: then its window
//! follows what is read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Unread bytes of all streams of a link together.
const LINK_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// What a link gets in any case: enough for 300 Mbit/s at a round trip of 100 ms.
const LINK_BYTES_LEAST: u32 = 4 * 1024 * 1024;
/// What all links of a worker have beyond that: sixteen of them have all that they may, and hold 1 GiB.
const ALL_BYTES_MAX: u64 = 16 * (LINK_BYTES_MAX - LINK_BYTES_LEAST) as u64;
/// A link that reads a quarter of its window in so long may be held up by it: round trips are shorter.
const QUARTER_WITHIN: Duration = Duration::from_millis(250);

/// What all links of a worker may be made to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Windows(Arc<AtomicU64>);

impl Windows {
    /// The window of another link.
    pub(crate) fn open(&self) -> Window {
        let has_room = self.take(LINK_BYTES_MAX - LINK_BYTES_LEAST);
        let bytes = if has_room { LINK_BYTES_MAX } else { LINK_BYTES_LEAST };
        Window { all: self.clone(), bytes: AtomicU32::new(bytes), reading: Mutex::default() }
    }

    /// Whether so much was left.
    fn take(&self, bytes: u32) -> bool {
        let more = |taken: u64| Some(taken + u64::from(bytes)).filter(|sum| *sum <= ALL_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// The window of one link. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Window {
    all: Windows,
    bytes: AtomicU32,
    reading: Mutex<Reading>,
}

/// What has been read since when.
#[derive(Debug, Default)]
struct Reading {
    bytes: u64,
    since: Option<Instant>,
}

impl Window {
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// So much has been read. The window from now on, where it has grown.
    pub(crate) fn read(&self, bytes: usize, now: impl FnOnce() -> Instant) -> Option<u32> {
        let window = self.bytes();
        if window == LINK_BYTES_MAX {
            return None;
        }
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.bytes = reading.bytes.saturating_add(bytes as u64);
        if reading.since.is_some() && reading.bytes < u64::from(window / 4) {
            return None;
        }
        let now = now();
        let since = std::mem::replace(&mut *reading, Reading { bytes: 0, since: Some(now) }).since;
        let is_fast = since.is_some_and(|since| now.duration_since(since) <= QUARTER_WITHIN);
        let grown = window.saturating_mul(2).min(LINK_BYTES_MAX);
        if !is_fast || !self.all.take(grown - window) {
            return None;
        }
        self.bytes.store(grown, Ordering::Relaxed);
        Some(grown)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let beyond = self.bytes() - LINK_BYTES_LEAST;
        self.all.0.fetch_sub(beyond.into(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_links_have_all_of_it_and_the_next_one_little_until_one_has_gone() {
        let all = Windows::default();
        let mut windows: Vec<Window> = (0..17).map(|_| all.open()).collect();
        let bytes: Vec<u32> = windows.iter().map(Window::bytes).collect();
        assert_eq!(bytes[..16], [LINK_BYTES_MAX; 16]);
        assert_eq!(bytes[16], LINK_BYTES_LEAST);
        assert!(all.0.load(Ordering::Relaxed) <= ALL_BYTES_MAX);
        drop(windows.remove(0));
        assert_eq!(all.open().bytes(), LINK_BYTES_MAX);
        drop(windows);
        assert_eq!(all.0.load(Ordering::Relaxed), 0, "everything is given back");
    }

    #[test]
    fn a_window_grows_with_what_is_read_fast_and_not_beyond_what_there_is() {
        let all = Windows::default();
        let mut others: Vec<Window> = (0..16).map(|_| all.open()).collect();
        let (window, start) = (all.open(), Instant::now());
        assert_eq!(window.bytes(), LINK_BYTES_LEAST);
        let quarter = LINK_BYTES_LEAST as usize / 4;
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(window.read(1, || at(0)), None, "the first byte begins to count");
        assert_eq!(window.read(quarter, || at(10)), None, "nothing is left");
        drop(others.pop());
        assert_eq!(window.read(quarter, || at(1000)), None, "slow");
        assert_eq!(window.read(quarter - 1, || at(1100)), None, "no quarter");
        assert_eq!(window.read(1, || at(1200)), Some(2 * LINK_BYTES_LEAST));
        let mut time = 1200;
        while window.bytes() < LINK_BYTES_MAX {
            time += 10;
            window.read(LINK_BYTES_MAX as usize, || at(time));
        }
        assert_eq!(window.read(usize::MAX, || unreachable!("it has all")), None);
    }
}
