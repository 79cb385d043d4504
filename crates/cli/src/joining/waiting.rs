//! What is said while there is no link yet: each cause once, and then more and more seldom.

mod guesses;
mod looking;

use std::time::{Duration, Instant};

use holepunch_wire::identity::is_made_from_a_key;
use holepunch_wire::session::RoomName;
use holepunch_wire::signal::v1::Welcome;
use holepunch_worker::{
    Complaint, ErrorCode, FromServer, LinkError, Notice, ServerV1, Signal, WorkerId, without_name,
};

pub(super) use guesses::Code;
use looking::{Clear, Looking};

/// Of attempts to reach the rendezvous these are told: the first, the second, the fourth, the eighth, …
const ATTEMPTS_TOLD: u32 = 2;
/// Of peers that come to nothing, one every five seconds perhaps: the first, the fourth, the sixteenth, …
const PEERS_TOLD: u32 = 4;
/// What the rendezvous says where the peer gives a session up, after a refusal perhaps.
const PEER_LEFT: &str = "the peer has left";
/// How the rendezvous ends its answer to a call of a worker that it does not have, or not in this room.
const NOT_REGISTERED: &str = "cannot be called: it is not registered here";
/// So often a peer that is called by its id may show that it does not know the room's secret: where the id is
/// made from a key, it is the same one each time. An id of people's own choice is whoever's that came first,
/// which is no reason to give up: the peer may get it back.
const SECRETS_REFUSED_MAX: u32 = 3;

/// Whether the one that is called is not there. Older servers say so in words alone.
fn is_not_registered(said: &Complaint) -> bool {
    match said.code {
        Some(code) => code == ErrorCode::NotRegistered,
        None => said.message.ends_with(NOT_REGISTERED),
    }
}

/// Counts something that repeats itself.
#[derive(Debug, Default)]
pub(super) struct Seldom(u32);

impl Seldom {
    /// It has happened once more. How often by now, where that is worth a line: the first time, and when the
    /// number is a power of `base`.
    pub(super) fn again(&mut self, base: u32) -> Option<u32> {
        self.0 = self.0.saturating_add(1);
        let mut rest = self.0;
        while rest.is_multiple_of(base) {
            rest /= base;
        }
        (rest == 1).then_some(self.0)
    }
}

/// What a notice comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that a person has to know.
    Nothing,
    /// A line.
    Line(String),
    /// It makes no sense to go on, and why.
    Hopeless(String),
}

/// How this side stands with the rendezvous.
#[derive(Debug)]
enum Standing {
    /// It has not been reached yet; why not, once an attempt has ended.
    NotYet(Option<String>),
    Registered,
    /// It was, and has lost the connection; why.
    Lost(String),
}

/// What is missing for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The connection to the rendezvous.
    Rendezvous,
    /// A peer.
    Peer,
    /// The way to the peer, or this side's own to the network.
    Link,
}

impl Missing {
    /// As it stands in JSON.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Rendezvous => "no_rendezvous",
            Self::Peer => "no_peer",
            Self::Link => "no_link",
        }
    }
}

/// What has been waited for so far.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Where the rendezvous is, as it is shown.
    rendezvous: String,
    /// What a person may have meant otherwise, where the rendezvous is not reached.
    doubt: Option<&'static str>,
    /// What is waited for.
    goal: String,
    /// The one that is called.
    peer: Option<WorkerId>,
    has_secret: bool,
    code: Option<Code>,
    /// The room of a worker that waits for calls from everywhere.
    calls: Option<RoomName>,
    /// Whether the rendezvous brings calls from other rooms, as far as it has said so.
    calls_from_anywhere: bool,
    /// How often the rendezvous was tried, in all.
    tries: u32,
    attempts: Seldom,
    /// It has been told that the one that is called is not there.
    told_unregistered: bool,
    secrets: Seldom,
    secrets_of_peer: u32,
    busy: Seldom,
    others: Seldom,
    lefts: Seldom,
    unbound: Seldom,
    standing: Standing,
    /// Why it was not reached, as it was told last.
    told_why: Option<String>,
    /// Whether the other side is there, where it has made up the code.
    looking: Looking,
    /// What is in the way of this side's UDP port.
    port: Option<String>,
    /// What else is in the way at the moment.
    trouble: Option<String>,
    /// Since the last link is lost: how long another one is waited for.
    back_within: Option<Duration>,
}

