//! The kernel's word on whether packets went from host to host, and how many.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::counters::{Flow, Place};
use crate::error::LabError;
use crate::logs::Line;
use crate::session::{Linked, WORKER_UDP_PORT};
use crate::topology::Lab;

/// Shows that packets of each host reached the other directly: that those which it sent to the
/// address that it names came through both NAT boxes, and that the host received packets with their
/// source, no more than the boxes saw.
///
/// # Errors
/// A counter says otherwise; the error shows them all.
pub fn direct(lab: &Lab, linked: &Linked) -> Result<(), LabError> {
    direct_between(lab, linked, [Sockets::Own; 2])
}

/// The same where a worker, of one side or both, may have linked by another socket than its own.
///
/// # Errors
/// Likewise.
pub fn direct_between(lab: &Lab, linked: &Linked, sockets: [Sockets; 2]) -> Result<(), LabError> {
    for (own, peer) in [(0, 1), (1, 0)] {
        let to = linked.established[own].address;
        Direction { lab, own, peer, to, sockets: sockets[peer] }.check()?;
    }
    Ok(())
}

/// By which sockets a worker may have linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    /// The one that it binds at its start.
    Own,
    /// That one, or those that the search of a plan has had opened.
    Fresh,
}

/// Lines of a worker's log that tell a plan.
pub(crate) const PLANS: [&str; 2] = ["checks start", "another plan"];

impl Sockets {
    /// What the plans that a worker was told until it linked let it open.
    #[must_use]
    pub fn of_worker(lines: &[Line]) -> Self {
        let until_linked = lines.iter().take_while(|line| line.message() != "link established");
        let opens = |line: &Line| {
            line.flag("fresh") == Some(true) || line.count("sockets").is_some_and(|count| count > 1)
        };
        let mut plans = until_linked.filter(|line| PLANS.contains(&line.message()));
        if plans.any(opens) { Self::Fresh } else { Self::Own }
    }
}

/// Packets from `own` to `peer`.
struct Direction<'a> {
    lab: &'a Lab,
    own: usize,
    peer: usize,
    /// The address where `own` says that `peer` answers.
    to: SocketAddrV4,
    /// What `peer` may answer by.
    sockets: Sockets,
}

impl Direction<'_> {
    fn check(&self) -> Result<(), LabError> {
        let (own, peer) = (self.lab.side(self.own), self.lab.side(self.peer));
        let public = peer.public_ip();
        self.require(*self.to.ip() == public, "the address is not the peer's public one")?;
        if peer.kind().keeps_port() && self.sockets == Sockets::Own {
            let kept = self.to.port() == WORKER_UDP_PORT;
            self.require(kept, "a port that the NAT keeps is not the worker's")?;
        }
        // Those that receive are read before those that send, since packets go on flowing.
        let at_host = peer.flows(Place::HostIn)?;
        let arriving = peer.flows(Place::BoxIn)?;
        let leaving = own.flows(Place::BoxOut)?;
        let is_this = |flow: &&Flow| *flow.from.ip() == own.public_ip() && flow.to == self.to;
        let arrived = sum(arriving.iter().filter(is_this));
        let left = sum(leaving.iter().filter(is_this));
        self.require(arrived > 0, "nothing came to the peer's NAT box")?;
        self.require(left >= arrived, "more came to the peer's NAT box than left the own one")?;
        // Under which ports the own NAT sent them.
        let sources: Vec<SocketAddrV4> =
            arriving.iter().filter(is_this).map(|flow| flow.from).collect();
        let from_there = |flow: &&Flow| sources.contains(&flow.from);
        if peer.kind().keeps_port() {
            let is_kept = |flow: &Flow| flow.to.port() == self.to.port();
            let kept = at_host.iter().filter(from_there).any(is_kept);
            self.require(kept, "the peer's host received nothing at the port that its NAT keeps")?;
        }
        let received = sum(at_host.iter().filter(from_there));
        let to_all = sum(arriving.iter().filter(|flow| *flow.to.ip() == public).filter(from_there));
        self.require(received > 0, "the peer's host received nothing from there")?;
        self.require(to_all >= received, "the peer's host received more than came to its NAT box")
    }

    fn require(&self, holds: bool, why: &str) -> Result<(), LabError> {
        if holds {
            return Ok(());
        }
        let why = format!("side {} to side {}, at {}: {why}", self.own, self.peer, self.to);
        Err(LabError::NotProven { why, evidence: counted(self.lab)? })
    }
}

