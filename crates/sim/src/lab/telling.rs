//! What happens to a worker, in words: a line per event, for those who look at one history.
//!
//! A line begins with `→` for what goes to the rendezvous, `←` for what comes from there, and with
//! neither for what happens at the worker itself.

use std::net::SocketAddr;

use holepunch_traversal::{Event, PathInfo, SessionEvent, SocketId};
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::nat::{Allocation, Filtering, Mapping, NatProfile, UdpState};
use holepunch_wire::plan::{Aim, Plan};
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::{ServerV1, WorkerV1};

/// Candidates and ports that a line names.
const NAMED_MAX: usize = 6;

/// An event of the machine; `None` where another line says it.
pub(super) fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::Resolve | Event::StunAsked(_) | Event::Profile(_) => return None,
        Event::StunSilent(server, so_long) => {
            format!(
                "STUN server {} has not answered for {:.1} s",
                server.name,
                so_long.as_secs_f64()
            )
        }
        Event::Mapped { server, mapped, replaces, .. } => {
            let replaced = replaces.map(|old| format!(", no longer at {old}")).unwrap_or_default();
            format!("STUN server {} sees it at {mapped}{replaced}", server.name)
        }
        Event::MappedV6 { server, mapped, .. } => {
            format!("STUN server {}, asked by IPv6, sees it at {mapped}", server.name)
        }
        Event::StunRefused(server, code) => {
            format!("STUN server {} refuses ({})", server.name, code.unwrap_or_default())
        }
        Event::MappingUnconfirmed(server) => {
            format!("STUN server {} answers no more: all are asked anew", server.name)
        }
        Event::RoundComplete(nat) => format!("all STUN servers have answered: {nat}"),
        Event::DiscoveryFailed { reason, .. } => format!("discovery failed: {reason}"),
        Event::NoEndpoint(missing) => {
            format!("has no endpoint, and {} addresses of its own", missing.candidates.len())
        }
        Event::Report(endpoint) => format!("→ reports the endpoint {endpoint}"),
        Event::OfferIgnored(refusal) => format!("does not follow the offer: {refusal}"),
        Event::Signal(message) => return signal(message),
        Event::OpenSocket(socket) => opens(*socket),
        Event::CloseSocket(socket) => closes(*socket),
        Event::Session(_, peer, event) => session(peer.as_str(), event),
        Event::PunchStarted(..)
        | Event::SourceObserved(..)
        | Event::PingReceived(..)
        | Event::PongReceived(..)
        | Event::StrangerPing(..)
        | Event::LinkEstablished { .. }
        | Event::LinkFailed { .. }
        | Event::PathMoved(..)
        | Event::PeerLost(..) => format!("{event:?}"),
    })
}

/// The beginnings of lines that come in long rows: whoever shows them may take a row together.
pub(crate) const ROWS: [&str; 3] =
    ["opens socket ", "closes socket ", "sends for the first time to "];

fn opens(socket: SocketId) -> String {
    format!("{}{}", ROWS[0], socket.0)
}

fn closes(socket: SocketId) -> String {
    format!("{}{}", ROWS[1], socket.0)
}

/// A packet toward the peer, from and to where none has gone before.
pub(super) fn first_packet(socket: SocketId, to: SocketAddr) -> String {
    let from = if socket == SocketId::MAIN || socket == SocketId::MAIN_V6 {
        String::new()
    } else {
        format!(" from socket {}", socket.0)
    };
    format!("{}{to}{from}", ROWS[2])
}

/// A packet of the peer, from where none has come before.
pub(super) fn first_heard(from: SocketAddr) -> String {
    format!("hears for the first time from {from}")
}

/// A frame of the rendezvous; `None` where another line says it.
pub(super) fn frame(text: &str) -> Option<String> {
    let words = match FromServer::parse(text) {
        Ok(FromServer::UdpEndpointAck(Ok(()))) => "the report is accepted".to_owned(),
        Ok(FromServer::UdpEndpointAck(Err(why))) => format!("the report is refused: {why}"),
        Ok(FromServer::SessionOffer(Ok(offer))) => {
            let at = offer.endpoint.map(|at| format!(" at {at}")).unwrap_or_default();
            let candidates = candidates(&offer.details.candidates);
            format!("offer: {}{at}; candidates: {candidates}", offer.peer.as_str())
        }
        Ok(FromServer::V1(Ok(message))) => {
            return server(&message).map(|words| format!("← {words}"));
        }
        Ok(FromServer::Offer(Ok(offer))) => {
            format!("offer of the baseline: {} at {}", offer.peer.as_str(), offer.endpoint)
        }
        Ok(FromServer::Error(said)) => format!("error: {}", said.message),
        _ => text.to_owned(),
    };
    Some(format!("← {words}"))
}

