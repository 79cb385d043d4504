//! What fails, and when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The direct route loses everything.
    Direct,
    /// The relay carries nothing.
    Relay,
    /// Both.
    Both,
    /// The direct route loses what this side (0 or 1) sends.
    OneWay(usize),
    /// The direct route loses datagrams that are longer than this.
    Narrow(usize),
    /// The direct route loses what segmentation offload makes.
    Batches,
}

/// A fault for a time.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// What is wrong.
    pub fault: Fault,
    /// From then on.
    pub from: Duration,
    /// Until then.
    pub to: Duration,
}

impl Outage {
    pub(crate) fn is_at(&self, now: Duration) -> bool {
        (self.from..self.to).contains(&now)
    }

    /// Whether the direct route, and the relay, carry a link meanwhile.
    pub(crate) fn leaves(&self) -> [bool; 2] {
        match self.fault {
            Fault::Direct | Fault::OneWay(_) | Fault::Narrow(_) => [false, true],
            Fault::Relay => [true, false],
            Fault::Both => [false, false],
            // Datagrams that leave one by one pass.
            Fault::Batches => [true, true],
        }
    }
}

/// What the link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// The side that connected sends all that is taken.
    Bulk,
    /// Both send a little, often.
    Trickle,
    /// Both send a little in turn, the side that connected first: each waits for what the other one says.
    Talk,
}

/// The kinds of scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Both routes are gone, and come back together.
    Both,
    /// The direct route is gone, then the relay, and the direct one is back.
    OneAfterTheOther,
    /// The direct route is gone, and in the middle of that both are.
    OneWithinTheOther,
    /// The direct route is gone.
    Direct,
    /// The direct route comes and goes.
    Again,
    /// The direct route carries nothing one way.
    OneWay,
    /// The direct route carries small packets alone.
    Narrow,
    /// The direct route loses what segmentation offload makes.
    Batches,
    /// There is no relay, and the direct route is gone.
    NoRelay,
    /// The direct route is gone just behind the handshake: [`Scenario::early`].
    Early,
    /// The relay is gone just behind the handshake, which went by it: [`Scenario::dead_relay`].
    DeadRelay,
}

impl Kind {
    /// Those of [`Scenario::new`], which take turns.
    pub const ALL: [Self; 9] = [
        Self::Both,
        Self::OneAfterTheOther,
        Self::OneWithinTheOther,
        Self::Direct,
        Self::Again,
        Self::OneWay,
        Self::Narrow,
        Self::Batches,
        Self::NoRelay,
    ];

    /// Whether the fault is to be noticed before any data has come.
    pub(crate) fn is_early(self) -> bool {
        matches!(self, Self::Early | Self::DeadRelay)
    }
}

/// A history of two routes.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Decides everything.
    pub seed: u64,
    /// Which kind it is.
    pub kind: Kind,
    /// What the link is for.
    pub load: Load,
    /// The round trip of the direct route.
    pub direct_rtt: Duration,
    /// The round trip of the relay.
    pub relay_rtt: Duration,
    /// The rate of either.
    pub bits_per_second: u64,
    /// The share of packets that the direct route loses.
    pub loss: f64,
    /// When the relay is connected; `None`: there is none.
    pub relay_at: Option<Duration>,
    /// The handshake goes by the relay, not directly.
    pub begins_by_relay: bool,
    /// Connections to the relay end when it fails; else they are silent.
    pub relay_resets: bool,
    /// What fails.
    pub outages: Vec<Outage>,
    /// The end.
    pub length: Duration,
}

const MS: Duration = Duration::from_millis(1);
/// After the last outage.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// At this rate, the packets of a handshake take so long, beside the round trips.
const HANDSHAKE_BITS_PER_SECOND: u64 = 20_000_000;
const HANDSHAKE_TAKES: Duration = Duration::from_millis(4);