impl Waiting {
    pub(super) fn new(
        rendezvous: String,
        room: Option<&str>,
        peer: Option<WorkerId>,
        has_secret: bool,
        code: Option<Code>,
    ) -> Self {
        let goal = match (&peer, room) {
            _ if code == Some(Code::OtherSide) => {
                "waiting for the side that made the code up".to_owned()
            }
            _ if code.is_some() => "waiting for the other side, for an hour at most".to_owned(),
            (Some(peer), Some(room)) => format!("calling {peer} in the room {room:?}"),
            (Some(peer), None) => format!("calling {peer}"),
            (None, Some(room)) => format!("waiting for the peer in the room {room:?}"),
            (None, None) => "waiting for the peer".to_owned(),
        };
        Self {
            rendezvous,
            doubt: None,
            goal,
            peer,
            has_secret,
            code,
            calls: None,
            calls_from_anywhere: false,
            tries: 0,
            attempts: Seldom::default(),
            told_unregistered: false,
            secrets: Seldom::default(),
            secrets_of_peer: 0,
            busy: Seldom::default(),
            others: Seldom::default(),
            lefts: Seldom::default(),
            unbound: Seldom::default(),
            standing: Standing::NotYet(None),
            told_why: None,
            looking: Looking::default(),
            port: None,
            trouble: None,
            back_within: None,
        }
    }

    /// With what may be wrong where the rendezvous is never reached.
    pub(super) fn doubting(self, doubt: Option<&'static str>) -> Self {
        Self { doubt, ..self }
    }

    /// What is waited for where the first attempt to reach the rendezvous has not ended by now.
    pub(super) fn unanswered(&self) -> Option<String> {
        let is_first = matches!(self.standing, Standing::NotYet(None));
        is_first
            .then(|| format!("still waiting for an answer of the rendezvous {}", self.rendezvous))
    }

    /// The same of a worker that waits for calls from everywhere, in a room of its own.
    pub(super) fn for_calls(self, room: &RoomName) -> Self {
        let goal = "waiting for a call".to_owned();
        Self { goal, calls: Some(room.clone()), ..self }
    }

