//! STUN on any socket: answers to our questions, and checks.

use std::net::SocketAddr;
use std::time::Instant;

use holepunch_wire::check::{Check, ParsedCheck};
use holepunch_wire::stun::{BindingOutcome, BindingResponse, TransactionId};

use super::Owner;
use crate::doors::SocketId;
use crate::machine::Traversal;
use crate::session::{PeerCheck, Route, Session, Source};

impl Traversal {
    /// A STUN message on any socket: an answer to one of our questions, or a check.
    pub(crate) fn stun(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) -> bool {
        let is_own = |seen: SocketAddr| self.surroundings.is_own(seen);
        if socket == SocketId::MAIN
            && self.discovery.handle_datagram(from, payload, is_own, now, &mut self.rng)
        {
            return true;
        }
        if let Ok(response) = BindingResponse::parse(payload)
            && (self.answered_by_ipv6(socket, from, &response, now)
                || self.profiler.handle_response(socket, from, &response, now, &mut self.rng)
                || self.sampled(socket, &response, now))
        {
            return true;
        }
        if let Ok(check) = ParsedCheck::parse(payload) {
            return self.check(socket, from, &check, now);
        }
        // The bare request that was sent around to find out whether the NAT hairpins.
        socket == SocketId::MAIN
            && TransactionId::of(payload)
                .is_some_and(|transaction| self.profiler.handle_hairpin(transaction))
    }

    fn answered_by_ipv6(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        response: &BindingResponse,
        now: Instant,
    ) -> bool {
        let is_own = |seen: SocketAddr| self.surroundings.is_own(seen);
        let source = (socket, from);
        let is_answer = self.ipv6.handle_response(source, response, is_own, now, &mut self.rng);
        if is_answer {
            self.conclude_ipv6();
        }
        is_answer
    }

    pub(super) fn sampled(
        &mut self,
        socket: SocketId,
        response: &BindingResponse,
        now: Instant,
    ) -> bool {
        let BindingOutcome::Mapped(mapped) = response.outcome else { return false };
        let transaction = response.transaction;
        self.sessions.values_mut().any(|session| {
            session.handle_sample(socket, transaction, mapped.port(), now, &mut self.rng)
        })
    }

    pub(super) fn check(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        parsed: &ParsedCheck<'_>,
        now: Instant,
    ) -> bool {
        let transaction = parsed.transaction;
        let owner = match parsed.check {
            Check::Request { username, .. } => {
                self.sessions.values().find(|session| session.local_ufrag() == username.receiver())
            }
            Check::Success { .. } | Check::Error { .. } => {
                self.sessions.values().find(|session| session.awaits(transaction))
            }
            Check::Indication => return true,
        };
        let Some(session) = owner else { return false };
        // A path by a socket of the profiler's, or of another session's, would be cut when that one closes it.
        let owner = self.sockets.get(&socket).map(|(owner, _)| *owner);
        if owner.is_some_and(|owner| owner != Owner::Session(session.id)) {
            return false;
        }
        let is_request = matches!(parsed.check, Check::Request { .. });
        let key = if is_request { session.local_key() } else { session.remote_key() };
        if !parsed.verify(key) {
            self.dropped.unauthenticated += 1;
            return true;
        }
        let (id, peer) = (session.id, session.peer.clone());
        let source = Route { socket, to: from };
        let is_another = |other: &&mut Box<Session>| other.peer != peer;
        let mut is_anothers = false;
        for other in self.sessions.values_mut().filter(is_another) {
            is_anothers |= other.knows(source);
            other.yield_source(source);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let rng = &mut self.rng;
        match parsed.check {
            Check::Request { role, tie_breaker, use_candidate, .. } => {
                let check = PeerCheck { transaction, role, tie_breaker, nominates: use_candidate };
                if !session.handle_request(socket, from, check, now, rng) {
                    self.dropped.rate_limited += 1;
                }
            }
            Check::Success { mapped } => {
                let source = Source { route: source, is_anothers };
                session.handle_success((transaction, mapped), source, now, rng);
            }
            Check::Error { code } => session.handle_error((transaction, code), socket, now, rng),
            Check::Indication => {}
        }
        true
    }
}
