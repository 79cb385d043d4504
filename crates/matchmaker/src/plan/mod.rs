//! The planner: from what is known of two workers to what each of them does.
//!
//! | NATs | strategy |
//! | --- | --- |
//! | no STUN server answers one of them | the relay, or plain where they may share a network, or a port is open |
//! | both tell an endpoint that holds for everybody | plain |
//! | one is hard, and the other lets in whoever shares an address with somebody it has sent to | plain: the hard side sends first |
//! | one is hard, the other lets in only whom it has sent to | a search on the hard side's ports |
//! | both are hard, and a packet to any port of theirs that is in use gets in | plain |
//! | both are hard, and one lets in whoever shares an address | a search on one side |
//! | both are hard | a search on both sides |
//!
//! A search is what the hard side's port allocation allows: the ports that it keeps, that follow each
//! other, or of a block; at worst of all ports, on one side only. The planner is a function of two
//! [`Side`]s and of what has been reported of such pairs before (`History`).

mod hard;
mod history;
mod opener;
mod tried;
mod unseen;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::nat::{Allocation, Filtering, Mapping, NatProfile, SearchWish, UdpState};
use holepunch_wire::plan::{Plan, Search, Strategy};
use holepunch_wire::session::AddressProof;

use history::{Attempt, History};
use opener::Distances;
pub use tried::Tried;

/// How far apart the two ways from the rendezvous may be in what is held back: more is no honest
/// difference of round-trip times.
const DELAY_MAX: Duration = Duration::from_millis(500);
/// With an opener, the packets that reach the peer wait for so much longer, for jitter.
const OPENER_MARGIN: Duration = Duration::from_millis(20);

/// How often an allocation is taken for a weaker one: in order, block, random.
const WEAKER_MAX: usize = 3;

/// What the planner knows of one of the two workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its NAT profile as far as it has been told.
    pub profile: NatProfile,
    /// Its UDP endpoint.
    pub endpoint: Option<SocketAddr>,
    /// Whether the endpoint is its own.
    pub proof: AddressProof,
    /// Whether its router has opened a port of that address to everybody.
    pub port_mapped: bool,
    /// Round-trip time between it and the rendezvous.
    pub rtt: Option<Duration>,
    /// Where its connection to the rendezvous comes from.
    pub observed: IpAddr,
}

impl Side {
    fn is_blocked(&self) -> bool {
        self.profile.udp == UdpState::Blocked
    }

    /// Whether no STUN server has seen it by IPv4: UDP does not get out, or by IPv6 alone.
    fn is_unseen(&self) -> bool {
        let is_of_ipv6_alone = self.profile.udp == UdpState::Open
            && self.profile.mapping == Mapping::Unknown
            && self.endpoint.is_none();
        self.is_blocked() || is_of_ipv6_alone
    }

    fn is_easy(&self) -> bool {
        self.profile.mapping.is_endpoint_independent()
    }

    fn is_hard(&self) -> bool {
        self.profile.mapping.is_endpoint_dependent()
    }

    fn filtering(&self) -> Filtering {
        self.profile.filtering
    }

    /// Whether whoever shares an address with somebody that was sent to gets in. What is not known
    /// counts as the strictest.
    fn lets_in_address(&self) -> bool {
        matches!(self.filtering(), Filtering::EndpointIndependent | Filtering::AddressDependent)
    }

    fn lets_in_all(&self) -> bool {
        self.filtering() == Filtering::EndpointIndependent
    }
}

/// A strategy with both searches, before names and times are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Idea {
    strategy: Strategy,
    searches: [Option<Search>; 2],
    /// Whether the very first packets are to open the own NAT and go no further.
    opens: bool,
    /// How far those go.
    distances: Distances,
    /// Whether they are to do so because it is not known yet what an early packet does.
    is_cautious: bool,
    expected_percent: Option<u8>,
    reason: String,
}

impl Idea {
    fn new(strategy: Strategy, reason: impl Into<String>) -> Self {
        Self {
            strategy,
            searches: [None, None],
            opens: strategy == Strategy::Opener,
            distances: [None; 2],
            is_cautious: false,
            expected_percent: None,
            reason: reason.into(),
        }
    }

    fn swapped(mut self) -> Self {
        self.searches.swap(0, 1);
        self
    }
}

/// Makes plans, and learns which of them work.
#[derive(Debug, Default)]
pub struct Planner {
    history: History,
}

impl Planner {
    /// A plan for each of the two, in their order. Both carry `number`, and it is none that the session has
    /// tried.
    #[must_use]
    pub fn plan(&self, sides: [&Side; 2], number: u32, tried: &Tried, now: Instant) -> [Plan; 2] {
        let idea = self.best(sides, number > 1, tried, now);
        [0, 1].map(|own| {
            let (side, other) = (sides[own], sides[1 - own]);
            let delay = delay(side, other, &idea);
            let is_cautious = idea.is_cautious || !delay.is_zero();
            let cautious = || opener::cautious(side, other).filter(|_| is_cautious);
            Plan {
                number,
                strategy: idea.strategy,
                delay_ms: u32::try_from(delay.as_millis()).unwrap_or(0),
                opener_ttl: if idea.opens { idea.distances[own] } else { cautious() },
                search: idea.searches[own].clone(),
                expected_percent: idea.expected_percent,
                reason: idea.reason.clone(),
            }
        })
    }

