//! What others need to know of a worker.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use holepunch_wire::WorkerId;
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::identity::PublicKey;
use holepunch_wire::nat::NatProfile;
use holepunch_wire::session::AddressProof;
use serde::{Deserialize, Serialize};

use crate::doors::Protocol;
use crate::plan::Side;

/// What a hall knows of a worker. It is a state and no event: each one takes the place of those before it, so that to lose
/// one, or to get one twice, does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Counted up with each connection: what one before says is of no use, however late it comes.
    pub order: u64,
    /// Counted up with each change: an older one that comes later is of no use.
    pub version: u64,
    /// Its id.
    pub worker: WorkerId,
    /// Where its WebSocket comes from.
    pub observed: IpAddr,
    /// Where it can be reached; `None`: it has no UDP endpoint that it knows.
    pub endpoint: Option<SocketAddr>,
    /// Whether a ping is overdue: it is not offered to anybody.
    pub overdue: bool,
    /// Round-trip time between it and its desk.
    pub rtt: Option<Duration>,
    /// For so long its first ping has been out.
    pub pinged: Option<Duration>,
    /// Sessions that it has in other halls.
    pub elsewhere: usize,
    /// How much the relay carries for each of its sessions, where that is bounded, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_bytes: Option<u64>,
    /// What a worker of `holepunch.v1` has told beyond that.
    pub v1: Option<Box<CardV1>>,
}

/// What is known of a worker that speaks `holepunch.v1`, beyond the baseline.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CardV1 {
    /// Its NAT.
    pub profile: NatProfile,
    /// Where it may be reached, beside its endpoint.
    pub candidates: Vec<Candidate>,
    /// Which set of them this is, counted up.
    pub generation: u32,
    /// The key that it has proved.
    pub key: Option<PublicKey>,
    /// The address that our STUN server has seen it at.
    pub proven: Option<IpAddr>,
    /// Whether it may be called from other rooms.
    pub callable: bool,
}

impl Card {
    pub(crate) fn protocol(&self) -> Protocol {
        if self.v1.is_some() { Protocol::V1 } else { Protocol::Baseline }
    }

    pub(crate) fn key(&self) -> Option<PublicKey> {
        self.v1.as_ref().and_then(|v1| v1.key)
    }

    /// Whether its endpoint is its own.
    pub(crate) fn proof(&self) -> AddressProof {
        self.endpoint.map_or(AddressProof::None, |endpoint| self.proof_of(endpoint.ip()))
    }

    /// Whether this address is its own.
    pub(crate) fn proof_of(&self, ip: IpAddr) -> AddressProof {
        let proven = self.v1.as_ref().and_then(|v1| v1.proven);
        if proven == Some(ip) {
            AddressProof::Stun
        } else if self.observed == ip {
            AddressProof::Signalling
        } else {
            AddressProof::None
        }
    }

    /// Whether its router has opened a port. One of another address than the worker's own is that of a
    /// router behind another NAT. (Where no STUN server has seen the worker, its connection shows where
    /// it is.)
    pub(crate) fn has_mapped_port(&self) -> bool {
        let at = self.endpoint.map_or(self.observed, |endpoint| endpoint.ip());
        let is_open =
            |it: &Candidate| it.kind == CandidateKind::PortMapped && it.address().ip() == at;
        self.v1.iter().flat_map(|v1| &v1.candidates).any(is_open)
    }

    /// What the planner is to know of it; its first ping has been out for `out`.
    pub(crate) fn side(&self, out: Option<Duration>) -> Side {
        Side {
            profile: self.v1.as_ref().map(|v1| v1.profile.clone()).unwrap_or_default(),
            endpoint: self.endpoint,
            proof: self.proof(),
            port_mapped: self.has_mapped_port(),
            // A ping that is still out shows that the round trip takes longer than that.
            rtt: self.rtt.or(out),
            observed: self.observed,
        }
    }
}
