//! Searches for the ports of hard NATs.

use holepunch_wire::nat::{Allocation, Mapping, NatProfile, SearchWish};
use holepunch_wire::plan::{
    Aim, Announce, PER_SECOND_MAX, PROBES_MAX, SOCKETS_MAX, Search, Strategy,
};
use holepunch_wire::signal::v1::ANNOUNCED_MAX;

use super::{Idea, Side};

/// Pace of a search on either side: new pairs of socket and destination in a second. A few are left
/// for checks to the addresses of the peer that are known.
const PER_SECOND: u16 = PER_SECOND_MAX - 4;
/// Birthday: sockets on the hard side, and packets to random ports from the other. 256 sockets among
/// 64,512 ports are hit by 2,048 packets with 99.97 %.
const BIRTHDAY_SOCKETS: u16 = SOCKETS_MAX;
const BIRTHDAY_PROBES: u16 = PROBES_MAX;
/// Sockets whose ports are predicted.
const PREDICTED_SOCKETS: u16 = 4;
/// Fresh sockets a side beside NATs that early packets disturb.
const FRESH_SOCKETS: u16 = 2;
/// Predicted ports that the other side tries: other hosts may take some in between.
const PREDICTED_PORTS: u16 = 12;
const _: () = assert!(PREDICTED_PORTS as usize <= ANNOUNCED_MAX);
/// Blocks up to this size have few ports to spare.
const SMALL_BLOCK: u16 = 64;
/// Sockets toward a small block; with three on each side, two blocks of 64 that reuse ports miss
/// each other in 1 of 8,000 cases.
const SWEEP_SOCKETS: u16 = 3;
/// Where one side's block is swept, it has one socket for each so many ports, within bounds, ...
const PORTS_PER_SOCKET: u16 = 16;
const SWEPT_SOCKETS_MIN: u16 = 16;
const SWEPT_SOCKETS_MAX: u16 = SOCKETS_MAX / 2;
/// ... and opens at least so many of them in a second.
const SWEPT_PER_SECOND_MIN: u16 = 12;
/// A sweep on one side goes so far from the ports that were seen, however small the block may seem.
const WINDOW_MIN: u16 = 1024;
/// Ports of a block that are left to everything else that the host does.
const EXHAUST_SPARED: u16 = 2;
/// Packets of a sweep on both sides: three sockets, each to all candidates of a block of 64. Larger
/// blocks take more.
const SWEEP_PROBES: u16 = 400;

/// Why the use of ports is tested.
const TEST_REUSE: &str =
    "a NAT takes ports from a block: whether it uses one for several peers decides";

fn search(sockets: u16, aim: Aim, probes_max: u16) -> Search {
    Search {
        sockets,
        fresh: false,
        aim,
        announce: Announce::Nothing,
        probes_max,
        per_second: PER_SECOND,
        except: Vec::new(),
    }
}

/// What a side does whose fresh sockets' ports are known before they are used.
fn announced(announce: Announce) -> Search {
    Search {
        fresh: true,
        announce,
        ..search(PREDICTED_SOCKETS, Aim::Endpoint, PREDICTED_SOCKETS * 8)
    }
}

/// Whether both want searches that use up a block.
fn is_wished(a: &NatProfile, b: &NatProfile) -> bool {
    [a, b].iter().all(|it| it.search == SearchWish::Exhaustive)
}

/// What a NAT's allocation may be taken for when a search by what it seems to be has failed: what
/// seems to be in order may be a block, and a block may be larger than it seems.
pub(super) fn weaker(profile: &NatProfile) -> NatProfile {
    let mut weaker = profile.clone();
    let (lowest, highest) = (profile.ports.iter().min(), profile.ports.iter().max());
    weaker.allocation = match (profile.allocation, lowest, highest) {
        (Allocation::Preserving | Allocation::Sequential { .. }, Some(&lowest), Some(&highest))
            if highest - lowest <= SMALL_BLOCK * 16 =>
        {
            Allocation::block(lowest, highest, profile.ports.len())
        }
        _ => Allocation::Random,
    };
    weaker
}

/// How much is unknown of a NAT's next port: the less, the sooner it is found.
pub(super) fn difficulty(profile: &NatProfile) -> u32 {
    match profile.allocation {
        Allocation::Preserving => 0,
        Allocation::Sequential { .. } => 1,
        Allocation::Block { size, .. } => 2 + u32::from(size),
        Allocation::Random => 1 << 17,
        Allocation::Unknown => 1 << 18,
    }
}

