//! A desk and the halls: what it tells them of its worker, and what they say.

use std::collections::BTreeSet;
use std::sync::Arc;

use holepunch_wire::reason::CloseReason;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::ServerMessage;
use holepunch_wire::signal::v1::ServerV1;

use super::{Desk, Errand, Out, Question, Surroundings};
use crate::card::Card;
use crate::doors::{Action, DropReason, Event};
use crate::names::Room;
use crate::registry::{Seen, Whereabouts};
use crate::seat::{Command, Effect, Held, InstanceId, Resumes};

impl Desk {
    /// The worker asks for a peer. One that was shown out does so after the hello by which it was: those in the room without
    /// a name are not whom it wants.
    pub(super) fn want(&mut self, at: Surroundings<'_>) {
        let Some(room) = self.room.clone() else {
            return self.event(Event::Dropped(DropReason::NoRoom));
        };
        self.wants_since.get_or_insert(at.now);
        self.check_mode();
        if self.is_gone {
            return;
        }
        self.announce();
        self.command(room, Command::Want { waited: None });
    }

    /// Whether the worker may be in a room of this mode, once it is known which one it means: before its hello, it is in one that
    /// nobody may have decided of.
    fn check_mode(&mut self) {
        let means_it = self.wants_since.is_some() || self.v1.as_ref().is_none_or(|v1| v1.greeted);
        if means_it && self.entering == 0 {
            self.refuse_mode();
        }
    }

    fn refuse_mode(&mut self) {
        let mode = self.entered;
        if mode.is_some_and(|mode| !self.permit.allows_mode(mode)) {
            self.refuse(CloseReason::ModeNotAllowed);
        }
    }

    /// The hall of a room is another one than before, which knows nothing of this worker.
    pub(super) fn rejoin(&mut self, room: &Room) {
        let is_home = self.room.as_ref() == Some(room);
        if !self.is_registered() || self.is_doubtful || !self.halls().contains(room) {
            return;
        }
        let (_, fresh, own) = self.entry;
        let member = self.entered.filter(|_| is_home).map(|mode| (mode, fresh || own));
        if is_home && member.is_none() {
            self.entering = 0; // The hall of before tells nothing more.
            self.enter();
        }
        self.drop_over(room, is_home);
        let here = self.v1.iter().flat_map(|v1| v1.sessions.values()).filter(|it| it.0 == *room);
        let sessions: Vec<Held> = here.map(|(_, held)| held.clone()).collect();
        let v1 = self.v1.as_ref();
        let (resumes, over) =
            v1.map(|v1| (v1.resumes.clone(), v1.over.clone())).unwrap_or_default();
        let is_guest = !is_home || !sessions.is_empty();
        if member.is_some() || is_guest || resumes != Resumes::Nothing {
            let card = self.card_for(room);
            let command = Command::Rejoin { card, member, sessions, over, resumes };
            self.command(room.clone(), command);
        }
    }

    /// The hall of before has not said that it has heard of the end of these, and the next one does not know them.
    fn drop_over(&mut self, room: &Room, is_home: bool) {
        let Some(v1) = &mut self.v1 else { return };
        let over = v1.over.clone();
        let is_its = |(id, (other, _)): (&SessionId, &(Room, Held))| other == room && over.has(*id);
        if v1.sessions.iter().any(is_its) {
            if !is_home {
                v1.calls.insert(room.clone()); // Until that one has said that the worker is nobody there.
            }
            self.with_sessions(|own| own.retain(|id, it| !is_its((id, it))));
        }
    }

    /// The hall knows everything else by now.
    pub(super) fn want_again(&mut self, room: &Room, at: Surroundings<'_>) {
        let is_home = self.room.as_ref() == Some(room) && !self.is_gone && !self.is_doubtful;
        if let Some(since) = self.wants_since.filter(|_| is_home) {
            let waited = Some(at.now.saturating_duration_since(since));
            self.command(room.clone(), Command::Want { waited });
        }
    }

    /// What it has said to the hall of a room when that had no owner is said now.
    pub(super) fn say_again(&mut self, room: Room, command: Command) {
        if self.is_doubtful {
            self.unsaid.push((room, command));
        } else if !self.is_gone {
            self.command(room, command);
        }
    }

    /// The registry is asked anew for the id, which this connection had under the number `before`.
    pub(super) fn reclaim(&mut self, before: InstanceId) {
        if self.is_registered() {
            self.is_doubtful = true;
            let key = self.card.key();
            self.errand(Errand::Ask(Question::Reclaim(key, before)));
        }
    }

