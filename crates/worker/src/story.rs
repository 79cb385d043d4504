//! What has happened to each session, in words: for whoever asks why a link is as it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holepunch_link::{Event, Link, PathEvents, PathInfo, SessionEvent};
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::check::IceRole;
use holepunch_wire::plan::Plan;
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::SessionOffer;
use holepunch_wire::text::harmless;
use serde::{Deserialize, Serialize};

use crate::nat_words;
use crate::notice::{Notice, milliseconds};
use crate::signalling::Signal;

/// Sessions that are remembered; the oldest are forgotten.
const STORIES_MAX: usize = 32;
/// Lines of one story; then the newest are left out but for the last word.
const LINES_MAX: usize = 200;
/// Most characters of a line: parts of it are somebody else's text.
const LINE_CHARS_MAX: usize = 300;

/// One line of a story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since the offer.
    pub after_ms: f64,
    /// What happened.
    pub text: String,
}

/// What has happened to one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// The session, sixteen hexadecimal digits.
    pub session: String,
    /// The peer's id.
    pub peer: String,
    /// How long ago it was offered, in seconds.
    pub began_seconds_ago: f64,
    /// What the own NAT was found to do by then.
    pub profile: String,
    /// The lines, by time.
    pub lines: Vec<Line>,
}

/// The stories of a worker. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stories(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    profile: String,
    told: BTreeMap<SessionId, Told>,
}

#[derive(Debug)]
struct Told {
    peer: String,
    began: Instant,
    profile: String,
    lines: Vec<(Instant, String)>,
    paths: Option<PathEvents>,
}

impl Stories {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All stories, the newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Story> {
        let state = self.lock();
        let mut told: Vec<_> = state.told.iter().collect();
        told.sort_by_key(|(_, told)| std::cmp::Reverse(told.began));
        told.into_iter().map(|(session, told)| told.story(*session)).collect()
    }

    pub(crate) fn linked(&self, link: &Link) {
        if let Some(told) = self.lock().told.get_mut(&link.session()) {
            told.paths = Some(link.path_events());
        }
    }

    pub(crate) fn note(&self, notice: &Notice) {
        let mut state = self.lock();
        if let Notice::Signal(Signal::Message(FromServer::SessionOffer(Ok(offer)))) = notice {
            state.begin(offer);
        } else if let Notice::Udp(Event::Profile(profile)) = notice {
            state.profile = nat_words::in_words(profile);
        } else if let Notice::Udp(Event::Session(session, _, event)) = notice {
            state.line(*session, session_event(event));
        } else if let Notice::Linked(_, session, path) = notice {
            state.line(*session, format!("LINKED, encrypted; {}", path.kind));
        } else if let Notice::LinkEnded(_, session, why) = notice {
            state.line(*session, format!("the link is over: {why}"));
        }
    }
}

impl State {
    fn begin(&mut self, offer: &SessionOffer) {
        if self.told.len() >= STORIES_MAX
            && let Some(oldest) =
                self.told.iter().min_by_key(|(_, told)| told.began).map(|(id, _)| *id)
        {
            self.told.remove(&oldest);
        }
        let began = Instant::now();
        let details = &offer.details;
        let at = offer.endpoint.map_or("no UDP endpoint".to_owned(), |at| at.to_string());
        let vouched = match details.address_proof {
            AddressProof::Stun => "the rendezvous has seen it there",
            AddressProof::Signalling => "its connection to the rendezvous comes from there",
            AddressProof::None => "nobody vouches for that",
        };
        let role = match details.role {
            IceRole::Controlling => "this side connects and chooses the path",
            IceRole::Controlled => "the peer connects and chooses the path",
        };
        let candidates: Vec<String> = details.candidates.iter().map(candidate).collect();
        let mut lines = vec![
            format!("brought together with the peer at {at} ({vouched}); {role}"),
            format!("addresses of the peer to try: {}", none_or(candidates.join(", "))),
            plan("plan", &details.plan),
        ];
        if details.peer_key.is_none() {
            lines.push(
                "the peer has shown no key, so there will be no encrypted link with it".to_owned(),
            );
        }
        let lines = lines.into_iter().map(|text| (began, text)).collect();
        let (peer, profile) = (offer.peer.as_str().to_owned(), self.profile.clone());
        self.told.insert(details.session, Told { peer, began, profile, lines, paths: None });
    }

