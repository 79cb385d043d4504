//! A worker for a program that stays: one link after the other, or many at once.
//!
//! In a room, or by the ids of the settings, it takes whoever comes, for ever. By a code it has one peer: after the first
//! link the two know each other's keys. A link that is lost is waited for in the room of the code, as long as a receiver may
//! come again with the same one; then each of the two calls the other by its id, which is made from its key, for as long as
//! both programs run. From then on no words are needed, and nobody can guess any.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use holepunch_wire::identity::is_made_from_a_key;
use holepunch_wire::session::{RoomName, SESSIONS_MAX, SessionId};
use holepunch_worker::{
    Close, CloseCode, Config, FailureCode, Guesses, Link, LinkError, Links, Notice, Signal,
    WorkerId,
};

use super::attending::TurnedAway;
use super::company::{Company, until_some};
use super::waiting::{Heard, Waiting};
use super::{BACK_WITHIN, Begun, JoinArgs, Manner, Telling, UNANSWERED_AFTER, begin, started};
use crate::code::GOOD_FOR;
use crate::exit::Failure;
use crate::settings::Environment;
use crate::signals::Stop;

/// Most links at once: a worker has no more sessions.
pub(crate) const LINKS_MAX: usize = SESSIONS_MAX;
/// Sessions whose end this side tells itself.
const SESSIONS_KNOWN_MAX: usize = 2 * SESSIONS_MAX;

/// A worker, its links, and what they have told.
pub(crate) struct Staying {
    company: Company,
    links: Links,
    /// Those that have not ended.
    live: Vec<Link>,
    known: VecDeque<SessionId>,
    turned_away: TurnedAway,
    /// Since when there is no link.
    alone_since: Instant,
    code: Option<ByCode>,
}

/// How the two find each other after a first link by a code.
struct ByCode {
    config: Config,
    /// The peer of the last link.
    peer: Option<WorkerId>,
    /// In the room of the code still.
    is_in_room: bool,
    /// Until when the code lets anybody in who has it.
    good_until: Instant,
    /// Too many wrong ones have come after the first link, or the room is another's: it is of no use any more.
    is_spent: bool,
}

impl ByCode {
    /// When the two look for each other by their keys, and no longer in the room of the code, where they have been without a
    /// link since then: a peer that is started again with the code has its time, as long as the code is good.
    fn by_keys_at(&self, alone_since: Instant) -> Option<Instant> {
        let knows_key = self.peer.as_ref().is_some_and(is_made_from_a_key);
        let until = if self.is_spent { alone_since } else { self.good_until };
        (self.is_in_room && knows_key).then(|| (alone_since + BACK_WITHIN).min(until))
    }

    /// Whether this is the one peer, or may become it.
    fn lets_in(&self, peer: &WorkerId, now: Instant) -> bool {
        let is_good = !self.is_spent && now < self.good_until;
        self.peer.as_ref().is_none_or(|known| known == peer || self.is_in_room && is_good)
    }
}

/// Starts a worker that stays.
pub(crate) async fn stay(
    args: JoinArgs,
    environment: &Environment,
    manner: Manner,
    stop: &mut Stop,
) -> Result<Staying, Failure> {
    let Begun { company, links, config, is_by_code } =
        begin(args, environment, manner, stop).await?;
    let good_until = company.began + GOOD_FOR;
    let code = ByCode { config, peer: None, is_in_room: true, good_until, is_spent: false };
    let code = is_by_code.then_some(code);
    Ok(Staying {
        company,
        links,
        live: Vec::new(),
        known: VecDeque::new(),
        turned_away: TurnedAway::default(),
        alone_since: Instant::now(),
        code,
    })
}

impl Staying {
    /// Whether the two have met by a code, so that there is this one peer and no other.
    pub(crate) fn is_by_code(&self) -> bool {
        self.code.is_some()
    }

    /// How many links there are.
    pub(crate) fn live(&self) -> usize {
        self.live.iter().filter(|link| link.ended().is_none()).count()
    }

