//! Servers that the rendezvous names.

use std::net::SocketAddr;

use super::{Discovery, NAMED_MAX, SERVERS_MAX, State};
use crate::doors::{StunServer, Turn};
use crate::schedule::Retransmission;

impl Discovery {
    /// Asks servers that the rendezvous names, too: they vouch for the address, and tell more of the NAT
    /// than most. One of each host, and none of a host that has answered already.
    pub(crate) fn add_servers(&mut self, named: &[SocketAddr], (now, rng): Turn<'_>) {
        self.named.clear();
        for address in named.iter().filter(|it| it.is_ipv4()) {
            let is_known = self.named.iter().any(|known| known.ip() == address.ip());
            if !is_known && self.named.len() < NAMED_MAX {
                self.named.push(*address);
            }
        }
        match self.state {
            State::Running => {
                let before = self.servers.len();
                self.append_named();
                self.summed_up &= before == self.servers.len();
                for index in before..self.servers.len() {
                    self.begin(index, (now, rng));
                }
                self.ask_known(before, (now, rng));
            }
            // There is somebody to ask now.
            State::Waiting { .. } if self.named().next().is_some() => self.start(),
            State::Waiting { .. } | State::Resolving | State::GivenUp => {}
        }
    }

    /// Those of them that can be asked.
    pub(super) fn named(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.named.iter().copied().filter(|_| self.has_ipv4)
    }

    /// Those of them that were asked before this welcome have not seen its nonce.
    pub(super) fn ask_known(&mut self, before: usize, (now, rng): Turn<'_>) {
        for index in 0..before {
            let is_named = self.named.contains(&self.servers[index].address);
            let is_out = self.transactions.iter().any(|it| it.server == index);
            if is_named && !is_out && self.nonce.is_some() {
                self.ask(index, Retransmission::REFRESH, (now, rng));
            }
        }
    }

    pub(super) fn append_named(&mut self) {
        let named: Vec<SocketAddr> = self.named().collect();
        for address in named {
            // A server at another port of the host may be a guess, and nobody there.
            let mut asked = self.servers.iter().zip(&self.answers);
            let is_asked = asked.any(|(server, answer)| {
                server.address == address || server.address.ip() == address.ip() && answer.is_some()
            });
            if !is_asked && self.servers.len() < SERVERS_MAX {
                let name = address.to_string();
                self.servers.push(StunServer::at(name, address));
                self.answers.push(None);
            }
        }
    }
}
