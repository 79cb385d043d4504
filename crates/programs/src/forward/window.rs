//! How much the peer may send on a connection that is not read from on this side.
//!
//! A stream of a link has a window of its own, but all streams share that of the link: a few dozen
//! connections whose readers have stopped would fill it, and stall all the others. So a stream is always
//! read, and what its connection does not take is kept here, within a window: each connection has a small
//! one for certain, and more as long as its reader is quick, out of a pool for all of a link.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::frames::Malformed;

/// What every connection may send before anything is taken: 64 MiB of the 2,000 that are made for the peer.
pub(super) const WINDOW_BYTES_MIN: u32 = 32 * 1024;
/// Most that one gets: far less than the window of a stream, which would hold it up otherwise.
pub(super) const WINDOW_BYTES_MAX: u32 = 2 * 1024 * 1024;
/// Beyond the smallest windows, those of all connections of a link together.
pub(super) const POOL_BYTES: u32 = 64 * 1024 * 1024;
/// The same of all links together: a link takes no more than is left for others.
const ALL_POOLS_BYTES: u32 = 2 * POOL_BYTES;
/// A connection holds at most this part of what is free: those that come later find some, however many have
/// stopped before. One alone may have the largest window.
const SHARE: u32 = 32;
const _: () = assert!(POOL_BYTES / SHARE >= WINDOW_BYTES_MAX);
/// A window grows when it was used up within so many round trips: a reader that is slower needs no larger
/// one.
const ROUND_TRIPS: u32 = 2;
/// The least time that counts as a round trip: that of a machine with work to do.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(5);
/// Credit is told once this part of the window was taken.
const TOLD_PART: u32 = 4;

/// What the pools of all links may hold together.
#[derive(Debug)]
pub(super) struct Pools(AtomicU32);

impl Default for Pools {
    fn default() -> Self {
        Self(AtomicU32::new(ALL_POOLS_BYTES))
    }
}

impl Pools {
    /// Up to `wanted` bytes for a link that has `has` already: of what there is, it holds no more than is left.
    fn take(&self, wanted: u32, has: u32) -> u32 {
        let share = |free: u32| (free.saturating_sub(has) / 2).min(wanted);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| Some(free - share(free)));
        taken.map_or(0, share)
    }

    fn give_back(&self, bytes: u32) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What the windows of a link's connections may hold beyond the smallest.
#[derive(Debug)]
pub(super) struct Pool {
    free: AtomicU32,
    all: Arc<Pools>,
}

impl Pool {
    /// That of one more link.
    pub(super) fn of(all: &Arc<Pools>) -> Self {
        Self { free: AtomicU32::new(POOL_BYTES), all: Arc::clone(all) }
    }

    /// Up to `wanted` bytes for one that holds `has` already.
    fn take(&self, wanted: u32, has: u32) -> u32 {
        let share = |free: u32| (free / SHARE).saturating_sub(has).min(wanted);
        let taken = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| Some(free - share(free)));
        let Ok(before) = taken else { return 0 };
        let share = share(before);
        let granted = self.all.take(share, POOL_BYTES - before);
        self.free.fetch_add(share - granted, Ordering::Relaxed);
        granted
    }

    fn give_back(&self, bytes: u32) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
        self.all.give_back(bytes);
    }
}

/// The window of one connection. What the peer may still send, what it has sent and nobody has taken, and
/// what was taken and not told, are together its size.
#[derive(Debug)]
pub(super) struct Window<'a> {
    pool: &'a Pool,
    size: u32,
    /// What the peer may still send.
    open: u32,
    /// What it has sent and was not taken.
    held: u32,
    /// What was taken since the window has grown, and since when.
    used: u32,
    since: Instant,
}

impl<'a> Window<'a> {
    pub(super) fn new(pool: &'a Pool, now: Instant) -> Self {
        let size = WINDOW_BYTES_MIN;
        Self { pool, size, open: size, held: 0, used: 0, since: now }
    }

    /// The peer has sent so many bytes.
    pub(super) fn received(&mut self, bytes: usize) -> Result<(), Malformed> {
        let bytes = u32::try_from(bytes).map_err(|_| Malformed)?;
        self.open = self.open.checked_sub(bytes).ok_or(Malformed)?;
        self.held += bytes;
        Ok(())
    }

    /// The peer gives so many bytes of credit back: never of the smallest window.
    pub(super) fn returned(&mut self, bytes: u32) -> Result<(), Malformed> {
        if bytes > self.open || bytes > self.size - WINDOW_BYTES_MIN {
            return Err(Malformed);
        }
        self.open -= bytes;
        self.size -= bytes;
        self.pool.give_back(bytes);
        Ok(())
    }