    fn line(&mut self, session: SessionId, text: String) {
        let Some(told) = self.told.get_mut(&session) else { return };
        if told.lines.len() >= LINES_MAX {
            told.lines.pop();
        }
        told.lines.push((Instant::now(), text));
    }
}

impl Told {
    fn story(&self, session: SessionId) -> Story {
        let line = |after: Duration, text: &str| Line {
            after_ms: milliseconds(after),
            text: harmless(text, LINE_CHARS_MAX),
        };
        let own = self.lines.iter().map(|(at, text)| line(at.duration_since(self.began), text));
        let mut lines: Vec<Line> = own.collect();
        for event in self.paths.iter().flat_map(PathEvents::history) {
            let text = format!("data goes by: {} ({})", event.path.kind, event.reason);
            lines.push(line(event.after, &text));
        }
        lines.sort_by(|a, b| a.after_ms.total_cmp(&b.after_ms));
        Story {
            session: session.to_string(),
            peer: self.peer.clone(),
            began_seconds_ago: milliseconds(self.began.elapsed()).round() / 1e3,
            profile: self.profile.clone(),
            lines,
        }
    }
}

fn none_or(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn candidate(candidate: &Candidate) -> String {
    format!("{} ({})", candidate.address(), kind(candidate.kind))
}

/// Where an address comes from.
fn kind(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Host => "of its machine",
        CandidateKind::PortMapped => "opened by its router",
        CandidateKind::ServerReflexive => "seen by a STUN server",
        CandidateKind::PeerReflexive => "seen by this side",
        CandidateKind::Predicted => "guessed",
        CandidateKind::Other => "of another kind",
    }
}

fn plan(word: &str, plan: &Plan) -> String {
    format!("{word} {}: {}, because {}", plan.number, plan.strategy, plan.reason)
}

fn path(word: &str, path: &PathInfo) -> String {
    format!(
        "{word} {} ({}), round trip {:.1} ms, {} packets sent",
        path.remote,
        kind(path.kind),
        milliseconds(path.rtt),
        path.probes
    )
}

fn session_event(event: &SessionEvent) -> String {
    match event {
        SessionEvent::Started(_) => "the first packets to these addresses leave".to_owned(),
        SessionEvent::Replanned(next) => plan("another plan", next),
        SessionEvent::Heard(_, from) => format!("the first packet of the peer comes, from {from}"),
        SessionEvent::AnswersFrom(_, to, Some(from)) => format!("{to} answers from {from}"),
        SessionEvent::AnswersFrom(_, to, None) => format!("{to} answers from there again"),
        SessionEvent::SearchRefused(why) => format!("the search is not made: {why}"),
        SessionEvent::SearchStarted(strategy) => format!("the search begins: {strategy}"),
        SessionEvent::Linked(info) => path("the first answer, a direct path:", info),
        SessionEvent::PathChanged(info) => path("better:", info),
        SessionEvent::Rebound(address) => format!("the peer sees this worker at {address} now"),
        SessionEvent::Suspect(address) => format!("{address} answers no more, others are tried"),
        SessionEvent::Repaired(info) => path("answers again:", info),
        SessionEvent::Verdict(reason) => format!("a direct path is not to be expected: {reason}"),
        SessionEvent::Failed(why) => format!("no direct path: {why}"),
        SessionEvent::Ended(_, reason) => format!("the session is over: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_wire::WorkerId;
    use holepunch_wire::reason::EndReason;

    #[test]
    fn stories_and_their_lines_are_bounded_and_the_last_word_is_kept() {
        let stories = Stories::default();
        let peer = WorkerId::new("b").unwrap();
        let told = |began| Told {
            peer: "b".to_owned(),
            began,
            profile: String::new(),
            lines: Vec::new(),
            paths: None,
        };
        stories.lock().told.insert(SessionId(1), told(Instant::now()));
        for number in 0..2 * LINES_MAX {
            let event = SessionEvent::Ended(EndReason::Unknown, format!("{number}\u{1b}[2J"));
            stories.note(&Notice::Udp(Event::Session(SessionId(1), peer.clone(), event)));
        }
        let all = stories.all();
        assert_eq!((all.len(), all[0].lines.len()), (1, LINES_MAX));
        let last = &all[0].lines[LINES_MAX - 1].text;
        assert!(
            last.contains(&(2 * LINES_MAX - 1).to_string()) && !last.contains('\u{1b}'),
            "{last}"
        );
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Story>>(&json).unwrap().len(), 1);
    }
}
