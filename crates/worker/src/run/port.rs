//! The UDP port, its sessions, and its links.

use std::net::SocketAddrV4;
use std::time::Duration;

use holepunch_link::{
    Event, Input, LinkConfig, LinkError, LinkEvent, OfferRefusal, Port, RelayKind, SessionEvent,
    TraversalConfig,
};
use holepunch_wire::signal::WorkerMessage;
use holepunch_wire::signal::v1::{ServerV1, SessionDetails};
use tokio::time::Instant;

use super::Run;
use crate::no_endpoint::Unseen;
use crate::notice::Notice;

/// A UDP port that is taken is tried again after so long.
const REBIND_AFTER: Duration = Duration::from_secs(5);

impl Run {
    pub(super) async fn bind(&mut self) {
        let config = TraversalConfig {
            stun_retries_max: self.config.stun_retries_max,
            stun_retry_delay: self.config.stun_retry_delay,
            profile: !self.config.baseline_only,
            host_candidates: self.config.host_candidates,
            search: self.config.search,
            ..TraversalConfig::new(self.id.clone())
        };
        let servers = self.config.stun_servers.clone();
        let links = (self.config.links && !self.config.baseline_only).then(|| LinkConfig {
            identity: self.identity.clone(),
            secret: self.config.room_secret.clone(),
            guesses: self.config.room_guesses.clone(),
            relay: self.config.relay,
            protocols: self.config.protocols.clone(),
        });
        match Port::open(
            SocketAddrV4::new(self.config.listen_ip, self.config.udp_port),
            servers,
            config,
            links,
        )
        .await
        {
            Ok(mut port) => {
                self.notice(Notice::UdpBound(port.local_address()));
                #[cfg(feature = "port-mapping")]
                if self.config.port_mapping && !self.config.baseline_only {
                    port.ask_port_mapping();
                }
                if self.registered {
                    port.handle(Input::Registered);
                }
                if let Some(welcome) = self.welcome.clone() {
                    port.handle(Input::V1(Box::new(ServerV1::Welcome(welcome))));
                }
                self.port = Some(port);
            }
            Err(error) => {
                self.bind_at = Instant::now() + REBIND_AFTER;
                self.notice(Notice::UdpUnavailable(error.to_string(), REBIND_AFTER));
            }
        }
    }

    /// Tells the UDP port what the rendezvous said; without a port only an offer is worth a word.
    pub(super) fn tell(&mut self, input: Input<'_>) {
        if let Some(port) = &mut self.port {
            port.handle(input);
        } else if let Input::Offer(_) = input {
            self.notice(Notice::Udp(Event::OfferIgnored(OfferRefusal::NotReady { why: None })));
        }
    }

    pub(super) fn udp(&mut self, event: Event) {
        if let Event::Report(endpoint) = event {
            self.signalling.send(WorkerMessage::report(endpoint));
            self.notice(Notice::Reported(endpoint));
        } else if let Event::NoEndpoint(missing) = event {
            return self.notice(Notice::NoEndpoint(Unseen::new(missing, &self.config)));
        } else if let Event::Signal(message) = event {
            return self.send_v1(message);
        } else if let Event::Session(_, _, SessionEvent::Started(offer)) = &event {
            self.start_relays(&offer.details);
        }
        self.notice(Notice::Udp(event));
    }

    /// Connects to the relays of a session that has begun.
    fn start_relays(&mut self, details: &SessionDetails) {
        let Some(port) = &self.port else { return };
        let end = |kind| port.relay(details.session, kind);
        self.turns.begin(details, || end(RelayKind::Turn));
        let rendezvous = (&self.config.rendezvous, &self.access);
        self.relays.begin(details, || end(RelayKind::Rendezvous), rendezvous);
    }

    pub(super) fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Established(link) => {
                self.stories.linked(&link);
                self.notice(Notice::Linked(link.peer().clone(), link.session(), link.path()));
                // Nobody takes so many: it would hang without an owner.
                if let Err(link) = self.handover.linked(link) {
                    link.close("nobody takes this link");
                }
            }
            LinkEvent::Ended { session, peer, error } => {
                if error == LinkError::WrongSecret {
                    self.wrong_secrets.send_modify(|count| *count = count.saturating_add(1));
                }
                let was_linked = self.handover.ended(session);
                if !was_linked && self.sessions_with(&peer).all(|other| other == session) {
                    self.handover.call_failed(&peer, error.clone().into());
                }
                self.notice(Notice::LinkEnded(peer, session, error));
                self.tell(Input::Leave(session));
            }
            // The port has dealt with them.
            LinkEvent::Doubt(_) | LinkEvent::Relayed(..) => {}
        }
    }
}
