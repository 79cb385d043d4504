//! What was measured, for people and as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::{Outcome, Settings};

/// Times until the first byte of a connection was back.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct FirstBytes {
    connections: usize,
    p50_ms: f64,
    p99_ms: f64,
    p50_round_trips: f64,
    p99_round_trips: f64,
}

impl FirstBytes {
    pub(crate) fn of(outcomes: &[Outcome], round_trip: Duration) -> Self {
        let mut times: Vec<Duration> = outcomes.iter().filter_map(|it| it.first_byte).collect();
        times.sort();
        let part = |percent: usize| {
            let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(at).copied().unwrap_or_default()
        };
        let (p50, p99) = (part(50), part(99));
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let in_round_trips = |time: Duration| {
            if round_trip.is_zero() { 0.0 } else { time.as_secs_f64() / round_trip.as_secs_f64() }
        };
        Self {
            connections: times.len(),
            p50_ms: ms(p50),
            p99_ms: ms(p99),
            p50_round_trips: in_round_trips(p50),
            p99_round_trips: in_round_trips(p99),
        }
    }
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, p50_ms, p99_ms, p50_round_trips, p99_round_trips } = self;
        write!(
            f,
            "p50 {p50_ms:.1} ms ({p50_round_trips:.2} round trips), p99 {p99_ms:.1} ms \
             ({p99_round_trips:.2}), of {connections}"
        )
    }
}

/// All figures.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    connections: usize,
    loss: f64,
    round_trip_ms: f64,
    /// Sent by the clients, and as many back.
    bytes: usize,
    bytes_right: usize,
    bytes_wrong: usize,
    bytes_missing: usize,
    /// Connections that the other side did not make, and of them those beyond its limit.
    pub(crate) refused: u64,
    pub(crate) turned_away: u64,
    /// Connections that were reset.
    pub(crate) broken: u64,
    seconds: f64,
    /// Of each direction.
    mbit_per_second: f64,
    /// With nothing else on the link.
    pub(crate) first_byte_alone: FirstBytes,
    /// Of the connections that are opened all at once.
    pub(crate) first_byte_of_all_at_once: FirstBytes,
    /// Of single ones that come while those are under way.
    pub(crate) first_byte_beside_them: FirstBytes,
    /// Packets of the side that listens.
    pub(crate) lost_packets: u64,
}

impl Report {
    pub(crate) fn of(settings: &Settings, outcomes: &[Outcome], took: Duration) -> Self {
        let sum = |part: fn(&Outcome) -> usize| outcomes.iter().map(part).sum();
        let bytes = settings.connections * settings.kib * 1024;
        Self {
            connections: settings.connections,
            loss: settings.loss,
            round_trip_ms: settings.round_trip().as_secs_f64() * 1000.0,
            bytes,
            bytes_right: sum(|it| it.right),
            bytes_wrong: sum(|it| it.wrong),
            bytes_missing: sum(|it| it.missing),
            seconds: took.as_secs_f64(),
            mbit_per_second: bytes as f64 * 8.0 / 1e6 / took.as_secs_f64(),
            ..Self::default()
        }
    }

    /// Whether every byte came back.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes_right == self.bytes && self.broken == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} connections at once, {:.1} % of the packets lost, round trip {:.0} ms",
            self.connections,
            self.loss * 100.0,
            self.round_trip_ms
        )?;
        writeln!(
            f,
            "bytes:      {} each way; {} wrong, {} missing; {} connections refused, {} \
             turned away, {} broken",
            self.bytes,
            self.bytes_wrong,
            self.bytes_missing,
            self.refused,
            self.turned_away,
            self.broken
        )?;
        writeln!(
            f,
            "throughput: {:.1} Mbit/s each way, {:.1} s, {} packets lost",
            self.mbit_per_second, self.seconds, self.lost_packets
        )?;
        writeln!(f, "first byte back, nothing else on the link: {}", self.first_byte_alone)?;
        writeln!(
            f,
            "first byte back, all at once:              {}",
            self.first_byte_of_all_at_once
        )?;
        write!(f, "first byte back, a new one beside them:    {}", self.first_byte_beside_them)
    }
}
