//! Whether a path carries data: what is sent on it is acknowledged.
//!
//! Checks are small, and may pass where data does not: the path takes small packets only, or loses what the
//! system's segmentation offload makes. So the measure of a path is what QUIC has acknowledged on it.

use std::time::{Duration, Instant};

use crate::doors::Counts;

/// Data may be under way and nothing at all come back for so long, and for some round trips, before the path is asked by a check: the
/// peer acknowledges within 25 ms (RFC 9000 §18.2), and a busy machine needs its time.
const DOUBT_AFTER: (Duration, u32) = (Duration::from_millis(100), 3);
/// Then its packets leave one by one: by now a check tells whether the path is there at all, and two timeouts of QUIC have
/// tried again.
const UNBATCH_AFTER: (Duration, u32) = (Duration::from_millis(400), 5);
/// Then it is narrow. Another two timeouts of QUIC have passed, whose probes are as small as QUIC's packets may be.
const NARROW_AFTER: (Duration, u32) = (Duration::from_millis(1200), 9);
/// While data is under way, this often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After a doubt, before the next: the question has its time.
const DOUBT_AGAIN_AFTER: Duration = Duration::from_millis(500);

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
    acked_bytes: u64,
    received_datagrams: u64,
    silent_since: Option<Instant>,
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
        let has_moved =
            std::mem::replace(&mut self.acked_bytes, sample.acked_bytes) != sample.acked_bytes;
        let has_heard = std::mem::replace(&mut self.received_datagrams, sample.received_datagrams)
            != sample.received_datagrams;
        let is_idle = sample.in_flight_bytes == 0;
        self.look_at = (!is_idle).then(|| now + LOOK_EVERY);
        if is_idle || has_moved || has_heard {
            self.silent_since = None;
        }
        let silent_for = now.saturating_duration_since(*self.silent_since.get_or_insert(now));
        if is_idle || has_moved {
            (self.stalled_since, self.doubt_at, self.found) = (None, None, None);
            return None;
        }
        let stalled_for = now.saturating_duration_since(*self.stalled_since.get_or_insert(now));
        let is_over = |waited: Duration, (least, round_trips): (Duration, u32)| {
            waited >= least.max(sample.rtt * round_trips)
        };
        let next = match self.found {
            None => Some((UNBATCH_AFTER, Finding::Unbatch)),
            Some(Finding::Unbatch) => Some((NARROW_AFTER, Finding::Narrow)),
            Some(Finding::Narrow | Finding::Doubt) => None,
        };
        if let Some((_, finding)) = next.filter(|(after, _)| is_over(stalled_for, *after)) {
            self.found = Some(finding);
            return Some(finding);
        }
        let is_doubtful =
            is_over(silent_for, DOUBT_AFTER) && self.doubt_at.is_none_or(|at| at <= now);
        is_doubtful.then(|| {
            self.doubt_at = Some(now + DOUBT_AGAIN_AFTER);
            Finding::Doubt
        })
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
        assert_eq!(found[0], (Finding::Doubt, 600));
        assert_eq!(found[1], (Finding::Unbatch, 1000));
        assert_eq!(found.last(), Some(&(Finding::Narrow, 1800)));
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
        assert_eq!(progress.look(&sample(8, 1), at(5020)), None);
        assert_eq!(progress.look(&sample(8, 1), at(5120)), Some(Finding::Doubt));
        assert_eq!(progress.look(&sample(8, 0), at(9000)), None);
        assert_eq!(progress.look_at(), None, "nothing is under way");
    }
}