fn server(message: &ServerV1) -> Option<String> {
    Some(match message {
        ServerV1::Welcome(welcome) => format!("welcome; seen at {}", welcome.observed_ip),
        ServerV1::PeerCandidates { candidates: of_peer, .. } => {
            format!("candidates of the peer: {}", candidates(of_peer))
        }
        ServerV1::PeerAccepted { number, ports: announced, .. } => {
            format!("the peer accepts plan {number}{}", ports(announced))
        }
        ServerV1::PeerTurnAddress { address, .. } => {
            format!("TURN address of the peer: {address}")
        }
        ServerV1::RelayToken { .. } => "a fresh token for the relay".to_owned(),
        ServerV1::SessionEnded { reason, .. } => format!("the session is over: {reason}"),
        ServerV1::Error { message, .. } => format!("error: {message}"),
        // The machine's events tell of both.
        ServerV1::Plan { .. }
        | ServerV1::P2pConnectionOffer { .. }
        | ServerV1::RoomEntered
        | ServerV1::Closing { .. } => return None,
    })
}

fn signal(message: &WorkerV1) -> Option<String> {
    Some(match message {
        WorkerV1::Hello { .. } => return None,
        WorkerV1::Ready => "→ wants a peer, without an endpoint".to_owned(),
        WorkerV1::NatProfile { profile } => format!("→ NAT profile: {}", profile_in_words(profile)),
        WorkerV1::Candidates { candidates: own, .. } => {
            format!("→ candidates: {}", candidates(own))
        }
        WorkerV1::AddressProof { udp_ip, udp_port, .. } => {
            format!("→ proof that {} is its own", SocketAddr::new(*udp_ip, *udp_port))
        }
        WorkerV1::Call { peer } => format!("→ calls {peer}"),
        WorkerV1::PlanAccepted { number, ports: announced, .. } => {
            format!("→ accepts plan {number}{}", ports(announced))
        }
        WorkerV1::LinkState(report) => {
            let reason = if report.reason.is_empty() { "" } else { ": " };
            let state = format!("{:?}", report.state).to_lowercase();
            format!("→ state: {state}{reason}{}", report.reason)
        }
        WorkerV1::TurnAddress { address, .. } => format!("→ TURN address: {address}"),
        WorkerV1::Leave { .. } => "→ leaves the session".to_owned(),
    })
}

fn session(peer: &str, event: &SessionEvent) -> String {
    match event {
        SessionEvent::Started(offer) => plan_in_words(&offer.details.plan),
        SessionEvent::Replanned(plan) => plan_in_words(plan),
        SessionEvent::Heard(_, from) => format!("the first check of {peer} arrives, from {from}"),
        SessionEvent::AnswersFrom(_, to, Some(from)) => format!("{to} answers from {from}"),
        SessionEvent::AnswersFrom(_, to, None) => format!("{to} answers from there again"),
        SessionEvent::SearchRefused(refusal) => format!("makes no search: {refusal}"),
        SessionEvent::SearchStarted(strategy) => format!("the search begins: {strategy}"),
        SessionEvent::Linked(path) => format!("LINKED with {peer} {}", path_in_words(path)),
        SessionEvent::PathChanged(path) => format!("now sends {}", path_in_words(path)),
        SessionEvent::Rebound(at) => format!("{peer} sees this worker at {at} now"),
        SessionEvent::Suspect(at) => format!("the path to {at} is suspect: it does not answer"),
        SessionEvent::Repaired(path) => format!("REPAIRED: {peer} answers {}", path_in_words(path)),
        SessionEvent::Verdict(reason) => format!("VERDICT: relay, {reason}"),
        SessionEvent::Failed(failure) => format!("FAILED: {failure}"),
        SessionEvent::Ended(_, reason) => format!("the session is over: {reason}"),
    }
}

fn path_in_words(path: &PathInfo) -> String {
    let rtt_ms = path.rtt.as_secs_f64() * 1000.0;
    let kind = kind_in_words(path.kind);
    let after_ms = path.after.as_secs_f64() * 1000.0;
    format!(
        "at {} ({kind}), round trip {rtt_ms:.0} ms, {after_ms:.0} ms after the offer, {} packets",
        path.remote, path.probes
    )
}

