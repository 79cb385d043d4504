//! The kernel's word on whether packets went from host to host.

use std::net::SocketAddrV4;

use crate::counters::{Flow, Place};
use crate::error::LabError;
use crate::session::{Linked, WORKER_UDP_PORT};
use crate::topology::Lab;

/// Shows that each host received packets of its peer directly: from the peer's public address, on
/// the port of the worker, through both NAT boxes, and no more than the boxes saw.
///
/// # Errors
/// A counter says otherwise; the error shows them all.
pub fn direct(lab: &Lab, linked: &Linked) -> Result<(), LabError> {
    for (own, peer) in [(0, 1), (1, 0)] {
        // Each worker names its peer's address, and its peer names its own.
        let sent = Direction {
            lab,
            own,
            peer,
            from: linked.established[own].address,
            to: linked.established[peer].address,
        };
        sent.check()?;
    }
    Ok(())
}

/// Packets from `peer` to `own`, as they look on the public network.
struct Direction<'a> {
    lab: &'a Lab,
    own: usize,
    peer: usize,
    from: SocketAddrV4,
    to: SocketAddrV4,
}

impl Direction<'_> {
    fn check(&self) -> Result<(), LabError> {
        let (own, peer) = (self.lab.side(self.own), self.lab.side(self.peer));
        self.require(
            *self.from.ip() == peer.public_ip() && *self.to.ip() == own.public_ip(),
            "the workers name addresses that are not their public ones",
        )?;
        if peer.kind().claim().keeps_port {
            let kept = self.from.port() == WORKER_UDP_PORT;
            self.require(kept, "a port that the NAT keeps is not the worker's")?;
        }
        let at_host = SocketAddrV4::new(own.host_ip(), WORKER_UDP_PORT);
        // Those that receive are read before those that send, since packets go on flowing.
        let received = packets(&own.flows(Place::HostIn)?, self.from, at_host);
        let arrived = packets(&own.flows(Place::BoxIn)?, self.from, self.to);
        let left = packets(&peer.flows(Place::BoxOut)?, self.from, self.to);
        self.require(received > 0, "the host received no packet of its peer")?;
        self.require(arrived >= received, "the host received more than came to its NAT box")?;
        self.require(left >= arrived, "more came to the NAT box than left that of the peer")
    }

    fn require(&self, holds: bool, why: &str) -> Result<(), LabError> {
        if holds {
            return Ok(());
        }
        let (own, peer) = (self.own, self.peer);
        let why = format!("side {peer} to side {own}, {} → {}: {why}", self.from, self.to);
        Err(LabError::NotProven { why, evidence: counted(self.lab)? })
    }
}

fn packets(flows: &[Flow], from: SocketAddrV4, to: SocketAddrV4) -> u64 {
    flows.iter().filter(|flow| flow.from == from && flow.to == to).map(|flow| flow.packets).sum()
}

/// Shows that no host received a packet from the public address of the other, although packets of
/// each came to the other's NAT box.
///
/// # Errors
/// A counter says otherwise; the error shows them all.
pub fn filtered(lab: &Lab) -> Result<(), LabError> {
    for (own, peer) in [(0, 1), (1, 0)] {
        let public = lab.side(peer).public_ip();
        let from_peer = |place| -> Result<u64, LabError> {
            let flows = lab.side(own).flows(place)?;
            Ok(flows.iter().filter(|flow| *flow.from.ip() == public).map(|flow| flow.packets).sum())
        };
        let why = match (from_peer(Place::BoxIn)?, from_peer(Place::HostIn)?) {
            (0, _) => format!("no packet of side {peer} came to the NAT box of side {own}"),
            (_, 0) => continue,
            (_, got) => format!("{got} packets of side {peer} got through to side {own}"),
        };
        return Err(LabError::NotProven { why, evidence: counted(lab)? });
    }
    Ok(())
}

/// All counters of a laboratory, for people.
///
/// # Errors
/// They cannot be read.
pub fn counted(lab: &Lab) -> Result<String, LabError> {
    let mut text = String::new();
    for (index, side) in lab.sides().iter().enumerate() {
        for place in [Place::HostIn, Place::BoxIn, Place::BoxOut] {
            text.push_str(&format!("--- side {index} ({}), {place:?}:\n", side.kind()));
            for flow in side.flows(place)? {
                text.push_str(&format!("{flow}\n"));
            }
        }
    }
    Ok(text)
}
