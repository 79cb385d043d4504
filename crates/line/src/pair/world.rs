//! Plays a scenario, event by event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_link::machine;
use holepunch_paths::Reason;
use noq_proto::Endpoint;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::scenario::{Outage, Scenario};
use super::side::{Out, Side};
use super::way::{By, Direct, Load, Relay};

/// While nothing answers, another connection to the relay is tried so often (`worker::relay::open`).
const RELAY_TRIED_EVERY_MS: u64 = 300;
/// A direct path that is said to answer carries data so soon.
const ANSWER_MEANS_DATA: Duration = Duration::from_secs(1);

/// After an outage, what it has swallowed is sent again within this.
const RECOVERS_WITHIN: Duration = Duration::from_secs(2);

/// What is left out, to see what it is good for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Without {
    /// No detour: QUIC opens the relay's path when it can.
    pub detour: bool,
    /// The pings on a detour.
    pub nudges: bool,
    /// A handshake that goes on by the relay is not recognized.
    pub follow_handshakes: bool,
}

/// What has become of a scenario.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The longest time from the moment at which a route worked again, after there was none, until data moved.
    pub resumed_after: Duration,
    /// The longest time for which a route worked and no data moved, beside those.
    pub stall: Duration,
    /// When the longer of the two was over.
    pub stall_until: Duration,
    /// How often a direct path was said to answer, and no data moved for a second though it worked.
    pub empty_answers: u32,
    /// How often a path was doubted on which nothing was wrong.
    pub false_doubts: usize,
    /// When the first data came.
    pub first_data: Option<Duration>,
    /// Bytes that were read, by both sides.
    pub bytes: u64,
    /// Why the connection ended, if it did.
    pub lost: Option<String>,
    /// Whether both sides send by the direct route at the end.
    pub ends_direct: bool,
    /// When each side (0 connected) used another path, and why.
    pub history: Vec<(Duration, usize, Reason)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start,
    Arrive(usize, By, Load),
    Wake(usize),
    /// A fault begins or ends.
    Turn,
    RelayUp {
        is_renewed: bool,
    },
    /// A side's connection to the relay is closed.
    RelayDown(usize),
}

/// Measures how long nothing moves.
#[derive(Debug)]
struct Watch {
    read_bytes: u64,
    /// Since when data could have come, and whether none could before.
    quiet_since: Option<(Duration, bool)>,
}

struct World<'a> {
    scenario: &'a Scenario,
    sides: [Side; 2],
    direct: Direct,
    relay: Relay,
    /// Whose connection to the relay is cut with it.
    cut_side: usize,
    client: Option<noq_proto::ClientConfig>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    count: u64,
    wakes: [Option<Duration>; 2],
    watches: [Watch; 2],
    works: bool,
    answers: Vec<Duration>,
    outcome: Outcome,
}

