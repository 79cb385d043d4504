//! Whether a path carries data: what is sent on it is acknowledged.
//!
//! Checks are small, and may pass where data does not: the path takes small packets only, or loses what the
//! system's segmentation offload makes. So the measure of a path is what QUIC has acknowledged on it.

use std::time::{Duration, Instant};

use crate::doors::Counts;

/// Data may be under way and nothing at all come back for so long, and for some round trips, before the path is asked by a check: the
/// peer acknowledges within 25 ms (RFC 9000 §18.2), and a busy machine needs its time. A question costs two small packets.
const DOUBT_AFTER: (Duration, u32) = (Duration::from_millis(100), 2);
/// The same where something does come, and no progress is made: the path may carry packets one way only. What is under way may wait
/// behind a queue that it has made itself, and some of it may be lost: so it has more time.
const ONE_WAY_AFTER: (Duration, u32) = (Duration::from_millis(200), 4);
/// Then its packets leave one by one: by now a check tells whether the path is there at all, and two timeouts of QUIC have
/// tried again.
const UNBATCH_AFTER: (Duration, u32) = (Duration::from_millis(400), 5);
/// Then it is narrow. Another two timeouts of QUIC have passed, whose probes are as small as QUIC's packets may be.
const NARROW_AFTER: (Duration, u32) = (Duration::from_millis(1200), 9);
/// So many bytes are progress, or as many as are under way where those are fewer: a packet as small as a path has to take
/// (RFC 9000 §14). Smaller ones, such as QUIC's own probes, may pass where data does not, ...
const MOVED_BYTES: u64 = 1200;
/// ... and come to that many in time. So they count together only within this; a path that carries data acknowledges what is under way
/// in each round trip.
const MOVED_WITHIN: (Duration, u32) = ONE_WAY_AFTER;
/// While data is under way, this often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After a doubt, before the next: the question has its time.
const DOUBT_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Each finding comes behind the one before, on short paths and on long ones.
const fn comes_before(earlier: (Duration, u32), later: (Duration, u32)) -> bool {
    earlier.0.as_millis() < later.0.as_millis() && earlier.1 < later.1
}
const _: () = assert!(comes_before(DOUBT_AFTER, ONE_WAY_AFTER));
const _: () = assert!(comes_before(ONE_WAY_AFTER, UNBATCH_AFTER));
const _: () = assert!(comes_before(UNBATCH_AFTER, NARROW_AFTER));

/// What there is to do about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It may be gone: a check is to tell.
    Doubt,
    /// It may lose what segmentation offload makes.
    Unbatch,
    /// It carries no data.
    Narrow,
}

/// The progress of data on a path.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// What had been acknowledged when counting began, ...
    acked_bytes: u64,
    /// ... which was then.
    counting_since: Option<Instant>,
    received_datagrams: u64,
    /// Nothing has come since then.
    silent_since: Option<Instant>,
    /// No progress has been made since then.
    stalled_since: Option<Instant>,
    doubt_at: Option<Instant>,
    /// What has been found since the last progress, beside doubts.
    found: Option<Finding>,
    black_holes: u64,
    look_at: Option<Instant>,
}

