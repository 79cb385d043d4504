//! What happened in a worker: one notice, one log line.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use holepunch_link::{Event, LinkError, LinkPath, PathInfo, SessionEvent};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatProfile;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::ServerV1;
use tracing::{debug, error, info, warn};

use crate::config::SettingNames;
use crate::no_endpoint::Unseen;
use crate::signalling::Signal;

/// Most characters of somebody else's text in a log line.
const FOREIGN_CHARS_MAX: usize = 400;

/// One step of a worker's life.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The health server listens.
    HealthServer(SocketAddr),
    /// The UDP port is bound.
    UdpBound(SocketAddr),
    /// The UDP port cannot be bound; the next attempt follows after this time.
    UdpUnavailable(String, Duration),
    /// The HTTP echo service told the public IP.
    PublicIp(IpAddr),
    /// The HTTP echo service did not.
    PublicIpUnknown(String),
    /// No STUN server answers by IPv4, said at first and once in a while: what is left, and what to do.
    NoEndpoint(Unseen),
    /// The endpoint was sent to the rendezvous.
    Reported(SocketAddr),
    /// Something happened on the signalling connection.
    Signal(Signal),
    /// Something happened on the UDP port.
    Udp(Event),
    /// A link is there: the peer, the session, and the path of the moment.
    Linked(WorkerId, SessionId, LinkPath),
    /// It has ended, or has not come about, and why.
    LinkEnded(WorkerId, SessionId, LinkError),
}

impl Notice {
    /// Whether the rendezvous has caused it, and may cause the next one at once.
    pub(crate) fn is_of_the_rendezvous(&self) -> bool {
        match self {
            Self::Signal(Signal::Message(_) | Signal::Malformed(_))
            | Self::Udp(Event::OfferIgnored(_)) => true,
            Self::Signal(
                Signal::Connecting(_)
                | Signal::Connected
                | Signal::ConnectedV1
                | Signal::Disconnected { .. },
            )
            | Self::HealthServer(_)
            | Self::UdpBound(_)
            | Self::UdpUnavailable(..)
            | Self::PublicIp(_)
            | Self::PublicIpUnknown(_)
            | Self::NoEndpoint(_)
            | Self::Reported(_)
            | Self::Udp(_)
            | Self::Linked(..)
            | Self::LinkEnded(..) => false,
        }
    }

    /// Writes the notice to the log.
    pub(crate) fn log(&self, names: SettingNames) {
        match self {
            Self::HealthServer(address) => info!(%address, "health server listens"),
            Self::UdpBound(address) => info!(%address, "UDP port bound, for STUN and peers"),
            Self::UdpUnavailable(why, retry_in) => error!(
                retry_in_s = retry_in.as_secs(),
                "{why}: set {} to another port, or to 0 for any free one; this worker stays registered, but \
                 cannot link until then",
                names.udp_port
            ),
            Self::PublicIp(ip) => info!(%ip, "public IP by HTTP"),
            Self::PublicIpUnknown(why) => warn!(why, "public IP by HTTP is not known"),
            Self::NoEndpoint(unseen) if unseen.is_stuck() => {
                error!("{}: {unseen}", unseen.title());
            }
            Self::NoEndpoint(unseen) if unseen.is_of_ipv6_alone() => {
                info!("{}: {unseen}", unseen.title());
            }
            Self::NoEndpoint(unseen) => warn!("{}: {unseen}", unseen.title()),
            Self::Reported(endpoint) => info!(%endpoint, "UDP endpoint sent to the rendezvous"),
            Self::Signal(signal) => log_signal(signal),
            Self::Udp(event) => log_discovery(event, names),
            Self::Linked(peer, session, path) => {
                info!(%peer, %session, path = %path.kind, "linked: encrypted, and the peer is who it should be");
            }
            Self::LinkEnded(peer, session, why) => {
                warn!(%peer, %session, why = start(&why.to_string()), "the link has ended");
            }
        }
    }
}

fn log_signal(signal: &Signal) {
    match signal {
        Signal::Connecting(url) => info!(%url, "connecting to the rendezvous"),
        Signal::Connected => info!("registered with the rendezvous"),
        Signal::ConnectedV1 => info!("registered with the rendezvous, which speaks holepunch.v1"),
        Signal::Disconnected { why, code, retry_in, .. } => {
            let retry_in_ms = milliseconds(*retry_in);
            warn!(why, code = code.as_str(), retry_in_ms, "no connection to the rendezvous");
        }
        Signal::Malformed(why) => warn!(why = start(why), "message of the rendezvous ignored"),
        Signal::Message(message) => log_message(message),
    }
}

/// The start of a text of somebody else's: a log line stays a line, whatever comes.
pub(crate) fn start(text: &str) -> &str {
    holepunch_wire::text::start(text, FOREIGN_CHARS_MAX)
}

