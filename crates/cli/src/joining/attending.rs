//! What is attended to beside the program, as long as its link lasts: changes of the path are told, and
//! whoever calls meanwhile is turned away, or takes the place of the link where it is the same peer.

use std::sync::Arc;
use std::time::Duration;

use holepunch_programs::BUSY;
use holepunch_worker::{Link, Links, PathEvent, PathEvents, PathKind};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::waiting::Seldom;
use crate::output;
use crate::path_history::{PathChange, in_words};

/// A path that changes often is told at most this often: what it is by then.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A caller waits so long for the end of the link, where it may take its place.
const ENDS_WITHIN: Duration = Duration::from_millis(500);
/// A peer that refuses a link has done so by then.
const LASTS_AFTER: Duration = Duration::from_secs(1);
/// Of callers that are turned away these are told: the first, the fourth, the sixteenth, …
const CALLERS_TOLD: u32 = 4;

/// The reason with which a link is closed whose peer has made a new one.
pub(super) const REPLACED: &str = "the peer has begun anew";

/// How changes are told while a program runs.
#[derive(Clone)]
pub(crate) struct Telling {
    /// Writes a line for a person.
    pub(crate) line: Arc<dyn Fn(&str) + Send + Sync>,
    /// Writes a change of the path for a program.
    pub(crate) path: Option<Arc<dyn Fn(PathChange) + Send + Sync>>,
}

impl Telling {
    /// Lines on standard error.
    pub(crate) fn lines() -> Self {
        Self { line: Arc::new(|text| output::progress(text)), path: None }
    }

    /// Changes of the path as JSON, too.
    pub(crate) fn with_json(self, path: impl Fn(PathChange) + Send + Sync + 'static) -> Self {
        Self { path: Some(Arc::new(path)), ..self }
    }

    fn tell(&self, event: PathEvent) {
        (self.line)(&in_words(&event));
        if let Some(path) = &self.path {
            path(event.into());
        }
    }
}

/// How a link is attended to.
#[derive(Clone)]
pub(crate) struct Manner {
    pub(crate) telling: Telling,
    /// Whether a new link with the same key takes the place of the old one: the program goes on from there.
    pub(crate) replaces: bool,
}

/// What is left when a link has ended.
pub(super) struct Left {
    pub(super) links: Links,
    /// The link that has taken its place.
    pub(super) next: Option<Link>,
}

/// Attends to a link until it ends. `linked` is told of it once it has lasted.
pub(super) fn attend(
    link: Link,
    links: Links,
    manner: Manner,
    linked: Option<String>,
) -> JoinHandle<Left> {
    let paths = Paths::of(&link);
    tokio::spawn(run(link, links, manner, paths, linked))
}

async fn run(
    link: Link,
    mut links: Links,
    manner: Manner,
    mut paths: Paths,
    mut linked: Option<String>,
) -> Left {
    let lasts_at = Instant::now() + LASTS_AFTER;
    let mut turned_away = Seldom::default();
    loop {
        tokio::select! {
            _ended = link.closed() => return Left { links, next: None },
            () = sleep_until(lasts_at), if linked.is_some() => {
                linked.take().iter().for_each(|text| (manner.telling.line)(text));
            }
            event = paths.next() => manner.telling.tell(event),
            other = links.next() => match other {
                None => {
                    link.closed().await;
                    return Left { links, next: None };
                }
                Some(other) if manner.replaces && other.peer_key() == link.peer_key() => {
                    (manner.telling.line)("the peer has begun anew: its new link takes the place of the old one");
                    link.close(REPLACED);
                    return Left { links, next: Some(other) };
                }
                Some(other) if manner.replaces && ends_soon(&link).await => {
                    return Left { links, next: Some(other) };
                }
                Some(other) => {
                    if turned_away.again(CALLERS_TOLD).is_some() {
                        let caller = other.peer();
                        (manner.telling.line)(&format!("turned away {caller}: {BUSY}"));
                    }
                    other.close(BUSY);
                }
            },
        }
    }
}

/// Whether the link ends within a moment. In a room, a rendezvous that brings another peer has seen that the
/// old one is gone, and the new link is often there before the old one has ended.
async fn ends_soon(link: &Link) -> bool {
    timeout(ENDS_WITHIN, link.closed()).await.is_ok()
}

/// The changes of a path that are worth a line.
struct Paths {
    events: PathEvents,
    /// What was told last.
    told: PathKind,
    tell_at: Instant,
    pending: Option<PathEvent>,
}

impl Paths {
    fn of(link: &Link) -> Self {
        let (events, told) = (link.path_events(), link.path().kind);
        Self { events, told, tell_at: Instant::now(), pending: None }
    }

    /// The next change from one kind of path, as it was told last, to another, as it is used now: from a
    /// relay to a direct path, say, but not from one address to another.
    async fn next(&mut self) -> PathEvent {
        loop {
            let due = self.tell_at;
            tokio::select! {
                // What is already past is not told.
                biased;
                event = self.events.next() => self.pending = Some(event),
                () = sleep_until(due), if self.pending.is_some() => {
                    let kind = |path: &PathKind| std::mem::discriminant(path);
                    let is_new = |event: &PathEvent| kind(&event.path.kind) != kind(&self.told);
                    if let Some(event) = self.pending.take().filter(is_new) {
                        self.told = event.path.kind.clone();
                        self.tell_at = Instant::now() + TELL_EVERY;
                        return event;
                    }
                }
            }
        }
    }
}