impl Progress {
    /// When to look again; `None` while nothing is under way.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Something has been sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.look_at.get_or_insert(now + LOOK_EVERY);
    }

    /// QUIC does not know the path at the moment.
    pub(crate) fn missing(&mut self, now: Instant) {
        self.look_at = Some(now + LOOK_EVERY);
    }

    /// Whether long packets have turned out to arrive no more since this was asked last.
    pub(crate) fn has_black_hole(&mut self, counts: &Counts) -> bool {
        std::mem::replace(&mut self.black_holes, counts.black_holes) < counts.black_holes
    }

    /// Looks at the path.
    pub(crate) fn look(&mut self, sample: &Counts, now: Instant) -> Option<Finding> {
        let has_heard = std::mem::replace(&mut self.received_datagrams, sample.received_datagrams)
            != sample.received_datagrams;
        let is_idle = sample.in_flight_bytes == 0;
        self.look_at = (!is_idle).then(|| now + LOOK_EVERY);
        if is_idle || self.has_moved(sample) {
            let since = (!is_idle).then_some(now);
            (self.acked_bytes, self.counting_since) = (sample.acked_bytes, since);
            (self.silent_since, self.stalled_since) = (since, since);
            (self.doubt_at, self.found) = (None, None);
            return None;
        }
        self.silent_since = self.silent_since.filter(|_| !has_heard);
        let passed =
            |since: &mut Option<Instant>| now.saturating_duration_since(*since.get_or_insert(now));
        let is_over = |waited: Duration, (least, round_trips): (Duration, u32)| {
            waited >= least.max(sample.rtt * round_trips)
        };
        let silent_for = passed(&mut self.silent_since);
        let stalled_for = passed(&mut self.stalled_since);
        if is_over(passed(&mut self.counting_since), MOVED_WITHIN) {
            (self.acked_bytes, self.counting_since) = (sample.acked_bytes, Some(now));
        }
        let next = match self.found {
            None => Some((UNBATCH_AFTER, Finding::Unbatch)),
            Some(Finding::Unbatch) => Some((NARROW_AFTER, Finding::Narrow)),
            Some(Finding::Narrow | Finding::Doubt) => None,
        };
        if let Some((_, finding)) = next.filter(|(after, _)| is_over(stalled_for, *after)) {
            self.found = Some(finding);
            return Some(finding);
        }
        let is_doubtful = is_over(silent_for, DOUBT_AFTER) || is_over(stalled_for, ONE_WAY_AFTER);
        let is_due = is_doubtful && self.doubt_at.is_none_or(|at| at <= now);
        is_due.then(|| {
            self.doubt_at = Some(now + DOUBT_AGAIN_AFTER);
            Finding::Doubt
        })
    }

    fn has_moved(&self, sample: &Counts) -> bool {
        let acked_bytes = sample.acked_bytes.saturating_sub(self.acked_bytes);
        acked_bytes >= sample.in_flight_bytes.min(MOVED_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    fn sample(acked_bytes: u64, in_flight_bytes: u64) -> Counts {
        let counts = Counts { received_datagrams: 3, rtt: RTT, ..Counts::default() };
        Counts { acked_bytes, in_flight_bytes, ..counts }
    }

    /// What is found, and how many milliseconds after the start.
    fn findings(
        progress: &mut Progress,
        start: Instant,
        until_ms: u64,
        rtt: Duration,
    ) -> Vec<(Finding, u64)> {
        (0..until_ms)
            .step_by(20)
            .filter_map(|ms| {
                let sample = Counts { rtt, ..sample(7, 1) };
                progress.look(&sample, start + Duration::from_millis(ms)).map(|found| (found, ms))
            })
            .collect()
    }

    #[test]
    fn a_path_without_acknowledgements_is_asked_then_unbatched_then_narrow() {
        let (start, mut progress) = (crate::epoch(), Progress::default());
        progress.look(&sample(7, 1), start);
        let found = findings(&mut progress, start, 2500, RTT);
        let expected = [
            (Finding::Doubt, 100),
            (Finding::Unbatch, 400),
            (Finding::Doubt, 600),
            (Finding::Doubt, 1100),
            (Finding::Narrow, 1200),
            (Finding::Doubt, 1600),
            (Finding::Doubt, 2100),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_long_round_trip_gets_its_time() {
        let (start, mut progress) = (crate::epoch(), Progress::default());
        progress.look(&sample(7, 1), start);
        let found = findings(&mut progress, start, 2000, RTT * 20);
        let expected = [
            (Finding::Doubt, 400),
            (Finding::Doubt, 900),
            (Finding::Unbatch, 1000),
            (Finding::Doubt, 1400),
            (Finding::Narrow, 1800),
            (Finding::Doubt, 1900),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_path_on_which_packets_come_and_none_is_acknowledged_is_asked() {
        for (rtt, asked_ms) in [(RTT, 200), (RTT * 20, 800)] {
            let (start, mut progress) = (crate::epoch(), Progress::default());
            progress.look(&sample(7, 1), start);
            let looks = (0_u64..).map(|number| {
                let counts = sample(7, 1);
                let received_datagrams = counts.received_datagrams + number;
                let at = start + LOOK_EVERY * number as u32;
                (progress.look(&Counts { received_datagrams, rtt, ..counts }, at), at - start)
            });
            let (found, after) = looks.take(100).find(|(found, _)| found.is_some()).unwrap();
            assert_eq!((found, after.as_millis()), (Some(Finding::Doubt), asked_ms));
        }
    }

    #[test]
    fn small_packets_that_pass_are_no_progress_of_the_data_that_does_not() {
        let (start, mut progress) = (crate::epoch(), Progress::default());
        let at = |look: u32| start + LOOK_EVERY * look;
        progress.look(&sample(9_000, 50_000), start);
        // 60 bytes in 40 ms come to 1,200 before the path would be narrow.
        let probed = |look: u32| sample(9_000 + u64::from(look / 2) * 60, 50_000);
        let found = (0..100).filter_map(|look| {
            let found = progress.look(&probed(look), at(look))?;
            (found != Finding::Doubt).then_some((found, (at(look) - start).as_millis()))
        });
        assert_eq!(found.collect::<Vec<_>>(), [(Finding::Unbatch, 400), (Finding::Narrow, 1200)]);
    }

    #[test]
    fn a_slow_path_makes_progress() {
        let (start, mut progress) = (crate::epoch(), Progress::default());
        // A packet of 1,200 bytes in 120 ms, with a queue of five.
        let rtt = Duration::from_millis(600);
        for look in 0_u32..500 {
            let sample = Counts { rtt, ..sample(u64::from(look / 6) * 1200, 6000) };
            assert_eq!(progress.look(&sample, start + LOOK_EVERY * look), None, "{look}");
        }
    }

    #[test]
    fn a_trickle_is_progress_whatever_its_packets_are() {
        let (start, mut progress) = (crate::epoch(), Progress::default());
        for look in 0_u32..500 {
            // A packet of 40 bytes in 100 ms: the one before is acknowledged when the next one is under way.
            let sample = sample(u64::from(look / 5) * 40, 40);
            assert_eq!(progress.look(&sample, start + LOOK_EVERY * look), None, "{look}");
        }
    }

    #[test]
    fn progress_and_silence_begin_anew() {
        let (start, mut progress) = (crate::epoch(), Progress::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(progress.look_at(), None);
        progress.sent(start);
        assert_eq!(progress.look_at(), Some(start + LOOK_EVERY));
        progress.look(&sample(7, 1), start);
        assert_eq!(progress.look(&sample(8, 1), at(5000)), None, "an acknowledgement has come");
        assert_eq!(progress.look(&sample(8, 1), at(5080)), None);
        assert_eq!(progress.look(&sample(8, 1), at(5100)), Some(Finding::Doubt));
        assert_eq!(progress.look(&sample(8, 0), at(9000)), None);
        assert_eq!(progress.look_at(), None, "nothing is under way");
    }
}
