//! A matchmaker under a virtual clock, and what it says to whom.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Action, Closing, Config, ConnectionId, Event, Input, Matchmaker, Observed, Permit, Protocol,
    Told,
};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::plan::Strategy;
use holepunch_wire::relay::{RelayAccess, RelayKey};
use holepunch_wire::session::{RoomName, SessionId};
use holepunch_wire::signal::v1::{ServerV1, SessionOffer, Welcome};
use holepunch_wire::signal::{FromServer, FromWorker};
use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use holepunch_wire::turn::TurnAccess;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) const UNIX_S: u64 = 1_800_000_000;

pub(crate) struct Table {
    pub(crate) machine: Matchmaker,
    pub(crate) now: Instant,
    pub(crate) frames: BTreeMap<u64, Vec<String>>,
    pub(crate) events: Vec<Event>,
    /// The same, with where they happened.
    pub(crate) told: Vec<Told>,
    /// The code and the reason with which a connection was closed.
    pub(crate) closes: BTreeMap<u64, (u16, &'static str)>,
}

pub(crate) fn key() -> ProofKey {
    ProofKey::new([7; 32])
}

pub(crate) fn relay_key() -> RelayKey {
    RelayKey::new([8; 32])
}

impl Table {
    pub(crate) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let stun = vec!["192.0.2.1:3478".parse().unwrap()];
        let config = Config {
            stun,
            proofs: Some((key(), ProofClock::new(now, Duration::from_secs(UNIX_S)))),
            ..Config::default()
        };
        Self::of(config, now)
    }

    /// With a relay: the rendezvous' own, or the one at this URL.
    pub(crate) fn with_relay(url: Option<&str>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let relay = RelayAccess { key: relay_key(), url: url.map(str::to_owned), udp: Vec::new() };
        let mut table = Self::of(Config { relay: Some(relay), ..Config::default() }, now);
        table.input(Input::WallClock { unix: Duration::from_secs(UNIX_S) });
        table
    }

