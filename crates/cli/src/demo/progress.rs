//! What each worker of the demo has reached, in words and as the last table.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use holepunch_link::SessionEvent;
use holepunch_worker::{Event, FromServer, Notice, Signal, WorkerId, milliseconds};
use serde::Serialize;

use crate::table::table;

/// What a worker waits for at first.
const A_CONNECTION: &str = "a connection to the rendezvous";

/// One worker as the demo sees it.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) id: WorkerId,
    waits_for: String,
    link: Option<Link>,
}

/// A link, as the last table shows it.
#[derive(Debug, Clone, Serialize)]
struct Link {
    worker: String,
    peer: String,
    address: SocketAddr,
    ms_since_offer: f64,
    rtt_ms: f64,
    probes: u32,
}

impl Side {
    pub(super) fn new(name: &'static str, id: &WorkerId) -> Self {
        Self { name, id: id.clone(), waits_for: A_CONNECTION.to_owned(), link: None }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// What a worker that is not linked still waits for.
    pub(super) fn what_is_missing(&self) -> Option<String> {
        let missing = || format!("worker {} waits for {}", self.name, self.waits_for);
        (!self.is_linked()).then(missing)
    }

    /// Takes note of a step; the step in words, if it is worth a line.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the demo shows the main steps; the log has all"
    )]
    pub(super) fn note(&mut self, notice: &Notice) -> Option<String> {
        let (text, waits_for) = match notice {
            Notice::UdpBound(address) => (format!("opens UDP {address}"), None),
            Notice::UdpUnavailable(why, _) => (why.clone(), Some("a UDP port".to_owned())),
            Notice::Reported(endpoint) => {
                (format!("reports {endpoint}"), Some("an offer of the rendezvous".to_owned()))
            }
            Notice::Signal(Signal::Connected | Signal::ConnectedV1) => {
                let first = self.waits_for == A_CONNECTION;
                ("is registered".to_owned(), first.then(|| "a STUN answer".to_owned()))
            }
            Notice::Signal(Signal::Disconnected { why, .. }) => {
                (format!("has no connection: {why}"), Some(format!("the rendezvous ({why})")))
            }
            Notice::Signal(Signal::Message(FromServer::UdpEndpointAck(Ok(())))) => {
                ("is acknowledged, and ready to be paired".to_owned(), None)
            }
            Notice::Signal(Signal::Message(FromServer::UdpEndpointAck(Err(detail)))) => {
                (format!("is refused: {detail}"), Some(format!("another endpoint ({detail})")))
            }
            Notice::Signal(Signal::Message(FromServer::Offer(Ok(offer)))) => {
                (format!("is offered {} at {}", offer.peer, offer.endpoint), None)
            }
            Notice::Signal(Signal::Message(FromServer::SessionOffer(Ok(offer)))) => {
                let at = offer.endpoint.map_or("no address".to_owned(), |at| at.to_string());
                (format!("is offered {} at {at}, in a session", offer.peer), None)
            }
            Notice::Udp(event) => return self.note_udp(event),
            _ => return None,
        };
        if let Some(waits_for) = waits_for {
            self.waits_for = waits_for;
        }
        Some(text)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the demo shows the main steps; the log has all"
    )]
    fn note_udp(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::StunAsked(server) => {
                self.waits_for = format!("an answer of the STUN server {}", server.name);
                format!("asks the STUN server {}", server.name)
            }
            Event::StunSilent(server, waited) => {
                format!("has had no answer of {} for {} ms", server.name, waited.as_millis())
            }
            Event::Mapped { mapped, nat, .. } => format!("is seen by STUN as {mapped}: {nat}"),
            Event::PunchStarted(peer, address) => {
                self.waits_for = format!("datagrams of {peer}");
                format!("probes {address}")
            }
            Event::PingReceived(_, from, 1) => {
                format!("gets a PING from {from}, answers with a PONG")
            }
            Event::PongReceived(_, from, 1) => format!("gets a PONG from {from}"),
            Event::LinkEstablished { peer, address, after, rtt, probes } => {
                self.link = Some(Link {
                    worker: self.id.to_string(),
                    peer: peer.to_string(),
                    address: *address,
                    ms_since_offer: milliseconds(*after),
                    rtt_ms: milliseconds(*rtt),
                    probes: *probes,
                });
                format!("has a link with {peer} at {address}")
            }
            Event::LinkFailed { reason, .. } => {
                self.waits_for = format!("a link ({reason})");
                format!("has no link: {reason}")
            }
            Event::Session(_, peer, event) => return self.note_session(peer, event),
            Event::PeerLost(peer, reason) => format!("has lost {peer}: {reason}"),
            _ => return None,
        })
    }
}

impl Side {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the demo shows the main steps; the log has all"
    )]
    fn note_session(&mut self, peer: &WorkerId, event: &SessionEvent) -> Option<String> {
        Some(match event {
            SessionEvent::Started(offer) => {
                self.waits_for = format!("checks of {peer}");
                format!("checks every address of its peer ({})", offer.details.plan.strategy)
            }
            SessionEvent::Linked(info) => {
                self.link = Some(Link {
                    worker: self.id.to_string(),
                    peer: peer.to_string(),
                    address: info.remote,
                    ms_since_offer: milliseconds(info.after),
                    rtt_ms: milliseconds(info.rtt),
                    probes: info.probes,
                });
                format!("has a link with {peer} at {}", info.remote)
            }
            SessionEvent::Failed(why) => {
                self.waits_for = format!("a link ({why})");
                format!("has no link: {why}")
            }
            SessionEvent::Verdict(reason) => {
                self.waits_for = format!("a link ({reason})");
                format!("has no link: {reason}")
            }
            _ => return None,
        })
    }
}

/// The result of a demo: the last table, or its JSON.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    linked: bool,
    elapsed_ms: f64,
    links: Vec<Link>,
    missing: Vec<String>,
}

impl Outcome {
    pub(super) fn of(sides: &[Side], linked: bool, elapsed: Duration) -> Self {
        Self {
            linked,
            elapsed_ms: milliseconds(elapsed),
            links: sides.iter().filter_map(|side| side.link.clone()).collect(),
            missing: sides.iter().filter_map(Side::what_is_missing).collect(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |link: &Link| {
            vec![
                link.worker.clone(),
                link.peer.clone(),
                link.address.to_string(),
                format!("{:.3} ms", link.ms_since_offer),
                format!("{:.3} ms", link.rtt_ms),
                link.probes.to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = self.links.iter().map(row).collect();
        let head = ["worker", "linked with", "at", "offer → link", "RTT", "checks"];
        f.write_str(&table(&head, &rows))?;
        write!(f, "\nBoth linked {:.0} ms after the start.", self.elapsed_ms)
    }
}