fn sum<'a>(flows: impl Iterator<Item = &'a Flow>) -> u64 {
    flows.map(|flow| flow.packets).sum()
}

/// Shows that no host received a packet from the public address of the other, although packets of
/// each came to the other's NAT box.
///
/// # Errors
/// A counter says otherwise; the error shows them all.
pub fn filtered(lab: &Lab) -> Result<(), LabError> {
    for (own, peer) in [(0, 1), (1, 0)] {
        let public = lab.side(peer).public_ip();
        let came = from(lab, own, Place::BoxIn, public)?.packets;
        let why = match (came, from(lab, own, Place::HostIn, public)?.packets) {
            (0, _) => format!("no packet of side {peer} came to the NAT box of side {own}"),
            (_, 0) => continue,
            (_, got) => format!("{got} packets of side {peer} got through to side {own}"),
        };
        return Err(LabError::NotProven { why, evidence: counted(lab)? });
    }
    Ok(())
}

/// What one side has sent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Pairs of ports that they used: entries that they cost a table of connections.
    pub flows: usize,
}

/// What left the NAT box of side `own` for the public address of side `peer`.
///
/// # Errors
/// The counters cannot be read.
///
/// # Panics
/// There is no such side.
pub fn sent(lab: &Lab, own: usize, peer: usize) -> Result<Traffic, LabError> {
    let public = lab.side(peer).public_ip();
    let flows = lab.side(own).flows(Place::BoxOut)?;
    Ok(Traffic::of(flows.iter().filter(|flow| *flow.to.ip() == public)))
}

fn from(lab: &Lab, side: usize, place: Place, ip: Ipv4Addr) -> Result<Traffic, LabError> {
    let flows = lab.side(side).flows(place)?;
    Ok(Traffic::of(flows.iter().filter(|flow| *flow.from.ip() == ip)))
}

impl Traffic {
    fn of<'a>(flows: impl Iterator<Item = &'a Flow>) -> Self {
        flows.fold(Self::default(), |sum, flow| Self {
            packets: sum.packets + flow.packets,
            flows: sum.flows + 1,
        })
    }
}

/// Most flows of one place that are shown to people.
const SHOWN: usize = 40;

/// All counters of a laboratory, for people.
///
/// # Errors
/// They cannot be read.
pub fn counted(lab: &Lab) -> Result<String, LabError> {
    let mut text = String::new();
    for (index, side) in lab.sides().iter().enumerate() {
        for place in [Place::HostIn, Place::BoxIn, Place::BoxOut] {
            let flows = side.flows(place)?;
            let all = flows.len();
            text.push_str(&format!("--- side {index} ({}), {place:?}, {all}:\n", side.kind()));
            for flow in flows.iter().take(SHOWN) {
                text.push_str(&format!("{flow}\n"));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(lines: &[&str]) -> Sockets {
        let lines: Vec<Line> = lines.iter().map(|text| Line::new((*text).to_owned())).collect();
        Sockets::of_worker(&lines)
    }

    #[test]
    fn a_worker_has_fresh_sockets_if_a_plan_before_its_link_had_some_opened() {
        let plain = r#"{"message":"checks start","strategy":"plain"}"#;
        let seek = r#"{"message":"another plan","strategy":"preserved","sockets":1,"fresh":false}"#;
        let fresh = r#"{"message":"another plan","strategy":"birthday","sockets":1,"fresh":true}"#;
        let many =
            r#"{"message":"another plan","strategy":"birthday","sockets":256,"fresh":false}"#;
        let linked = r#"{"message":"link established"}"#;
        assert_eq!(sockets(&[plain, seek, linked]), Sockets::Own);
        assert_eq!(sockets(&[plain, fresh, linked]), Sockets::Fresh);
        assert_eq!(sockets(&[plain, many, seek, linked]), Sockets::Fresh);
        assert_eq!(sockets(&[plain, linked, fresh]), Sockets::Own, "it came too late");
    }
}