    /// With a TURN server.
    pub(crate) fn with_turn(turn: TurnAccess) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let mut table = Self::of(Config { turn: Some(turn), ..Config::default() }, now);
        table.input(Input::WallClock { unix: Duration::from_secs(UNIX_S) });
        table
    }

    /// With room for so many workers.
    pub(crate) fn for_workers(workers_max: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        Self::of(Config { workers_max, ..Config::default() }, now)
    }

    /// With room for so many workers of one address.
    pub(crate) fn for_workers_of_an_address(max: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        Self::of(Config { workers_per_address_max: Some(max), ..Config::default() }, now)
    }

    pub(crate) fn for_workers_of_a_tenant(max: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        Self::of(Config { workers_per_tenant_max: Some(max), ..Config::default() }, now)
    }

    /// Whether one more worker would be taken, from an address of its own.
    pub(crate) fn admits(&self, worker: &WorkerId) -> bool {
        self.machine.admits(worker, [198, 51, 100, 1].into()).is_ok()
    }

    fn of(config: Config, now: Instant) -> Self {
        let machine = Matchmaker::new(config, StdRng::seed_from_u64(1));
        let (frames, closes) = (BTreeMap::new(), BTreeMap::new());
        Self { machine, now, frames, events: Vec::new(), told: Vec::new(), closes }
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.machine.handle_input(input, self.now);
        self.drain();
    }

    pub(crate) fn drain(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            let connection = transmit.connection.0;
            match transmit.action {
                Action::Send(text) | Action::Offer(text) | Action::Update(_, _, text) => {
                    self.frames.entry(connection).or_default().push(text);
                }
                Action::Close(reason) => {
                    let (code, reason) = (reason.close_code().into(), reason.text());
                    let before = self.closes.insert(connection, (code, reason));
                    assert_eq!(before, None, "{connection} is closed twice");
                }
                Action::Ping => {}
            }
        }
        #[cfg(debug_assertions)]
        self.machine.check_invariants();
        while let Some(event) = self.machine.poll_event() {
            self.events.push(event.event.clone());
            self.told.push(event);
        }
    }

    /// A worker with the name `w<number>`, from 203.0.113.<number>.
    pub(crate) fn connect(&mut self, number: u64, protocol: Protocol, room: &str) {
        self.connect_as(number, number, protocol, room);
    }

    /// The connection `number` of the worker `w<worker>`.
    pub(crate) fn connect_as(&mut self, number: u64, worker: u64, protocol: Protocol, room: &str) {
        let id = WorkerId::new(&format!("w{worker}")).unwrap();
        self.connect_id((number, worker), id, protocol, room);
    }

    /// The connection `number` of a worker with this id, from 203.0.113.`last`.
    pub(crate) fn connect_id(
        &mut self,
        (number, last): (u64, u64),
        worker: WorkerId,
        protocol: Protocol,
        room: &str,
    ) {
        self.connect_with((number, last), worker, protocol, room, Permit::default());
    }

    /// The same for a worker that may do this.
    pub(crate) fn connect_with(
        &mut self,
        (number, last): (u64, u64),
        worker: WorkerId,
        protocol: Protocol,
        room: &str,
        permit: Permit,
    ) {
        let (ip, permit) =
            ([203, 0, 113, u8::try_from(last % 250).unwrap()].into(), Arc::new(permit));
        let room = (!room.is_empty()).then(|| RoomName::new(room).unwrap());
        let observed = Observed { ip, port: Some(1000) };
        let connection = ConnectionId(number);
        let challenge = format!("challenge {number}");
        self.input(Input::Connected {
            connection,
            worker,
            observed,
            protocol,
            room,
            challenge,
            permit,
        });
    }

    pub(crate) fn v1(&mut self, numbers: &[u64], room: &str) {
        for number in numbers {
            self.connect(*number, Protocol::V1, room);
        }
    }

    pub(crate) fn say(&mut self, number: u64, text: &str) {
        self.say_proving(number, text, None);
    }

    /// A message whose signature the server has found to prove this key.
    pub(crate) fn say_proving(&mut self, number: u64, text: &str, proved: Option<PublicKey>) {
        let message = FromWorker::parse(text).unwrap();
        self.input(Input::Message { connection: ConnectionId(number), message, proved });
    }

    pub(crate) fn report(&mut self, number: u64) {
        self.report_from(number, number);
    }

    pub(crate) fn report_from(&mut self, number: u64, worker: u64) {
        let ip = format!("203.0.113.{}", worker % 250);
        self.say(
            number,
            &format!(r#"{{"type":"update_udp_endpoint","udp_ip":"{ip}","udp_port":4000}}"#),
        );
    }

    pub(crate) fn profile(&mut self, number: u64, mapping: &str, allocation: &str) {
        self.profile_with(number, mapping, allocation, "");
    }

    pub(crate) fn profile_with(
        &mut self,
        number: u64,
        mapping: &str,
        allocation: &str,
        more: &str,
    ) {
        self.say(
            number,
            &format!(
                r#"{{"type":"nat_profile","profile":{{"udp":"open","mapping":"{mapping}",
                "filtering":"address_and_port_dependent","allocation":{allocation},
                "ports":[2050,2060,2070]{more}}}}}"#
            ),
        );
    }

    pub(crate) fn state(
        &mut self,
        number: u64,
        session: SessionId,
        state: &str,
        strategy: &str,
        plan: u32,
    ) {
        self.say(
            number,
            &format!(
                r#"{{"type":"link_state","session":"{session}","state":"{state}",
                "strategy":"{strategy}","number":{plan}}}"#
            ),
        );
    }

    /// Both are ready for the search of a plan.
    pub(crate) fn accept(&mut self, session: SessionId, plan: u32) {
        for number in [1, 2] {
            self.say(
                number,
                &format!(
                    r#"{{"type":"plan_accepted","session":"{session}","number":{plan},"ports":[]}}"#
                ),
            );
        }
    }

    /// The connection is lost.
    pub(crate) fn close(&mut self, number: u64) {
        self.close_as(number, Closing::Broken);
    }

    pub(crate) fn close_as(&mut self, number: u64, closing: Closing) {
        self.input(Input::Closed { connection: ConnectionId(number), closing });
    }

    /// One end of a session's relay, the first or the second worker's, is connected or not.
    pub(crate) fn relay(&mut self, session: SessionId, end: usize, is_open: bool) {
        self.input(Input::Relay { session, end, is_open });
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(at);
            self.drain();
            for number in self.frames.keys().copied().collect::<Vec<_>>() {
                self.input(Input::Pong { connection: ConnectionId(number) });
            }
        }
        self.now = end;
    }

    pub(crate) fn messages(&self, number: u64) -> Vec<FromServer> {
        let frames = self.frames.get(&number).map(Vec::as_slice).unwrap_or_default();
        frames.iter().map(|text| FromServer::parse(text).unwrap()).collect()
    }

    pub(crate) fn v1_messages(&self, number: u64) -> Vec<ServerV1> {
        let of =
            |message| if let FromServer::V1(Ok(message)) = message { Some(*message) } else { None };
        self.messages(number).into_iter().filter_map(of).collect()
    }

    pub(crate) fn offers(&self, number: u64) -> Vec<SessionOffer> {
        let of = |message| match message {
            FromServer::SessionOffer(offer) => Some(*offer.unwrap()),
            _ => None,
        };
        self.messages(number).into_iter().filter_map(of).collect()
    }

    pub(crate) fn welcome(&self, number: u64) -> Welcome {
        let welcomes = self.v1_messages(number).into_iter();
        let of = |it| if let ServerV1::Welcome(welcome) = it { Some(welcome) } else { None };
        welcomes.filter_map(of).next_back().unwrap()
    }

    pub(crate) fn plans(&self, number: u64) -> Vec<(u32, Strategy)> {
        let of = |it| match it {
            ServerV1::Plan { plan, .. } => Some((plan.number, plan.strategy)),
            _ => None,
        };
        self.v1_messages(number).into_iter().filter_map(of).collect()
    }

    /// Why the newest plan is as it is.
    pub(crate) fn last_reason(&self, number: u64) -> String {
        let of = |it| if let ServerV1::Plan { plan, .. } = it { Some(plan.reason) } else { None };
        self.v1_messages(number).into_iter().filter_map(of).next_back().unwrap()
    }

    pub(crate) fn ended(&self, number: u64) -> usize {
        let is = |it: &ServerV1| matches!(it, ServerV1::SessionEnded { .. });
        self.v1_messages(number).iter().filter(|it| is(it)).count()
    }

    /// Two workers with a session.
    pub(crate) fn pair() -> (Self, SessionId) {
        let mut table = Self::new();
        table.v1(&[1, 2], "");
        table.report(1);
        table.report(2);
        let session = table.offers(1)[0].details.session;
        (table, session)
    }
}