    /// The reader has taken so many of the bytes that are held. The answer is the credit to tell the peer,
    /// if it is time for that.
    pub(super) fn taken(
        &mut self,
        bytes: usize,
        now: Instant,
        round_trip: impl FnOnce() -> Duration,
    ) -> Option<u32> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.held);
        self.held -= bytes;
        self.used += bytes;
        if self.used >= self.size {
            self.used = 0;
            let took = now.saturating_duration_since(std::mem::replace(&mut self.since, now));
            if took <= ROUND_TRIPS * round_trip().max(ROUND_TRIP_MIN) {
                let wanted = self.size.min(WINDOW_BYTES_MAX - self.size);
                self.size += self.pool.take(wanted, self.size - WINDOW_BYTES_MIN);
            }
        }
        let credit = self.size - self.open - self.held;
        let is_time = credit >= self.size / TOLD_PART;
        is_time.then(|| {
            self.open += credit;
            credit
        })
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.pool.give_back(self.size - WINDOW_BYTES_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(50);

    /// A sender that uses all credit, and a reader that takes all at once, every so often.
    fn run(window: &mut Window<'_>, start: Instant, every: Duration, times: u32) -> u32 {
        let mut credit = window.open;
        for time in 1..=times {
            window.received(credit as usize).unwrap();
            let told = window.taken(credit as usize, start + every * time, || ROUND_TRIP);
            credit = told.expect("all was taken");
        }
        credit
    }

    #[test]
    fn the_window_of_a_quick_reader_grows_and_that_of_a_slow_one_stays() {
        let (pool, now) = (Pool::of(&Arc::default()), Instant::now());
        let mut quick = Window::new(&pool, now);
        assert_eq!(run(&mut quick, now, ROUND_TRIP, 10), WINDOW_BYTES_MAX);
        let mut slow = Window::new(&pool, now);
        assert_eq!(run(&mut slow, now, ROUND_TRIP * 3, 100), WINDOW_BYTES_MIN);
    }

    #[test]
    fn more_than_the_credit_breaks_the_rules() {
        let (pool, now) = (Pool::of(&Arc::default()), Instant::now());
        let mut window = Window::new(&pool, now);
        window.received(WINDOW_BYTES_MIN as usize).unwrap();
        assert_eq!(window.received(1), Err(Malformed));
        assert_eq!(window.taken(100, now, || ROUND_TRIP), None, "too little to tell");
        assert_eq!(window.received(1), Err(Malformed), "what was not told does not count");
    }

    #[test]
    fn credit_comes_back_to_the_pool_when_it_is_returned_and_when_the_connection_ends() {
        let (pool, now) = (Pool::of(&Arc::default()), Instant::now());
        let mut window = Window::new(&pool, now);
        assert_eq!(window.returned(1), Err(Malformed), "the smallest window stays");
        run(&mut window, now, ROUND_TRIP, 10);
        let more = WINDOW_BYTES_MAX - WINDOW_BYTES_MIN;
        assert_eq!(pool.free.load(Ordering::Relaxed), POOL_BYTES - more);
        window.returned(more).unwrap();
        assert_eq!(pool.free.load(Ordering::Relaxed), POOL_BYTES);
        assert_eq!(window.open, WINDOW_BYTES_MIN);
        run(&mut window, now, ROUND_TRIP, 3);
        assert!(pool.free.load(Ordering::Relaxed) < POOL_BYTES);
        drop(window);
        assert_eq!(pool.free.load(Ordering::Relaxed), POOL_BYTES);
    }

    #[test]
    fn a_link_that_holds_all_it_gets_leaves_a_share_to_the_next_ones() {
        let (all, now) = (Arc::<Pools>::default(), Instant::now());
        let pools: Vec<Pool> = (0..4).map(|_| Pool::of(&all)).collect();
        let mut held = Vec::new();
        for pool in &pools {
            let mut windows: Vec<_> = (0..500).map(|_| Window::new(pool, now)).collect();
            for window in &mut windows {
                run(window, now, ROUND_TRIP, 12);
            }
            held.push(windows);
        }
        let of_link = |windows: &Vec<Window<'_>>| -> u32 {
            windows.iter().map(|window| window.size - WINDOW_BYTES_MIN).sum()
        };
        let shares: Vec<u32> = held.iter().map(of_link).collect();
        assert!(shares[0] > POOL_BYTES / 2 && shares[3] > WINDOW_BYTES_MAX, "{shares:?}");
        drop(held);
        assert_eq!(all.0.load(Ordering::Relaxed), ALL_POOLS_BYTES);
    }

    #[test]
    fn those_that_come_later_find_a_share_however_many_hold_all_they_got() {
        let (pool, now) = (Pool::of(&Arc::default()), Instant::now());
        let mut all: Vec<Window<'_>> = (0..1024).map(|_| Window::new(&pool, now)).collect();
        let sizes: Vec<u32> =
            all.iter_mut().map(|window| run(window, now, ROUND_TRIP, 12)).collect();
        assert_eq!(sizes[0], WINDOW_BYTES_MAX);
        assert!(sizes.is_sorted_by(|earlier, later| earlier >= later));
        assert!(sizes[64] > 8 * WINDOW_BYTES_MIN, "{}", sizes[64]);
        let beyond: u32 = sizes.iter().map(|size| size - WINDOW_BYTES_MIN).sum();
        assert!(beyond <= POOL_BYTES);
    }
}
