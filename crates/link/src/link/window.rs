//! How many unread bytes a link may be made to hold, and all links of a worker together.
//!
//! A window is what a peer may send before it is read from, so it is memory that others fill, and what was once granted
//! cannot be taken back: it is used up by what the peer sends. So a link begins with a window that each session of a worker
//! may have, and that is enough for a line of 500 Mbit/s with a round trip of 200 ms. Beyond that it gets what it needs while
//! it needs it, out of what all links share: more where a certain part of the window is read in a round trip, and where it
//! has many streams, since QUIC counts from the moment at which the peer writes: with less, the streams of a slow line would
//! stand behind each other for it.
//! A link that hardly reads any more is granted nothing new until its window is the smallest again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holepunch_wire::session::SESSIONS_MAX;

/// Unread bytes of all streams of a link together.
const LINK_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// What each link gets in any case.
pub(crate) const LINK_BYTES_LEAST: u32 = 12 * 1024 * 1024;
const _: () = assert!(LINK_BYTES_LEAST as u64 * 8 >= 500_000_000 / 1000 * 200);
/// What a connection gets before it is a link: several of a session shake hands at once, and a peer sends as good as
/// nothing until this side knows which of them is the link.
pub(crate) const HANDSHAKE_BYTES: u32 = 256 * 1024;
/// What all links of a worker have beyond the least: with that of its 64 sessions, 1 GiB.
const ALL_BYTES_MAX: u64 = 256 * 1024 * 1024;
const _: () = assert!(ALL_BYTES_MAX + SESSIONS_MAX as u64 * LINK_BYTES_LEAST as u64 == 1 << 30);
/// What a stream has in the window: the least that a forwarded connection may have under way.
const STREAM_BYTES: u32 = 32 * 1024;
/// A window grows where this part of it is read in a round trip. A start doubles what is under way in each, and the reader
/// is two round trips behind: one for the window's way back, one for a packet that was lost. On a line of 500 Mbit/s and
/// 200 ms with one packet in a thousand lost, an eighth costs 8 % of the first 4 s, a quarter 17 %, this nothing.
const PART: u32 = 16;
/// A link that takes so long for this part of its window needs no more than the least.
const IDLE: Duration = Duration::from_secs(30);

/// What all links of a worker may be made to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Windows(Arc<AtomicU64>);

impl Windows {
    /// The window of another link.
    pub(crate) fn open(&self) -> Window {
        Window { all: self.clone(), state: Mutex::default() }
    }

    /// Whether so much was left.
    fn take(&self, bytes: u32) -> bool {
        let more = |taken: u64| Some(taken + u64::from(bytes)).filter(|sum| *sum <= ALL_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: u32) {
        let before = self.0.fetch_sub(bytes.into(), Ordering::Relaxed);
        debug_assert!(before >= u64::from(bytes), "more is given back than was taken");
    }
}

/// The window of one link. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Window {
    all: Windows,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: u32,
    /// Granted beyond the window, before that became smaller; what is read from now on is not granted anew until it is used up.
    owed: u32,
    /// Streams that are read from.
    streams: u32,
    /// What has been read since when.
    read: u64,
    since: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self { bytes: LINK_BYTES_LEAST, owed: 0, streams: 0, read: 0, since: None }
    }
}

impl State {
    /// Twice the window, if there is so much. A window that became smaller does not grow before the peer has used up what it
    /// was granted: QUIC would grant that once more.
    fn grow(&mut self, all: &Windows) -> Option<u32> {
        let grown = self.bytes.saturating_mul(2).min(LINK_BYTES_MAX);
        if grown == self.bytes || self.owed > 0 || !all.take(grown - self.bytes) {
            return None;
        }
        self.bytes = grown;
        Some(grown)
    }

    fn shrink(&mut self) -> Option<u32> {
        self.owed += self.bytes - LINK_BYTES_LEAST;
        let is_new = self.bytes > LINK_BYTES_LEAST;
        self.bytes = LINK_BYTES_LEAST;
        is_new.then_some(self.bytes)
    }
}

impl Window {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bytes(&self) -> u32 {
        self.lock().bytes
    }

    /// Another stream is read from. `set` is told the window from now on, where it has changed, before anybody else may
    /// change it.
    pub(crate) fn stream_begins(&self, set: impl FnOnce(u32)) {
        let mut state = self.lock();
        state.streams = state.streams.saturating_add(1);
        if state.streams.saturating_mul(STREAM_BYTES) > state.bytes
            && let Some(grown) = state.grow(&self.all)
        {
            set(grown);
        }
    }

    /// One is not read from any more.
    pub(crate) fn stream_ends(&self) {
        let mut state = self.lock();
        debug_assert!(state.streams > 0, "a stream ends that has not begun");
        state.streams = state.streams.saturating_sub(1);
    }

    /// So much has been read. `set` as in [`stream_begins`](Self::stream_begins).
    pub(crate) fn read(
        &self,
        bytes: usize,
        now: impl FnOnce() -> Instant,
        round_trip: impl FnOnce() -> Option<Duration>,
        set: impl FnOnce(u32),
    ) {
        let mut state = self.lock();
        if let Some(changed) = self.reads(&mut state, bytes, now, round_trip) {
            set(changed);
        }
    }

