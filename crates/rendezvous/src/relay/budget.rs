//! How much may be relayed: rates and quotas, without a clock of their own.

use std::time::{Duration, Instant};

use holepunch_wire::address::{SHARES_OF_SITE, Site, Source};
use holepunch_wire::rate::{Bucket, Rate};
use holepunch_wire::session::SessionId;
use holepunch_wire::shares::{Share, Standing, Table};

use super::RelayLimits;

/// A rate is kept over a tenth of a second: shorter pauses than that would be timers' noise, and the queues
/// beyond swallow what comes at once.
const RATE_BURST_PER_SECOND: u64 = 10;
/// A quota of an address comes back evenly over a day. Cost is per byte, and a day of it is what an
/// operator reckons with; an hour would cut off one large file that harms nobody. No edge of a day
/// lets twice as much pass.
const QUOTA_TIME: Duration = Duration::from_secs(24 * 3600);
/// An address that has used up its quota is let in again after this: not for a byte at a time.
const QUOTA_PAUSE: Duration = Duration::from_secs(3600);
const _: () = assert!(QUOTA_PAUSE.as_secs() < QUOTA_TIME.as_secs());
/// An address may have at most one in so many of all connections.
const SHARE_OF_ADDRESS: usize = 4;
/// Sessions and addresses that are remembered, some 100 bytes each. Those that were not used for
/// longest are forgotten first, and none that is connected.
const ACCOUNTS_MAX: usize = 65_536;

fn rate_of(bytes_per_second: u64) -> Rate {
    let burst = bytes_per_second / RATE_BURST_PER_SECOND;
    Rate { count: bytes_per_second, per: Duration::from_secs(1), burst }
}

fn quota_of(bytes_per_day: u64) -> Rate {
    Rate { count: bytes_per_day, per: QUOTA_TIME, burst: bytes_per_day }
}

/// By what a worker reaches the relay. Each has a place of its own, and what goes by either counts for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    WebSocket,
    Udp,
}

/// Who opens the relay, and of which session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payer {
    pub(super) session: SessionId,
    pub(super) source: Option<Source>,
    pub(super) way: Way,
    /// How many bytes the session may carry, as its token says.
    pub(super) quota: Option<u64>,
}

impl Payer {
    /// How many bytes the session may carry: what it says, or what all may, where that is less.
    fn quota(&self, of_all: Option<u64>) -> Option<u64> {
        self.quota.into_iter().chain(of_all).min()
    }
}

/// What a session or an address has used.
#[derive(Debug, Default)]
pub(super) struct Account {
    rate: Bucket,
    quota: Bucket,
    bytes: u64,
    /// It has been logged that its rate, or its quota, is used up.
    told: bool,
    /// By each way.
    holders: [usize; 2],
    /// Since when it has no holder.
    idle_since: Option<Instant>,
}

impl Share for Account {
    fn standing(&self) -> Standing {
        match (self.holders, self.idle_since) {
            ([0, 0], Some(at)) => Standing::Idle(at),
            ([0, 0], None) => Standing::Nothing,
            _ => Standing::Held,
        }
    }
}

impl Account {
    fn hold(&mut self, way: Way) {
        self.holders[way as usize] += 1;
    }

