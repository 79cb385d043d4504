//! Any sequence of what workers may say, in any state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holepunch_matchmaker::{Closing, ConnectionId, Event, Input, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::check::IceRole;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::{ServerV1, SessionOffer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::table::Table;

/// Workers, each with a connection of its own at a time.
const WORKERS: u64 = 6;
/// Most messages that one step may cause: an offer each for both sides of each pair of a room.
const MESSAGES_PER_STEP_MAX: usize = 64;
/// Plans of one session.
const PLANS_MAX: u32 = 32;

#[derive(Debug, Clone)]
enum Step {
    Connect {
        worker: u64,
        v1: bool,
        room: &'static str,
    },
    /// A message; `SESSION` in it becomes one of the sessions that there have been.
    Say {
        worker: u64,
        text: String,
        session: usize,
    },
    /// A hello with one of two keys, proved or not.
    Claim {
        worker: u64,
        key: u8,
        proved: bool,
    },
    Report {
        worker: u64,
    },
    Close {
        worker: u64,
    },
    Pass {
        ms: u64,
    },
}

fn allocation() -> impl Strategy<Value = String> {
    let block = any::<[u16; 3]>().prop_map(|[lowest, highest, size]| {
        format!(r#"{{"kind":"block","lowest":{lowest},"highest":{highest},"size":{size}}}"#)
    });
    prop_oneof![
        select(vec!["preserving", "random", "unknown", "of a later version"])
            .prop_map(|kind| format!(r#"{{"kind":"{kind}"}}"#)),
        any::<i16>().prop_map(|step| format!(r#"{{"kind":"sequential","step":{step}}}"#)),
        block,
    ]
}

fn profile() -> impl Strategy<Value = String> {
    let mapping = select(vec![
        "none",
        "endpoint_independent",
        "address_dependent",
        "address_and_port_dependent",
    ]);
    let filtering = select(vec![
        "endpoint_independent",
        "address_dependent",
        "address_and_port_dependent",
        "unknown",
    ]);
    let reuses = select(vec!["true", "false", "null"]);
    let search = select(vec!["usual", "never", "exhaustive"]);
    let udp = select(vec!["open", "open", "open", "blocked"]);
    let ports = vec(1..=u16::MAX, 0..40);
    let words = (mapping, filtering, reuses, search, udp);
    (words, allocation(), ports, any::<[bool; 2]>()).prop_map(
        |((mapping, filtering, reuses, search, udp), allocation, ports, [ipv6, remaps])| {
            format!(
                r#"{{"type":"nat_profile","profile":{{"udp":"{udp}","mapping":"{mapping}",
                "filtering":"{filtering}","allocation":{allocation},"ports":{ports:?},
                "reuses_ports":{reuses},"search":"{search}","ipv6":{ipv6},
                "remaps_after_inbound":{remaps}}}}}"#
            )
        },
    )
}

fn message() -> impl Strategy<Value = String> {
    let hello = (select(vec!["", "m", "c"]), select(vec!["pair", "mesh", "call"]), any::<bool>())
        .prop_map(|(room, mode, callable)| {
            format!(r#"{{"type":"hello","room":"{room}","mode":"{mode}","callable":{callable}}}"#)
        });
    let kind = select(vec!["host", "port_mapped", "server_reflexive", "predicted"]);
    let candidates = (0..9_u32, vec((kind, any::<u8>(), any::<u16>()), 0..20)).prop_map(
        |(generation, candidates)| {
            let one = |(kind, last, port)| {
                format!(r#"{{"kind":"{kind}","ip":"203.0.113.{last}","port":{port},"priority":1}}"#)
            };
            let all: Vec<String> = candidates.into_iter().map(one).collect();
            let all = all.join(",");
            format!(r#"{{"type":"candidates","generation":{generation},"candidates":[{all}]}}"#)
        },
    );
    let states =
        select(vec!["checking", "direct", "relayed", "repairing", "declined", "failed", "later"]);
    let strategies = select(vec!["plain", "birthday", "sweep", "relay", "exhaust", "opener"]);
    let state = (states, strategies, 0..6_u32).prop_map(|(state, strategy, number)| {
        format!(
            r#"{{"type":"link_state","session":"SESSION","state":"{state}","strategy":"{strategy}",
            "number":{number}}}"#
        )
    });
    let accepted = (0..6_u32, vec(any::<u16>(), 0..20)).prop_map(|(number, ports)| {
        format!(
            r#"{{"type":"plan_accepted","session":"SESSION","number":{number},"ports":{ports:?}}}"#
        )
    });
    let call = (0..WORKERS + 1).prop_map(|peer| format!(r#"{{"type":"call","peer":"w{peer}"}}"#));
    prop_oneof![
        2 => hello,
        4 => profile(),
        2 => candidates,
        6 => state,
        2 => accepted,
        2 => call,
        1 => Just(r#"{"type":"ready"}"#.to_owned()),
        1 => Just(r#"{"type":"turn_address","session":"SESSION","address":"192.0.2.9:9"}"#.to_owned()),
        2 => Just(r#"{"type":"leave","session":"SESSION"}"#.to_owned()),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 0..WORKERS;
    let room = select(vec!["", "", "m", "c"]);
    let connect = (worker(), proptest::bool::weighted(0.8), room)
        .prop_map(|(worker, v1, room)| Step::Connect { worker, v1, room });
    let say = (worker(), message(), any::<usize>()).prop_map(|(worker, text, session)| Step::Say {
        worker,
        text,
        session,
    });
    let claim = (worker(), 1..=2_u8, proptest::bool::weighted(0.9))
        .prop_map(|(worker, key, proved)| Step::Claim { worker, key, proved });
    let step = prop_oneof![
        4 => connect,
        16 => say,
        3 => claim,
        6 => worker().prop_map(|worker| Step::Report { worker }),
        1 => worker().prop_map(|worker| Step::Close { worker }),
        3 => (0..40_000_u64).prop_map(|ms| Step::Pass { ms }),
    ];
    vec(step, 0..120)
}

/// What is known of the sessions from what workers were told.
#[derive(Default)]
struct Told {
    sessions: BTreeMap<SessionId, Vec<(u64, SessionOffer)>>,
    /// The last plan of each session, as each connection knows it.
    plans: BTreeMap<(u64, SessionId), u32>,
    read: BTreeMap<u64, usize>,
    /// The key of each worker that was offered under one.
    keys: BTreeMap<WorkerId, PublicKey>,
}

impl Told {
    /// Reads what is new, and says how much that was.
    fn read(&mut self, table: &Table) -> Result<usize, TestCaseError> {
        let mut count = 0;
        for (connection, frames) in &table.frames {
            let from = self.read.insert(*connection, frames.len()).unwrap_or(0);
            count += frames.len() - from;
            for offer in table.offers(*connection) {
                if let Some(key) = offer.details.peer_key {
                    // Less than a day passes: it is bound to the first one.
                    let first = *self.keys.entry(offer.peer.clone()).or_insert(key);
                    prop_assert_eq!(first, key, "another key of {}", offer.peer);
                }
                let known = self.sessions.entry(offer.details.session).or_default();
                if known.iter().all(|(other, _)| other != connection) {
                    known.push((*connection, offer));
                }
            }
            for message in table.v1_messages(*connection) {
                self.message(*connection, &message)?;
            }
        }
        Ok(count)
    }

    fn message(&mut self, connection: u64, message: &ServerV1) -> Result<(), TestCaseError> {
        let session = match message {
            ServerV1::Plan { session, plan } => {
                let last = self.plans.entry((connection, *session)).or_insert(1);
                *last = plan.number.max(*last);
                prop_assert!(plan.number <= PLANS_MAX && !plan.reason.is_empty());
                session
            }
            ServerV1::PeerCandidates { session, .. }
            | ServerV1::PeerAccepted { session, .. }
            | ServerV1::PeerTurnAddress { session, .. }
            | ServerV1::RelayToken { session, .. } => session,
            _ => return Ok(()),
        };
        let members = self.sessions.get(session).into_iter().flatten();
        let is_member = members.into_iter().any(|(member, _)| *member == connection);
        prop_assert!(is_member, "{connection} is told of a session that is not its own");
        Ok(())
    }

    /// Each session is of two, who were told the same of each other.
    fn check(&self) -> Result<(), TestCaseError> {
        for (session, members) in &self.sessions {
            let [(_, a), (_, b)] = &members[..] else {
                return Err(TestCaseError::fail(format!(
                    "{session} has {} members",
                    members.len()
                )));
            };
            prop_assert_eq!(&a.details.credentials, &b.details.peer_credentials);
            prop_assert_eq!(&b.details.credentials, &a.details.peer_credentials);
            let roles = BTreeSet::from([
                a.details.role == IceRole::Controlling,
                b.details.role == IceRole::Controlling,
            ]);
            prop_assert_eq!(roles.len(), 2);
            prop_assert!(a.peer != b.peer);
        }
        Ok(())
    }
}

struct Play {
    table: Table,
    told: Told,
    /// The connection of each worker.
    connections: BTreeMap<u64, u64>,
    next: u64,
}

impl Play {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Connect { worker, v1, room } => {
                self.next += 1;
                let protocol = if v1 { Protocol::V1 } else { Protocol::Baseline };
                self.connections.insert(worker, self.next);
                self.table.connect_as(self.next, worker, protocol, room);
            }
            Step::Say { worker, text, session } => {
                let ids: Vec<SessionId> = self.told.sessions.keys().copied().collect();
                let id = ids.get(session.checked_rem(ids.len()).unwrap_or(0));
                let text = text
                    .replace("SESSION", &id.map_or_else(|| "0".repeat(16), SessionId::to_string));
                if let Some(connection) = self.connections.get(&worker) {
                    self.table.say(*connection, &text);
                }
            }
            Step::Claim { worker, key, proved } => {
                let key = PublicKey::from_bytes([key; 32]);
                if let Some(connection) = self.connections.get(&worker) {
                    let text = format!(r#"{{"type":"hello","key":"{key}"}}"#);
                    self.table.say_proving(*connection, &text, proved.then_some(key));
                }
            }
            Step::Report { worker } => {
                if let Some(connection) = self.connections.get(&worker) {
                    self.table.report_from(*connection, worker);
                }
            }
            Step::Close { worker } => {
                if let Some(connection) = self.connections.remove(&worker) {
                    self.table.close(connection);
                }
            }
            Step::Pass { ms } => self.table.pass(Duration::from_millis(ms)),
        }
        let told = self.told.read(&self.table)?;
        prop_assert!(told <= MESSAGES_PER_STEP_MAX, "{told} messages");
        self.told.check()
    }
}

proptest! {
    #[test]
    fn whatever_workers_say_sessions_are_of_two_and_end_with_them(steps in steps()) {
        let mut play =
            Play { table: Table::new(), told: Told::default(), connections: BTreeMap::new(), next: 0 };
        for step in steps {
            play.step(step)?;
        }
        for connection in 1..=play.next {
            play.table.input(Input::Closed { connection: ConnectionId(connection), closing: Closing::Broken });
        }
        play.table.frames.clear();
        play.table.pass(Duration::from_secs(60));
        prop_assert_eq!(play.table.machine.workers().count(), 0);
        prop_assert_eq!(play.table.machine.poll_timeout(), None);
        let count = |is: fn(&Event) -> bool| play.table.events.iter().filter(|it| is(it)).count();
        let started = count(|it| matches!(it, Event::SessionStarted(..)));
        prop_assert_eq!(started, count(|it| matches!(it, Event::SessionEnded(..))));
    }
}