/// The ports of a block, as far as what was seen bounds them; `wider` than the likely size by this
/// factor, or `least`, since the size is a guess and the sweep begins in the middle.
fn window(lowest: u16, highest: u16, size: u16, wider: u16, least: u16) -> Aim {
    let reach = size.saturating_mul(wider).max(least).saturating_sub(1);
    let first = highest.saturating_sub(reach).clamp(1, lowest.max(1));
    let last = lowest.saturating_add(reach).max(highest);
    Aim::Window { first, last, centre: lowest + (highest - lowest) / 2 }
}

/// One side's ports are sought. First in the answer is the side that seeks, second the one whose
/// ports are sought, with this profile.
pub(super) fn one_side(hard: &NatProfile) -> Idea {
    let (strategy, seeker, sought, expected, reason) = match hard.allocation {
        Allocation::Preserving => (
            Strategy::Preserved,
            search(1, Aim::Announced, PREDICTED_PORTS * 5),
            announced(Announce::LocalPorts),
            99,
            "one side's NAT keeps the port of a fresh socket for its first destination".to_owned(),
        ),
        Allocation::Sequential { step } => (
            Strategy::Sequence,
            search(1, Aim::Announced, PREDICTED_PORTS * 5),
            announced(Announce::NextPorts),
            99,
            format!("one side's NAT gives ports in order, in steps of {step}"),
        ),
        Allocation::Block { lowest, highest, size } => {
            // A small block is spared: its sockets open slowly, in case it is larger than it seems.
            let sockets = (size / PORTS_PER_SOCKET).clamp(SWEPT_SOCKETS_MIN, SWEPT_SOCKETS_MAX);
            let per_second = (size / 4).clamp(SWEPT_PER_SECOND_MIN, PER_SECOND);
            (
                Strategy::Sweep,
                search(1, window(lowest, highest, size, 2, WINDOW_MIN), BIRTHDAY_PROBES),
                Search { per_second, ..search(sockets, Aim::Endpoint, BIRTHDAY_PROBES) },
                99,
                format!("one side's NAT takes its ports from a block of about {size}"),
            )
        }
        Allocation::Random | Allocation::Unknown => (
            Strategy::Birthday,
            search(1, Aim::Random, BIRTHDAY_PROBES),
            search(BIRTHDAY_SOCKETS, Aim::Endpoint, BIRTHDAY_PROBES),
            99,
            "one side's NAT gives every peer a random port: many sockets there, many ports tried \
             from here"
                .to_owned(),
        ),
    };
    Idea {
        searches: [Some(seeker), Some(sought)],
        expected_percent: Some(expected),
        ..Idea::new(strategy, reason)
    }
}

/// The same, where the seeker has one port for all destinations and uses a fresh socket. The hard side's
/// checks go to the endpoint that everybody was told: in a NAT that an early packet disturbs they occupy a
/// port that will be tried, and all that the socket sends from then on would leave from elsewhere. Nothing
/// has come to a fresh socket's port, and what is sent there until it seeks does not get far.
pub(super) fn from_fresh_socket(mut idea: Idea) -> Idea {
    let is_blind = matches!(idea.strategy, Strategy::Sweep | Strategy::Birthday);
    if let ([Some(seeker), Some(sought)], true) = (&mut idea.searches, is_blind) {
        (seeker.fresh, seeker.announce) = (true, Announce::FreshPort);
        sought.aim = Aim::FreshPort;
    }
    idea
}

/// The same, where the sockets whose ports are sought have to aim at a port that shows itself.
pub(super) fn toward_observed(mut idea: Idea) -> Idea {
    for search in idea.searches.iter_mut().flatten() {
        if search.aim == Aim::Endpoint {
            search.aim = Aim::Observed;
        }
    }
    idea
}

