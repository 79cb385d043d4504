//! What the rendezvous says, and what it is told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use holepunch_link::{Event, Input, OfferRefusal, Port};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::Registration;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::{ErrorCode, ServerV1, SessionOffer, Welcome, WorkerV1};
use holepunch_wire::signal::{Complaint, FromServer, WorkerMessage};
use tokio::time::Instant;

use super::Run;
use crate::failure::{ConnectError, RendezvousError};
#[cfg(feature = "ip-echo")]
use crate::ip_echo;
use crate::notice::{Notice, start};
use crate::signalling::Signal;
use crate::token::Token;

/// A peer that is wanted, and with which there is no session, is called again after this time.
pub(crate) const CALL_AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Run {
    pub(super) fn signal(&mut self, signal: Signal) {
        self.notice(Notice::Signal(signal.clone()));
        let is_welcome =
            |it: &Result<Box<ServerV1>, _>| matches!(it.as_deref(), Ok(ServerV1::Welcome(_)));
        if let Signal::Message(said) = &signal
            && !matches!(said, FromServer::V1(it) if is_welcome(it))
        {
            self.resuming.heard(Instant::now());
        }
        match signal {
            Signal::Connected => {
                self.handover.registered(false);
                self.registered();
            }
            Signal::Disconnected { why, code, .. } => {
                let may_change = self.config.token.as_ref().is_some_and(Token::may_change);
                let error = RendezvousError::new(code, why).where_token_changes(may_change);
                self.handover.disconnected(error);
                self.called.clear();
                self.registered = false;
                self.welcome = None;
                self.resuming.lost(Instant::now());
                self.tell(Input::Unregistered);
            }
            Signal::Message(FromServer::Offer(Ok(offer))) => self.tell(Input::Offer(offer)),
            Signal::Message(FromServer::Offer(Err(why))) => {
                self.tell(Input::BadOffer(why.to_string()));
            }
            Signal::Message(FromServer::SessionOffer(Ok(offer))) => self.offered(offer),
            Signal::Message(FromServer::SessionOffer(Err(bad))) => {
                // The rendezvous waits for it, and its peer does: both are told that nothing comes of it.
                if let Some(session) = bad.session {
                    self.send_v1(WorkerV1::Leave { session });
                }
            }
            Signal::Message(FromServer::V1(Ok(message))) => {
                if let ServerV1::Welcome(welcome) = *message {
                    self.welcomed(welcome);
                } else if let ServerV1::PeerTurnAddress { session, address } = *message {
                    self.turns.peer_at(session, address);
                } else if let ServerV1::RelayToken { session, token } = *message {
                    self.relays.renewed(session, token);
                } else if *message == ServerV1::RoomEntered {
                    // From now on the room is its own: a peer may be there when it comes back from a lost connection.
                    self.room_own = true;
                } else {
                    if let ServerV1::Plan { session, plan } = &*message {
                        self.resuming.planned(*session, plan);
                    }
                    self.tell(Input::V1(message));
                }
            }
            Signal::Message(FromServer::Error(said)) => self.complained(&said),
            Signal::Message(_)
            | Signal::Connecting(_)
            | Signal::ConnectedV1
            | Signal::Malformed(_) => {}
        }
    }

    /// Whoever calls one worker wants no other, whoever else may call this one; nor does one that has named its callers.
    fn offered(&mut self, offer: Box<SessionOffer>) {
        self.called.retain(|called| *called != offer.peer);
        // One that this worker calls itself is welcome, whoever else may come.
        let is_called = self.handover.calls(&offer.peer);
        let other = self.config.peer.as_ref().filter(|wanted| **wanted != offer.peer);
        let refusal = match (other, &self.config.callers[..]) {
            _ if is_called => None,
            (Some(wanted), _) => {
                let (named, wanted) = (offer.peer.clone(), wanted.clone());
                Some(OfferRefusal::NotWanted { named, wanted })
            }
            (None, []) => None,
            (None, callers) if callers.contains(&offer.peer) => None,
            (None, _) => Some(OfferRefusal::NotNamed { named: offer.peer.clone() }),
        };
        if let Some(refusal) = refusal {
            self.send_v1(WorkerV1::Leave { session: offer.details.session });
            return self.notice(Notice::Udp(Event::OfferIgnored(refusal)));
        }
        self.resuming.offered(&offer);
        self.tell(Input::SessionOffer(offer));
        // The session begins now: what the rendezvous says next may be for its relays.
        while let Some(event) = self.port.as_mut().and_then(Port::poll_event) {
            self.udp(event);
        }
    }

    /// There is a session with the rendezvous.
    pub(super) fn registered(&mut self) {
        self.registered = true;
        self.tell(Input::Registered);
        match self.public_ip {
            Some(ip) => self.signalling.send(WorkerMessage::RegisterPublicIp { ip }),
            None => self.start_look_up(),
        }
    }

    /// The rendezvous speaks `holepunch.v1`: it is told who is there before anything else.
    pub(super) fn welcomed(&mut self, welcome: Welcome) {
        let sessions = self.port.iter().flat_map(Port::sessions);
        let resumed = self.resuming.welcomed(welcome.resume.clone(), sessions, Instant::now());
        let challenge = welcome.challenge.clone();
        self.turns.renewed(welcome.turn.clone());
        self.welcome = Some(welcome.clone());
        self.handover.registered(self.config.links);
        let signature = self.identity.sign(&Registration {
            host: self.config.rendezvous.host(),
            challenge: &challenge,
            worker: &self.id,
            room: &self.config.room,
        });
        self.send_v1(WorkerV1::Hello {
            room: None,
            mode: self.config.room_mode,
            key: Some(self.identity.public_key()),
            signature: Some(Box::new(signature)),
            resume: resumed.token,
            sessions: resumed.sessions,
            held: resumed.held,
            fresh: self.config.room_fresh && !self.room_own,
            own: self.room_own,
            callable: self.config.callable,
        });
        for (session, address) in self.turns.own() {
            self.send_v1(WorkerV1::TurnAddress { session, address });
        }
        // Candidates go out before the report that asks for a peer.
        self.tell(Input::V1(Box::new(ServerV1::Welcome(welcome))));
        self.registered();
        self.call_at = Instant::now();
        self.call();
    }

    /// Calls the peers that are wanted anew, also those of which the rendezvous has said nothing, or nothing with a code.
    pub(super) fn call_again(&mut self) {
        self.called.clear();
        self.call();
    }

    /// Calls the peers that are wanted, unless there is a session with them already.
    pub(super) fn call(&mut self) {
        let now = Instant::now();
        if self.call_at <= now {
            self.call_at = now + CALL_AGAIN_AFTER;
        }
        if self.welcome.is_none() {
            return;
        }
        let wanted: BTreeSet<WorkerId> =
            self.config.peer.iter().cloned().chain(self.handover.calling()).collect();
        for peer in wanted {
            if self.sessions_with(&peer).next().is_none() && !self.called.contains(&peer) {
                self.send_v1(WorkerV1::Call { peer: peer.as_str().to_owned() });
                self.called.push_back(peer);
            }
        }
    }

    /// The sessions with a peer.
    pub(super) fn sessions_with(&self, peer: &WorkerId) -> impl Iterator<Item = SessionId> {
        let sessions = self.port.iter().flat_map(Port::sessions);
        sessions.filter(move |session| session.peer == *peer).map(|session| session.id)
    }

    /// The rendezvous has refused something: a call, where the code says so.
    fn complained(&mut self, said: &Complaint) {
        let Some(code @ (ErrorCode::NotRegistered | ErrorCode::NotCallable)) = said.code else {
            return;
        };
        let Some(peer) = self.called.pop_front() else { return };
        // Of two that call each other, one is told that there is a session, and has its offer by then.
        if self.sessions_with(&peer).next().is_some() {
        } else if code == ErrorCode::NotRegistered {
            self.handover.call_failed(&peer, ConnectError::NotRegistered(peer.clone()));
        } else {
            self.handover.call_refused(&peer, start(&said.message));
        }
    }

    /// Sends a message of `holepunch.v1`, where the rendezvous of the moment speaks it and has been told
    /// who is there. What sessions have to say in between concerns nobody.
    pub(super) fn send_v1(&self, message: WorkerV1) {
        if self.welcome.is_some() {
            self.signalling.send(WorkerMessage::V1(message));
        }
    }

    #[cfg(not(feature = "ip-echo"))]
    pub(super) fn start_look_up(&mut self) {}

    #[cfg(feature = "ip-echo")]
    pub(super) fn start_look_up(&mut self) {
        if let (None, None, Some(url)) = (&self.look_up, self.public_ip, &self.config.ip_echo_url) {
            let look_up = ip_echo::look_up(url.clone(), self.access.tls.clone());
            self.look_up = Some(tokio::spawn(look_up));
        }
    }

    pub(super) fn public_ip(&mut self, found: Result<IpAddr, String>) {
        self.look_up = None;
        match found {
            Ok(ip) => {
                self.public_ip = Some(ip);
                self.notice(Notice::PublicIp(ip));
                if self.registered {
                    self.signalling.send(WorkerMessage::RegisterPublicIp { ip });
                }
            }
            Err(why) => self.notice(Notice::PublicIpUnknown(why)),
        }
    }
}
