//! What is attended to beside the program, as long as its link lasts: changes of the path are told, and
//! whoever calls meanwhile is turned away, or takes the place of the link where it is the same peer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holepunch_worker::{CloseCode, Link, Links, PathEvent, PathEvents, PathKind, WorkerId};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::meeting::{Alone, Invited};
use super::waiting::Seldom;
use crate::output;
use crate::path_history::{PathChange, in_words};

/// A path that changes often is told at most this often: what it is by then.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A caller waits so long for the end of the link, where it may take its place.
const ENDS_WITHIN: Duration = Duration::from_millis(500);
/// A peer that refuses a link has done so by then.
const LASTS_AFTER: Duration = Duration::from_secs(1);
/// Of the calls of those that were told already, or are too many, these are told: the first, the fourth, the
/// sixteenth, …
const CALLERS_TOLD: u32 = 4;
/// So many callers that are turned away are told, each by its id.
const CALLERS_NAMED_MAX: usize = 100;
/// Where the direct path is lost, it is looked so often whether the peer is heard by another one.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How changes are told while a program runs.
#[derive(Clone)]
pub(crate) struct Telling {
    /// Writes a line for a person.
    pub(crate) line: Arc<dyn Fn(&str) + Send + Sync>,
    /// Tells the code that the other side needs.
    pub(crate) invited: Arc<dyn Fn(&Invited) + Send + Sync>,
    /// Writes a change of the path for a program.
    pub(crate) path: Option<Arc<dyn Fn(PathChange) + Send + Sync>>,
}

/// What is told in JSON before a result.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum InJson {
    Path(PathChange),
    Code(Invited),
}

impl Telling {
    /// Lines on standard error.
    pub(crate) fn lines() -> Self {
        let invited = |invited: &Invited| invited.lines().iter().for_each(output::progress);
        Self {
            line: Arc::new(|text| output::progress(text)),
            invited: Arc::new(invited),
            path: None,
        }
    }

    /// Both as JSON, too, where that is wanted.
    pub(crate) fn and_json(self, is_wanted: bool, tell: fn(&InJson)) -> Self {
        if !is_wanted {
            return self;
        }
        self.with_json(move |path| tell(&InJson::Path(path)))
            .with_json_code(move |invited| tell(&InJson::Code(invited.clone())))
    }

    /// The code as JSON, too.
    pub(crate) fn with_json_code(self, tell: impl Fn(&Invited) + Send + Sync + 'static) -> Self {
        let lines = self.invited;
        let invited = move |invited: &Invited| {
            lines(invited);
            tell(invited);
        };
        Self { invited: Arc::new(invited), ..self }
    }

    /// Changes of the path as JSON, too.
    pub(crate) fn with_json(self, path: impl Fn(PathChange) + Send + Sync + 'static) -> Self {
        Self { path: Some(Arc::new(path)), ..self }
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Lost(reason) => (self.line)(&reason),
            Told::Changed(event) => {
                (self.line)(&in_words(&event));
                if let Some(path) = &self.path {
                    path(event.into());
                }
            }
        }
    }
}

/// How a link is attended to.
#[derive(Clone)]
pub(crate) struct Manner {
    pub(crate) telling: Telling,
    /// How the two meet where nobody has said it.
    pub(crate) alone: Alone,
    /// Whether a new link with the same key takes the place of the old one: the program goes on from there.
    pub(crate) replaces: bool,
}

/// What is left when a link has ended.
pub(super) struct Left {
    pub(super) links: Links,
    /// The link that has taken its place.
    pub(super) next: Option<Link>,
}

/// What is to be told while a link lasts.
#[derive(Debug, Default)]
pub(super) struct ToTell {
    /// Of the link, once it has lasted.
    pub(super) linked: Option<String>,
    /// Of whoever comes meanwhile without the secret, where there is one.
    pub(super) wrong_secret: Option<&'static str>,
}

/// Attends to a link until it ends.
pub(super) fn attend(link: Link, links: Links, manner: Manner, told: ToTell) -> JoinHandle<Left> {
    let paths = Paths::of(&link);
    tokio::spawn(run(link, links, manner, paths, told))
}

async fn run(
    link: Link,
    mut links: Links,
    manner: Manner,
    mut paths: Paths,
    ToTell { mut linked, wrong_secret }: ToTell,
) -> Left {
    let (mut wrong_secrets, mut wrong_told) = (links.wrong_secrets(), Seldom::default());
    wrong_secrets.mark_unchanged();
    let lasts_at = Instant::now() + LASTS_AFTER;
    let mut turned_away = TurnedAway::default();
    loop {
        tokio::select! {
            _ended = link.closed() => return Left { links, next: None },
            () = sleep_until(lasts_at), if linked.is_some() => {
                linked.take().iter().for_each(|text| (manner.telling.line)(text));
            }
            told = paths.next() => manner.telling.tell(told),
            Ok(()) = wrong_secrets.changed(), if wrong_secret.is_some() => {
                let told = wrong_secret.filter(|_| wrong_told.again(CALLERS_TOLD).is_some());
                told.iter().for_each(|text| (manner.telling.line)(text));
            }
            other = links.next() => match other {
                None => {
                    link.closed().await;
                    return Left { links, next: None };
                }
                Some(other) if manner.replaces && other.peer_key() == link.peer_key() => {
                    (manner.telling.line)("the peer has begun anew: its new link takes the place of the old one");
                    link.close(CloseCode::BegunAnew);
                    return Left { links, next: Some(other) };
                }
                Some(other) if manner.replaces && ends_soon(&link).await => {
                    return Left { links, next: Some(other) };
                }
                Some(other) => {
                    if turned_away.is_told(other.peer()) {
                        let caller = other.peer();
                        (manner.telling.line)(&format!("turned away {caller}: {}", CloseCode::Busy.text()));
                    }
                    other.close(CloseCode::Busy);
                }
            },
        }
    }
}

