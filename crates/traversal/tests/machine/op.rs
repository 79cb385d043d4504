//! What may happen to a machine, at random.

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_traversal::{StunServer, Surroundings};
use holepunch_wire::WorkerId;
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::check::IceRole;
use holepunch_wire::plan::{Aim, Announce, Plan, Search, Strategy as PlanStrategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::Offer;
use holepunch_wire::signal::v1::{ServerV1, SessionDetails, SessionOffer, Welcome};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::select;
use proptest::{prop_compose, prop_oneof};

use crate::rig::{SESSIONS, credentials};
use crate::world::address;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Time passes, and the driver keeps up.
    Wait(Duration),
    /// Time passes, and the driver does not run.
    Sleep(Duration),
    /// A datagram of any bytes.
    Bytes(bool, SocketAddr, Vec<u8>),
    /// A check for a session, with its password or another.
    Check {
        session: u8,
        /// The own one, or which of the others that are open.
        socket: Option<usize>,
        from: SocketAddr,
        role: IceRole,
        tie_breaker: u64,
        forged: bool,
    },
    /// An answer to one of the last checks and questions, from where it was sent to or elsewhere.
    Answer {
        which: usize,
        from: Option<SocketAddr>,
        conflict: bool,
        forged: bool,
    },
    SessionOffer(Box<SessionOffer>),
    V1(Box<ServerV1>),
    /// The peer accepts a plan that the machine has accepted.
    PeerAccepts {
        which: usize,
        ports: Vec<u16>,
    },
    Leave(SessionId),
    /// A socket that was asked for is there or not.
    Socket {
        which: usize,
        succeeds: bool,
    },
    /// A socket that nobody has asked for.
    UnknownSocket {
        number: u32,
        succeeds: bool,
    },
    Surroundings(Surroundings),
    Registered(bool),
    Resolved(Result<Vec<StunServer>, String>),
    Offer(Offer),
    BadOffer,
}

/// Addresses that a datagram may come from.
fn source() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        6 => (1..4_u8, 5000..5004_u16).prop_map(|(last, port)| ([203, 0, 113, last], port).into()),
        1 => (1..=u16::MAX).prop_map(|port| ([198, 51, 100, 7], port).into()),
        1 => Just(address("192.168.1.9:5000")),
    ]
}

/// Addresses that somebody may name.
fn named() -> impl Strategy<Value = SocketAddr> {
    let odd = [
        "224.0.0.1:5000",
        "255.255.255.255:5000",
        "0.0.0.0:5000",
        "198.51.100.9:0",
        "127.0.0.1:5000",
        "[2001:db8::9]:5000",
        "[fe80::9]:5000",
        "[::]:0",
    ];
    prop_oneof![8 => source(), 2 => select(odd.to_vec()).prop_map(address)]
}

fn session() -> impl Strategy<Value = u8> {
    prop_oneof![6 => 0..4_u8, 1 => 0..SESSIONS]
}

fn id() -> impl Strategy<Value = SessionId> {
    session().prop_map(|session| SessionId(u64::from(session)))
}

fn role() -> impl Strategy<Value = IceRole> {
    select(vec![IceRole::Controlling, IceRole::Controlled])
}

fn proof() -> impl Strategy<Value = AddressProof> {
    select(vec![
        AddressProof::Stun,
        AddressProof::Stun,
        AddressProof::Signalling,
        AddressProof::None,
    ])
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let kinds = vec![
        CandidateKind::Host,
        CandidateKind::PortMapped,
        CandidateKind::ServerReflexive,
        CandidateKind::Other,
    ];
    let candidate = (select(kinds), named()).prop_map(|(kind, at)| Candidate::new(kind, at));
    vec(candidate, 0..20)
}

/// A number that is small, or as large as can be.
fn amount() -> impl Strategy<Value = u16> {
    prop_oneof![0..20_u16, any::<u16>(), Just(u16::MAX)]
}

