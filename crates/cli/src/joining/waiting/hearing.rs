//! What a notice of the worker's comes to, while there is no link.

use std::time::Duration;

use holepunch_wire::identity::is_made_from_a_key;
use holepunch_wire::reason::EndReason;
use holepunch_wire::signal::v1::Welcome;
use holepunch_worker::{
    Complaint, ErrorCode, FailureCode, FromServer, LinkError, Notice, ServerV1, Signal, WorkerId,
    without_name,
};

use super::{Code, Heard, Seldom, Standing, Waiting};

/// Of attempts to reach the rendezvous these are told: the first, the second, the fourth, the eighth, …
const ATTEMPTS_TOLD: u32 = 2;
/// Of peers that come to nothing, one every five seconds perhaps: the first, the fourth, the sixteenth, …
const PEERS_TOLD: u32 = 4;
/// So often a peer that is called by its id may show that it does not know the room's secret: where the id is
/// made from a key, it is the same one each time. An id of people's own choice is whoever's that came first,
/// which is no reason to give up: the peer may get it back.
const SECRETS_REFUSED_MAX: u32 = 3;

impl Waiting {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the log says the rest")]
    pub(in crate::joining) fn hear(&mut self, notice: &Notice) -> Heard {
        match notice {
            Notice::Signal(Signal::Connecting(_)) => {
                self.tries = self.tries.saturating_add(1);
                if self.tries > 1 {
                    return Heard::Nothing;
                }
                Heard::Line(format!("connecting to {}", self.rendezvous))
            }
            Notice::Signal(Signal::Connected | Signal::ConnectedV1) => {
                (self.attempts, self.told_why) = (Seldom::default(), None);
                (self.standing, self.trouble) = (Standing::Registered, None);
                if self.code == Some(Code::OtherSide) {
                    self.looking.begin();
                }
                Heard::Line(self.goal.clone())
            }
            Notice::Signal(Signal::Disconnected {
                why,
                code: FailureCode::TokenRefused | FailureCode::NotAllowed,
                is_final: true,
                ..
            }) => {
                let why = without_name(&self.rendezvous, why);
                Heard::Hopeless(format!("{}: {why}", self.rendezvous))
            }
            Notice::Signal(Signal::Disconnected { why, retry_in, .. }) => {
                self.disconnected(why, *retry_in)
            }
            Notice::Signal(Signal::Message(FromServer::Error(said))) => self.complained(said),
            Notice::Signal(Signal::Message(FromServer::Offer(_) | FromServer::SessionOffer(_))) => {
                self.looking.end();
                Heard::Nothing
            }
            Notice::Signal(Signal::Message(FromServer::V1(Ok(message)))) => match &**message {
                ServerV1::Welcome(welcome) => self.welcomed(welcome),
                _ => Heard::Nothing,
            },
            // What this side has closed it has reasons for, and a peer that has left is waited for.
            Notice::LinkEnded(_, _, LinkError::Closed(_)) => Heard::Nothing,
            // After a refusal perhaps.
            Notice::LinkEnded(peer, _, LinkError::SessionEnded(EndReason::PeerLeft, _)) => {
                self.left(peer)
            }
            Notice::LinkEnded(peer, _, why) => self.no_link(peer, why),
            Notice::UdpUnavailable(why, _) => {
                self.port = Some(why.clone());
                self.unbound.again(PEERS_TOLD).map_or(Heard::Nothing, |_| Heard::Line(why.clone()))
            }
            Notice::NoEndpoint(unseen) => {
                let before = self.port.replace(unseen.to_string());
                if unseen.is_of_ipv6_alone() {
                    return Heard::Nothing;
                }
                Heard::Line(if before == self.port {
                    "still no public UDP endpoint, for the same reason".to_owned()
                } else {
                    unseen.to_string()
                })
            }
            Notice::UdpBound(_) | Notice::Reported(_) => {
                self.port = None;
                Heard::Nothing
            }
            _ => Heard::Nothing,
        }
    }

