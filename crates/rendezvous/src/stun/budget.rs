//! How much STUN answers, and to whom. Whoever writes somebody else's address on his requests has the answers
//! sent there, and they are up to 4.2 times as long (6.6 times by IPv6): it must not be worth his while. Nor must
//! he be able to use up what somebody else is answered, by a few requests in his name.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::Source;
use holepunch_wire::rate::{Bucket, Rate};
use holepunch_wire::shares::SourceRates;

/// Clients whose use of a rate is known, likewise sites. One is forgotten once it has its whole burst again, so that the rate
/// of all keeps each table below this by itself.
const KNOWN_MAX: usize = 65_536;
const SECOND: Duration = Duration::from_secs(1);

/// Whole answers to one address in a second, and at once. As many workers as may be registered from one
/// address refresh their mappings with 1,100 requests a second; 1,300 of them may start at once, each with the
/// 15 questions of its profile; the search of one worker asks a few hundred. To somebody who has not asked it
/// is 2 Mbit/s.
const WHOLE: Rate = Rate { count: 2_000, per: SECOND, burst: 20_000 };
/// Beyond these, answers with the mapped address alone: 1.6 times as long as their question (2.2 times by
/// IPv6), and 1.25 and 1.35 times with the headers of the packets. So whoever sends requests in the name of a
/// NAT needs 8 Mbit/s to keep those behind it from learning their addresses, where 1 would do without; to
/// somebody who has not asked it is 10 Mbit/s more (15 by IPv6). With the burst of [`WHOLE`], 3,000 workers behind one
/// address may start at once.
const SHORTEST: Rate = Rate { count: 20_000, per: SECOND, burst: 25_000 };
/// Answers in all, unless it is set: five times what 100,000 workers need to refresh their mappings, and at most some
/// 50 Mbit/s for whoever pays for this server.
pub const TOTAL: u64 = 50_000;
/// The shortest answers leave the last tenth of the burst of all: those who are within their share come first.
const PARTS_FOR_WHOLE: u64 = 10;
/// What was left out is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How much an answer may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// All that was asked for, and to where.
    Whole,
    /// The mapped address, to where the request came from.
    MappedAlone,
}

/// Answers that were not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shortfall {
    /// They had the mapped address alone, or nothing where that is no answer.
    pub(super) shortened: u64,
    pub(super) left_out: u64,
}

/// What may still be answered.
#[derive(Debug)]
pub(super) struct Budget {
    whole: SourceRates,
    shortest: SourceRates,
    total: Rate,
    /// The same for the shortest ones.
    of_shortest: Rate,
    used: Bucket,
    shortfall: Shortfall,
    told_at: Option<Instant>,
}

impl Budget {
    /// With so many answers a second in all; `None` is no bound.
    pub(super) fn new(answers_max: Option<u64>) -> Self {
        let count = answers_max.unwrap_or(u64::MAX);
        let total = Rate { count, per: SECOND, burst: count };
        let of_shortest = Rate { burst: count - count / PARTS_FOR_WHOLE, ..total };
        Self {
            whole: SourceRates::new(WHOLE, KNOWN_MAX),
            shortest: SourceRates::new(SHORTEST, KNOWN_MAX),
            total,
            of_shortest,
            used: Bucket::default(),
            shortfall: Shortfall::default(),
            told_at: None,
        }
    }

    /// What an answer to this address may say, if one may go there. Those to this machine itself count in all
    /// alone.
    pub(super) fn allows(&mut self, ip: IpAddr, now: Instant) -> Option<Allowance> {
        let source = Source::of(ip);
        if self.whole.take(source, now, || self.used.take(self.total, now)) {
            Some(Allowance::Whole)
        } else if self.shortest.take(source, now, || self.used.take(self.of_shortest, now)) {
            self.shortfall.shortened += 1;
            Some(Allowance::MappedAlone)
        } else {
            self.shortfall.left_out += 1;
            None
        }
    }

    /// How many answers were not whole, when it is time to say so again.
    pub(super) fn news(&mut self, now: Instant) -> Option<Shortfall> {
        let is_time = |told: Instant| now.saturating_duration_since(told) >= TOLD_EVERY;
        if self.shortfall == Shortfall::default() || !self.told_at.is_none_or(is_time) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.shortfall))
    }
}

#[cfg(test)]
mod tests;
