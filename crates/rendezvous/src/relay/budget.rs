//! How much may be relayed: rates and quotas, without a clock of their own.

use std::time::{Duration, Instant};

use holepunch_wire::address::Source;
use holepunch_wire::session::SessionId;

use super::RelayLimits;
use super::accounts::Accounts;

/// A rate is kept over such a time: shorter pauses than that would be timers' noise, and the queues
/// beyond swallow what comes at once.
const RATE_BURST: Duration = Duration::from_millis(100);
/// A quota of an address comes back evenly over a day. Cost is per byte, and a day of it is what an
/// operator reckons with; an hour would cut off one large file that harms nobody. No edge of a day
/// lets twice as much pass.
const QUOTA_TIME: Duration = Duration::from_secs(24 * 3600);
/// An address that has used up its quota is let in again after this: not for a byte at a time.
const QUOTA_PAUSE: Duration = Duration::from_secs(3600);
/// An address may have at most one in so many of all connections.
const SHARE_OF_ADDRESS: usize = 4;
/// Sessions and addresses that are remembered, some 100 bytes each. Those that were not used for
/// longest are forgotten first, and none that is connected.
const ACCOUNTS_MAX: usize = 65_536;

/// A flow of so many bytes in some time, as the moment up to which it is used up (the generic cell rate
/// algorithm, ITU-T I.371).
#[derive(Debug, Clone, Copy)]
struct Flow {
    bytes: u64,
    time: Duration,
    /// How far ahead of the clock it may be.
    burst: Duration,
}

impl Flow {
    fn rate(bytes_per_second: u64) -> Self {
        Self { bytes: bytes_per_second, time: Duration::from_secs(1), burst: RATE_BURST }
    }

    fn quota(bytes_per_day: u64) -> Self {
        Self { bytes: bytes_per_day, time: QUOTA_TIME, burst: QUOTA_TIME }
    }

    /// Takes bytes off: when the flow has them, if that is later than now.
    fn take(self, used_until: &mut Option<Instant>, bytes: usize, now: Instant) -> Option<Instant> {
        let nanos = (bytes as u128 * self.time.as_nanos()).div_ceil(u128::from(self.bytes.max(1)));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = used_until.map_or(now, |until| until.max(now));
        // What lies beyond all time is never had: as good as the end of the longest quota.
        let until = from.checked_add(cost).unwrap_or(from + QUOTA_TIME);
        *used_until = Some(until);
        until.checked_sub(self.burst).filter(|at| *at > now)
    }

    /// Whether so much of its burst is left.
    fn has_left(self, used_until: Option<Instant>, left: Duration, now: Instant) -> bool {
        used_until.is_none_or(|until| until + left <= now + self.burst)
    }
}

/// Who opens the relay, and of which session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payer {
    pub(super) session: SessionId,
    pub(super) source: Option<Source>,
}

/// What a session or an address has used.
#[derive(Debug, Default)]
pub(super) struct Account {
    rate_until: Option<Instant>,
    quota_until: Option<Instant>,
    bytes: u64,
    /// It has been logged that its rate, or its quota, is used up.
    told: bool,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this rendezvous relays as many connections as it takes; try again later")]
    Full,
    #[error("too many relay connections from this address")]
    ShareOfAddress,
    #[error("this address has used up what may be relayed for it in a day; try again later")]
    QuotaOfAddress,
    #[error("this session has used up what may be relayed for it")]
    QuotaOfSession,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Session,
    Address,
    Total,
}

/// What follows from bytes that have come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Within,
    /// Nothing more is read before this; and whether that is new of this session.
    Slow(Instant, Bound, bool),
    /// The quota is used up.
    Over(Bound),
}

/// All budgets of a relay.
#[derive(Debug)]
pub(super) struct Budgets {
    limits: RelayLimits,
    sessions: Accounts<SessionId, Account>,
    sources: Accounts<Source, Account>,
    total_until: Option<Instant>,
    connections: usize,
}