    /// The connection to the rendezvous is lost, or has not come about.
    fn disconnected(&mut self, why: &str, retry_in: Duration) -> Heard {
        self.looking.end();
        let why = without_name(&self.rendezvous, why);
        let why = match (&self.standing, self.doubt) {
            (Standing::NotYet(_), Some(doubt)) => format!("{why}; {doubt}"),
            (Standing::NotYet(_), None) | (Standing::Registered | Standing::Lost(_), _) => {
                why.to_owned()
            }
        };
        self.standing = match &self.standing {
            Standing::NotYet(_) => Standing::NotYet(Some(why.clone())),
            Standing::Registered | Standing::Lost(_) => Standing::Lost(why.clone()),
        };
        let Some(count) = self.attempts.again(ATTEMPTS_TOLD) else { return Heard::Nothing };
        let rendezvous = &self.rendezvous;
        let trouble = if self.told_why.as_ref() == Some(&why) {
            format!("still no connection to the rendezvous {rendezvous}")
        } else {
            format!("no connection to the rendezvous {rendezvous}: {why}")
        };
        self.told_why = Some(why);
        let after = if count > 1 { format!(" (try {count})") } else { String::new() };
        // Rounded up, so that the line is true and does not jump about.
        let within = retry_in.as_secs() + 1;
        Heard::Line(format!("{trouble}{after}; next try within {within} s"))
    }

    fn welcomed(&mut self, welcome: &Welcome) -> Heard {
        self.calls_from_anywhere = welcome.calls_from_anywhere;
        match &self.calls {
            Some(room) if !welcome.calls_from_anywhere => Heard::Line(format!(
                "the rendezvous {} is older than calls from everywhere: whoever calls has to name the room of this side, \
                 too: --room {room}",
                self.rendezvous
            )),
            Some(_) | None => Heard::Nothing,
        }
    }

    /// A text that is in the way, or the short one where it has been told before.
    fn in_short(&mut self, text: String, again: String) -> String {
        if self.trouble.as_ref() == Some(&text) {
            return again;
        }
        self.trouble = Some(text.clone());
        text
    }

    /// The peer has left a session that has not become a link.
    fn left(&mut self, peer: &WorkerId) -> Heard {
        if self.peer.as_ref() != Some(peer) {
            return Heard::Nothing;
        }
        let perhaps = if self.is_by_keys {
            ""
        } else {
            ": perhaps it lets others call it alone (--accept=ID there), or has another secret"
        };
        let text = format!("{peer} has ended the session before there was a link{perhaps}");
        let again = format!("{peer} has ended the session again");
        let text = self.in_short(text, again);
        line(&text, self.lefts.again(PEERS_TOLD), "; trying again")
    }

    /// The rendezvous has refused something.
    fn complained(&mut self, said: &Complaint) -> Heard {
        if self.peer.is_some() && said.code == Some(ErrorCode::NotRegistered) {
            return self.not_registered();
        }
        match said.code {
            Some(ErrorCode::RoomOccupied) => {
                if self.code == Some(Code::OtherSide) {
                    self.looking.is_occupied();
                }
                let (text, waiting) = match self.code {
                    Some(_) => (
                        "somebody else has come to the other side with a code",
                        "its code proves wrong",
                    ),
                    None => (
                        "two others in this room have each other (another --room is this side's own)",
                        "one of them leaves",
                    ),
                };
                self.trouble = Some(text.to_owned());
                Heard::Line(format!("{text}; waiting until {waiting}"))
            }
            // Somebody has decided that nobody is offered to anybody here, or has taken all places.
            Some(ErrorCode::RoomFull | ErrorCode::RoomMode) => {
                let said = &said.message;
                let text = format!("the rendezvous has no peer for this side in its room: {said}");
                self.trouble = Some(text.clone());
                Heard::Line(text)
            }
            // Before it had the room, it would have tried another one.
            Some(ErrorCode::RoomTaken) if matches!(self.code, Some(Code::ThisSide { .. })) => {
                let text = "somebody else got the number of this code while the connection to the rendezvous was lost; \
                            run the command again for another one";
                Heard::Hopeless(text.to_owned())
            }
            Some(
                ErrorCode::RoomTaken
                | ErrorCode::NotRegistered
                | ErrorCode::NotCallable
                | ErrorCode::Unknown,
            )
            | None => Heard::Nothing,
        }
    }

