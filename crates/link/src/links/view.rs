//! What is known of the routes of a session.

use holepunch_paths::Routes;
use holepunch_traversal::{SessionEvent, SocketId};
use holepunch_wire::address::AddressKind;
use holepunch_wire::plan::Strategy;
use holepunch_wire::session::AddressProof;
use holepunch_wire::signal::v1::SessionOffer;

use crate::link::LinkError;
use crate::mux::Route;

/// What a session's task knows of the routes.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The route that answers checks, or did.
    pub(super) direct: Option<Route>,
    /// The route to the endpoint that the rendezvous vouches for, where nothing speaks against a packet
    /// to there before any has come back.
    pub(super) guess: Option<Route>,
    /// A route by which the peer's checks come, where none of ours has been answered yet.
    pub(super) heard: Option<Route>,
    /// The direct route has stopped answering checks.
    pub(super) suspect: bool,
    /// Data goes unanswered, and no check has been answered that would say more.
    pub(super) doubted: bool,
    /// Whether a relay has been attached, which may be connected some time.
    pub(super) may_relay: bool,
    /// The relays that are connected.
    pub(super) relays: Vec<Route>,
    /// How often a relay has been connected anew: what was under way there is lost.
    pub(super) renewed: u32,
    /// How often the own NAT has given this side another address, as far as it was seen.
    pub(super) rebound: u32,
    /// Why the session is over.
    pub(super) ended: Option<LinkError>,
}

impl View {
    /// Whether the direct route is no way to send by, where there is another.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect || self.doubted && !self.relays.is_empty()
    }

    /// What the machine of the paths is to know of it.
    pub(super) fn routes(&self) -> Routes<Route> {
        Routes {
            direct: self.direct,
            is_suspect: self.is_suspect(),
            relays: self.relays.clone(),
            rebound: self.rebound,
            renewed: self.renewed,
        }
    }

    /// Whether checks may still find a direct route.
    pub(super) fn may_get_direct(&self) -> bool {
        self.direct.is_none() && self.heard.is_none() && !self.suspect
    }

    /// Whether a relay may still be connected.
    pub(super) fn may_get_relay(&self) -> bool {
        self.may_relay && self.relays.is_empty()
    }

    /// What the traversal machine says. Whether that is anything new.
    pub(super) fn learn(&mut self, event: &SessionEvent) -> bool {
        match event {
            SessionEvent::Heard(socket, from) => {
                self.heard = Some(Route::Direct(*socket, *from));
            }
            SessionEvent::Linked(info)
            | SessionEvent::PathChanged(info)
            | SessionEvent::Repaired(info) => {
                self.direct = Some(Route::Direct(info.socket, info.remote));
                (self.suspect, self.doubted) = (false, false);
            }
            SessionEvent::Rebound(_) => self.rebound += 1,
            SessionEvent::Suspect(_) | SessionEvent::Failed(_) => self.suspect = true,
            SessionEvent::Started(_)
            | SessionEvent::Replanned(_)
            | SessionEvent::SearchRefused(_)
            | SessionEvent::SearchStarted(_)
            | SessionEvent::Verdict(_)
            | SessionEvent::AnswersFrom(..)
            | SessionEvent::Ended(..) => return false,
        }
        true
    }

    /// Data goes unanswered. Checks tell whether the path is one, unless none has been answered yet: then this is
    /// all that there is to know. Whether it is new.
    pub(super) fn doubt(&mut self) -> bool {
        let is_new = self.direct.is_none() && !self.doubted;
        self.doubted |= is_new;
        is_new
    }
}

/// Where the peer most likely is. Not where no single host could be, not where a plan holds packets back or
/// searches for a port, and not where nobody vouches for the address: the first packet of a handshake is a full one.
pub(super) fn guess(offer: &SessionOffer) -> Option<Route> {
    let (endpoint, details) = (offer.endpoint?, &offer.details);
    let plan = &details.plan;
    let is_plain = plan.search.is_none() && plan.opener_ttl.is_none() && plan.delay_ms == 0;
    let may = is_plain && plan.strategy != Strategy::Relay;
    let is_own = details.address_proof != AddressProof::None;
    let is_host = endpoint.port() != 0 && AddressKind::of(endpoint.ip()).is_reachable_unicast();
    (may && is_own && is_host && endpoint.is_ipv4())
        .then_some(Route::Direct(SocketId::MAIN, endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_wire::WorkerId;
    use holepunch_wire::check::IceRole;
    use holepunch_wire::credentials::{IceCredentials, RANDOM_BYTES};
    use holepunch_wire::plan::Plan;
    use holepunch_wire::session::SessionId;
    use holepunch_wire::signal::v1::SessionDetails;

    #[test]
    fn unanswered_data_counts_where_no_check_has_been_answered_and_a_relay_serves() {
        let mut view = View::default();
        assert!(view.doubt() && !view.doubt());
        assert!(!view.is_suspect(), "there is no other way");
        view.relays.push(Route::Relay(SessionId(1)));
        assert!(view.is_suspect());
        let route = Route::Direct(SocketId::MAIN, ([192, 0, 2, 1], 1).into());
        let mut checked = View { direct: Some(route), ..view.clone() };
        checked.doubted = false;
        assert!(!checked.doubt() && !checked.is_suspect(), "checks know better");
    }

    #[test]
    fn no_handshake_begins_with_an_address_where_no_single_host_could_be() {
        let credentials = |byte| IceCredentials::from_random([byte; RANDOM_BYTES]);
        let offer = |endpoint: &str| SessionOffer {
            peer: WorkerId::new("peer").unwrap(),
            endpoint: Some(endpoint.parse().unwrap()),
            details: SessionDetails {
                session: SessionId(1),
                role: IceRole::Controlling,
                credentials: credentials(1),
                peer_credentials: credentials(2),
                peer_key: None,
                relay_token: None,
                relay_url: None,
                relay_udp: Vec::new(),
                candidates: Vec::new(),
                address_proof: AddressProof::Stun,
                turn: Vec::new(),
                guest: false,
                plan: Plan::new(Strategy::Plain, "a test"),
            },
        };
        assert!(guess(&offer("203.0.113.1:4000")).is_some());
        for nobody in ["203.0.113.1:0", "255.255.255.255:9", "224.0.0.251:5353", "0.0.0.0:9"] {
            assert_eq!(guess(&offer(nobody)), None, "{nobody}");
        }
    }
}