/// One side's ports are sought by another whose NAT gives every packet a port, maybe of a block that
/// would be used up long before one of many ports is found.
pub(super) fn seek(seeker: &NatProfile, sought: &NatProfile) -> Idea {
    let idea = one_side(sought);
    match (seeker.mapping, seeker.allocation, idea.strategy) {
        (Mapping::AddressAndPortDependent, Allocation::Block { size, .. }, Strategy::Birthday)
            if !is_wished(seeker, sought) =>
        {
            match seeker.reuses_ports {
                Some(true) => idea,
                Some(false) => Idea::new(
                    Strategy::Relay,
                    format!(
                        "one side's NAT gives every peer a random port, and the other's takes a port of a \
                     block of about {size} for every packet that seeks it: that would use up the block, \
                     so it is done on request only"
                    ),
                ),
                None => Idea::new(Strategy::TestReuse, TEST_REUSE),
            }
        }
        _ => idea,
    }
}

/// Both NATs give every destination a random port, and let in whoever shares an address with it: each
/// packet of either side tries a port of the other, and opens one of its own to be hit.
pub(super) fn both_random() -> Idea {
    let random = Some(search(1, Aim::Random, BIRTHDAY_PROBES));
    Idea {
        searches: [random.clone(), random],
        expected_percent: Some(99),
        ..Idea::new(
            Strategy::Birthday,
            "both NATs give every peer a random port, and let it in from everywhere: each packet tries \
             a port of the other side and opens one of its own",
        )
    }
}

/// What one side does whose next ports can be predicted, toward another of that kind.
fn predicted(profile: &NatProfile, announce: Announce) -> Option<Search> {
    match profile.allocation {
        Allocation::Preserving => Some(Search {
            fresh: true,
            announce: Announce::LocalPorts,
            ..search(PREDICTED_PORTS, Aim::Announced, PREDICTED_PORTS * 5)
        }),
        Allocation::Sequential { .. } => {
            Some(Search { announce, ..search(1, Aim::Announced, PREDICTED_PORTS * 5) })
        }
        Allocation::Block { .. } | Allocation::Random | Allocation::Unknown => None,
    }
}

/// Fresh sockets on both sides, whose ports nobody has sent to yet: for NATs that an early packet has
/// disturbed, and that keep ports.
pub(super) fn fresh_ports(a: &Side, b: &Side) -> Option<Idea> {
    let keeps = |side: &Side| {
        side.profile.mapping == Mapping::None || side.profile.allocation == Allocation::Preserving
    };
    let fresh = Some(Search {
        fresh: true,
        announce: Announce::LocalPorts,
        ..search(FRESH_SOCKETS, Aim::Announced, FRESH_SOCKETS * 5)
    });
    (keeps(a) && keeps(b)).then(|| Idea {
        searches: [fresh.clone(), fresh],
        opens: true,
        expected_percent: Some(99),
        ..Idea::new(
            Strategy::Preserved,
            "a packet that came too early may have moved the next one to another port: fresh sockets \
             on both sides, whose first packets open the own NAT and go no further",
        )
    })
}

/// Both sides' ports are unknown to the other, and only a packet to the right port from the right
/// port gets in.
pub(super) fn both_sides(a: &NatProfile, b: &NatProfile) -> Idea {
    let first = predicted(a, Announce::SkewedPorts);
    if let (Some(first), Some(second)) = (first, predicted(b, Announce::NextPorts)) {
        let strategy = match (a.allocation, b.allocation) {
            (Allocation::Preserving, Allocation::Preserving) => Strategy::Preserved,
            _ => Strategy::Sequence,
        };
        return Idea {
            searches: [Some(first), Some(second)],
            expected_percent: Some(97),
            ..Idea::new(strategy, "both NATs' next ports can be predicted")
        };
    }
    if let (Allocation::Block { .. }, Allocation::Block { .. }) = (a.allocation, b.allocation) {
        return blocks(a, b);
    }
    if may_be_blocks(a, b) || may_be_blocks(b, a) {
        return Idea::new(Strategy::TestReuse, TEST_REUSE);
    }
    let name = |profile: &NatProfile| match profile.allocation {
        Allocation::Preserving => "the local port, for the first destination",
        Allocation::Sequential { .. } => "ports in order",
        Allocation::Block { .. } => "a port of a block",
        Allocation::Random => "a random port",
        Allocation::Unknown => "a port of unknown choice",
    };
    Idea::new(
        Strategy::Relay,
        format!(
            "both NATs give every peer another port ({} and {}) and let nobody else in: with random \
             ports, about 54,000 packets a side would be an even chance",
            name(a),
            name(b)
        ),
    )
}