impl World<'_> {
    fn at(&mut self, moment: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((moment, self.count, event)));
    }

    fn put(&mut self, from: usize, out: Vec<Out>, now: Duration) {
        let is_up = self.sides.iter().all(|side| side.relay.0);
        for Out { by, load, batch } in out {
            let arrives = match by {
                By::Direct => self.direct.send(from, &load, batch, now).map(|at| (at, load)),
                By::Relay => self.relay.send(from, load, (now, is_up)),
            };
            if let Some((at, load)) = arrives {
                self.at(at, Event::Arrive(1 - from, by, load));
            }
        }
    }

    fn drive(&mut self, side: usize, now: Duration) {
        let out = self.sides[side].drive(now);
        let wake = self.sides[side].wakes_at().max(now + Duration::from_nanos(1));
        if self.wakes[side] != Some(wake) {
            self.wakes[side] = Some(wake);
            self.at(wake, Event::Wake(side));
        }
        self.put(side, out, now);
        let (reasons, doubts) = self.sides[side].take_reasons();
        let is_wrong = |outage: &Outage| (outage.from..outage.to + RECOVERS_WITHIN).contains(&now);
        if !self.scenario.outages.iter().any(is_wrong) {
            self.outcome.false_doubts += doubts;
        }
        for reason in reasons {
            self.outcome.history.push((now, side, reason));
            if reason == Reason::DirectAnswers {
                self.answers.push(now);
            }
        }
        self.look(side, now);
    }

    /// Looks whether data has moved.
    fn look(&mut self, side: usize, now: Duration) {
        let read_bytes = self.sides[side].read_bytes;
        let watch = &mut self.watches[side];
        if std::mem::replace(&mut watch.read_bytes, read_bytes) == read_bytes {
            return;
        }
        self.outcome.first_data.get_or_insert(now);
        self.quiet(side, now);
        self.watches[side].quiet_since = self.works.then_some((now, false));
        let empty = self.answers.iter().filter(|at| {
            let until = **at + ANSWER_MEANS_DATA;
            let faults = &self.scenario.outages;
            until < now && !faults.iter().any(|fault| fault.from < until && fault.to > **at)
        });
        self.outcome.empty_answers += u32::try_from(empty.count()).unwrap_or(u32::MAX);
        self.answers.clear();
    }

    /// A time in which data could have come, and did not, ends.
    fn quiet(&mut self, side: usize, now: Duration) {
        let Some((since, is_return)) = self.watches[side].quiet_since else { return };
        let Outcome { resumed_after, stall, stall_until, .. } = &mut self.outcome;
        let longest = (*resumed_after).max(*stall);
        let worst = if is_return { resumed_after } else { stall };
        if self.sides[side].reads() && now - since > *worst {
            *worst = now - since;
        }
        if *worst > longest {
            *stall_until = now;
        }
    }

    fn turn(&mut self, now: Duration) {
        let works = self.scenario.works(now);
        if works == self.works {
            return;
        }
        self.works = works;
        for side in 0..2 {
            self.quiet(side, now);
            let has_begun = self.outcome.first_data.is_some() || self.scenario.kind.is_early();
            self.watches[side].quiet_since = (works && has_begun).then_some((now, true));
        }
    }

    fn handle(&mut self, event: Event, now: Duration) {
        match event {
            Event::Start => {
                if let Some(config) = self.client.take() {
                    let by = if self.scenario.begins_by_relay { By::Relay } else { By::Direct };
                    self.sides[0].connect(config, by, now);
                }
                self.drive(0, now);
                self.drive(1, now);
            }
            Event::Arrive(_, By::Relay, _) if self.relay.loses(now) => {}
            Event::Arrive(side, by, load) => {
                let out = self.sides[side].receive(by, load, now);
                self.put(side, out, now);
                self.drive(side, now);
            }
            Event::Wake(side) => {
                if self.wakes[side] == Some(now) {
                    self.wakes[side] = None;
                    self.drive(side, now);
                }
            }
            Event::Turn => self.turn(now),
            Event::RelayDown(side) => {
                self.sides[side].relay.0 = false;
                self.drive(side, now);
            }
            Event::RelayUp { is_renewed } => self.relay_up(is_renewed, now),
        }
    }

    fn relay_up(&mut self, is_renewed: bool, now: Duration) {
        for side in 0..2 {
            let (is_up, renewed) = self.sides[side].relay;
            let is_new = !is_up || is_renewed && side == self.cut_side;
            self.sides[side].relay = (true, renewed + u32::from(is_new));
        }
        for from in 0..2 {
            for (at, load) in self.relay.release(from, is_renewed, now) {
                self.at(at, Event::Arrive(1 - from, By::Relay, load));
            }
        }
        self.drive(0, now);
        self.drive(1, now);
    }

    /// Puts in everything that is known before.
    fn prepare(&mut self, random: &mut StdRng) {
        self.at(Duration::ZERO, Event::Start);
        if let Some(at) = self.scenario.relay_at {
            self.at(at, Event::Turn);
            self.at(at, Event::RelayUp { is_renewed: false });
            let tries = Duration::from_millis(random.random_range(0..RELAY_TRIED_EVERY_MS));
            for turn in self.relay.turns(self.scenario.relay_rtt, tries) {
                if let Some(down) = turn.down {
                    self.at(down, Event::RelayDown(self.cut_side));
                }
                if self.scenario.relay_resets {
                    // It ends the other connection as well.
                    let down = turn.down.unwrap_or(turn.up) + self.scenario.relay_rtt / 2;
                    self.at(down, Event::RelayDown(1 - self.cut_side));
                }
                self.at(turn.up, Event::RelayUp { is_renewed: turn.is_renewed });
            }
        }
        for outage in &self.scenario.outages.clone() {
            self.at(outage.from, Event::Turn);
            self.at(outage.to, Event::Turn);
        }
    }
}

fn sides(scenario: &Scenario, without: Without) -> ([Side; 2], noq_proto::ClientConfig) {
    // The machine's moments are those of the standard library; what they count from does not matter.
    let epoch = Instant::now();
    let ends = machine::ends(Arc::new(machine::transport())).expect("keys of links are accepted");
    let mut server = Some(Arc::new(ends.server));
    let sides = [0, 1].map(|index| {
        let mut config = ends.endpoint.clone();
        let mut seed = [index as u8; 32];
        seed[..8].copy_from_slice(&scenario.seed.to_le_bytes());
        config.rng_seed(Some(seed));
        let server = if index == 1 { server.take() } else { None };
        let endpoint = Endpoint::new(Arc::new(config), server, true);
        let seed = scenario.seed ^ (index << 32);
        Side::new(endpoint, epoch, index == 0, (scenario.load, without, seed))
    });
    (sides, ends.client)
}

/// Plays it all.
#[must_use]
pub fn play(scenario: &Scenario, without: Without) -> Outcome {
    let (sides, client) = sides(scenario, without);
    let mut random = StdRng::seed_from_u64(!scenario.seed);
    // A cut just behind the handshake is to be noticed before any data has come.
    let quiet_since = scenario.kind.is_early().then_some((Duration::ZERO, false));
    let watch = || Watch { read_bytes: 0, quiet_since };
    let mut world = World {
        scenario,
        sides,
        direct: Direct::new(scenario),
        relay: Relay::new(scenario),
        cut_side: random.random_range(0..2),
        client: Some(client),
        events: BinaryHeap::new(),
        count: 0,
        wakes: [None; 2],
        watches: [watch(), watch()],
        works: true,
        answers: Vec::new(),
        outcome: Outcome::default(),
    };
    world.prepare(&mut random);
    while let Some(Reverse((now, _, event))) = world.events.pop() {
        if now > scenario.length {
            break;
        }
        world.handle(event, now);
    }
    for side in 0..2 {
        world.quiet(side, scenario.length);
    }
    let mut outcome = world.outcome;
    outcome.bytes = world.sides.iter().map(|side| side.read_bytes).sum();
    outcome.ends_direct = world.sides.iter().all(|side| side.active() == Some(By::Direct));
    outcome.lost = world.sides.iter_mut().find_map(|side| side.lost.take());
    outcome
}