impl Scenario {
    /// The history of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let index = usize::try_from(seed).unwrap_or_default() % Kind::ALL.len();
        let kind = Kind::ALL[index];
        let mut ms = |range: std::ops::Range<u32>| random.random_range(range) * MS;
        let direct_rtt = ms(2..150);
        let relay_rtt = ms(5..120);
        let from = ms(1500..3500);
        let mut length = ms(1000..30_000);
        if kind == Kind::NoRelay {
            // Without consent for 30 s the link is gone.
            length = length.min(25_000 * MS);
        }
        let middle = [ms(0..1000), ms(1000..4000), ms(200..3000)];
        let bits_per_second = [2, 5, 10, 20][random.random_range(0..4_usize)] * 1_000_000;
        let load = if random.random() { Load::Bulk } else { Load::Trickle };
        let loss = if random.random() { 0.0 } else { 0.01 };
        let side = random.random_range(0..2);
        let at = |fault, from, length| Outage { fault, from, to: from + length };
        let outages = match kind {
            Kind::Both => vec![at(Fault::Both, from, length)],
            Kind::Direct | Kind::NoRelay => vec![at(Fault::Direct, from, length)],
            Kind::OneAfterTheOther => {
                let second = at(Fault::Relay, from + length - middle[0], length);
                vec![at(Fault::Direct, from, length), second]
            }
            Kind::OneWithinTheOther => {
                let second = at(Fault::Both, from + middle[2], middle[1]);
                vec![at(Fault::Direct, from, length + middle[1] + middle[2]), second]
            }
            Kind::Again => {
                let pause = middle[1] / 2;
                let starts = (0..4).map(|index| from + (pause + middle[2]) * index);
                starts.map(|from| at(Fault::Direct, from, middle[2])).collect()
            }
            Kind::OneWay => vec![at(Fault::OneWay(side), from, length)],
            Kind::Narrow => {
                let bytes = random.random_range(200..1190);
                vec![at(Fault::Narrow(bytes), from, length)]
            }
            Kind::Batches => vec![at(Fault::Batches, from, length)],
            Kind::Early | Kind::DeadRelay => Vec::new(),
        };
        let end = outages.iter().map(|outage| outage.to).max().unwrap_or_default();
        Self {
            seed,
            kind,
            load,
            direct_rtt,
            relay_rtt,
            bits_per_second,
            loss,
            relay_at: (kind != Kind::NoRelay).then_some(100 * MS),
            begins_by_relay: false,
            relay_resets: false,
            outages,
            length: end + AFTERWARDS,
        }
    }

    /// A history in which the direct route is cut, one way or both, between the last flight of the handshake and the moment at
    /// which both sides could open another path; the relay is connected about then.
    #[must_use]
    pub fn early(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(!seed);
        let direct_rtt = random.random_range(5..150) * MS;
        // The side that connected is through after one round trip, and what it sends then arrives after another half.
        let from = direct_rtt + direct_rtt.mul_f64(random.random_range(0.01..2.0));
        let fault = [Fault::Direct, Fault::Direct, Fault::OneWay(0), Fault::OneWay(1)];
        let fault = fault[random.random_range(0..fault.len())];
        let to = from + random.random_range(3_000..15_000) * MS;
        Self {
            kind: Kind::Early,
            load: Load::Bulk,
            direct_rtt,
            loss: 0.0,
            relay_at: Some(random.random_range(0..500) * MS),
            outages: vec![Outage { fault, from, to }],
            length: to + AFTERWARDS,
            ..Self::new(seed)
        }
    }

    /// The same where the last flight of the handshake is lost as well, and the two say little: what the side that connects sends once its
    /// first packet has arrived is lost, and what the other one sends once its answer has.
    #[must_use]
    pub fn last_flight(seed: u64) -> Self {
        let early = Self::early(seed);
        // The answer is of some packets, each of which takes its time at the rate of the line.
        let from = early.direct_rtt.mul_f64(0.9);
        let answered = early.direct_rtt.mul_f64(0.6) + 50 * MS;
        let to = early.outages[0].to + 50 * MS;
        let outages = vec![
            Outage { fault: Fault::OneWay(0), from, to },
            Outage { fault: Fault::OneWay(1), from: answered, to },
        ];
        Self { load: Load::Talk, outages, length: to + AFTERWARDS, ..early }
    }

    /// A history of a link that is made by the relay, which is gone between the last flight of the handshake and the moment at which the
    /// side that connected could open another path: for 20 s, or for good. The direct route works from some time later on.
    #[must_use]
    pub fn dead_relay(seed: u64, relay_resets: bool) -> Self {
        let mut random = StdRng::seed_from_u64(!seed ^ 0xdead);
        let relay_rtt = random.random_range(20..120) * MS;
        // Its last flight has arrived after one round trip and a half, the answer after another half.
        let from = relay_rtt.mul_f64(random.random_range(1.6..1.95)) + HANDSHAKE_TAKES;
        let answers = from + random.random_range(100..3_000) * MS;
        let length = answers + 20_000 * MS;
        let to = if random.random() { from + 20_000 * MS } else { length + AFTERWARDS };
        let direct = Outage { fault: Fault::Direct, from: Duration::ZERO, to: answers };
        Self {
            kind: Kind::DeadRelay,
            load: Load::Trickle,
            relay_rtt,
            bits_per_second: HANDSHAKE_BITS_PER_SECOND,
            loss: 0.0,
            relay_at: Some(Duration::ZERO),
            begins_by_relay: true,
            relay_resets,
            outages: vec![direct, Outage { fault: Fault::Relay, from, to }],
            length,
            ..Self::new(seed)
        }
    }

    /// Whether either route carries a link at a moment.
    pub(crate) fn works(&self, now: Duration) -> bool {
        let has = [true, self.relay_at.is_some_and(|at| at <= now)];
        let now = self.outages.iter().filter(|outage| outage.is_at(now));
        let left = now.fold(has, |left, outage| {
            let leaves = outage.leaves();
            [left[0] && leaves[0], left[1] && leaves[1]]
        });
        left[0] || left[1]
    }
}
