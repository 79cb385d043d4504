//! The paths, and one hyper connection per client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use futures_util::stream;
use holepunch_matchmaker::{NotAdmitted, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::relay::RELAY_PATH;
use holepunch_wire::session::{RoomName, RoomNameError};
use holepunch_wire::signal::v1::SUBPROTOCOL;
use holepunch_wire::signal::{FRAME_BYTES_MAX, REGISTER_PATH};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::client_address::client_address;
use crate::hub::{Hub, Visitor};
use crate::identity::{self, Verifier};
use crate::listing::Listing;
use crate::log_budget::LogBudget;
use crate::origin;
use crate::relay::{self, Relay};
use crate::session;

/// Per WebSocket: messages are small, and thousands of connections are idle. The library's default
/// of 128 KiB each way would be most of the server's memory.
const WS_BUFFER_BYTES: usize = 1024;
/// Most bytes that wait in the library for a slow client, beside the outbox.
const WS_WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// A client that has not sent its request line and headers by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is no WebSocket by then is cut off, also when it does not read its answers.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a request's line and headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Connections that are neither workers nor relays, beside those that are admitted.
const OTHER_CONNECTIONS_MAX: usize = 1024;
/// After an accept that failed (no file descriptors left, most likely) before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listings under way at once: with thousands of workers each has megabytes, and a client may take its
/// time to read it.
const LISTINGS_MAX: usize = 4;
/// A listing up to this length is sent in one piece.
const PIECE_BYTES: usize = 64 * 1024;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) hub: Arc<Hub>,
    /// None where it is turned off.
    pub(crate) relay: Option<Arc<Relay>>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// This server's names; none: whatever a client calls it.
    pub(crate) public_hosts: Arc<[String]>,
    /// For lines about requests that are refused.
    pub(crate) refusals: LogBudget,
    /// Held by every listing under way.
    listings: Arc<Semaphore>,
    /// Held by every session; the server waits for all to be dropped when it ends.
    pub(crate) alive: mpsc::WeakSender<()>,
}

impl App {
    pub(crate) fn new(
        hub: Arc<Hub>,
        relay: Option<Arc<Relay>>,
        trusted_proxies: Vec<IpNet>,
        public_hosts: Arc<[String]>,
        alive: mpsc::WeakSender<()>,
    ) -> Self {
        let listings = Arc::new(Semaphore::new(LISTINGS_MAX));
        let refusals = LogBudget::of_refusals();
        Self { hub, relay, trusted_proxies, public_hosts, refusals, listings, alive }
    }
}

fn router(app: Arc<App>) -> Router {
    let websockets = Router::new()
        .route(&format!("{REGISTER_PATH}{{worker_id}}"), get(register))
        .route(&format!("{RELAY_PATH}{{session}}"), get(relay::relay))
        .route_layer(from_fn_with_state(Arc::clone(&app), origin::check));
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(health))
        .route("/health", get(health))
        .route("/ready", get(health))
        .route("/debug/list_workers", get(list_workers))
        .merge(websockets)
        .with_state(app)
}

/// The right to be connected; a WebSocket holds it until its session ends.
pub(crate) type Permit = Arc<OwnedSemaphorePermit>;

/// Accepts connections until the task is ended, and with it every connection that is not a WebSocket.
pub(crate) async fn accept(listener: TcpListener, app: Arc<App>, websockets_max: usize) {
    let router = router(app);
    let permits = websockets_max.saturating_add(OTHER_CONNECTIONS_MAX).min(Semaphore::MAX_PERMITS);
    let permits = Arc::new(Semaphore::new(permits));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let router = router.clone().layer(Extension(Permit::new(permit)));
                connections.spawn(serve_connection(stream, from, router));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, from: SocketAddr, router: Router) {
    // Acks and offers are small and urgent.
    let _best_effort = stream.set_nodelay(true);
    let service = router.layer(Extension(ConnectInfo(from)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    // An upgrade ends this future; a WebSocket lives as long as its session.
    match tokio::time::timeout(HTTP_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%from, %error, "HTTP connection ended"),
        Err(_) => tracing::debug!(%from, "HTTP connection cut off"),
    }
}

async fn index() -> impl IntoResponse {
    let message = format!(
        "The holepunch rendezvous service is running. Workers register by WebSocket at \
         {REGISTER_PATH}{{worker_id}}."
    );
    Json(serde_json::json!({ "message": message }))
}

async fn health() -> &'static str {
    "OK"
}

async fn list_workers(State(app): State<Arc<App>>) -> Response {
    let Ok(permit) = Arc::clone(&app.listings).acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let listing = app.hub.read(Listing::of);
    let Ok(text) = serde_json::to_vec(&listing) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let length = text.len();
    let body = if text.len() <= PIECE_BYTES { Body::from(text) } else { in_pieces(text, permit) };
    let kind = HeaderValue::from_static("application/json");
    let headers = [(CONTENT_TYPE, kind), (CONTENT_LENGTH, HeaderValue::from(length))];
    (headers, body).into_response()
}

/// A body that holds its permit until the client has read (nearly) all of it.
fn in_pieces(text: Vec<u8>, permit: OwnedSemaphorePermit) -> Body {
    let pieces = stream::unfold((Bytes::from(text), permit), |(mut rest, permit)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        Some((Ok::<_, std::convert::Infallible>(piece), (rest, permit)))
    });
    Body::from_stream(pieces)
}

async fn register(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(permit): Extension<Permit>,
    Path(worker_id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let worker = match WorkerId::new(&worker_id) {
        Ok(worker) => worker,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let observed = client_address(from, &headers, &app.trusted_proxies);
    if let Err(why) = app.hub.admits(&worker, observed.ip) {
        let status = match why {
            NotAdmitted::Full => StatusCode::SERVICE_UNAVAILABLE,
            NotAdmitted::ShareOfAddress(_) | NotAdmitted::ShareOfSite(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
        };
        if app.refusals.allows_one() {
            tracing::warn!(%worker, ip = %observed.ip, %why, "registration refused");
        }
        return (status, why.to_string()).into_response();
    }
    let Some(alive) = app.alive.upgrade() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down").into_response();
    };
    let room = match room_of(query.as_deref()) {
        Ok(room) => room,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    let is_v1 = upgrade.selected_protocol().is_some();
    let protocol = if is_v1 { Protocol::V1 } else { Protocol::Baseline };
    let challenge = if is_v1 { identity::challenge() } else { Some(String::new()) };
    let Some(challenge) = challenge else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let verifier = is_v1.then(|| Verifier {
        hosts: identity::hosts(&app.public_hosts, &headers),
        challenge: challenge.clone(),
        room: room.clone(),
        proved: None,
    });
    let visitor = Visitor { worker, observed, protocol, room, challenge };
    upgrade
        .read_buffer_size(WS_BUFFER_BYTES)
        .write_buffer_size(WS_BUFFER_BYTES)
        .max_write_buffer_size(WS_WRITE_BUFFER_BYTES_MAX)
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            session::serve(Arc::clone(&app.hub), socket, visitor, verifier).await;
            drop((alive, permit));
        })
}

/// The room in a query, `room=…`.
fn room_of(query: Option<&str>) -> Result<Option<RoomName>, RoomNameError> {
    let mut fields = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let room = fields.find(|(name, _)| name == "room");
    room.map(|(_, room)| RoomName::new(&room)).transpose()
}