    /// What is not held is not known: its session has ended.
    fn release(&mut self, way: Way, now: Instant) {
        let holders = &mut self.holders[way as usize];
        if *holders > 0 {
            *holders -= 1;
            self.idle_since = Some(now);
        }
    }
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

impl Refusal {
    /// What each is called, by its number.
    pub(super) const CODES: [&str; 6] = [
        "full",
        "share_of_address",
        "share_of_site",
        "quota_of_address",
        "quota_of_session",
        "ended",
    ];
}

const _: () = assert!(Refusal::Ended as usize + 1 == Refusal::CODES.len());

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

/// Takes bytes off a day's quota. Whether there is none left.
fn is_used_up(account: &mut Account, quota: Option<Rate>, bytes: u64, now: Instant) -> bool {
    quota.is_some_and(|quota| account.quota.spend(quota, bytes, now).is_some())
}

/// All budgets of a relay.
#[derive(Debug)]
pub(super) struct Budgets {
    limits: RelayLimits,
    sessions: Table<SessionId, Account>,
    sources: Table<Source, Account>,
    sites: Table<Site, Account>,
    total: Bucket,
    connections: [usize; 2],
}

impl Budgets {
    pub(super) fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            sessions: Table::bounded(ACCOUNTS_MAX),
            sources: Table::bounded(ACCOUNTS_MAX),
            sites: Table::bounded(ACCOUNTS_MAX),
            total: Bucket::default(),
            connections: [0; 2],
        }
    }

    /// Takes a connection in; [`leave`](Self::leave) gives its place back.
    pub(super) fn enter(&mut self, payer: Payer, now: Instant) -> Result<(), Refusal> {
        let way = payer.way;
        if self.connections[way as usize] >= self.limits.connections_max {
            return Err(Refusal::Full);
        }
        let session = self.sessions.find(&payer.session);
        if session
            .zip(payer.quota(self.limits.quota))
            .is_some_and(|(session, quota)| session.bytes > quota)
        {
            return Err(Refusal::QuotaOfSession);
        }
        if let Some(source) = payer.source {
            self.admit(source, way, now)?;
            self.sources.change(source, |it| it.hold(way));
        }
        if let Some(site) = payer.source.and_then(Source::shared_site) {
            self.sites.change(site, |it| it.hold(way));
        }
        self.sessions.change(payer.session, |it| it.hold(way));
        self.connections[way as usize] += 1;
        Ok(())
    }

    /// Ends that are open, whichever way they go.
    pub(super) fn connections(&self) -> usize {
        self.connections.iter().sum()
    }

    /// Whether one more connection may come from there.
    fn admit(&self, source: Source, way: Way, now: Instant) -> Result<(), Refusal> {
        let share = (self.limits.connections_max / SHARE_OF_ADDRESS).max(2);
        let of_source = self.sources.find(&source);
        let of_site = source.shared_site().and_then(|site| self.sites.find(&site));
        if of_source.is_some_and(|it| it.holders[way as usize] >= share) {
            return Err(Refusal::ShareOfAddress);
        }
        if of_site.is_some_and(|it| it.holders[way as usize] >= share * SHARES_OF_SITE as usize) {
            return Err(Refusal::ShareOfSite);
        }
        let Some(quota) = self.limits.quota_per_ip.map(quota_of) else { return Ok(()) };
        let pause = quota.count / (QUOTA_TIME.as_secs() / QUOTA_PAUSE.as_secs());
        let has_left = |account: Option<&Account>, users: u32| {
            let (quota, pause) = (quota.times(users.into()), pause * u64::from(users));
            account.is_none_or(|it| it.quota.has(quota, pause, now))
        };
        let has_left = has_left(of_source, 1) && has_left(of_site, SHARES_OF_SITE);
        if has_left { Ok(()) } else { Err(Refusal::QuotaOfAddress) }
    }

    pub(super) fn leave(&mut self, payer: Payer, now: Instant) {
        self.sessions.change(payer.session, |it| it.release(payer.way, now));
        if let Some(source) = payer.source {
            self.sources.change(source, |it| it.release(payer.way, now));
        }
        if let Some(site) = payer.source.and_then(Source::shared_site) {
            self.sites.change(site, |it| it.release(payer.way, now));
        }
        let connections = &mut self.connections[payer.way as usize];
        *connections = connections.saturating_sub(1);
    }

    /// A session is over: nothing of it has to be known any more.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Counts bytes that a worker has sent. They are counted once they are here, so that a frame that is
    /// longer than what is left passes, and is waited for afterwards.
    pub(super) fn spend(&mut self, payer: Payer, bytes: usize, now: Instant) -> Verdict {
        let RelayLimits { rate, quota, rate_per_ip, quota_per_ip, rate_total, .. } = self.limits;
        let (quota_per_ip, bytes) = (quota_per_ip.map(quota_of), bytes as u64);
        let quota = payer.quota(quota);
        let mut latest: Option<(Instant, Bound)> = None;
        let mut slow = |used: &mut Bucket, rate: Option<u64>, bound| {
            let until = rate.and_then(|rate| used.spend(rate_of(rate), bytes, now));
            if let Some(until) = until.filter(|it| latest.is_none_or(|(at, _)| *it > at)) {
                latest = Some((until, bound));
            }
        };
        if let Some(source) = payer.source {
            let is_over = self.sources.change(source, |account| {
                let is_over = is_used_up(account, quota_per_ip, bytes, now);
                if !is_over {
                    slow(&mut account.rate, rate_per_ip, Bound::Address);
                }
                is_over
            });
            if is_over {
                return Verdict::Over(Bound::Address);
            }
        }
        if let Some(site) = payer.source.and_then(Source::shared_site) {
            let quota = quota_per_ip.map(|quota| quota.times(SHARES_OF_SITE.into()));
            if self.sites.change(site, |account| is_used_up(account, quota, bytes, now)) {
                return Verdict::Over(Bound::Site);
            }
        }
        slow(&mut self.total, rate_total, Bound::Total);
        let is_over = self.sessions.change(payer.session, |account| {
            account.bytes = account.bytes.saturating_add(bytes);
            let is_over = quota.is_some_and(|quota| account.bytes > quota);
            if !is_over {
                slow(&mut account.rate, rate, Bound::Session);
            }
            is_over
        });
        if is_over {
            return Verdict::Over(Bound::Session);
        }
        let Some((until, bound)) = latest else { return Verdict::Within };
        let tell = |account: &mut Account| !std::mem::replace(&mut account.told, true);
        Verdict::Slow(until, bound, self.sessions.change(payer.session, tell))
    }
}

#[cfg(test)]
mod tests;
