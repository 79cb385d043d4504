//! What is said while there is no link yet: each cause once, and then more and more seldom.

mod guesses;
mod hearing;
mod looking;

use std::time::{Duration, Instant};

use holepunch_wire::session::RoomName;
use holepunch_worker::{LinkError, Notice, WorkerId};

pub(super) use guesses::Code;
use looking::{Clear, Looking};

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
    /// Whether a code has brought the two together before, and now they look for each other by their keys.
    is_by_keys: bool,
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
            is_by_keys: false,
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

    /// The same of two that a code has brought together before.
    pub(super) fn by_keys(self) -> Self {
        Self { is_by_keys: true, ..self }
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
        self.looking.linked();
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
}

#[cfg(test)]
mod tests;