    /// What a hall says.
    pub(super) fn effect(&mut self, room: &Room, effect: Effect, at: Surroundings<'_>) {
        if self.is_gone {
            return;
        }
        match effect {
            Effect::Entered(mode) => {
                self.entered = Some(mode).filter(|_| self.room.as_ref() == Some(room));
                self.entering = self.entering.saturating_sub(1);
                // Before anybody is offered there: what follows for a desk that is gone reaches nobody.
                self.check_mode();
            }
            Effect::Waits(true) => {
                self.wants_since.get_or_insert(at.now);
            }
            Effect::Waits(false) => self.wants_since = None,
            Effect::Say(message) => self.say(message, at),
            Effect::Begin { offer, was_waiting } => {
                if self.room.as_ref() == Some(room) {
                    self.refuse_mode(); // It may have been called before its hello.
                }
                if !self.is_gone {
                    self.begin(room, offer, was_waiting, at);
                }
            }
            Effect::Offer { peer, endpoint } => {
                self.wants_since = None;
                let offer = ServerMessage::P2pConnectionOffer {
                    peer_worker_id: peer.as_str(),
                    peer_udp_ip: endpoint.ip(),
                    peer_udp_port: endpoint.port(),
                };
                self.outs.push_back(Out::Act(Action::Offer(offer.encode())));
            }
            Effect::ShownOut { code, message } => {
                if self.room.as_ref() == Some(room) {
                    (self.room, self.entered, self.wants_since) = (None, None, None);
                    self.tell_whereabouts();
                    self.send(ServerV1::error(code, message).encode());
                }
            }
            Effect::Resumed(sessions) => {
                let resumed = sessions.into_iter().map(|held| (held.session, (room.clone(), held)));
                self.with_sessions(|own| own.extend(resumed));
            }
            Effect::Over(session) => {
                let v1 = self.v1.iter_mut().filter(|v1| !v1.over.has(session));
                v1.for_each(|v1| v1.resumes.keep(session));
                self.with_sessions(|own| drop(own.remove(&session)));
            }
            Effect::SeenOff => {
                if let Some(v1) = &mut self.v1 {
                    v1.calls.remove(room);
                }
            }
        }
    }

    /// Everybody who knows this worker is told what is known of it by now.
    pub(super) fn announce(&mut self) {
        for room in self.halls() {
            let card = self.card_for(&room);
            self.command(room, Command::Announce(card));
        }
    }

    /// The rooms where the worker is known: its own one, and those of its sessions and calls.
    pub(super) fn halls(&self) -> BTreeSet<Room> {
        let sessions = self.v1.iter().flat_map(|v1| v1.sessions.values()).map(|(room, _)| room);
        let guest = sessions.chain(self.v1.iter().flat_map(|v1| &v1.calls));
        guest.chain(&self.room).cloned().collect()
    }

    pub(super) fn whereabouts(&self) -> Whereabouts {
        let rooms = self.v1.iter().flat_map(|v1| v1.sessions.values()).map(|(room, _)| room);
        let visits = rooms.filter(|room| self.room.as_ref() != Some(room)).cloned().collect();
        let resume = self.v1.as_ref().map(|v1| v1.resume.clone()).unwrap_or_default();
        let seen = Seen { port: self.port, http_ip: self.http_ip, endpoint: self.card.endpoint };
        Whereabouts { version: self.moves, room: self.room.clone(), visits, resume, seen }
    }

    pub(super) fn tell_whereabouts(&mut self) {
        let whereabouts = self.whereabouts();
        self.tell(whereabouts);
    }

    /// The registry is told where the worker is, each time with a later version.
    pub(super) fn tell(&mut self, whereabouts: Whereabouts) {
        self.moves += 1;
        self.errand(Errand::Is(Whereabouts { version: self.moves, ..whereabouts }));
    }

    /// What the hall of a room is to know of this worker.
    pub(super) fn card_for(&mut self, room: &Room) -> Arc<Card> {
        let elsewhere = self.elsewhere(room);
        let mut card = Arc::clone(&self.card);
        if card.elsewhere != elsewhere {
            Arc::make_mut(&mut card).elsewhere = elsewhere;
        }
        card
    }

    pub(super) fn elsewhere(&self, room: &Room) -> usize {
        let sessions = self.v1.iter().flat_map(|v1| v1.sessions.values());
        sessions.filter(|(other, _)| other != room).count()
    }

    pub(super) fn card_mut(&mut self) -> &mut Card {
        let card = Arc::make_mut(&mut self.card);
        card.version += 1;
        card
    }
}