prop_compose! {
    fn search()(
        aim in prop_oneof![
            Just(Aim::Endpoint),
            Just(Aim::Observed),
            Just(Aim::FreshPort),
            Just(Aim::Announced),
            Just(Aim::Random),
            any::<(u16, u16, u16)>()
                .prop_map(|(first, last, centre)| Aim::Window { first, last, centre }),
        ],
        announce in select(vec![
            Announce::Nothing,
            Announce::LocalPorts,
            Announce::NextPorts,
            Announce::SkewedPorts,
            Announce::FreshPort,
        ]),
        (sockets, probes_max, per_second) in (amount(), amount(), amount()),
        fresh: bool,
        except in vec(any::<u16>(), 0..4),
    ) -> Search {
        Search { sockets, fresh, aim, announce, probes_max, per_second, except }
    }
}

prop_compose! {
    fn plan()(
        number in prop_oneof![1..6_u32, any::<u32>()],
        strategy in select(vec![
            PlanStrategy::Plain,
            PlanStrategy::Plain,
            PlanStrategy::Birthday,
            PlanStrategy::Sequence,
            PlanStrategy::TestReuse,
            PlanStrategy::Relay,
        ]),
        search in option::of(search()),
        delay_ms in prop_oneof![6 => 0..300_u32, 1 => any::<u32>()],
        opener_ttl in option::of(any::<u8>()),
    ) -> Plan {
        Plan { number, search, delay_ms, opener_ttl, ..Plan::new(strategy, "any") }
    }
}

prop_compose! {
    fn session_offer()(
        number in session(),
        is_own in proptest::bool::weighted(0.02),
        endpoint in option::weighted(0.9, named()),
        role in role(),
        candidates in candidates(),
        address_proof in proof(),
        plan in plan(),
    ) -> SessionOffer {
        let [own, peer] = credentials(number);
        SessionOffer {
            peer: WorkerId::new(if is_own { "own" } else { "peer" }).unwrap(),
            endpoint,
            details: SessionDetails {
                session: SessionId(u64::from(number)),
                role,
                credentials: own,
                peer_credentials: peer,
                peer_key: None,
                relay_token: None,
                relay_url: None,
                relay_udp: Vec::new(),
                candidates,
                address_proof,
                turn: Vec::new(),
 guest: false,
                plan,
            },
        }
    }
}

fn signal() -> impl Strategy<Value = ServerV1> {
    let welcome = (vec(named(), 0..4), any::<bool>()).prop_map(|(stun, has_nonce)| {
        ServerV1::Welcome(Welcome {
            server: String::new(),
            observed_ip: address("203.0.113.1:1").ip(),
            observed_port: None,
            stun,
            turn: Vec::new(),
            proof_nonce: if has_nonce { "00112233445566778899aabbccddeeff" } else { "x" }
                .to_owned(),
            challenge: String::new(),
            resume: String::new(),
            sessions_max: 1,
            calls_from_anywhere: false,
        })
    });
    let number = prop_oneof![1..6_u32, any::<u32>()];
    prop_oneof![
        1 => welcome,
        4 => (id(), plan()).prop_map(|(session, plan)| ServerV1::Plan { session, plan }),
        4 => (id(), number.clone(), vec(1..=u16::MAX, 0..12))
            .prop_map(|(session, number, ports)| ServerV1::PeerAccepted { session, number, ports }),
        3 => (id(), number, candidates(), proof()).prop_map(
            |(session, generation, candidates, address_proof)| {
                ServerV1::PeerCandidates { session, generation, candidates, address_proof }
            }
        ),
        1 => id().prop_map(|session| ServerV1::ended(session, EndReason::Unknown)),
        1 => Just(ServerV1::Error { code: None, call: None, message: "any".to_owned() }),
    ]
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    let interfaces = select(vec!["10.0.0.1", "192.168.1.2", "2001:db8::1", "fe80::1", "127.0.0.1"]);
    let interfaces = vec(interfaces.prop_map(|text| text.parse().unwrap()), 0..4);
    (interfaces, any::<[bool; 3]>()).prop_map(|(interfaces, [main, main_v6, mapped])| {
        Surroundings {
            interfaces,
            main: main.then(|| address("0.0.0.0:5000")),
            main_v6: main_v6.then(|| address("[::]:5001")),
            port_mapped: mapped.then(|| address("203.0.113.77:7000")),
        }
    })
}