fn plan_in_words(plan: &Plan) -> String {
    let search = plan.search.as_ref().map(|search| {
        let aim = match search.aim {
            Aim::Endpoint => "to the peer's endpoint".to_owned(),
            Aim::Observed => "to the port that the peer's packets come from".to_owned(),
            Aim::FreshPort => "to the port of the peer's fresh socket".to_owned(),
            Aim::Announced => "to the ports that the peer announces".to_owned(),
            Aim::Window { first, last, centre } => {
                format!("to the ports {first} to {last} from {centre} outward")
            }
            Aim::Random => "to random ports".to_owned(),
        };
        let sockets = match search.sockets {
            1 => "1 socket".to_owned(),
            sockets => format!("{sockets} sockets"),
        };
        format!("; from {sockets} {aim}, at most {} packets", search.probes_max)
    });
    let opener = plan.opener_ttl.map(|ttl| format!("; opener with TTL {ttl}"));
    let delay = (plan.delay_ms > 0).then(|| format!("; after {} ms", plan.delay_ms));
    let more: String = [delay, opener, search].into_iter().flatten().collect();
    format!("plan {}: {}{more}; {}", plan.number, plan.strategy, plan.reason)
}

fn candidates(candidates: &[Candidate]) -> String {
    let one = |it: &Candidate| format!("{} {}", kind_in_words(it.kind), it.address());
    listed(candidates.iter().map(one).collect())
}

fn kind_in_words(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Host => "host",
        CandidateKind::PortMapped => "port-mapped",
        CandidateKind::PeerReflexive => "peer-reflexive",
        CandidateKind::ServerReflexive => "server-reflexive",
        CandidateKind::Predicted => "predicted",
        CandidateKind::Other => "other",
    }
}

fn ports(ports: &[u16]) -> String {
    if ports.is_empty() {
        return String::new();
    }
    format!(", with the ports {}", listed(ports.iter().map(u16::to_string).collect()))
}

fn listed(mut items: Vec<String>) -> String {
    let left = items.len().saturating_sub(NAMED_MAX);
    items.truncate(NAMED_MAX);
    let rest = if left > 0 { format!(" and {left} more") } else { String::new() };
    if items.is_empty() { "none".to_owned() } else { items.join(", ") + &rest }
}

fn profile_in_words(profile: &NatProfile) -> String {
    let mapping = match profile.mapping {
        Mapping::None => "no translation",
        Mapping::EndpointIndependent => "endpoint-independent mapping",
        Mapping::AddressDependent => "address-dependent mapping",
        Mapping::AddressAndPortDependent => "address-and-port-dependent mapping",
        Mapping::EndpointDependent => "endpoint-dependent mapping",
        Mapping::Unknown => "mapping not known",
    };
    let filtering = match profile.filtering {
        Filtering::EndpointIndependent => "endpoint-independent filtering",
        Filtering::AddressDependent => "address-dependent filtering",
        Filtering::AddressAndPortDependent => "address-and-port-dependent filtering",
        Filtering::Unknown => "filtering not known",
    };
    let allocation = match profile.allocation {
        Allocation::Preserving => "ports preserved".to_owned(),
        Allocation::Sequential { step } => format!("ports in sequence, step {step}"),
        Allocation::Block { lowest, highest, size } => {
            format!("ports from a block of {size}, seen {lowest} to {highest}")
        }
        Allocation::Random => "ports at random".to_owned(),
        Allocation::Unknown => "allocation not known".to_owned(),
    };
    let udp = match profile.udp {
        UdpState::Open => "",
        UdpState::Blocked => "UDP is blocked; ",
        UdpState::Unknown => "UDP not known; ",
    };
    let more = [
        profile.hairpin.map(|is| if is { "hairpin" } else { "no hairpin" }.to_owned()),
        profile.reuses_ports.map(|is| if is { "reuses ports" } else { "no port twice" }.to_owned()),
        profile.remaps_after_inbound.filter(|is| *is).map(|_| "remaps after inbound".to_owned()),
        profile.opener_ttl.map(|ttl| format!("openers go {ttl} hops")),
        profile.lifetime_s.map(|seconds| format!("lives {seconds} s or longer")),
    ];
    let more: String = more.into_iter().flatten().map(|word| format!(", {word}")).collect();
    format!("{udp}{mapping}, {filtering}, {allocation}{more}")
}