/// The lowest and highest port seen of a block, and its likely size.
fn block(profile: &NatProfile) -> Option<(u16, u16, u16)> {
    if let Allocation::Block { lowest, highest, size } = profile.allocation {
        Some((lowest, highest.max(lowest), size))
    } else {
        None
    }
}

/// Two blocks.
fn blocks(a: &NatProfile, b: &NatProfile) -> Idea {
    let sweep = |peer: &NatProfile| {
        let (lowest, highest, size) = block(peer)?;
        let aim = window(lowest, highest, size, 1, 0);
        let Aim::Window { first, last, .. } = aim else { return None };
        let ports = (last - first).saturating_add(1);
        let sockets = (BIRTHDAY_PROBES / ports).clamp(1, SWEEP_SOCKETS);
        let probes = sockets.saturating_mul(ports).clamp(SWEEP_PROBES, BIRTHDAY_PROBES);
        Some(search(sockets, aim, probes))
    };
    let exhaust = if is_wished(a, b) { exhaust(a, b) } else { None };
    match (a.reuses_ports, b.reuses_ports, exhaust) {
        (Some(true), Some(true), _) => Idea {
            searches: [sweep(b), sweep(a)],
            expected_percent: Some(99),
            ..Idea::new(
                Strategy::Sweep,
                "both NATs take ports from a block and use each for several peers: three sockets a \
                 side sweep the other's block",
            )
        },
        // A test of what is not known yet would use up half of a block.
        (_, _, Some(exhaust)) => exhaust,
        (Some(false), _, None) | (_, Some(false), None) => Idea::new(
            Strategy::Relay,
            "both NATs take a port of a small block for every peer: a search would use up both blocks \
             for half a minute, so it is made on request only",
        ),
        _ => Idea::new(Strategy::TestReuse, TEST_REUSE),
    }
}

/// Whether a few ports of a block that happen to follow each other may be all that keeps the two from being two
/// blocks. More of them are seen by the test for reuse.
fn may_be_blocks(block: &NatProfile, in_order: &NatProfile) -> bool {
    let is_order = matches!(in_order.allocation, Allocation::Sequential { .. });
    let is_pair = is_order && matches!(block.allocation, Allocation::Block { .. });
    let is_open = block.reuses_ports != Some(false) && in_order.reuses_ports.is_none();
    is_pair && is_open
}

/// All free ports of `a`'s block are aimed at one port of `b`'s; `b` aims at all of `a`'s.
fn exhaust(a: &NatProfile, b: &NatProfile) -> Option<Idea> {
    // The block whose bounds are known better is the one that is aimed at.
    let span = |profile: &NatProfile| block(profile).map_or(0, |(low, high, _)| high - low);
    if span(b) > span(a) { exhaust_first(b, a).map(Idea::swapped) } else { exhaust_first(a, b) }
}

fn exhaust_first(a: &NatProfile, b: &NatProfile) -> Option<Idea> {
    let (a_low, a_high, a_size) = block(a)?;
    let (b_low, b_high, _) = block(b)?;
    let used = |profile: &NatProfile| u16::try_from(profile.ports.len()).unwrap_or(u16::MAX);
    // The size is a guess, and may be too large: some ports are to be left to the host in any case.
    let surely = |low: u16, high: u16| (high - low).saturating_add(1).max(SMALL_BLOCK);
    let free = |size: u16, profile| size.saturating_sub(used(profile) + EXHAUST_SPARED).max(1);
    let (a_free, b_free) = (free(surely(a_low, a_high), a), free(surely(b_low, b_high), b));
    // Surely in the block, and in use by nobody that is known.
    let middle = b_low + (b_high - b_low) / 2;
    let around = (0..=used(b)).flat_map(|away| {
        [middle.checked_add(away), middle.checked_sub(away)].into_iter().flatten()
    });
    let target = around
        .filter(|port| (b_low..=b_high).contains(port))
        .find(|port| !b.ports.contains(port))?;
    let one = Aim::Window { first: target, last: target, centre: target };
    let many = Search { fresh: true, ..search(a_free, one, a_free) };
    let back = Search {
        except: a.ports.clone(),
        ..search(1, window(a_low, a_high, a_size, 1, 0), b_free)
    };
    Some(Idea {
        searches: [Some(many), Some(back)],
        expected_percent: Some(85),
        ..Idea::new(
            Strategy::Exhaust,
            "asked for by both sides: all free ports of one block are aimed at one port of the other",
        )
    })
}