fn log_message(message: &FromServer) {
    match message {
        FromServer::UdpEndpointAck(Ok(())) => {
            info!(status = "success", "udp_endpoint_ack");
            info!("waiting for a peer");
        }
        FromServer::UdpEndpointAck(Err(detail)) => error!(
            status = "error",
            detail = start(detail),
            "udp_endpoint_ack: the rendezvous refuses this endpoint, so no peer will be offered"
        ),
        FromServer::EchoResponse(payload) => {
            info!(payload = start(payload), "echo_response");
        }
        FromServer::MyDetails(details) => {
            info!(details = start(details), "my_details_response");
        }
        FromServer::Offer(Ok(offer)) => {
            info!(peer = %offer.peer, address = %offer.endpoint, "p2p_connection_offer");
        }
        FromServer::Offer(Err(why)) => {
            warn!(why = start(&why.to_string()), "p2p_connection_offer that cannot be followed");
        }
        FromServer::SessionOffer(Ok(offer)) => {
            let address = offer.endpoint.map(tracing::field::display);
            let session = offer.details.session;
            info!(peer = %offer.peer, %session, address, "p2p_connection_offer");
        }
        FromServer::SessionOffer(Err(why)) => {
            warn!(why = start(&why.to_string()), "p2p_connection_offer that cannot be followed");
        }
        // A welcome holds secrets.
        FromServer::V1(Ok(message)) if matches!(**message, ServerV1::Welcome(_)) => {
            debug!("welcome");
        }
        FromServer::V1(Ok(message)) => debug!(message = start(&format!("{message:?}")), "message"),
        FromServer::V1(Err(why)) => warn!(why = start(why), "message that is not understood"),
        FromServer::Error(said) => {
            warn!(code = ?said.code, said = start(&said.message), "error message of the rendezvous");
        }
        FromServer::Unknown(kind) => {
            warn!(kind = start(kind), "message of unknown type ignored");
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is logged by `log_punch`")]
fn log_discovery(event: &Event, names: SettingNames) {
    match event {
        Event::Resolve | Event::Report(_) | Event::NoEndpoint(_) => {}
        Event::StunAsked(server) => {
            info!(server = server.name, address = %server.address, "STUN request");
        }
        Event::StunSilent(server, waited) => warn!(
            server = server.in_full(),
            waited_ms = milliseconds(*waited),
            "no STUN answer yet, still asking: is UDP to this address let out?"
        ),
        Event::Mapped { server, mapped, replaces, is_endpoint, nat } => {
            let text = match (is_endpoint, replaces) {
                (false, _) => "STUN answer of another server",
                (true, None) => "STUN result",
                (true, Some(_)) => "STUN result: the mapping has changed",
            };
            let replaces = replaces.map(tracing::field::display);
            info!(server = server.name, %mapped, replaces, nat_type = nat.to_string(), "{text}");
        }
        Event::MappedV6 { server, mapped, is_candidate, is_translated } => {
            let text = if *is_candidate {
                "STUN result by IPv6"
            } else {
                "STUN answer by IPv6 of another server"
            };
            let nat_type = match (mapped, is_translated) {
                (SocketAddr::V4(_), _) => "NAT64",
                (SocketAddr::V6(_), true) => "translated",
                (SocketAddr::V6(_), false) => "no translation",
            };
            info!(server = server.name, %mapped, nat_type, "{text}");
        }
        Event::StunRefused(server, code) => {
            warn!(server = server.name, code, "STUN server answered without an address");
        }
        Event::MappingUnconfirmed(server) => {
            warn!(
                server = server.name,
                "STUN server has stopped answering, asking all servers anew"
            );
        }
        Event::RoundComplete(nat) => info!(nat_type = nat.to_string(), "STUN discovery complete"),
        Event::DiscoveryFailed { ipv6: true, attempt, reason, retry_in } => {
            let retry_in_ms = retry_in.map(milliseconds);
            // What it asks by IPv6 may be enough; once, so that whoever wonders finds it.
            if *attempt == 1 {
                info!(attempt, reason, retry_in_ms, "no STUN result by IPv4");
            } else {
                debug!(attempt, reason, retry_in_ms, "no STUN result by IPv4");
            }
        }
        Event::DiscoveryFailed { attempt, reason, retry_in: Some(delay), .. } => {
            warn!(attempt, reason, retry_in_ms = milliseconds(*delay), "STUN failed, trying again");
        }
        Event::DiscoveryFailed { attempt, reason, retry_in: None, .. } => error!(
            attempt,
            reason,
            "STUN failed, given up ({}): this worker stays registered, but cannot link",
            names.stun_retries
        ),
        _ => log_punch(event),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is logged by `log_discovery`")]
fn log_punch(event: &Event) {
    match event {
        Event::OfferIgnored(why) => warn!(why = start(&why.to_string()), "offer ignored"),
        Event::PunchStarted(peer, address) => info!(%peer, %address, "probes start"),
        Event::SourceObserved(peer, from) => {
            info!(%peer, %from, "PINGs of the peer come from another address, probing it too");
        }
        Event::PingReceived(peer, from, 1) => {
            info!(%peer, %from, "datagram received: PING received, PONG sent");
        }
        Event::PingReceived(peer, from, count) => {
            debug!(%peer, %from, count, "PING received, PONG sent")
        }
        Event::PongReceived(peer, from, 1) => {
            info!(%peer, %from, "datagram received: PONG received")
        }
        Event::PongReceived(peer, from, count) => debug!(%peer, %from, count, "PONG received"),
        Event::StrangerPing(id, from) => {
            debug!(id, %from, "PING of a worker that was not offered, answered")
        }
        Event::LinkEstablished { peer, address, after, rtt, probes } => info!(
            %peer,
            %address,
            ms_since_offer = milliseconds(*after),
            rtt_ms = milliseconds(*rtt),
            probes,
            "link established"
        ),
        Event::LinkFailed { peer, reason, probes } => {
            warn!(%peer, reason = reason.to_string(), probes, "link failed");
        }
        Event::PathMoved(peer, address) => {
            info!(%peer, %address, "the peer answers at another address")
        }
        Event::PeerLost(peer, reason) => warn!(%peer, reason = reason.to_string(), "peer lost"),
        Event::Profile(profile) => log_profile(profile),
        Event::Session(session, peer, event) => log_session(*session, peer, event),
        _ => {}
    }
}

fn log_profile(profile: &NatProfile) {
    info!(
        udp = ?profile.udp,
        mapping = ?profile.mapping,
        filtering = ?profile.filtering,
        allocation = ?profile.allocation,
        hairpin = profile.hairpin,
        lifetime_s = profile.lifetime_s,
        "NAT profile"
    );
}

fn log_session(session: SessionId, peer: &WorkerId, event: &SessionEvent) {
    let path = |text: &str, info: &PathInfo| {
        info!(
            %session,
            %peer,
            address = %info.remote,
            kind = ?info.kind,
            rtt_ms = milliseconds(info.rtt),
            ms_since_offer = milliseconds(info.after),
            probes = info.probes,
            "{text}"
        );
    };
    let planned = |text: &str, plan: &Plan| {
        let search = plan.search.as_ref();
        info!(
            %session,
            %peer,
            strategy = %plan.strategy,
            sockets = search.map(|search| search.sockets),
            fresh = search.map(|search| search.fresh),
            reason = plan.reason,
            "{text}"
        );
    };
    match event {
        SessionEvent::Started(offer) => planned("checks start", &offer.details.plan),
        SessionEvent::Replanned(plan) => planned("another plan", plan),
        SessionEvent::AnswersFrom(_, to, from) => {
            tracing::debug!(%session, %peer, %to, ?from, "answers come from another address");
        }
        SessionEvent::Heard(_, from) => info!(%session, %peer, %from, "the peer's checks arrive"),
        SessionEvent::SearchRefused(why) => {
            warn!(%session, %peer, why = why.to_string(), "search not made");
        }
        SessionEvent::SearchStarted(strategy) => {
            info!(%session, %peer, %strategy, "both are ready: the search starts");
        }
        SessionEvent::Linked(info) => path("link established", info),
        SessionEvent::PathChanged(info) => path("a better path is used from now on", info),
        SessionEvent::Repaired(info) => path("a path answers again", info),
        SessionEvent::Rebound(address) => {
            info!(%session, %peer, %address, "the peer sees this worker at another address");
        }
        SessionEvent::Suspect(address) => {
            warn!(%session, %peer, %address, "the path answers no more, others are tried");
        }
        SessionEvent::Verdict(reason) => {
            warn!(%session, %peer, reason, "no direct path is to be expected");
        }
        SessionEvent::Failed(why) => {
            warn!(%session, %peer, reason = why.to_string(), "link failed");
        }
        SessionEvent::Ended(code, reason) => {
            info!(%session, %peer, code = code.code(), reason, "session ended");
        }
    }
}

/// Milliseconds to the microsecond, as logs and tables show a time.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use holepunch_link::OfferRefusal;

    use super::*;

    #[test]
    fn what_a_rendezvous_can_say_again_and_again_is_counted() {
        let of = |notice: Notice| notice.is_of_the_rendezvous();
        let unknown = FromServer::Unknown("x".to_owned());
        assert!(of(Notice::Signal(Signal::Message(unknown))));
        assert!(of(Notice::Signal(Signal::Malformed("x".to_owned()))));
        assert!(of(Notice::Udp(Event::OfferIgnored(OfferRefusal::NotReady { why: None }))));
        assert!(!of(Notice::Signal(Signal::Connected)) && !of(Notice::Udp(Event::Resolve)));
    }
}
