//! The worker of a command, from one link to the next, and what is said of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::session::SessionId;
use holepunch_worker::{Link, Links, Notice, Worker};

use super::attending::{Manner, ToTell, attend};
use super::joined::Joined;
use super::waiting::{Heard, Waiting};
use crate::exit::Failure;
use crate::output;
use crate::signals::Stop;
use crate::why::in_words;

/// What does not change from one link to the next.
pub(super) struct Company {
    pub(super) worker: Worker,
    pub(super) manner: Manner,
    pub(super) waiting: Waiting,
    pub(super) quiet: bool,
    pub(super) why: bool,
    /// When the command began.
    pub(super) began: Instant,
    /// How long a link is waited for.
    pub(super) patience: Option<Duration>,
    /// Until when a peer whose link was lost is waited for, from the beginning of the command.
    pub(super) back_until: Option<Duration>,
    /// How long somebody has said that one is waited for.
    pub(super) own_patience: Option<Duration>,
    /// When it is said that the rendezvous has not answered yet.
    pub(super) unanswered_at: Option<Instant>,
    /// Whether the peer has refused the last link.
    pub(super) was_refused: bool,
    /// The session of the last link: what is said of its end is known.
    pub(super) last: Option<SessionId>,
}

impl Company {
    pub(super) fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            (self.manner.telling.line)(text.as_ref());
        }
    }

    pub(super) fn take(&self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Nothing => Ok(()),
            Heard::Line(text) => {
                self.say(text);
                Ok(())
            }
            Heard::Hopeless(why) => Err(Failure::failed(why)),
        }
    }

    /// The next link; `patience` counts from the beginning of the command.
    pub(super) async fn next_link(
        &mut self,
        mut links: Links,
        stop: &mut Stop,
        patience: Option<Duration>,
    ) -> Result<(Link, Links), Failure> {
        let ended = || Failure::failed("the worker has ended by itself");
        let over = until_some(patience.map(|patience| self.began + patience));
        tokio::pin!(over);
        loop {
            tokio::select! {
                // What has happened comes before what has not.
                biased;
                _signal = stop.wait() => return Err(Failure::interrupted()),
                link = links.next() => return Ok((link.ok_or_else(ended)?, links)),
                notice = self.worker.next_notice() => self.hear(&notice.ok_or_else(ended)?)?,
                () = until_some(self.unanswered_at) => self.unanswered(),
                () = until_some(self.waiting.is_clear_at()) => self.cleared()?,
                () = &mut over => return Err(self.given_up()),
            }
        }
    }

    /// Says what is waited for, once.
    pub(super) fn unanswered(&mut self) {
        self.unanswered_at = None;
        self.waiting.unanswered().iter().for_each(|text| self.say(text));
    }

    /// Says what has become clear of the other side.
    pub(super) fn cleared(&mut self) -> Result<(), Failure> {
        let heard = self.waiting.is_clear();
        self.take(heard)
    }

    /// What is missing, when it has been waited for long enough.
    pub(super) fn given_up(&self) -> Failure {
        let (missing, text) = self.waiting.given_up();
        Failure::failed(text).because(missing.code())
    }

    pub(super) fn hear(&mut self, notice: &Notice) -> Result<(), Failure> {
        let session = session_of_end(notice);
        if session.is_some() && session == self.last {
            return Ok(());
        }
        let heard = self.waiting.hear(notice);
        self.take(heard)
    }

    pub(super) fn joined(mut self, link: Link, links: Links) -> Joined {
        let linked = format!("linked with {}, {}", link.peer(), link.path().kind);
        // One that follows a refusal may be refused again, which a person need not see each time.
        let later = std::mem::take(&mut self.was_refused).then(|| linked.clone());
        if later.is_none() {
            self.say(linked);
        }
        self.last = Some(link.session());
        self.waiting.linked();
        let mut manner = self.manner.clone();
        if self.quiet {
            manner.telling.line = Arc::new(|_| ());
        }
        let told = ToTell { linked: later, wrong_secret: self.waiting.wrong_secret() };
        let attendant = attend(link.clone(), links, manner, told);
        Joined { link, attendant, company: self }
    }

    pub(super) async fn or_leave(
        self,
        outcome: Result<(Link, Links), Failure>,
    ) -> Result<Joined, Failure> {
        match outcome {
            Ok((link, links)) => Ok(self.joined(link, links)),
            Err(failure) => {
                self.leave().await;
                Err(failure)
            }
        }
    }

    pub(super) async fn leave(self) {
        if self.why {
            let stories = self.worker.stories().all();
            if stories.is_empty() {
                output::progress(self.waiting.without_a_story());
            }
            stories.iter().flat_map(in_words).for_each(output::progress);
        }
        self.worker.shutdown().await;
    }
}

/// Returns at that time, and never without one.
pub(crate) async fn until_some(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The session whose end a notice tells.
pub(super) fn session_of_end(notice: &Notice) -> Option<SessionId> {
    if let Notice::LinkEnded(_, session, _) = notice { Some(*session) } else { None }
}
