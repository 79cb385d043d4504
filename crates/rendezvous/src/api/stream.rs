//! `/api/v1/events`: as they come (server-sent events), or page by page.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::query::{NO_CURSOR, Query};
use super::{ApiDoor, Asked, Page, json as text_of};
use crate::connections::Place;
use crate::events::{EventId, Events, Row};

/// Readers of the stream at once. Each costs a connection and a place in the ring, and no queue.
pub(super) const STREAMS_MAX: usize = 32;
/// Events that are written at once; a reader that takes no more is called again when it has room.
const PIECE_EVENTS: usize = 64;
/// Where nothing happens, a comment is written this often: it keeps the connection, and shows that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const FILTERS: [&str; 6] = ["room", "tenant", "prefix", "nat", "session", "event"];
const STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) async fn events(
    State(door): State<Arc<ApiDoor>>,
    Extension(place): Extension<Arc<Place>>,
    asked: Asked,
) -> Response {
    let (_, RawQuery(query), headers) = &asked;
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok());
    if !accepts.into_iter().any(|it| it.contains(STREAM)) {
        let make = || page(&door, &Query::of(query.as_deref(), &FILTERS)?);
        return door.answers.answer(&asked, "application/json", make).await;
    }
    let read = Query::of(query.as_deref(), &FILTERS);
    match read.and_then(|query| Ok((begin(&door.hub.events, headers, &query)?, query))) {
        Ok((start, query)) => open(&door, place, start, query),
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

/// Those behind the cursor, or the oldest that are kept.
fn page(door: &ApiDoor, query: &Query) -> Result<String, String> {
    let events = &door.hub.events;
    let start = match &query.cursor {
        None => Start { number: events.gone(), is_of_before: false },
        Some(cursor) => Start::behind(events, cursor.parse().map_err(|()| NO_CURSOR)?),
    };
    let unread = events.after(start.number, usize::MAX);
    let newest = events.newest();
    let mut next = start.number;
    let mut items = Vec::new();
    for row in &unread.rows {
        if items.len() >= query.limit {
            break;
        }
        next = row.id.number;
        items.extend(is_wanted(row, query).then_some(row));
    }
    let next = (next < newest && !unread.rows.is_empty()).then_some(next);
    let next = next.map(|number| EventId { instance: events.instance(), number }.to_string());
    let missed = (unread.missed > 0 || start.is_of_before).then_some(unread.missed);
    Ok(text_of(&Page { instance: door.instance(), items, next, missed }))
}

fn is_wanted(row: &Row, query: &Query) -> bool {
    query.takes_room(row.room.as_ref())
        && query.takes_ids(&row.workers)
        && query.takes_word(row.event)
        && (query.nat.is_none() || row.nats.is_some_and(|nats| query.takes_nats(&nats)))
        && query.session.is_none_or(|session| row.session == Some(session))
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// Behind this one.
    number: u64,
    /// The last event that the reader has had was of another instance, or of this one before a restart.
    is_of_before: bool,
}

impl Start {
    fn behind(events: &Events, last: EventId) -> Self {
        let is_of_before = last.instance != events.instance();
        let number = if is_of_before { 0 } else { last.number.min(events.newest()) };
        Self { number, is_of_before }
    }
}

/// Behind the last event that the reader has had; else what comes from now on.
fn begin(events: &Events, headers: &HeaderMap, query: &Query) -> Result<Start, String> {
    let last = headers.get(LAST_EVENT_ID).map(|it| it.to_str().unwrap_or_default());
    match last.or(query.cursor.as_deref()) {
        None => Ok(Start { number: events.newest(), is_of_before: false }),
        Some(last) => Ok(Start::behind(events, last.parse().map_err(|()| NO_CURSOR)?)),
    }
}

fn open(door: &Arc<ApiDoor>, place: Arc<Place>, start: Start, query: Query) -> Response {
    let Ok(permit) = Arc::clone(&door.streams).try_acquire_owned() else {
        let soon = [(RETRY_AFTER, HeaderValue::from_static("10"))];
        return (StatusCode::SERVICE_UNAVAILABLE, soon, "too many readers of events")
            .into_response();
    };
    let newest = door.hub.events.subscribe();
    let reader = Reader {
        door: Arc::clone(door),
        place,
        query,
        start,
        newest,
        has_begun: false,
        _permit: permit,
    };
    let pieces = stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), reader))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(STREAM)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    // nginx would keep them until it has some kilobytes.
    (headers, [("x-accel-buffering", "no")], Body::from_stream(pieces)).into_response()
}

/// One reader: a place in the ring.
struct Reader {
    door: Arc<ApiDoor>,
    place: Arc<Place>,
    query: Query,
    start: Start,
    newest: watch::Receiver<()>,
    has_begun: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// What is to be written next; `None`: the server stops.
    async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            // The head goes out at once, and whoever loses the connection is back soon.
            text.push_str("retry: 2000\n\n");
        }
        let due = Instant::now() + KEEP_ALIVE;
        loop {
            self.newest.borrow_and_update();
            while self.write_some(&mut text) && text.is_empty() {
                tokio::task::yield_now().await;
            }
            if !text.is_empty() {
                self.place.pace.goes_on(Instant::now());
                return Some(text);
            }
            tokio::select! {
                biased;
                () = self.door.answers.front.connections.stopped() => return None,
                changed = self.newest.changed() => changed.ok()?,
                () = tokio::time::sleep_until(due) => text.push_str(":\n\n"),
            }
        }
    }

    /// Writes some of what is unread; whether there was any.
    fn write_some(&mut self, text: &mut String) -> bool {
        let events = &self.door.hub.events;
        let unread = events.after(self.start.number, PIECE_EVENTS);
        if unread.missed > 0 || self.start.is_of_before {
            self.start.is_of_before = false;
            events.missed.inc_by(unread.missed);
            let gap = json!({ "instance": self.door.instance(), "missed": unread.missed });
            let _always_fits = write!(text, "event: gap\ndata: {gap}\n\n");
        }
        for row in &unread.rows {
            self.start.number = row.id.number;
            if is_wanted(row, &self.query) {
                let _always_fits = write!(text, "id: {}\ndata: {}\n\n", row.id, text_of(row));
            }
        }
        !unread.rows.is_empty()
    }
}
