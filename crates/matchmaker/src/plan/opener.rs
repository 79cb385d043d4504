//! Openers: how far first packets go that are to open the own NAT and reach the peer's no earlier than it has opened.

use holepunch_wire::nat::{Filtering, Mapping};
use holepunch_wire::plan::Plan;

use super::Side;

/// TTLs of an opener where nobody has measured how far the own outermost NAT is, the likeliest first. A packet has
/// to pass all own NATs and to end before the peer's: with `n` boxes in front of the host and `k` routers between the
/// two outermost NATs, from `n + 1` to `n + k`. Most peers are far from each other, and 4 passes three boxes. Those
/// of one provider, or of one host, have a router or two in between, and mostly one box each: 2. A carrier's NAT
/// lies behind some of its routers: 6. What is left is near, and has one box more.
const GUESSES: [u8; 4] = [4, 2, 6, 3];
/// The TTL of a packet that is to get nowhere, since its side has nothing to open early.
const NOWHERE: u8 = 1;

/// The TTL of each side's openers; `None` where it sends none.
pub(super) type Distances = [Option<u8>; 2];

/// Whether a packet that comes too early may move what this side sends later.
pub(super) fn may_be_disturbed(side: &Side) -> bool {
    side.profile.remaps_after_inbound != Some(false)
        && side.profile.mapping != Mapping::None
        && side.profile.filtering != Filtering::EndpointIndependent
}

/// The TTL of a side's openers: what was measured, or this guess.
fn distance(own: &Side, other: &Side, guess: u8) -> Option<u8> {
    if !may_be_disturbed(other) {
        // Its first packets may arrive.
        return None;
    }
    // The sockets of a hard NAT wait for packets to come in, so it is opened in any case.
    let has_to_open = own.is_hard() || may_be_disturbed(own);
    Some(if has_to_open { own.profile.opener_ttl.unwrap_or(guess) } else { NOWHERE })
}

/// What is tried one after the other. What was measured is not varied.
pub(super) fn distances(sides: [&Side; 2]) -> Vec<Distances> {
    let mut all: Vec<Distances> = Vec::new();
    for guess in GUESSES {
        let [a, b] = sides;
        let next = [distance(a, b, guess), distance(b, a, guess)];
        if !all.contains(&next) {
            all.push(next);
        }
    }
    all
}

/// What a side takes that only may need an opener.
pub(super) fn cautious(own: &Side, other: &Side) -> Option<u8> {
    distance(own, other, GUESSES[0])
}

/// How far the openers of these plans go: of those that hold back what comes after.
pub(crate) fn distances_of(plans: &[Plan; 2]) -> Distances {
    plans.each_ref().map(|plan| plan.opener_ttl.filter(|_| plan.delay_ms > 0))
}
