//! How much may be relayed: rates and quotas, without a clock of their own.

use std::time::{Duration, Instant};

use holepunch_wire::address::{SHARES_OF_SITE, Site, Source};
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

impl Payer {
    /// The site of an IPv6 network, which may have others.
    fn site(self) -> Option<Site> {
        self.source.filter(|source| source.has_neighbours()).map(Source::site)
    }
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
    #[error("this relay has as many connections as it takes; try again later")]
    Full,
    #[error("too many relay connections from this address")]
    ShareOfAddress,
    #[error("too many relay connections from this IPv6 site (/48)")]
    ShareOfSite,
    #[error("this address has used up what may be relayed for it in a day; try again later")]
    QuotaOfAddress,
    #[error("this session has used up what may be relayed for it")]
    QuotaOfSession,
    #[error("this session has ended")]
    Ended,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Session,
    Address,
    Site,
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

fn quota_of_site(quota: u64) -> u64 {
    quota.saturating_mul(SHARES_OF_SITE.into())
}

/// Takes bytes off a day's quota. Whether there is none left.
fn is_used_up(account: &mut Account, quota: Option<u64>, bytes: usize, now: Instant) -> bool {
    let of_day = quota.map(Flow::quota);
    of_day.is_some_and(|flow| flow.take(&mut account.quota_until, bytes, now).is_some())
}

/// All budgets of a relay.
#[derive(Debug)]
pub(super) struct Budgets {
    limits: RelayLimits,
    sessions: Accounts<SessionId, Account>,
    sources: Accounts<Source, Account>,
    sites: Accounts<Site, Account>,
    total_until: Option<Instant>,
    connections: usize,
}

impl Budgets {
    pub(super) fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            sessions: Accounts::new(ACCOUNTS_MAX),
            sources: Accounts::new(ACCOUNTS_MAX),
            sites: Accounts::new(ACCOUNTS_MAX),
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
            self.admit(source, payer.site(), now)?;
            self.sources.hold(source, now);
        }
        if let Some(site) = payer.site() {
            self.sites.hold(site, now);
        }
        self.sessions.hold(payer.session, now);
        self.connections += 1;
        Ok(())
    }

    /// Whether one more connection may come from there.
    fn admit(&self, source: Source, site: Option<Site>, now: Instant) -> Result<(), Refusal> {
        let share = (self.limits.connections_max / SHARE_OF_ADDRESS).max(2);
        if self.sources.holders(&source) >= share {
            return Err(Refusal::ShareOfAddress);
        }
        let share_of_site = share * SHARES_OF_SITE as usize;
        if site.is_some_and(|site| self.sites.holders(&site) >= share_of_site) {
            return Err(Refusal::ShareOfSite);
        }
        let quota = self.limits.quota_per_ip;
        let of_site = quota.map(quota_of_site);
        let has_left = |quota: Option<u64>, account: Option<&Account>| {
            let used_until = account.and_then(|account| account.quota_until);
            let flow = quota.map(Flow::quota).filter(|_| used_until.is_some());
            flow.is_none_or(|flow| flow.has_left(used_until, QUOTA_PAUSE, now))
        };
        let has_left = has_left(quota, self.sources.find(&source))
            && has_left(of_site, site.and_then(|site| self.sites.find(&site)));
        if has_left { Ok(()) } else { Err(Refusal::QuotaOfAddress) }
    }

    pub(super) fn leave(&mut self, payer: Payer, now: Instant) {
        self.sessions.release(payer.session, now);
        if let Some(source) = payer.source {
            self.sources.release(source, now);
        }
        if let Some(site) = payer.site() {
            self.sites.release(site, now);
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
            if is_used_up(account, quota_per_ip, bytes, now) {
                return Verdict::Over(Bound::Address);
            }
            let rate = rate_per_ip.map(Flow::rate);
            slow(rate.and_then(|it| it.take(&mut account.rate_until, bytes, now)), Bound::Address);
        }
        let site = payer.site().and_then(|site| self.sites.find_mut(&site));
        if site.is_some_and(|it| is_used_up(it, quota_per_ip.map(quota_of_site), bytes, now)) {
            return Verdict::Over(Bound::Site);
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
mod tests;
