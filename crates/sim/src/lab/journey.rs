//! A pair whose NATs, lines and fate are made from bytes: a fuzzer's, or those of a test.
//!
//! The bytes are used up one after the other, and zeros follow: any bytes are a journey. What has to hold
//! of each is what the oracle says of the two kinds, and that the two find each other again after
//! whatever happened to their lines.

use std::time::{Duration, Instant};

use super::scenario::{Scenario, judge, settle};
use super::{Verdict, World};
use crate::oracle::{self, verdict_of_kinds};
use crate::presets::{NatKind, Site};

/// Most things that happen to one pair.
const STEPS_MAX: usize = 4;
/// The two are linked again within this time after the last thing that happened. Consent lasts 30 s, a
/// discovery in vain 39.5 s, and the pause after it up to 30 s; then two that parted are matched anew.
const AGAIN_WITHIN: Duration = Duration::from_secs(150);
/// Longest way of one side to the core, and what signalling may take beyond it, in milliseconds.
const WAY_MS_MAX: u64 = 150;
const LAG_MS_MAX: u64 = 200;
/// Longest outage, and longest rest after something happened, in seconds.
const OUTAGE_SECS_MAX: u64 = 60;
const REST_SECS_MAX: u64 = 40;

/// Something that happens to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing, for so long.
    Rest(Duration),
    /// The boxes of one side forget everything.
    Rebind(usize),
    /// The lines of these sides carry nothing, for so long.
    Outage([bool; 2], Duration),
    /// The first worker finds itself in another network.
    Move,
}

/// A pair, and what happens to it.
#[derive(Debug, Clone)]
pub struct Journey {
    scenario: Scenario,
    seed: u64,
    steps: Vec<Step>,
}

/// Bytes that end in zeros.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> u64 {
        self.0.next().copied().map_or(0, u64::from)
    }

    /// A value from 0 to `most`, most of which is below 255.
    fn up_to(&mut self, most: u64) -> u64 {
        self.next() * most / 255
    }

    fn kind(&mut self) -> NatKind {
        let kinds = NatKind::all();
        let index = usize::try_from(self.next()).unwrap_or(0);
        kinds[index % kinds.len()]
    }

    fn step(&mut self) -> Step {
        let what = self.next();
        match what % 4 {
            0 => Step::Rest(Duration::from_secs(self.up_to(REST_SECS_MAX))),
            1 => Step::Rebind(usize::from(what & 4 != 0)),
            2 => {
                let sides = [what & 4 != 0, what & 12 != 4];
                Step::Outage(sides, Duration::from_millis(self.up_to(OUTAGE_SECS_MAX * 1000)))
            }
            _ => Step::Move,
        }
    }
}

impl Journey {
    /// Of any bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut bytes = Bytes(bytes.iter());
        let mut scenario = Scenario::new(bytes.kind(), bytes.kind());
        let quality = bytes.next();
        scenario.loss = if quality % 4 == 3 { 0.05 } else { 0.0 };
        scenario.jitter = Duration::from_millis(if quality % 8 == 2 { 30 } else { 0 });
        scenario.ipv6 = quality % 16 >= 12;
        scenario.ways = [(); 2].map(|()| Duration::from_millis(1 + bytes.up_to(WAY_MS_MAX)));
        scenario.lag = [(); 2].map(|()| Duration::from_millis(bytes.up_to(LAG_MS_MAX)));
        scenario.later = Duration::from_millis(bytes.next() * 40);
        let seed = bytes.next();
        let count = usize::try_from(bytes.next()).unwrap_or(0) % (STEPS_MAX + 1);
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..count {
            // There is one other network.
            let step = bytes.step();
            if step != Step::Move || !steps.contains(&Step::Move) {
                steps.push(step);
            }
        }
        Self { scenario, seed, steps }
    }

    /// Plays it, and looks at what has to hold. What became of the pair at first.
    ///
    /// # Panics
    /// Something does not hold.
    #[must_use]
    pub fn play(&self) -> Verdict {
        let (mut world, mut sites, _) = self.scenario.begin(self.seed, false);
        settle(&mut world);
        let verdict = judge(&world, self.seed).verdict;
        self.check(verdict);
        if verdict == Verdict::Direct {
            for step in &self.steps {
                self.take(*step, &mut world, &mut sites);
            }
            let since = world.now();
            world.run(since + AGAIN_WITHIN, |world| is_linked_since(world, since));
            let is_linked = is_linked_since(&world, since);
            assert!(is_linked || !self.is_easy(), "the two are not linked again: {self:?}");
        }
        verdict
    }

    /// Whether the two have a path by plain checks, whatever comes first. One that an unsolicited packet
    /// disturbs needs the right order.
    fn is_easy(&self) -> bool {
        let Scenario { first, second, loss, ipv6, .. } = self.scenario;
        let kinds = [first, second];
        let has_v6 = ipv6 && !kinds.contains(&NatKind::UdpBlocked);
        let is_plain = verdict_of_kinds(first, second) == oracle::Verdict::Plain { opener: false };
        loss == 0.0 && (has_v6 || is_plain && !kinds.contains(&NatKind::Remap))
    }

    fn check(&self, verdict: Verdict) {
        let Scenario { first, second, ipv6, .. } = self.scenario;
        if self.is_easy() {
            assert_eq!(verdict, Verdict::Direct, "plain checks suffice: {self:?}");
        }
        if !ipv6 && verdict_of_kinds(first, second) == oracle::Verdict::Impossible {
            assert_eq!(verdict, Verdict::Relay, "no packet ever gets through: {self:?}");
        }
    }

    fn take(&self, step: Step, world: &mut World, sites: &mut [Site; 2]) {
        match step {
            Step::Rest(time) => world.run(world.now() + time, |_| false),
            Step::Rebind(side) => {
                sites[side].boxes.iter().for_each(|id| world.net.rebind(*id));
            }
            Step::Outage(sides, time) => {
                set_up(world, sites, sides, false);
                world.run(world.now() + time, |_| false);
                set_up(world, sites, sides, true);
            }
            Step::Move => self.scenario.move_first(world, &mut sites[0]),
        }
    }
}

/// Puts the outermost line of these sides up or down.
fn set_up(world: &mut World, sites: &[Site; 2], sides: [bool; 2], is_up: bool) {
    for (site, _) in sites.iter().zip(sides).filter(|(_, is_meant)| *is_meant) {
        let access = match site.boxes.first() {
            Some(id) => world.net.box_access_mut(*id),
            None => world.net.host_access_mut(site.host),
        };
        access.set_up(is_up);
    }
}

/// Whether both hold a path of one and the same session that nothing is wrong with, and one of the two
/// has had an answer on it since then. (Only one of the two need ask.)
fn is_linked_since(world: &World, since: Instant) -> bool {
    let [first, second] = [0, 1].map(|index| world.statuses(index));
    first.iter().any(|own| {
        let peers = second.iter().find(|peer| peer.id == own.id);
        let Some(peers) = peers else { return false };
        let holds = [own, peers].iter().all(|it| it.path.is_some() && !it.is_suspect);
        holds && [own, peers].iter().any(|it| it.answered_at.is_some_and(|at| at > since))
    })
}