    fn reads(
        &self,
        state: &mut State,
        bytes: usize,
        now: impl FnOnce() -> Instant,
        round_trip: impl FnOnce() -> Option<Duration>,
    ) -> Option<u32> {
        let used_up = state.owed.min(u32::try_from(bytes).unwrap_or(u32::MAX));
        if used_up > 0 {
            state.owed -= used_up;
            self.all.give_back(used_up);
        }
        state.read = state.read.saturating_add(bytes as u64);
        if state.since.is_some() && state.read < u64::from(state.bytes / PART) {
            return None;
        }
        let now = now();
        state.read = 0;
        let took = now.saturating_duration_since(state.since.replace(now)?);
        if took > IDLE {
            return state.shrink();
        }
        let is_held_up = round_trip().is_some_and(|round_trip| took <= round_trip);
        if is_held_up { state.grow(&self.all) } else { None }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let State { bytes, owed, .. } = *self.lock();
        self.all.give_back(bytes + owed - LINK_BYTES_LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);
    const LEAST: usize = LINK_BYTES_LEAST as usize;

    /// A link on a line, and how far its time is.
    struct Reader {
        window: Window,
        now: Instant,
    }

    impl Reader {
        fn new(all: &Windows) -> Self {
            let reader = Self { window: all.open(), now: Instant::now() };
            assert_eq!(reader.reads(0), None, "the first byte begins to count");
            reader
        }

        fn reads(&self, bytes: usize) -> Option<u32> {
            let mut changed = None;
            self.window.read(bytes, || self.now, || Some(ROUND_TRIP), |it| changed = Some(it));
            changed
        }

        /// Reads so much in so long.
        fn takes(&mut self, bytes: usize, time: Duration) -> Option<u32> {
            self.now += time;
            self.reads(bytes)
        }

        fn grows(mut self) -> Self {
            for _ in 0..3 {
                self.takes(LINK_BYTES_MAX as usize, ROUND_TRIP);
            }
            self
        }
    }

    fn taken(all: &Windows) -> u64 {
        all.0.load(Ordering::Relaxed)
    }

    #[test]
    fn links_that_are_idle_take_nothing_from_those_that_come_later() {
        let all = Windows::default();
        let mut idle: Vec<Window> = (0..63).map(|_| all.open()).collect();
        assert_eq!(taken(&all), 0);
        assert_eq!(Reader::new(&all).grows().window.bytes(), LINK_BYTES_MAX);
        idle.push(all.open());
        assert!(idle.iter().all(|window| window.bytes() == LINK_BYTES_LEAST));
    }

    #[test]
    fn a_window_grows_where_a_round_trip_takes_its_part() {
        let part = LEAST / PART as usize;
        let mut reader = Reader::new(&Windows::default());
        assert_eq!(reader.takes(part - 1, ROUND_TRIP / 2), None, "less");
        assert_eq!(reader.takes(1, ROUND_TRIP), None, "in more than a round trip");
        assert_eq!(reader.takes(part, ROUND_TRIP), Some(2 * LINK_BYTES_LEAST));
        assert_eq!(reader.takes(part, ROUND_TRIP), None, "less than the part");
        assert_eq!(reader.takes(part, ROUND_TRIP), None, "not in one");
        assert_eq!(reader.takes(2 * part, ROUND_TRIP), Some(4 * LINK_BYTES_LEAST));
        assert_eq!(reader.takes(4 * part, ROUND_TRIP), Some(LINK_BYTES_MAX));
        assert_eq!(reader.takes(8 * LEAST, ROUND_TRIP), None, "it has all that a link may have");
    }

    #[test]
    fn all_links_together_have_no_more_than_there_is_until_one_has_gone() {
        let all = Windows::default();
        let mut readers: Vec<Reader> = (0..64).map(|_| Reader::new(&all).grows()).collect();
        let sum: u64 = readers.iter().map(|reader| u64::from(reader.window.bytes())).sum();
        assert!(sum <= 1 << 30 && taken(&all) <= ALL_BYTES_MAX, "{sum}");
        assert_eq!(readers[0].window.bytes(), LINK_BYTES_MAX);
        assert_eq!(readers[63].window.bytes(), LINK_BYTES_LEAST);
        readers.remove(0);
        assert_eq!(Reader::new(&all).grows().window.bytes(), LINK_BYTES_MAX);
        drop(readers);
        assert_eq!(taken(&all), 0, "everything is given back");
    }

    #[test]
    fn what_an_idle_link_was_granted_is_there_for_others_once_it_is_used_up() {
        let all = Windows::default();
        let mut reader = Reader::new(&all).grows();
        let more = LINK_BYTES_MAX - LINK_BYTES_LEAST;
        assert_eq!(
            reader.takes((LINK_BYTES_MAX / PART) as usize, 2 * IDLE),
            Some(LINK_BYTES_LEAST)
        );
        assert_eq!(taken(&all), u64::from(more), "the peer may still send as much");
        assert_eq!(reader.takes(LEAST, ROUND_TRIP), None, "nor is it granted twice");
        assert_eq!(taken(&all), u64::from(more) - LEAST as u64);
        reader.takes(more as usize - LEAST - 1, ROUND_TRIP);
        assert_eq!((taken(&all), reader.window.bytes()), (1, LINK_BYTES_LEAST));
        assert_eq!(reader.takes(LEAST, ROUND_TRIP), Some(2 * LINK_BYTES_LEAST), "as before");
        drop(reader);
        assert_eq!(taken(&all), 0, "everything is given back");
    }

    #[test]
    fn a_thousand_streams_have_room_beside_each_other() {
        let window = Windows::default().open();
        let mut grown = Vec::new();
        (0..1024).for_each(|_| window.stream_begins(|bytes| grown.push(bytes)));
        assert_eq!(grown, [2 * LINK_BYTES_LEAST, 4 * LINK_BYTES_LEAST]);
        (0..1024).for_each(|_| window.stream_ends());
        window.stream_begins(|_| panic!("one alone needs no more"));
    }
}