    /// Says a line, unless `--quiet` is given.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        self.company.say(text);
    }

    /// The same telling, without lines where `--quiet` is given.
    pub(crate) fn quietly(&self, telling: Telling) -> Telling {
        if self.company.quiet { Telling { line: Arc::new(|_| ()), ..telling } } else { telling }
    }

    /// The next link. Whenever something else has happened, `is_missing` is told what is missing for one. May be dropped
    /// and called again.
    ///
    /// # Errors
    /// It makes no sense to go on, or there was no link for so long as `--give-up-after-sec` says.
    pub(crate) async fn next(
        &mut self,
        is_missing: impl Fn(&'static str, String),
    ) -> Result<Link, Failure> {
        let ended = || Failure::failed("the worker has ended by itself");
        loop {
            let (code, text) = self.company.waiting.missing();
            is_missing(code, text);
            let is_alone = self.live() == 0;
            let gives_up_at = self.company.patience.map(|patience| self.alone_since + patience);
            let by_keys_at = self.code.as_ref().and_then(|code| code.by_keys_at(self.alone_since));
            tokio::select! {
                // What has happened comes before what has not.
                biased;
                link = self.links.next() => {
                    if let Some(link) = self.take(link.ok_or_else(ended)?) {
                        return Ok(link);
                    }
                }
                notice = self.company.worker.next_notice() => {
                    self.hear(&notice.ok_or_else(ended)?)?;
                }
                () = until_some(self.company.unanswered_at) => self.company.unanswered(),
                () = until_some(self.company.waiting.is_clear_at()) => self.company.cleared()?,
                () = until_some(gives_up_at), if is_alone => return Err(self.company.given_up()),
                () = until_some(by_keys_at), if is_alone => self.go_by_keys().await?,
            }
        }
    }

    fn lets_in(&self, peer: &WorkerId) -> bool {
        self.code.as_ref().is_none_or(|code| code.lets_in(peer, Instant::now()))
    }

    /// A link that has come; nothing where it is turned away.
    fn take(&mut self, link: Link) -> Option<Link> {
        self.live.retain(|live| live.ended().is_none());
        let most = if self.is_by_code() { 1 } else { LINKS_MAX };
        let replaced = self.live.iter().position(|live| live.peer_key() == link.peer_key());
        if let Some(at) = replaced {
            // The same key has begun anew: the old link is nobody's.
            self.live.swap_remove(at).close(CloseCode::BegunAnew);
        } else if self.live.len() >= most || !self.lets_in(link.peer()) {
            if self.turned_away.is_told(link.peer()) {
                self.say(format!("turned away {}: {}", link.peer(), CloseCode::Busy.text()));
            }
            link.close(CloseCode::Busy);
            return None;
        }
        if self.known.len() >= SESSIONS_KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(link.session());
        self.company.waiting.linked();
        if let Some(code) = &mut self.code {
            code.peer = Some(link.peer().clone());
            // From now on the time that a code is good for is over; what people have said counts anew.
            self.company.patience = self.company.own_patience;
        }
        self.live.push(link.clone());
        Some(link)
    }

    fn hear(&mut self, notice: &Notice) -> Result<(), Failure> {
        if matches!(notice, Notice::LinkEnded(_, session, _) if self.known.contains(session)) {
            return Ok(());
        }
        let heard = self.company.waiting.hear(notice);
        // Each of the two has the other's key: a stranger in the room of the code ends the code, and not what they do.
        if let (Heard::Hopeless(why), Some(code)) = (&heard, &mut self.code)
            && code.peer.as_ref().is_some_and(is_made_from_a_key)
            && code.is_in_room
        {
            if !std::mem::replace(&mut code.is_spent, true) {
                self.company.say(format!(
                    "the code is good no longer, and the two go on without it: {why}"
                ));
            }
            return Ok(());
        }
        let is_of_token = matches!(
            notice,
            Notice::Signal(Signal::Disconnected {
                code: FailureCode::TokenRefused | FailureCode::NotAllowed,
                is_final: true,
                ..
            })
        );
        self.company.take(match heard {
            // Nobody else comes, and those who are here stay.
            Heard::Hopeless(why) if is_of_token && !self.live.is_empty() => Heard::Line(why),
            heard @ (Heard::Nothing | Heard::Line(_) | Heard::Hopeless(_)) => heard,
        })
    }

    /// A link has ended; `has_begun` says whether its program had.
    ///
    /// # Errors
    /// It makes no sense to wait for another one.
    pub(crate) fn ended(
        &mut self,
        link: &Link,
        why: &LinkError,
        has_begun: bool,
    ) -> Result<(), Failure> {
        let was_alone = self.live.is_empty();
        self.live.retain(|live| live.session() != link.session() && live.ended().is_none());
        if self.live.is_empty() && !was_alone {
            self.alone_since = Instant::now();
        }
        self.company.waiting.without_link();
        let waiting = &mut self.company.waiting;
        let heard = match why {
            LinkError::ClosedByPeer(close) if close.code == CloseCode::Busy && !has_begun => {
                waiting.busy()
            }
            LinkError::SecretMissing(_) | LinkError::WrongSecret if !has_begun => {
                waiting.no_link(link.peer(), why)
            }
            LinkError::SecretMissing(_)
            | LinkError::WrongSecret
            | LinkError::Closed(_)
            | LinkError::ClosedByPeer(_)
            | LinkError::Unreachable(_)
            | LinkError::SessionEnded(..)
            | LinkError::WrongKey { .. }
            | LinkError::Impostor { .. }
            | LinkError::Protocol(_)
            | _ => return Ok(()),
        };
        self.company.take(heard)
    }

    /// Leaves the room of the code. The worker is the same, by its key, and calls the peer by its own.
    async fn go_by_keys(&mut self) -> Result<(), Failure> {
        let Some(code) = &mut self.code else { return Ok(()) };
        code.is_in_room = false;
        let config = Config {
            peer: code.peer.clone(),
            room: RoomName::default(),
            room_mode: None,
            room_secret: None,
            room_fresh: false,
            room_guesses: Guesses::default(),
            ..code.config.clone()
        };
        let rendezvous = config.rendezvous.authority();
        let waiting = Waiting::new(rendezvous, None, config.peer.clone(), false, None).by_keys();
        let (worker, links) = started(config).await?;
        let before = std::mem::replace(&mut self.company.worker, worker);
        // It ends within a second, and has no link any more.
        drop(tokio::spawn(before.shutdown()));
        (self.company.waiting, self.links) = (waiting, links);
        // It is another worker, which has yet to reach the rendezvous.
        self.company.unanswered_at = Some(Instant::now() + UNANSWERED_AFTER);
        Ok(())
    }

    /// Ends all links and the worker, within a second.
    pub(crate) async fn leave(self, why: impl Into<Close>) {
        let close = why.into();
        for link in &self.live {
            link.close(close.clone());
        }
        self.company.leave().await;
    }

    /// Ends everything because somebody wants that.
    pub(crate) async fn interrupted(self) -> Failure {
        self.leave(CloseCode::Interrupted).await;
        Failure::interrupted()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = GOOD_FOR;
    const SECOND: Duration = Duration::from_secs(1);

    fn peer(id: &str) -> WorkerId {
        WorkerId::new(id).unwrap()
    }

    fn code(began: Instant) -> ByCode {
        ByCode {
            config: Config::new("http://host.example".parse().unwrap()),
            peer: Some(peer("0f8fad5b-d9cb-8f69-a165-70867728950e")),
            is_in_room: true,
            good_until: began + HOUR,
            is_spent: false,
        }
    }

    #[test]
    fn a_lost_peer_is_waited_for_in_the_room_of_the_code_for_a_moment_and_not_beyond_its_hour() {
        let began = Instant::now();
        let mut code = code(began);
        assert_eq!(code.by_keys_at(began), Some(began + BACK_WITHIN));
        let late = began + HOUR - SECOND;
        assert_eq!(code.by_keys_at(late), Some(began + HOUR));
        let past = began + HOUR + SECOND;
        assert!(code.by_keys_at(past).is_some_and(|at| at <= past), "at once");
        code.is_spent = true;
        assert_eq!(code.by_keys_at(began), Some(began));
        code.is_in_room = false;
        assert_eq!(code.by_keys_at(began), None, "they have gone by their keys already");
        let unnamed = ByCode { peer: Some(peer("of-own-choice")), is_in_room: true, ..code };
        assert_eq!(unnamed.by_keys_at(began), None);
    }

    #[test]
    fn beyond_its_hour_a_code_lets_nobody_in_but_the_one_peer() {
        let began = Instant::now();
        let mut code = code(began);
        let (known, other) = (code.peer.clone().unwrap(), peer("another"));
        assert!(code.lets_in(&other, began), "whoever is started again has another key");
        for now in [began, began + HOUR] {
            assert!(code.lets_in(&known, now));
        }
        assert!(!code.lets_in(&other, began + HOUR));
        code.is_spent = true;
        assert!(!code.lets_in(&other, began) && code.lets_in(&known, began));
        code.peer = None;
        assert!(code.lets_in(&other, began));
    }
}