fn resolved() -> impl Strategy<Value = Result<Vec<StunServer>, String>> {
    let of_ipv6 = select(vec!["[2001:db8::9]:3478", "[2001:db8::a]:3478"]).prop_map(address);
    let first = prop_oneof![3 => source(), 1 => of_ipv6];
    let server = (first, vec(source(), 0..3)).prop_map(|(address, others)| StunServer {
        others: others.into_iter().map(|other| (other, None)).collect(),
        ..StunServer::at("stun.test:3478".to_owned(), address)
    });
    prop_oneof![4 => vec(server, 0..10).prop_map(Ok), 1 => Just(Err("no such name".to_owned()))]
}

/// Short at first, since most of what happens in a session does so within a second.
fn pause() -> impl Strategy<Value = Duration> {
    let ms = prop_oneof![6 => 0..300_u64, 3 => 0..5000_u64, 1 => 0..60_000_u64];
    ms.prop_map(Duration::from_millis)
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let wait = pause().prop_map(Op::Wait);
    let nap = (0..100_000_u64).prop_map(|ms| Op::Sleep(Duration::from_millis(ms)));
    let bytes = (any::<bool>(), source(), vec(any::<u8>(), 0..200))
        .prop_map(|(is_main, from, bytes)| Op::Bytes(is_main, from, bytes));
    let tie_breaker = select(vec![0, 1 << 63, u64::MAX]);
    let on = option::weighted(0.3, any::<usize>());
    let claims = (role(), tie_breaker, proptest::bool::weighted(0.1));
    let check = (session(), on, source(), claims).prop_map(
        |(session, socket, from, (role, tie_breaker, forged))| Op::Check {
            session,
            socket,
            from,
            role,
            tie_breaker,
            forged,
        },
    );
    let elsewhere = option::weighted(0.15, source());
    let conflict = proptest::bool::weighted(0.1);
    let answer = (any::<usize>(), elsewhere, conflict, proptest::bool::weighted(0.1))
        .prop_map(|(which, from, conflict, forged)| Op::Answer { which, from, conflict, forged });
    let socket = (any::<usize>(), proptest::bool::weighted(0.8))
        .prop_map(|(which, succeeds)| Op::Socket { which, succeeds });
    let unknown = (0..400_u32, any::<bool>())
        .prop_map(|(number, succeeds)| Op::UnknownSocket { number, succeeds });
    let peer = Just(WorkerId::new("peer").unwrap());
    // The baseline's reader lets no port 0 through.
    let offer = (peer, named()).prop_map(|(peer, mut endpoint)| {
        endpoint.set_port(endpoint.port().max(1));
        Op::Offer(Offer { peer, endpoint })
    });
    prop_oneof![
        20 => wait,
        2 => nap,
        3 => bytes,
        12 => check,
        16 => answer,
        10 => session_offer().prop_map(|offer| Op::SessionOffer(Box::new(offer))),
        16 => signal().prop_map(|message| Op::V1(Box::new(message))),
        10 => (any::<usize>(), vec(1..=u16::MAX, 0..12))
            .prop_map(|(which, ports)| Op::PeerAccepts { which, ports }),
        1 => id().prop_map(Op::Leave),
        6 => socket,
        1 => unknown,
        2 => surroundings().prop_map(Op::Surroundings),
        1 => any::<bool>().prop_map(Op::Registered),
        2 => resolved().prop_map(Op::Resolved),
        1 => offer,
        1 => Just(Op::BadOffer),
    ]
}
