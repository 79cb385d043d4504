//! What the answers mean, and which question comes next.

use std::net::SocketAddr;

use holepunch_wire::nat::{Filtering, Mapping, PROFILE_PORTS_MAX};
use holepunch_wire::stun::{BindingOutcome, BindingResponse, TransactionId};

use super::classify;
use super::classify::Sample;
use super::exchange::Purpose;
use super::lifetime::{Lifetime, Progress};
use super::reuse::Reuse;
use super::{Profiler, Stage};
use crate::doors::{SocketId, Turn};

impl Profiler {
    /// Takes an answer; `false` when it answers no question of this part.
    pub(crate) fn handle_response(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        response: &BindingResponse,
        (now, rng): Turn<'_>,
    ) -> bool {
        let progress = self
            .lifetime
            .as_mut()
            .and_then(|lifetime| lifetime.handle_response(socket, response, (now, rng)));
        if let Some(progress) = progress {
            self.lived(&progress);
            return true;
        }
        let found = self.exchanges.iter().position(|exchange| {
            let changed = matches!(
                exchange.purpose,
                Purpose::OtherAddress | Purpose::OtherPort | Purpose::Opener
            );
            exchange.transaction == response.transaction
                && exchange.socket == socket
                && (exchange.to == from || changed)
        });
        let Some(found) = found else { return false };
        let exchange = self.exchanges.swap_remove(found);
        let BindingOutcome::Mapped(mapped) = response.outcome else {
            self.conclude((now, rng));
            return true;
        };
        let local_port = self.local_port(socket);
        let sample = Sample { local_port, server: exchange.to, mapped, at: now };
        match exchange.purpose {
            Purpose::Map => {
                self.main.retain(|(_, known)| known.server != sample.server);
                self.main.push((exchange.order, sample));
            }
            Purpose::FreshMap => self.fresh_samples.push((exchange.order, sample)),
            Purpose::OtherAddress if from.ip() != exchange.to.ip() => {
                self.profile.filtering = Filtering::EndpointIndependent;
            }
            Purpose::OtherPort if from.port() != exchange.to.port() => {
                let is_open = self.profile.filtering == Filtering::EndpointIndependent;
                if !is_open {
                    self.profile.filtering = Filtering::AddressDependent;
                }
            }
            Purpose::Opener if from.ip() != exchange.to.ip() => self.opener_answered(socket),
            // A server that ignores what it was asked answers from where it was asked.
            Purpose::OtherAddress | Purpose::OtherPort | Purpose::Opener => {}
            Purpose::AfterInbound => {
                let before = self.fresh_samples.first().map(|(_, sample)| sample.mapped);
                self.profile.remaps_after_inbound = before.map(|before| before != mapped);
            }
            Purpose::Reuse => self.fresh_samples.push((exchange.order, sample)),
            Purpose::Hairpin => {}
        }
        self.conclude((now, rng));
        true
    }

    /// What is known of the lifetime of an idle mapping.
    pub(super) fn lived(&mut self, progress: &Progress) {
        let proven = self.lifetime.as_ref().and_then(|it| it.proven);
        if let Some(proven) = proven {
            self.profile.lifetime_s = u32::try_from(proven.as_secs()).ok();
        }
        if let Progress::Over(socket) = progress {
            self.lifetime = None;
            self.to_close.push(*socket);
        }
    }

    /// A Binding request came on the own socket: it may be the one that was sent around.
    pub(crate) fn handle_hairpin(&mut self, transaction: TransactionId) -> bool {
        let found = self.exchanges.iter().position(|exchange| {
            exchange.purpose == Purpose::Hairpin && exchange.transaction == transaction
        });
        let Some(found) = found else { return false };
        self.exchanges.swap_remove(found);
        self.profile.hairpin = Some(true);
        true
    }