/// Tells the changes of a link's path until it ends.
pub(crate) async fn tell_paths(link: Link, telling: Telling) {
    let mut paths = Paths::of(&link);
    loop {
        tokio::select! {
            _ended = link.closed() => return,
            told = paths.next() => telling.tell(told),
        }
    }
}

/// Who has called in vain.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    named: BTreeSet<WorkerId>,
    again: Seldom,
}

impl TurnedAway {
    /// Whether this call is worth a line: each caller's first one is, up to a bound.
    pub(super) fn is_told(&mut self, caller: &WorkerId) -> bool {
        let is_new = self.named.len() < CALLERS_NAMED_MAX && self.named.insert(caller.clone());
        is_new || self.again.again(CALLERS_TOLD).is_some()
    }
}

/// Whether the link ends within a moment. In a room, a rendezvous that brings another peer has seen that the
/// old one is gone, and the new link is often there before the old one has ended.
async fn ends_soon(link: &Link) -> bool {
    timeout(ENDS_WITHIN, link.closed()).await.is_ok()
}

/// What is worth a line.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// The direct path is lost, with the reason; whether there is another one is not known yet.
    Lost(String),
    /// Data goes another way.
    Changed(PathEvent),
}

/// The changes of a path that are worth a line.
struct Paths {
    link: Link,
    events: PathEvents,
    /// What was told last.
    told: PathKind,
    tell_at: Instant,
    pending: Option<PathEvent>,
    /// A change away from a direct path, and how many packets had come by then. A peer that has died is not
    /// there by a relay either: it is told once the peer has been heard.
    unheard: Option<(PathEvent, u64)>,
}

impl Paths {
    fn of(link: &Link) -> Self {
        let (events, told) = (link.path_events(), link.path().kind);
        let (tell_at, link) = (Instant::now(), link.clone());
        Self { link, events, told, tell_at, pending: None, unheard: None }
    }

    /// The next change from one kind of path, as it was told last, to another, as it is used now: from a
    /// relay to a direct path, say, but not from one address to another.
    async fn next(&mut self) -> Told {
        loop {
            let due = self.tell_at;
            let look_at = Instant::now() + LOOK_EVERY;
            tokio::select! {
                // What is already past is not told.
                biased;
                event = self.events.next() => {
                    self.unheard = None;
                    self.pending = Some(event);
                }
                () = sleep_until(due), if self.pending.is_some() => {
                    let kind = |path: &PathKind| std::mem::discriminant(path);
                    let is_new = |event: &PathEvent| kind(&event.path.kind) != kind(&self.told);
                    if let Some(event) = self.pending.take().filter(is_new) {
                        self.tell_at = Instant::now() + TELL_EVERY;
                        if let Some(lost) = self.lost(&event) {
                            return lost;
                        }
                        self.told = event.path.kind.clone();
                        return Told::Changed(event);
                    }
                }
                () = sleep_until(look_at), if self.unheard.is_some() => {
                    let received = self.link.traffic().received_datagrams;
                    if let Some((event, _)) = self.unheard.take_if(|(_, before)| received > *before) {
                        self.told = event.path.kind.clone();
                        return Told::Changed(event);
                    }
                }
            }
        }
    }

    /// Where a direct path has given way to another kind: that it is lost. The other one is told later.
    fn lost(&mut self, event: &PathEvent) -> Option<Told> {
        let was_direct = matches!(self.told, PathKind::Direct { .. });
        let has_other = matches!(event.path.kind, PathKind::Relay | PathKind::Turn);
        if !(was_direct && has_other) {
            return None;
        }
        self.told = PathKind::None;
        self.unheard = Some((event.clone(), self.link.traffic().received_datagrams));
        Some(Told::Lost(event.reason.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_is_told_once_and_then_seldom() {
        let mut turned_away = TurnedAway::default();
        let caller = |number: u32| WorkerId::new(&format!("worker-{number}")).unwrap();
        let mut told = |number| turned_away.is_told(&caller(number));
        assert!((0..100).all(&mut told), "each of them");
        let again = (0..1000).filter(|number| told(number % 100)).count();
        assert_eq!(again, 5, "1, 4, 16, 64, 256");
        let others = (1000..2000).filter(|number| told(*number)).count();
        assert_eq!(others, 1, "1024");
    }
}
