//! `/metrics` and `/api/v1`: what is there and what happens, for whoever looks after the server.

mod answers;
mod query;
pub(crate) mod relay;
mod rows;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use holepunch_matchmaker::Room;
use holepunch_wire::WorkerId;
use holepunch_wire::session::SessionId;
use holepunch_wire::text::harmless_json;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::front::Front;
use crate::hub::Hub;
use crate::metrics::{self, Scrape};
use crate::relay::Relay;
use answers::{Answers, Asked};
use query::{NO_CURSOR, Query, cursor_of, page};
use rows::{LinkRow, RoomRow, SessionRow, WorkerRow};
use stream::STREAMS_MAX;

/// The document of the API, as it is served. Written by hand: to derive it would cost the binary more than its text, and a test
/// compares it with what is answered.
const OPENAPI: &str = include_str!("openapi.json");

/// Where whoever looks for a path of the API is told of the document. It is no part of the API itself.
const ALL: &str = "/api";
/// The same for what is below.
const ALL_BELOW: &str = "/api/{*path}";

/// Where the server is looked at.
#[derive(Debug)]
pub(crate) struct ApiDoor {
    answers: Answers,
    hub: Arc<Hub>,
    /// Where workers come in: what is looked at is not the door of those who look.
    workers: Arc<Front>,
    relay: Option<Arc<Relay>>,
    streams: Arc<Semaphore>,
}

/// Some entries, and where there are more.
#[derive(Debug, Serialize)]
struct Page<T> {
    /// Which instance answers: each of several answers for itself.
    instance: String,
    items: Vec<T>,
    /// The cursor of the next page; there may be nothing on it.
    next: Option<String>,
    /// Events that were asked for and are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

impl ApiDoor {
    pub(crate) fn new(
        (front, workers): (Arc<Front>, Arc<Front>),
        hub: Arc<Hub>,
        relay: Option<Arc<Relay>>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { answers: Answers::new(front), hub, workers, relay, streams }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/metrics", get(scrape))
            .route("/api/v1/openapi.json", get(openapi))
            .route("/api/v1/workers", get(workers))
            .route("/api/v1/rooms", get(rooms))
            .route("/api/v1/sessions", get(sessions))
            .route("/api/v1/links", get(links))
            .route("/api/v1/events", get(stream::events))
            .route(ALL, any(elsewhere))
            .route(ALL_BELOW, any(elsewhere))
            .with_state(Arc::new(self))
    }

    fn instance(&self) -> String {
        format!("{:08x}", self.hub.events.instance())
    }

    /// Answers with a page.
    async fn page<T: Serialize>(
        &self,
        asked: &Asked,
        filters: &[&str],
        rows: impl FnOnce(&Query) -> Result<(Vec<T>, Option<String>), String>,
    ) -> Response {
        let RawQuery(query) = &asked.1;
        let make = || {
            let (items, next) = rows(&Query::of(query.as_deref(), filters)?)?;
            Ok(json(&Page { instance: self.instance(), items, next, missed: None }))
        };
        self.answers.answer(asked, "application/json", make).await
    }
}

/// A document in which nothing acts on a terminal, whatever others have called themselves.
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value);
    harmless_json(&text.expect("invariant: texts and numbers are always valid JSON"))
}

async fn scrape(State(door): State<Arc<ApiDoor>>, asked: Asked) -> Response {
    let make = || {
        let event_readers = STREAMS_MAX - door.streams.available_permits();
        let metrics = &door.hub.metrics;
        metrics.see(&Scrape { event_readers, ..door.hub.scrape() });
        Ok(metrics.shown.text(&door.workers, door.relay.as_deref()))
    };
    door.answers.answer(&asked, metrics::CONTENT_TYPE, make).await
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], OPENAPI).into_response()
}

/// What is no path of the API.
async fn elsewhere() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "the API has no such path: /api/v1/openapi.json has all of them")
}

/// The room in which a page begins, and behind what.
type From<T> = Option<(Room, Option<T>)>;

/// Where a page of what is in rooms begins.
fn begins<T>(query: &Query, read: impl Fn(&str) -> Option<T>) -> Result<From<T>, String> {
    let Some(texts) = query.cursor()? else {
        return Ok(query.first_room().map(|room| (room, None)));
    };
    let [room, last] = &texts[..] else { return Err(NO_CURSOR.to_owned()) };
    let room = Room::of_text(room).ok_or(NO_CURSOR)?;
    Ok(Some((room, Some(read(last).ok_or(NO_CURSOR)?))))
}

async fn workers(State(door): State<Arc<ApiDoor>>, asked: Asked) -> Response {
    let filters = ["room", "tenant", "prefix", "nat", "protocol", "waiting"];
    let rows = |query: &Query| {
        let from = begins(query, |id| WorkerId::new(id).ok())?;
        Ok(door.hub.read(|board| {
            let (own, from) = (board.instance(), from.as_ref());
            let views = board.halls().members(from.map(|(room, last)| (room, last.as_ref())));
            let mut views = views.take_while(|view| query.takes_room(Some(view.room)));
            let row = |view| WorkerRow::of(&view, own, query);
            page(&mut views, query.limit, row, |view| cursor_of(&WorkerRow::cursor(&view)))
        }))
    };
    door.page(&asked, &filters, rows).await
}

async fn rooms(State(door): State<Arc<ApiDoor>>, asked: Asked) -> Response {
    let rows = |query: &Query| {
        let texts = query.cursor()?;
        let after = texts.map(|texts| Room::of_text(&texts.join("\n")).ok_or(NO_CURSOR));
        let after = after.transpose()?;
        Ok(door.hub.read(|board| {
            let mut views = board.halls().rooms(after.as_ref());
            let row = |view| RoomRow::of(&view, query);
            page(&mut views, query.limit, row, |view| cursor_of(&[view.name.to_text().into()]))
        }))
    };
    door.page(&asked, &["tenant", "prefix", "class"], rows).await
}

async fn sessions(State(door): State<Arc<ApiDoor>>, asked: Asked) -> Response {
    let rows = |query: &Query| {
        let from = begins(query, |id| id.parse::<SessionId>().ok())?;
        Ok(door.hub.read(|board| {
            let from = from.as_ref().map(|(room, last)| (room, *last));
            let views = board.halls().session_views(from);
            let mut views = views.take_while(|view| query.takes_room(Some(view.room)));
            let row = |view| SessionRow::of(&view, query);
            page(&mut views, query.limit, row, |view| cursor_of(&SessionRow::cursor(&view)))
        }))
    };
    door.page(&asked, &["room", "tenant", "prefix", "nat", "path"], rows).await
}

async fn links(State(door): State<Arc<ApiDoor>>, asked: Asked) -> Response {
    let rows = |query: &Query| {
        let after = query.cursor()?.map(|texts| texts.join("\n").parse::<SessionId>()).transpose();
        let after = after.map_err(|_| NO_CURSOR)?;
        Ok(door.hub.metrics.links.read(after, |links| {
            let row = |link| LinkRow::of(link, query);
            page(links, query.limit, row, |(id, _)| cursor_of(&[id.to_string().into()]))
        }))
    };
    door.page(&asked, &["room", "tenant", "prefix", "nat", "path"], rows).await
}