    /// What is said of somebody who comes without the secret while there is a link.
    pub(super) fn wrong_secret(&self) -> Option<&'static str> {
        match self.code {
            Some(Code::ThisSide { .. }) => {
                Some("somebody has come with a wrong code meanwhile, and got nothing")
            }
            Some(Code::OtherSide) => None,
            None => self.has_secret.then_some(
                "somebody has come meanwhile who does not know the --room-secret, and got nothing",
            ),
        }
    }

    /// Counts a wrong code that came while there was a link, and was told then.
    ///
    /// # Errors
    /// It was one too many: the code is good no longer.
    pub(super) fn recount(&mut self, notice: &Notice) -> Result<(), String> {
        let resumes = self.back_within.is_some();
        match (notice, &mut self.code) {
            (
                Notice::LinkEnded(_, _, LinkError::WrongSecret),
                Some(code @ Code::ThisSide { .. }),
            ) => match code.wrong(resumes) {
                Heard::Hopeless(why) => Err(why),
                Heard::Line(_) | Heard::Nothing => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// When it is clear whether the other side is there for this one, as long as that is open.
    pub(super) fn is_clear_at(&self) -> Option<Instant> {
        self.looking.is_clear_at()
    }

    /// Nothing has happened until then.
    pub(super) fn is_clear(&mut self) -> Heard {
        let Some(clear) = self.looking.clear() else { return Heard::Nothing };
        let (text, waits) = clear.words();
        if clear == Clear::Taken {
            self.trouble = Some(text.to_owned());
        }
        Heard::Line(format!("{text} ({waits})"))
    }

    /// Whether it is one that waits for calls from everywhere.
    pub(super) fn is_for_calls(&self) -> bool {
        self.calls.is_some()
    }

    /// A link is there.
    pub(super) fn linked(&mut self) {
        self.looking.end();
        self.back_within = None;
    }

    /// The link is lost, and another one is waited for.
    pub(super) fn lost(&mut self, back_within: Duration) {
        self.trouble = None;
        self.back_within = Some(back_within);
    }

    /// There is no link any more, and another one is waited for as long as it takes.
    pub(super) fn without_link(&mut self) {
        self.trouble = None;
        self.back_within = None;
    }

    /// What is missing for a link: a word for programs, and the same for people.
    pub(super) fn missing(&self) -> (&'static str, String) {
        let (missing, text) = self.trouble();
        (missing.code(), text)
    }

    /// Why there is no link: without the rendezvous nothing else can come about.
    fn trouble(&self) -> (Missing, String) {
        let rendezvous = &self.rendezvous;
        let text = match &self.standing {
            Standing::NotYet(Some(why)) => {
                format!("not yet connected to the rendezvous {rendezvous}, because {why}")
            }
            Standing::NotYet(None) => format!(
                "not yet connected to the rendezvous {rendezvous}, which has not answered the first attempt"
            ),
            Standing::Lost(why) => {
                format!("no longer connected to the rendezvous {rendezvous}, because {why}")
            }
            Standing::Registered => {
                return match self.trouble.as_ref().or(self.port.as_ref()) {
                    Some(trouble) => (Missing::Link, trouble.clone()),
                    None => (Missing::Peer, "no peer has come".to_owned()),
                };
            }
        };
        (Missing::Rendezvous, text)
    }

    /// For whoever gives up.
    pub(super) fn given_up(&self) -> (Missing, String) {
        let (missing, trouble) = self.trouble();
        let text = match self.back_within {
            None if missing == Missing::Peer && matches!(self.code, Some(Code::ThisSide { .. })) => {
                "nobody has come with the code in time, and it is good no longer; run the command again for \
                 another one"
                    .to_owned()
            }
            None => format!("given up, since there is no link: {trouble}"),
            Some(within) if missing == Missing::Peer => format!(
                "the peer is gone, and has not come back within {} s; run both commands again to go on from here (a \
                 code is a new one then)",
                within.as_secs()
            ),
            Some(within) => format!(
                "the link is lost, and there was no other one within {} s: {trouble}; run both commands \
                 again to go on from here (a code is a new one then)",
                within.as_secs()
            ),
        };
        (missing, text)
    }

    /// What has happened, where no peer has ever been offered.
    pub(super) fn without_a_story(&self) -> String {
        let tries =
            if self.tries == 1 { "once".to_owned() } else { format!("{} times", self.tries) };
        format!(
            "why: the rendezvous {} was tried {tries}, and has brought no peer; {}: {}",
            self.rendezvous,
            self.goal,
            self.trouble().1
        )
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the log says the rest")]
    pub(super) fn hear(&mut self, notice: &Notice) -> Heard {
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
                if self.code == Some(Code::OtherSide) && self.back_within.is_none() {
                    self.looking.begin();
                }
                Heard::Line(self.goal.clone())
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
            Notice::LinkEnded(peer, _, LinkError::Unreachable(why)) if why == PEER_LEFT => {
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
        let text = format!(
            "{peer} has ended the session before there was a link: perhaps it lets others call it alone (--accept=ID \
             there), or has another secret"
        );
        let again = format!("{peer} has ended the session again");
        let text = self.in_short(text, again);
        line(&text, self.lefts.again(PEERS_TOLD), "; trying again")
    }

    /// The rendezvous has refused something.
    fn complained(&mut self, said: &Complaint) -> Heard {
        if self.peer.is_some() && is_not_registered(said) {
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
        let how = if self.calls_from_anywhere {
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
    pub(super) fn busy(&mut self) -> Heard {
        let text = "the peer is busy with another link";
        self.trouble = Some(text.to_owned());
        line(text, self.busy.again(PEERS_TOLD), "; trying again until it is free")
    }

    /// A peer has come, and there is no link with it.
    pub(super) fn no_link(&mut self, peer: &WorkerId, why: &LinkError) -> Heard {
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

#[cfg(test)]
mod tests;