    /// The best idea that has not just failed. `is_late`: packets may have come too early already.
    fn best(&self, sides: [&Side; 2], is_late: bool, tried: &Tried, now: Instant) -> Idea {
        let mut assumed = sides.map(Side::clone);
        if tried.is_untestable {
            // Nobody knows: what is left to try is a search as if it were so.
            for side in &mut assumed {
                side.profile.reuses_ports = side.profile.reuses_ports.or(Some(true));
            }
        }
        let mut failed: Option<Strategy> = None;
        for _ in 0..WEAKER_MAX {
            let [a, b] = &assumed;
            let mut idea = ideas([a, b]);
            if idea.strategy == Strategy::Opener && is_late {
                idea = permitted(hard::fresh_ports(a, b).unwrap_or(idea), sides);
            }
            if let Some(distances) = self.untried(&idea, sides, tried, now) {
                let mut idea = Idea { distances, ..idea };
                if let Some(failed) = failed.filter(|_| idea.strategy == Strategy::Relay) {
                    idea.reason = format!("{failed} has just failed here; {}", idea.reason);
                }
                return idea;
            }
            failed = Some(idea.strategy);
            for side in &mut assumed {
                if side.is_hard() {
                    side.profile = hard::weaker(&side.profile);
                }
            }
        }
        let failed = failed.unwrap_or(Strategy::Birthday);
        let reason = format!(
            "{failed} has just failed between these two networks, and no other strategy is left"
        );
        Idea::new(Strategy::Relay, reason)
    }

    /// How far the openers of this idea are to go: as far as has led to a link between such a pair, or no way that
    /// has been tried in vain. `None`: all of it has been.
    fn untried(
        &self,
        idea: &Idea,
        sides: [&Side; 2],
        tried: &Tried,
        now: Instant,
    ) -> Option<Distances> {
        let strategy = idea.strategy;
        let is_search = idea.searches.iter().any(Option::is_some);
        if is_search && tried.is_unmade(strategy) {
            return None;
        }
        let all = if idea.opens { opener::distances(sides) } else { vec![[None; 2]] };
        let has_failed = |distances: &Distances| {
            let attempt = Attempt { strategy, distances: *distances };
            tried.has_opened(strategy, *distances)
                || is_search && self.history.has_failed(sides, attempt, now)
        };
        let left: Vec<Distances> = all.into_iter().filter(|it| !has_failed(it)).collect();
        let works = |distances: &&Distances| {
            [Strategy::Opener, Strategy::Preserved, strategy].into_iter().any(|strategy| {
                self.history.works(sides, Attempt { strategy, distances: **distances })
            })
        };
        left.iter().find(works).or(left.first()).copied()
    }

    /// Remembers what has become of a plan between two such workers.
    pub fn record(&mut self, sides: [&Side; 2], plans: &[Plan; 2], worked: bool, now: Instant) {
        let attempt =
            Attempt { strategy: plans[0].strategy, distances: opener::distances_of(plans) };
        self.history.record(sides, attempt, worked, now);
    }
}

/// How long a side holds its packets back: until the other side, to which the offer has the longer
/// way, has sent its own. Without need of an opener it does so only where the other's NAT may be one
/// that an early packet disturbs.
fn delay(own: &Side, other: &Side, idea: &Idea) -> Duration {
    let earlier_by = match (own.rtt, other.rtt) {
        (Some(own), Some(other)) => other.saturating_sub(own) / 2,
        _ => Duration::ZERO,
    };
    let unknown = other.profile.remaps_after_inbound.is_none()
        && !other.is_hard()
        && other.filtering() != Filtering::EndpointIndependent;
    if idea.opens && !opener::may_be_disturbed(other) {
        Duration::ZERO
    } else if idea.opens {
        earlier_by.min(DELAY_MAX) + OPENER_MARGIN
    } else if idea.strategy == Strategy::Plain && unknown && earlier_by > OPENER_MARGIN {
        earlier_by.min(DELAY_MAX)
    } else {
        Duration::ZERO
    }
}

fn ideas(sides: [&Side; 2]) -> Idea {
    let [a, b] = sides;
    // What else a profile says is of IPv4.
    if a.profile.ipv6 == Some(true) && b.profile.ipv6 == Some(true) {
        return Idea::new(Strategy::Plain, "both have IPv6, which is not translated");
    }
    if a.is_unseen() || b.is_unseen() {
        return unseen::idea(a, b);
    }
    if a.profile.mapping == Mapping::Unknown || b.profile.mapping == Mapping::Unknown {
        return Idea::new(Strategy::Plain, "not enough is known of the NATs yet");
    }
    if a.is_easy() && b.is_easy() {
        return easy(a, b);
    }
    if a.port_mapped || b.port_mapped {
        return Idea {
            expected_percent: Some(99),
            ..Idea::new(
                Strategy::Plain,
                "the router of one of the two has opened a port to everybody",
            )
        };
    }
    if same_address(a, b) {
        return Idea::new(
            Strategy::Plain,
            "both are behind one NAT: local addresses, or a packet that it sends back inside",
        );
    }
    let idea = match (a.is_hard(), b.is_hard()) {
        (false, true) => easy_hard(a, b),
        (true, false) => easy_hard(b, a).swapped(),
        _ => hard_hard(a, b),
    };
    permitted(idea, sides)
}

