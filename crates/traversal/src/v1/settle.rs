//! What follows from all that has happened: packets, sockets, news for the rendezvous.

use std::time::{Duration, Instant};

use holepunch_wire::reason::EndReason;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::WorkerV1;

use super::Owner;
use crate::doors::{Event, SocketId};
use crate::machine::Traversal;

impl Traversal {
    /// Lets the profiler and the sessions draw their conclusions, and drains them.
    pub(crate) fn settle_v1(&mut self, now: Instant) {
        while let Some(answered) = self.discovery.poll_answered() {
            let asked = self.discovery.asked();
            self.profiler.mapped(&answered, &asked, now, &mut self.rng);
            if let (Some(proof), true) = (answered.proof, self.v1) {
                self.events.push_back(Event::Signal(WorkerV1::AddressProof {
                    udp_ip: answered.mapped.ip(),
                    udp_port: answered.mapped.port(),
                    proof: proof.to_string(),
                }));
            }
        }
        if self.ipv6.poll_timeout().is_some_and(|at| at <= now) {
            self.ipv6.handle_timeout(now, &mut self.rng);
            self.conclude_ipv6();
        }
        while let Some(transmit) = self.ipv6.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        while let Some(event) = self.ipv6.poll_event() {
            self.events.push_back(event);
        }
        self.profiler.handle_timeout(now, &mut self.rng);
        let lifetime = self.profiler.profile().lifetime_s;
        self.discovery.lives_for(lifetime.map(|secs| Duration::from_secs(u64::from(secs))));
        for _ in 0..self.profiler.take_wanted_sockets() {
            self.open_socket(Owner::Profiler);
        }
        for socket in self.profiler.take_sockets_to_close() {
            self.close_socket(socket);
        }
        self.settle_sessions(now);
        while let Some(transmit) = self.profiler.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        self.tell_news(now);
    }

    pub(super) fn settle_sessions(&mut self, now: Instant) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.handle_timeout(now, &mut self.rng);
            if session.wants_to_leave(now) {
                session.end(EndReason::InVain, &session.in_vain());
                self.events.push_back(Event::Signal(WorkerV1::Leave { session: id }));
                self.reporting.failed(now, &mut self.rng);
            }
            let wanted = session.take_wanted_sockets();
            let alarm = session.take_alarm();
            // A search that there is no socket for draws its conclusions at once: they go out with the rest.
            for _ in 0..wanted {
                self.open_socket_for(id, now);
            }
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            while let Some(transmit) = session.poll_transmit() {
                let ip = transmit.to.ip();
                if session.vouches_for(ip) || self.unproven.allows(ip, now) {
                    self.transmits.push_back(transmit);
                }
            }
            while let Some(event) = session.poll_event() {
                self.events.push_back(event);
            }
            if session.is_over() {
                self.sessions.remove(&id);
            }
            if alarm {
                self.discovery.refresh_now(now, &mut self.rng);
                self.candidates_told = None;
            }
        }
        let unused: Vec<SocketId> = self
            .sockets
            .iter()
            .filter(|(socket, (owner, open))| *open && !self.is_used(**socket, *owner, now))
            .map(|(socket, _)| *socket)
            .collect();
        for socket in unused {
            self.close_socket(socket);
        }
    }

    pub(super) fn is_used(&self, socket: SocketId, owner: Owner, now: Instant) -> bool {
        match owner {
            Owner::Profiler => true,
            Owner::Session(id) => {
                self.sessions.get(&id).is_some_and(|session| session.uses(socket, now))
            }
        }
    }

    /// Tells the rendezvous what it does not know yet.
    pub(super) fn tell_news(&mut self, now: Instant) {
        let Some(profile) = self.profiler.take_news(now) else { return self.tell_candidates() };
        self.events.push_back(Event::Profile(Box::new(profile.clone())));
        self.tell_candidates();
        if self.v1 {
            self.events.push_back(Event::Signal(WorkerV1::NatProfile { profile }));
        }
    }

    pub(super) fn tell_candidates(&mut self) {
        if !self.v1 {
            return;
        }
        let candidates = self.candidates();
        if !candidates.is_empty() && self.candidates_told.as_ref() != Some(&candidates) {
            self.generation += 1;
            let generation = self.generation;
            self.candidates_told = Some(candidates.clone());
            let message = WorkerV1::Candidates { generation, candidates };
            self.events.push_back(Event::Signal(message));
        }
    }
}
