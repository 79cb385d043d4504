//! Any sequence of inputs, honest ones and others: nothing breaks, and everything stays within bounds.

use holepunch_traversal::{Input, SocketId};
use holepunch_wire::check::{
    CheckKey, CheckRequest, IceRole, encode_role_conflict, encode_success,
};
use holepunch_wire::signal::v1::ServerV1;
use holepunch_wire::stun::{BindingRequest, BindingSuccess, TransactionId, binding_request};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::proptest;

use crate::op::{Op, op};
use crate::rig::{Asked, Rig, credentials};
use crate::world::address;

impl Rig {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Wait(time) => self.wait(time),
            Op::Sleep(time) => self.sleep(time),
            Op::Bytes(is_main, from, payload) => {
                let socket = if is_main { SocketId::MAIN } else { SocketId(7) };
                self.input(Input::Datagram { socket, from, payload: &payload });
            }
            Op::Check { session, socket, from, role, tie_breaker, forged } => {
                let socket = socket.map_or(SocketId::MAIN, |which| self.fresh_socket(which));
                self.check((session, socket), from, role, tie_breaker, forged);
            }
            Op::Answer { which, from, conflict, forged } => {
                if let Some(asked) = pick(&self.asked, which) {
                    self.answer(asked, from.unwrap_or(asked.to), conflict, forged);
                }
            }
            Op::SessionOffer(offer) => self.input(Input::SessionOffer(offer)),
            Op::V1(message) => self.input(Input::V1(message)),
            Op::PeerAccepts { which, ports } => {
                let accepted = self.accepted.len();
                if let Some((session, number)) = self.accepted.get(which % accepted.max(1)) {
                    let (session, number) = (*session, *number);
                    let message = ServerV1::PeerAccepted { session, number, ports };
                    self.input(Input::V1(Box::new(message)));
                }
            }
            Op::Leave(session) => self.input(Input::Leave(session)),
            Op::Socket { which, succeeds } => self.open_wanted(which, succeeds),
            Op::UnknownSocket { number, succeeds } => {
                let socket = SocketId(1_000_000 + number);
                let opened = Input::SocketOpened(socket, address("10.0.0.1:9"));
                self.input(if succeeds { opened } else { Input::SocketFailed(socket) });
            }
            Op::Surroundings(surroundings) => self.input(Input::Surroundings(surroundings)),
            Op::Registered(true) => self.input(Input::Registered),
            Op::Registered(false) => self.input(Input::Unregistered),
            Op::Resolved(resolved) => self.input(Input::Resolved(resolved)),
            Op::Offer(offer) => self.input(Input::Offer(offer)),
            Op::BadOffer => self.input(Input::BadOffer("any".to_owned())),
        }
    }

    pub(crate) fn check(
        &mut self,
        (session, socket): (u8, SocketId),
        from: std::net::SocketAddr,
        role: IceRole,
        tie_breaker: u64,
        forged: bool,
    ) {
        let [own, peer] = credentials(session);
        let request = CheckRequest {
            transaction: TransactionId::from(u128::from(self.sent) + 1),
            remote_ufrag: own.ufrag(),
            local_ufrag: peer.ufrag(),
            priority: 1,
            role,
            tie_breaker,
            use_candidate: role == IceRole::Controlling,
        };
        let key = if forged { CheckKey::new("another") } else { own.check_key() };
        let payload = request.encode(&key);
        self.input(Input::Datagram { socket, from, payload: &payload });
    }

    pub(crate) fn answer(
        &mut self,
        asked: Asked,
        from: std::net::SocketAddr,
        conflict: bool,
        forged: bool,
    ) {
        let Asked { transaction, socket, session, .. } = asked;
        let mapped = address("198.51.100.200:4321");
        let payload = match session {
            Some(session) => {
                let key = credentials(session)[1].check_key();
                let key = if forged { CheckKey::new("another") } else { key };
                if conflict {
                    encode_role_conflict(transaction, &key)
                } else {
                    encode_success(transaction, mapped, &key)
                }
            }
            None => {
                let request = binding_request(transaction);
                let other = Some(address("192.0.2.2:3479"));
                let answer = BindingSuccess { mapped, origin: from, other, proof: None };
                BindingRequest::parse(&request).unwrap().success(&answer)
            }
        };
        self.input(Input::Datagram { socket, from, payload: &payload });
    }
}

fn pick(asked: &[Asked], which: usize) -> Option<Asked> {
    // The newest ones most often.
    let back = which % asked.len().clamp(1, 8);
    asked.iter().rev().nth(back).copied()
}

proptest! {
    #[test]
    fn whatever_happens_the_machine_stays_within_its_bounds(
        opens_at_once: bool, profile: bool, seed in any::<u64>(), ops in vec(op(), 1..120),
    ) {
        let mut rig = Rig::new(opens_at_once, profile, seed);
        for op in ops {
            rig.apply(op);
        }
        rig.end();
    }
}