    pub(super) fn local_port(&self, socket: SocketId) -> u16 {
        let reuse = self.reuse.iter().flat_map(Reuse::sockets);
        let known = self.fresh.iter().chain(reuse).find(|(known, _)| *known == socket);
        known.map_or(self.main_port, |(_, port)| *port)
    }

    pub(super) fn is_out(&self, purposes: &[Purpose]) -> bool {
        self.exchanges.iter().any(|exchange| purposes.contains(&exchange.purpose))
    }

    /// Draws what conclusions can be drawn, and goes on to the next step.
    pub(super) fn conclude(&mut self, (now, rng): Turn<'_>) {
        self.main.sort_by_key(|(order, _)| *order);
        let main: Vec<Sample> = self.main.iter().map(|(_, sample)| *sample).collect();
        self.profile.mapping = classify::mapping(&main, self.local);
        let hard = self.profile.mapping.is_endpoint_dependent();
        let mut all: Vec<(u32, Sample)> =
            self.main.iter().chain(&self.fresh_samples).copied().collect();
        all.sort_by_key(|(order, _)| *order);
        let samples: Vec<Sample> = all.iter().map(|(_, sample)| *sample).collect();
        if self.profile.mapping != Mapping::None {
            let (allocation, confidence) = classify::allocation(&samples, hard);
            self.profile.allocation = allocation;
            self.profile.confidence = confidence;
            let skip = samples.len().saturating_sub(PROFILE_PORTS_MAX);
            self.profile.ports =
                samples.iter().skip(skip).map(|sample| sample.mapped.port()).collect();
        }
        if hard && classify::reuses(&samples, self.profile.mapping) {
            self.profile.reuses_ports = Some(true);
        }
        let probing = [Purpose::Map, Purpose::FreshMap, Purpose::OtherAddress, Purpose::OtherPort];
        if self.stage == Stage::Probing && self.fresh.is_some() && !self.is_out(&probing) {
            self.filtering_known();
            self.stage = Stage::Refining;
            self.refine((now, rng));
        }
        let refining = [Purpose::AfterInbound, Purpose::Hairpin];
        if self.stage == Stage::Refining {
            self.test_openers();
        }
        if self.stage == Stage::Refining && !self.is_out(&refining) && !self.tests_openers() {
            self.stage = Stage::Done;
            self.openers_over();
            // One that translates nothing forgets nothing, and ports of a hard NAT are dear.
            match (self.fresh, self.server) {
                (Some((socket, _)), Some(server))
                    if self.profile.mapping == Mapping::EndpointIndependent =>
                {
                    self.lifetime = Some(Lifetime::new(socket, server, (now, rng)));
                }
                (fresh, _) => self.to_close.extend(fresh.map(|(socket, _)| socket)),
            }
        }
    }

    /// Nothing more comes: what was not let in by now is filtered.
    pub(super) fn filtering_known(&mut self) {
        let reached = !self.fresh_samples.is_empty();
        if self.profile.filtering == Filtering::Unknown && reached && self.changes_are_served() {
            self.profile.filtering = Filtering::AddressAndPortDependent;
        }
    }

    /// Whether the server can answer from another address at all.
    pub(super) fn changes_are_served(&self) -> bool {
        let (Some(server), Some(other)) = (self.server, self.other) else { return false };
        server.ip() != other.ip() && server.port() != other.port()
    }

    /// Steps 3 and 4, where they give no ports away.
    pub(super) fn refine(&mut self, (now, rng): Turn<'_>) {
        let (Some((fresh, _)), Some(other)) = (self.fresh, self.other) else { return };
        if self.profile.mapping != Mapping::EndpointIndependent {
            return;
        }
        if self.profile.filtering == Filtering::AddressAndPortDependent {
            self.ask(Purpose::AfterInbound, fresh, other, (now, rng));
        }
        if let Some((_, sample)) = self.main.first().copied() {
            self.ask(Purpose::Hairpin, fresh, sample.mapped, (now, rng));
        }
    }
}