impl Budgets {
    pub(super) fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            sessions: Accounts::new(ACCOUNTS_MAX),
            sources: Accounts::new(ACCOUNTS_MAX),
            total_until: None,
            connections: 0,
        }
    }

    /// Takes a connection in; [`leave`](Self::leave) gives its place back.
    pub(super) fn enter(&mut self, payer: Payer, now: Instant) -> Result<(), Refusal> {
        if self.connections >= self.limits.connections_max {
            return Err(Refusal::Full);
        }
        let session = self.sessions.find(&payer.session);
        if session.zip(self.limits.quota).is_some_and(|(session, quota)| session.bytes > quota) {
            return Err(Refusal::QuotaOfSession);
        }
        if let Some(source) = payer.source {
            self.admit(source, now)?;
            self.sources.hold(source, now);
        }
        self.sessions.hold(payer.session, now);
        self.connections += 1;
        Ok(())
    }

    /// Whether one more connection may come from there.
    fn admit(&self, source: Source, now: Instant) -> Result<(), Refusal> {
        let share = (self.limits.connections_max / SHARE_OF_ADDRESS).max(2);
        if self.sources.holders(&source) >= share {
            return Err(Refusal::ShareOfAddress);
        }
        let used_until = self.sources.find(&source).and_then(|source| source.quota_until);
        let quota = self.limits.quota_per_ip.map(Flow::quota).filter(|_| used_until.is_some());
        if quota.is_some_and(|quota| !quota.has_left(used_until, QUOTA_PAUSE, now)) {
            return Err(Refusal::QuotaOfAddress);
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, payer: Payer, now: Instant) {
        self.sessions.release(payer.session, now);
        if let Some(source) = payer.source {
            self.sources.release(source, now);
        }
        self.connections = self.connections.saturating_sub(1);
    }

    /// A session is over: nothing of it has to be known any more.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Counts bytes that a worker has sent. They are counted once they are here, so that a frame that is
    /// longer than what is left passes, and is waited for afterwards.
    pub(super) fn spend(&mut self, payer: Payer, bytes: usize, now: Instant) -> Verdict {
        let RelayLimits { rate, quota, rate_per_ip, quota_per_ip, rate_total, .. } = self.limits;
        let mut latest: Option<(Instant, Bound)> = None;
        let mut slow = |until: Option<Instant>, bound| {
            if let Some(until) = until.filter(|it| latest.is_none_or(|(at, _)| *it > at)) {
                latest = Some((until, bound));
            }
        };
        let mut is_news = false;
        if let Some(account) = payer.source.and_then(|it| self.sources.find_mut(&it)) {
            let of_day = quota_per_ip.map(Flow::quota);
            if of_day.is_some_and(|flow| flow.take(&mut account.quota_until, bytes, now).is_some())
            {
                return Verdict::Over(Bound::Address);
            }
            let rate = rate_per_ip.map(Flow::rate);
            slow(rate.and_then(|it| it.take(&mut account.rate_until, bytes, now)), Bound::Address);
        }
        let total = rate_total.map(Flow::rate);
        slow(total.and_then(|it| it.take(&mut self.total_until, bytes, now)), Bound::Total);
        if let Some(account) = self.sessions.find_mut(&payer.session) {
            account.bytes = account.bytes.saturating_add(bytes as u64);
            if quota.is_some_and(|quota| account.bytes > quota) {
                return Verdict::Over(Bound::Session);
            }
            let rate = rate.map(Flow::rate);
            slow(rate.and_then(|it| it.take(&mut account.rate_until, bytes, now)), Bound::Session);
            if latest.is_some() {
                is_news = !std::mem::replace(&mut account.told, true);
            }
        }
        latest.map_or(Verdict::Within, |(until, bound)| Verdict::Slow(until, bound, is_news))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const NONE: RelayLimits = RelayLimits {
        rate: None,
        quota: None,
        rate_per_ip: None,
        quota_per_ip: None,
        rate_total: None,
        connections_max: 100,
    };

    fn payer(session: u64, host: u8) -> Payer {
        let source = Source::of(IpAddr::from([192, 0, 2, host]));
        Payer { session: SessionId(session), source }
    }

    fn entered(limits: RelayLimits, payers: &[Payer], now: Instant) -> Budgets {
        let mut budgets = Budgets::new(limits);
        payers.iter().for_each(|payer| budgets.enter(*payer, now).unwrap());
        budgets
    }

    /// Bytes that pass in a time, where each of the payers sends whenever it may.
    fn passed(budgets: &mut Budgets, payers: &[Payer], start: Instant, time: Duration) -> u64 {
        const PIECE: usize = 10_000;
        let mut next: Vec<Instant> = payers.iter().map(|_| start).collect();
        let mut bytes = 0;
        loop {
            let first = (0..next.len()).min_by_key(|index| next[*index]).unwrap();
            let now = next[first];
            if now >= start + time {
                return bytes;
            }
            bytes += PIECE as u64;
            match budgets.spend(payers[first], PIECE, now) {
                Verdict::Slow(until, ..) => next[first] = until,
                Verdict::Within => {}
                Verdict::Over(_) => return bytes,
            }
        }
    }

    #[test]
    fn without_limits_nothing_is_slowed() {
        let (start, one) = (Instant::now(), payer(1, 1));
        let mut budgets = entered(NONE, &[one], start);
        assert!((0..1000).all(|_| budgets.spend(one, 1 << 30, start) == Verdict::Within));
    }

    #[test]
    fn each_rate_is_kept_over_those_that_share_it() {
        let start = Instant::now();
        let all = [payer(1, 1), payer(2, 1), payer(3, 2)];
        for (limits, flows) in [
            (RelayLimits { rate: Some(1_000_000), ..NONE }, 3),
            (RelayLimits { rate_per_ip: Some(1_000_000), ..NONE }, 2),
            (RelayLimits { rate_total: Some(1_000_000), ..NONE }, 1),
        ] {
            let mut budgets = entered(limits, &all, start);
            let bytes = passed(&mut budgets, &all, start, Duration::from_secs(10));
            let expected = 10_000_000 * flows;
            let slack = 150_000 * flows;
            assert!((expected..=expected + slack).contains(&bytes), "{limits:?}: {bytes}");
        }
    }

    #[test]
    fn a_pause_earns_no_more_than_a_burst() {
        let (start, one) = (Instant::now(), payer(1, 1));
        let mut budgets = entered(RelayLimits { rate: Some(1_000_000), ..NONE }, &[one], start);
        let later = start + Duration::from_secs(3600);
        let bytes = passed(&mut budgets, &[one], later, Duration::from_millis(1));
        assert!(bytes <= 120_000, "{bytes}");
    }

    #[test]
    fn a_slow_session_is_told_of_once() {
        let (start, one) = (Instant::now(), payer(1, 1));
        let mut budgets = entered(RelayLimits { rate: Some(1000), ..NONE }, &[one], start);
        let told = |verdict| matches!(verdict, Verdict::Slow(_, Bound::Session, true));
        assert!(told(budgets.spend(one, 5000, start)));
        assert!(!told(budgets.spend(one, 5000, start)));
    }

    #[test]
    fn a_session_has_its_quota_whoever_sends_and_however_often_it_connects() {
        let (start, all) = (Instant::now(), [payer(1, 1), payer(1, 2)]);
        let mut budgets = entered(RelayLimits { quota: Some(1000), ..NONE }, &all, start);
        assert_eq!(budgets.spend(all[0], 600, start), Verdict::Within);
        assert_eq!(budgets.spend(all[1], 400, start), Verdict::Within);
        assert_eq!(budgets.spend(all[1], 1, start), Verdict::Over(Bound::Session));
        all.iter().for_each(|it| budgets.leave(*it, start));
        assert_eq!(budgets.enter(all[0], start), Err(Refusal::QuotaOfSession));
        assert_eq!(budgets.enter(payer(2, 1), start), Ok(()));
        budgets.forget(SessionId(1));
        assert_eq!(budgets.enter(all[0], start), Ok(()));
    }

    #[test]
    fn an_address_has_its_quota_back_after_a_while() {
        let (start, one) = (Instant::now(), payer(1, 1));
        let mut budgets =
            entered(RelayLimits { quota_per_ip: Some(24_000), ..NONE }, &[one], start);
        assert_eq!(budgets.spend(one, 24_000, start), Verdict::Within);
        assert_eq!(budgets.spend(one, 1, start), Verdict::Over(Bound::Address));
        budgets.leave(one, start);
        let minute = Duration::from_secs(60);
        assert_eq!(budgets.enter(payer(2, 1), start + 59 * minute), Err(Refusal::QuotaOfAddress));
        assert_eq!(budgets.enter(payer(2, 2), start + 59 * minute), Ok(()), "another address");
        let later = start + 61 * minute;
        assert_eq!(budgets.enter(payer(2, 1), later), Ok(()));
        assert_eq!(budgets.spend(payer(2, 1), 1000, later), Verdict::Within);
        assert_eq!(budgets.spend(payer(2, 1), 100, later), Verdict::Over(Bound::Address));
    }

    #[test]
    fn nobody_takes_all_the_places() {
        let start = Instant::now();
        let mut budgets = Budgets::new(NONE);
        let taken = (0..100).filter(|it| budgets.enter(payer(*it, 1), start).is_ok()).count();
        assert_eq!(taken, 25);
        assert_eq!(budgets.enter(payer(1, 1), start), Err(Refusal::ShareOfAddress));
        for host in 2..5 {
            (0..25).for_each(|it| budgets.enter(payer(it, host), start).unwrap());
        }
        assert_eq!(budgets.enter(payer(1, 9), start), Err(Refusal::Full));
        budgets.leave(payer(1, 2), start);
        assert_eq!(budgets.enter(payer(1, 9), start), Ok(()));
    }
}
