//! Where two meet: in a room or by an id that somebody has named, or by a code.

use std::time::Duration;

use holepunch_wire::session::RoomMode;
use holepunch_worker::{
    Config, ErrorCode, FromServer, Guesses, Links, Notice, RendezvousUrl, ServerV1, Signal, Worker,
};
use serde::Serialize;

use super::company::{Company, until_some};
use super::{Manner, started};
use crate::code::{Code, GOOD_FOR, GUESSES_SHOWN_MAX, ask};
use crate::exit::Failure;
use crate::peering::no_rendezvous;
use crate::screen::together;
use crate::signals::Stop;

/// What a program does where nobody has named a room, a peer or a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alone {
    /// It makes up a code for the other side, which runs this command.
    MakesCode(&'static str),
    /// Likewise, and it takes one that the other side has made up.
    BothWays(&'static str),
    /// It asks for the one that the other side has made up, where somebody can be asked.
    AsksForCode,
}

impl Alone {
    /// What the other side runs.
    pub(super) fn other_side(self) -> String {
        match self {
            Self::MakesCode(command) | Self::BothWays(command) => format!("holepunch {command}"),
            Self::AsksForCode => "holepunch send FILE".to_owned(),
        }
    }
}

/// How this side finds the other one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum By {
    /// By the room, the peer or the callers of the settings.
    Settings,
    /// By the code that the other side has made up.
    Code(Code),
    /// By a code that this side makes up, for this command.
    OwnCode(&'static str),
}

impl By {
    /// `is_named`: whether a room, a peer or callers are. `has_rendezvous`: whether a code need not name one.
    pub(super) fn new(
        code: Option<Code>,
        is_named: bool,
        alone: Alone,
        has_rendezvous: bool,
    ) -> Result<Self, Failure> {
        match (code, alone) {
            (Some(code), _) => Ok(Self::Code(code)),
            (None, _) if is_named => Ok(Self::Settings),
            (None, Alone::MakesCode(command) | Alone::BothWays(command)) => {
                Ok(Self::OwnCode(command))
            }
            (None, Alone::AsksForCode) => {
                let missing = "whose? Give the code that the other side has printed, name a room (--room) or the worker to \
                               call (--peer), or wait for a call (--accept)";
                ask(has_rendezvous)?.map(Self::Code).ok_or_else(|| {
                    if has_rendezvous { Failure::usage(missing) } else { no_rendezvous() }
                })
            }
        }
    }
}

/// A code that this side has made up, for the other side.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Invited {
    pub(crate) code: String,
    /// The code with the rendezvous.
    pub(crate) code_with_rendezvous: String,
    /// What the other side runs.
    pub(crate) command: String,
    pub(crate) good_for_seconds: u64,
}

impl Invited {
    fn new(code: &Code, rendezvous: &RendezvousUrl, is_told: bool, command: &str) -> Self {
        let there = code.at(rendezvous).to_string();
        let code = code.to_string();
        let shown = if is_told { &there } else { &code };
        Self {
            command: format!("holepunch {command} {shown}"),
            code,
            code_with_rendezvous: there,
            good_for_seconds: GOOD_FOR.as_secs(),
        }
    }

    /// The lines for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("on the other side:  {}", together(&self.command))];
        if !self.command.ends_with(&self.code_with_rendezvous) {
            let there = &self.code_with_rendezvous;
            lines.push(format!("with another rendezvous there, or none, the code is  {there}"));
        }
        lines
    }
}

/// Whether a room that was to be this side's own is.
enum Claim {
    Granted,
    Taken,
}

/// What a claim has come to, where the command goes on.
pub(super) struct Claimed {
    pub(super) company: Company,
    pub(super) links: Links,
}

/// Whose code it is, and by which command it is used.
pub(super) struct Inviting<'a> {
    pub(super) words: u16,
    pub(super) command: &'a str,
    /// Whether the code has to name the rendezvous: a flag has named it here, and the other side has no such flag.
    pub(super) tells_rendezvous: bool,
}

/// Starts a worker in a room of its own, with a code that leads there. `company` makes the rest of a worker.
pub(super) async fn invite(
    config: &Config,
    inviting: &Inviting<'_>,
    manner: &Manner,
    stop: &mut Stop,
    company: impl Fn(Worker, &Config) -> Company,
) -> Result<Claimed, Failure> {
    for attempt in 0.. {
        let Some(code) = Code::make(attempt, inviting.words) else { break };
        let code = code?;
        let config = Config {
            // An older rendezvous leaves it to the first who names one.
            room_mode: Some(RoomMode::Pair),
            room: code.room(),
            room_secret: Some(code.secret()),
            room_guesses: Guesses::new(Some(GUESSES_SHOWN_MAX)),
            room_fresh: true,
            peer: None,
            ..config.clone()
        };
        let (worker, links) = started(config.clone()).await?;
        let mut company = company(worker, &config);
        match company.claim(stop).await {
            Ok(Claim::Granted) => {
                let (at, tells) = (&config.rendezvous, inviting.tells_rendezvous);
                (manner.telling.invited)(&Invited::new(&code, at, tells, inviting.command));
                return Ok(Claimed { company, links });
            }
            Ok(Claim::Taken) => company.worker.shutdown().await,
            Err(failure) => {
                company.leave().await;
                return Err(failure);
            }
        }
    }
    Err(Failure::failed(
        "the rendezvous has no free room for a code; try again, or name one with --room",
    ))
}

impl Company {
    /// Waits until the rendezvous has said whose the room is.
    async fn claim(&mut self, stop: &mut Stop) -> Result<Claim, Failure> {
        loop {
            let patience = self.began + self.patience.unwrap_or(GOOD_FOR);
            tokio::select! {
                // What has happened comes before what has not.
                biased;
                _signal = stop.wait() => return Err(Failure::interrupted()),
                notice = self.worker.next_notice() => {
                    let notice = notice.ok_or_else(|| Failure::failed("the worker has ended by itself"))?;
                    if let Some(claim) = claim(&notice) {
                        return Ok(claim);
                    }
                    self.hear(&notice)?;
                }
                () = until_some(self.unanswered_at) => self.unanswered(),
                () = tokio::time::sleep_until(patience.into()) => return Err(self.given_up()),
            }
        }
    }
}

/// What a notice says of a room that was wanted.
#[expect(clippy::wildcard_enum_match_arm, reason = "all else says nothing of it")]
fn claim(notice: &Notice) -> Option<Claim> {
    let Notice::Signal(Signal::Message(message)) = notice else { return None };
    match message {
        FromServer::V1(Ok(message)) if **message == ServerV1::RoomEntered => Some(Claim::Granted),
        FromServer::Error(said) if said.code == Some(ErrorCode::RoomTaken) => Some(Claim::Taken),
        // A rendezvous that does not know of rooms that are to be fresh says nothing of them, and goes on.
        FromServer::UdpEndpointAck(_) => Some(Claim::Granted),
        _ => None,
    }
}

/// How long the other side is waited for.
pub(super) fn patience(own: Option<Duration>, by: &By) -> Option<Duration> {
    match by {
        By::OwnCode(_) => Some(own.map_or(GOOD_FOR, |own| own.min(GOOD_FOR))),
        By::Settings | By::Code(_) => own,
    }
}