fn same_address(a: &Side, b: &Side) -> bool {
    let ip = |side: &Side| side.endpoint.map(|endpoint| endpoint.ip());
    ip(a).is_some() && ip(a) == ip(b)
}

fn easy(a: &Side, b: &Side) -> Idea {
    let remaps = |side: &Side| side.profile.remaps_after_inbound == Some(true);
    if remaps(a) || remaps(b) {
        return Idea {
            expected_percent: Some(99),
            ..Idea::new(
                Strategy::Opener,
                "a packet that comes too early moves the next one to another port: the first packets \
                 open the own NAT and go no further",
            )
        };
    }
    Idea {
        expected_percent: Some(99),
        ..Idea::new(Strategy::Plain, "each can be told an endpoint at which the other is reached")
    }
}

/// `a` has an endpoint that holds for everybody, `b` has not.
fn easy_hard(a: &Side, b: &Side) -> Idea {
    if a.lets_in_address() {
        return Idea {
            expected_percent: Some(99),
            ..Idea::new(
                Strategy::Plain,
                "one side's NAT gives every peer another port, and the other lets it in from there",
            )
        };
    }
    // Toward a NAT that early packets disturb, those of the many sockets must not get far: the seeker's
    // packet is the first that counts. A single port at which both have met too early is enough to move
    // all that the seeker sends from then on, so until it is known the first packets stay near, too.
    let remaps = a.profile.remaps_after_inbound;
    let translates = a.profile.mapping == Mapping::EndpointIndependent;
    let idea = hard::one_side(&b.profile);
    let idea = if translates { hard::from_fresh_socket(idea) } else { idea };
    Idea { opens: remaps == Some(true), is_cautious: remaps.is_none() && translates, ..idea }
}

/// Neither has an endpoint that holds for the other.
fn hard_hard(a: &Side, b: &Side) -> Idea {
    if (a.lets_in_all() && b.lets_in_address()) || (b.lets_in_all() && a.lets_in_address()) {
        return Idea {
            expected_percent: Some(99),
            ..Idea::new(
                Strategy::Plain,
                "both NATs give every peer another port, and let packets in at the ones that are known",
            )
        };
    }
    if a.lets_in_address() && b.lets_in_address() {
        let is_random = |side: &Side| {
            side.profile.mapping == Mapping::AddressAndPortDependent
                && side.profile.allocation == Allocation::Random
        };
        if is_random(a) && is_random(b) {
            return hard::both_random();
        }
        // Either side's ports may be sought: those that are easier to find.
        return if hard::difficulty(&a.profile) <= hard::difficulty(&b.profile) {
            hard::one_side(&a.profile).swapped()
        } else {
            hard::one_side(&b.profile)
        };
    }
    // A NAT that filters by address, with one port for all ports of a peer: its port is all that is
    // sought, since it answers whatever port the other sends from.
    let suffices =
        |side: &Side| side.lets_in_address() && side.profile.mapping == Mapping::AddressDependent;
    if suffices(a) {
        return hard::seek(&b.profile, &a.profile).swapped();
    }
    if suffices(b) {
        return hard::seek(&a.profile, &b.profile);
    }
    // A NAT with one port for all ports of a peer shows it to a peer that lets in whatever comes from
    // there: that one's ports are sought, and it turns to the port that it has seen.
    let shows = |side: &Side| side.profile.mapping == Mapping::AddressDependent;
    if a.lets_in_address() && shows(b) {
        return hard::toward_observed(hard::one_side(&a.profile)).swapped();
    }
    if b.lets_in_address() && shows(a) {
        return hard::toward_observed(hard::one_side(&b.profile));
    }
    hard::both_sides(&a.profile, &b.profile)
}

/// What both want, and what may be done to addresses that nobody vouches for.
fn permitted(idea: Idea, sides: [&Side; 2]) -> Idea {
    if idea.searches.iter().all(Option::is_none) {
        return idea;
    }
    if sides.iter().any(|side| side.profile.search == SearchWish::Never) {
        return Idea::new(
            Strategy::Relay,
            format!("one side takes part in no searches; {}", idea.reason),
        );
    }
    if sides.iter().any(|side| side.proof == AddressProof::None) {
        return Idea::new(
            Strategy::Relay,
            format!(
                "nothing proves that both addresses are the workers' own, so there is no search; {}",
                idea.reason
            ),
        );
    }
    idea
}

#[cfg(test)]
mod tests;
