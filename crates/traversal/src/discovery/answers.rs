//! What servers answer, or do not.

use std::net::SocketAddr;

use holepunch_wire::stun::{BindingOutcome, BindingResponse};

use super::nat::{Answer, NatMapping};
use super::transaction::Transaction;
use super::{Answered, Discovery, State, is_usable};
use crate::doors::{Event, Turn};
use crate::schedule;

impl Discovery {
    /// Takes a datagram that looks like STUN; `false` when it answers no request. `is_own` says whether an address is one
    /// of the own socket: then it is from there that packets leave.
    pub(crate) fn handle_datagram(
        &mut self,
        from: SocketAddr,
        payload: &[u8],
        is_own: impl Fn(SocketAddr) -> bool,
        (now, rng): Turn<'_>,
    ) -> bool {
        // Cheap before dear: a stranger's flood is not even parsed.
        let is_asked = |transaction: &Transaction| {
            self.servers.get(transaction.server).is_some_and(|server| server.is_at(from))
        };
        if !self.transactions.iter().any(is_asked) {
            return false;
        }
        let Ok(response) = BindingResponse::parse(payload) else { return false };
        let answered = self.transactions.iter().position(|transaction| {
            transaction.id == response.transaction
                && self.servers.get(transaction.server).is_some_and(|server| server.is_at(from))
        });
        let Some(answered) = answered else { return false };
        let transaction = self.transactions.swap_remove(answered);
        let server = transaction.server;
        self.servers[server].settle_at(from);
        match response.outcome {
            BindingOutcome::Mapped(mapped) if is_usable(mapped) => {
                let asked = &mut self.servers[server];
                if is_own(mapped) {
                    asked.local = Some(mapped);
                }
                self.answered.push_back(Answered {
                    index: server,
                    server: asked.address,
                    mapped,
                    local: asked.local,
                    other: response.other,
                    rtt: now.saturating_duration_since(transaction.started),
                    proof: response.proof,
                });
                self.mapped(server, mapped, (now, rng));
            }
            BindingOutcome::Refused { code } => self.refused(server, Some(code), (now, rng)),
            BindingOutcome::Mapped(_) | BindingOutcome::NoAddress => {
                self.refused(server, None, (now, rng));
            }
        }
        true
    }

    pub(super) fn mapped(&mut self, server: usize, mapped: SocketAddr, (now, rng): Turn<'_>) {
        self.failed = 0;
        self.answers[server] = Some(mapped);
        let is_first = self.confirmer.is_none();
        let confirmer = *self.confirmer.get_or_insert(server);
        let is_endpoint = confirmer == server;
        let replaces = self.endpoint.filter(|before| is_endpoint && *before != mapped);
        if is_endpoint {
            self.endpoint = Some(mapped);
            self.refresh_at = Some(now + schedule::refresh(self.lifetime, rng));
        }
        // A confirmation of what is known is no news.
        if replaces.is_some() || !is_endpoint || is_first {
            self.out.events.push_back(Event::Mapped {
                server: self.servers[server].clone(),
                mapped,
                replaces,
                is_endpoint,
                nat: self.nat(),
            });
        }
        self.sum_up();
    }

    pub(super) fn refused(&mut self, server: usize, code: Option<u16>, (now, rng): Turn<'_>) {
        self.out.events.push_back(Event::StunRefused(self.servers[server].clone(), code));
        self.server_failed(server, (now, rng));
    }

    /// A server has nothing to say: goes on with the others, or with a new attempt.
    pub(super) fn server_failed(&mut self, server: usize, (now, rng): Turn<'_>) {
        if self.confirmer == Some(server) {
            self.out.events.push_back(Event::MappingUnconfirmed(self.servers[server].clone()));
            self.transactions.clear();
            self.start();
        } else if self.transactions.is_empty() && self.answers.iter().all(Option::is_none) {
            self.attempt_failed("no STUN server answered by IPv4", (now, rng));
        } else {
            self.sum_up();
        }
    }

    /// Says once per round what all servers together show.
    pub(super) fn sum_up(&mut self) {
        if !self.summed_up && self.transactions.is_empty() && self.endpoint.is_some() {
            self.summed_up = true;
            self.out.events.push_back(Event::RoundComplete(self.nat()));
        }
    }

    pub(super) fn attempt_failed(&mut self, reason: &str, (now, rng): Turn<'_>) {
        self.failed = self.failed.saturating_add(1);
        let again = self.bounds.retries_max.is_none_or(|max| self.failed <= max);
        let retry_in =
            again.then(|| schedule::discovery_pause(self.bounds.delay, self.failed, rng));
        self.state = match retry_in {
            Some(delay) => State::Waiting { until: now + delay },
            None => State::GivenUp,
        };
        let reason = reason.to_owned();
        self.failure = Some(reason.clone());
        // The machine knows of IPv6.
        let (attempt, ipv6) = (self.failed, false);
        self.out.events.push_back(Event::DiscoveryFailed { attempt, reason, retry_in, ipv6 });
    }

    pub(super) fn nat(&self) -> NatMapping {
        let answers: Vec<Answer> = self
            .servers
            .iter()
            .zip(&self.answers)
            .filter_map(|(server, mapped)| {
                Some(Answer { server: server.address, mapped: (*mapped)?, local: server.local })
            })
            .collect();
        NatMapping::of(&answers)
    }
}