    /// The worker that is called is not there.
    fn not_registered(&mut self) -> Heard {
        let how = if self.is_by_keys {
            "it has lost its connection, or has ended; a program that is started again needs another code"
        } else if self.calls_from_anywhere {
            "it has to run with --accept, or to wait in the room that --room names here"
        } else {
            "this rendezvous is older than calls from everywhere: give the --room that it waits in"
        };
        let text = format!("no worker with this id can be called at {} ({how})", self.rendezvous);
        self.trouble = Some(text.clone());
        if std::mem::replace(&mut self.told_unregistered, true) {
            return Heard::Nothing;
        }
        Heard::Line(format!("{text}; waiting until it comes"))
    }

    /// The peer has another link.
    pub(in crate::joining) fn busy(&mut self) -> Heard {
        let text = "the peer is busy with another link";
        self.trouble = Some(text.to_owned());
        line(text, self.busy.again(PEERS_TOLD), "; trying again until it is free")
    }

    /// A peer has come, and there is no link with it.
    pub(in crate::joining) fn no_link(&mut self, peer: &WorkerId, why: &LinkError) -> Heard {
        self.looking.end();
        if let (Some(code), LinkError::WrongSecret) = (&mut self.code, why) {
            return code.wrong(self.back_within.is_some());
        }
        let text = match why {
            LinkError::SecretMissing(_) if self.has_secret => format!(
                "no link with {peer}: this side expects a peer with the same --room-secret, and it came \
                 without any; give it the same words"
            ),
            LinkError::SecretMissing(_) => format!(
                "no link with {peer}: it expects a peer with the same --room-secret, and this side has none; \
                 give the same words here"
            ),
            LinkError::WrongSecret => format!(
                "no link with {peer}: this side expects a peer with the same --room-secret, and it came with \
                 other words (or somebody stands in between); give the same words on both sides"
            ),
            LinkError::Closed(_)
            | LinkError::ClosedByPeer(_)
            | LinkError::WrongKey { .. }
            | LinkError::Impostor { .. }
            | LinkError::NoProtocol(_)
            | LinkError::Unreachable(_)
            | LinkError::SessionEnded(..)
            | LinkError::Protocol(_)
            | _ => {
                let text = format!("no link with {peer}: {why}");
                self.trouble = Some(text.clone());
                return line(&text, self.others.again(PEERS_TOLD), "");
            }
        };
        let again = format!("no link with {peer}: again without the same --room-secret");
        let said = self.in_short(text.clone(), again);
        let is_called = self.peer.as_ref() == Some(peer);
        if is_called && is_made_from_a_key(peer) {
            self.secrets_of_peer += 1;
            if self.secrets_of_peer >= SECRETS_REFUSED_MAX {
                return Heard::Hopeless(format!("{text} ({SECRETS_REFUSED_MAX} attempts)"));
            }
        }
        let goes_on = match self.peer {
            None => "; waiting for others",
            Some(_) if is_called && !is_made_from_a_key(peer) => {
                "; trying again, since this id is not made from a key and somebody else may have taken it"
            }
            Some(_) => "; trying again",
        };
        line(&said, self.secrets.again(PEERS_TOLD), goes_on)
    }
}

fn line(text: &str, count: Option<u32>, goes_on: &str) -> Heard {
    match count {
        None => Heard::Nothing,
        Some(1) => Heard::Line(format!("{text}{goes_on}")),
        Some(count) => Heard::Line(format!("{text} ({count} times by now){goes_on}")),
    }
}
