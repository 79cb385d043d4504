//! The paths.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use holepunch_matchmaker::{Arrival, NotAdmitted, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::relay::RELAY_PATH;
use holepunch_wire::session::{RoomName, RoomNameError};
use holepunch_wire::signal::v1::SUBPROTOCOL;
use holepunch_wire::signal::{FRAME_BYTES_MAX, REGISTER_PATH};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::client_address::client_address;
use crate::connections::Place;
use crate::forwarded::FORWARDED_HOST;
use crate::front::Front;
use crate::hub::Hub;
use crate::identity::{self, Verifier};
use crate::listing::{self, Listings};
use crate::log_budget::excerpt;
use crate::origin;
use crate::relay::RelayDoor;
use crate::signalling::{self, Connection};
use crate::websocket;
use crate::well_formed;

/// Per WebSocket: messages are small, and thousands of connections are idle. The library's default
/// of 128 KiB each way would be most of the server's memory.
const WS_BUFFER_BYTES: usize = 1024;
/// Most bytes that wait in the library for a slow client, beside the outbox.
const WS_WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// The answer where the store of several rendezvous does not answer.
pub(crate) const STORE_AWAY: &str = "this rendezvous does not reach its store; try again later";

/// What this server is, for whoever looks at it from outside.
const SOFTWARE: &str = concat!("holepunch/", env!("CARGO_PKG_VERSION"));

/// What the handlers of a rendezvous share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) front: Arc<Front>,
    pub(crate) hub: Arc<Hub>,
    /// `None` where it is turned off.
    pub(crate) listings: Option<Listings>,
}

/// The paths of a rendezvous.
pub(crate) fn rendezvous(app: Arc<App>, relay: RelayDoor) -> Router {
    let front = Arc::clone(&app.front);
    let registration = get(register).with_state(Arc::clone(&app));
    let websockets = relay.routes().route(&format!("{REGISTER_PATH}{{worker_id}}"), registration);
    let others = Router::new()
        .route("/", get(index))
        .route("/readyz", get(ready))
        .route("/debug/list_workers", get(listing::list_workers))
        .with_state(app);
    with_checks(others, websockets, front)
}

/// The paths of a relay alone.
pub(crate) fn relay(relay: RelayDoor) -> Router {
    let front = Arc::clone(&relay.front);
    with_checks(Router::new().route("/", get(relay_index)), relay.routes(), front)
}

/// With what every request and every WebSocket has to be like, and the health checks.
fn with_checks(others: Router, websockets: Router, front: Arc<Front>) -> Router {
    let websockets = websockets
        .route_layer(from_fn_with_state(front, origin::check))
        .route_layer(from_fn(well_formed::is_handshake));
    others
        .route("/healthz", get(health))
        .route("/health", get(health))
        .route("/ready", get(health))
        .merge(websockets)
        .layer(from_fn(well_formed::has_host))
}

async fn relay_index() -> impl IntoResponse {
    let message = format!(
        "A holepunch relay is running. Workers open it by WebSocket at {RELAY_PATH}{{session}}, with the token that \
         their rendezvous has given them."
    );
    Json(serde_json::json!({ "message": message, "server": SOFTWARE }))
}

async fn index() -> impl IntoResponse {
    let message = format!(
        "The holepunch rendezvous service is running. Workers register by WebSocket at \
         {REGISTER_PATH}{{worker_id}}."
    );
    Json(serde_json::json!({ "message": message, "server": SOFTWARE }))
}

async fn health() -> &'static str {
    "OK"
}

/// Whether a load balancer is to send workers here.
async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.hub.is_ready() {
        "OK".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, STORE_AWAY).into_response()
    }
}

async fn register(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(place): Extension<Arc<Place>>,
    Path(worker_id): Path<String>,
    mut request: Request,
) -> Response {
    let (mut response, upgrade) = match websocket::upgrade(&mut request) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into_response(),
    };
    let headers = request.headers();
    let worker = match WorkerId::new(&worker_id) {
        Ok(worker) => worker,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let observed = client_address(from, headers, &app.front.trusted_proxies);
    match app.hub.admits(&worker, observed.ip).await {
        Some(Ok(())) => {}
        Some(Err(why)) => return not_admitted(&app, &worker, observed.ip, why),
        None => return (StatusCode::SERVICE_UNAVAILABLE, STORE_AWAY).into_response(),
    }
    let Some(alive) = app.front.alive.upgrade() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down").into_response();
    };
    let room = match room_of(request.uri().query()) {
        Ok(room) => room,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let is_v1 = offers_v1(headers);
    let protocol = if is_v1 { Protocol::V1 } else { Protocol::Baseline };
    let challenge = if is_v1 { identity::challenge() } else { Some(String::new()) };
    let Some(challenge) = challenge else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let verifier = is_v1.then(|| Verifier {
        hosts: identity::hosts(&app.front.public_hosts, headers, app.front.trusts(from)),
        challenge: challenge.clone(),
        room: room.clone(),
        forwarded_host: headers.get(FORWARDED_HOST).map(|host| excerpt(host.as_bytes())),
        proved: None,
        has_failed: false,
    });
    let Some(place) = place.become_websocket() else {
        return app.front.no_more_websockets();
    };
    let arrival = Arrival { worker, observed, protocol, room, challenge };
    if is_v1 {
        let selected = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, selected);
    }
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = websocket::open(upgraded, websocket_config()).await;
            let hub = Arc::clone(&app.hub);
            let connection = Connection::new(hub, socket, arrival, verifier);
            signalling::serve(Box::new(connection)).await;
        }
        drop((alive, place));
    });
    response
}

fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(WS_BUFFER_BYTES)
        .write_buffer_size(WS_BUFFER_BYTES)
        .max_write_buffer_size(WS_WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

/// Whether a handshake offers the sub-protocol, among others perhaps.
fn offers_v1(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    offered.any(|protocol| protocol.trim() == SUBPROTOCOL)
}

/// The answer where there is no room for a worker.
fn not_admitted(app: &App, worker: &WorkerId, ip: IpAddr, why: NotAdmitted) -> Response {
    let status = match why {
        NotAdmitted::Full => StatusCode::SERVICE_UNAVAILABLE,
        NotAdmitted::ShareOfAddress(_) | NotAdmitted::ShareOfSite(_) => {
            StatusCode::TOO_MANY_REQUESTS
        }
    };
    if app.front.refusals.allows_one() {
        tracing::warn!(%worker, %ip, %why, "registration refused");
    }
    (status, why.to_string()).into_response()
}

/// The room in a query, `room=…`.
fn room_of(query: Option<&str>) -> Result<Option<RoomName>, RoomNameError> {
    let mut fields = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let room = fields.find(|(name, _)| name == "room");
    room.map(|(_, room)| RoomName::new(&room)).transpose()
}
