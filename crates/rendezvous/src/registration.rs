//! `GET /ws/register/{id}`: who may register, and how.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use holepunch_matchmaker::{Arrival, Event, Member, NotAdmitted, Protocol};
use holepunch_wire::WorkerId;
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
use crate::log_budget::excerpt;
use crate::refused::Refused;
use crate::signalling::{self, Connection};
use crate::tokens::{Gate, Pass, Refusal};
use crate::websocket;

/// Per WebSocket: messages are small, and thousands of connections are idle. The library's default
/// of 128 KiB each way would be most of the server's memory.
const WS_BUFFER_BYTES: usize = 1024;
/// Most bytes that wait in the library for a slow client, beside the outbox.
const WS_WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Where workers register.
#[derive(Debug)]
pub(crate) struct RegistrationDoor {
    pub(crate) front: Arc<Front>,
    pub(crate) hub: Arc<Hub>,
    /// `None`: whoever comes is let in.
    pub(crate) gate: Option<Arc<Gate>>,
}

impl RegistrationDoor {
    pub(crate) fn routes(self) -> Router {
        let register = get(register).with_state(Arc::new(self));
        Router::new().route(&format!("{REGISTER_PATH}{{worker_id}}"), register)
    }

    /// What the token of a request lets its worker do; `None`: none is needed.
    fn let_in(
        &self,
        headers: &HeaderMap,
        worker: &WorkerId,
        room: &RoomName,
    ) -> Result<Option<Pass>, Refusal> {
        let Some(gate) = &self.gate else { return Ok(None) };
        let pass = gate.admit(headers)?;
        pass.allows(worker, room)?;
        Ok(Some(pass))
    }

    fn denied(&self, refusal: &Refusal, worker: &WorkerId, ip: IpAddr) {
        let code = refusal.code();
        self.hub.tell(&Event::Denied(code).told(None), SystemTime::now());
        if self.front.refusals.allows_one() {
            tracing::warn!(%worker, %ip, code, why = %refusal, "not let in");
        }
    }
}

async fn register(
    State(door): State<Arc<RegistrationDoor>>,
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
    let observed = client_address(from, headers, &door.front.trusted_proxies);
    let room = match room_of(request.uri().query()) {
        Ok(room) => room,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let is_v1 = offers_v1(headers);
    // A baseline client knows of no rooms.
    let wanted = room.clone().filter(|_| is_v1).unwrap_or_default();
    let (permit, ticket) = match door.let_in(headers, &worker, &wanted) {
        Ok(pass) => pass.map_or_else(Default::default, |pass| (pass.permit, Some(pass.ticket))),
        Err(refusal) => {
            door.denied(&refusal, &worker, observed.ip);
            return refusal.response();
        }
    };
    let member = Member { tenant: permit.tenant.clone(), name: worker.clone() };
    match door.hub.admits(&member, observed.ip).await {
        Some(Ok(())) => {}
        Some(Err(why)) => return not_admitted(&door.front, &worker, observed.ip, why),
        None => {
            door.front.refused.count(Refused::StoreAway);
            return (StatusCode::SERVICE_UNAVAILABLE, door.hub.store_trouble()).into_response();
        }
    }
    let Some(alive) = door.front.alive.upgrade() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down").into_response();
    };
    let protocol = if is_v1 { Protocol::V1 } else { Protocol::Baseline };
    let challenge = if is_v1 { identity::challenge() } else { Some(String::new()) };
    let Some(challenge) = challenge else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let verifier = is_v1.then(|| Verifier {
        hosts: identity::hosts(&door.front.public_hosts, headers, door.front.trusts(from)),
        challenge: challenge.clone(),
        room: room.clone(),
        forwarded_host: headers.get(FORWARDED_HOST).map(|host| excerpt(host.as_bytes())),
        proved: None,
        has_failed: false,
    });
    let Some(place) = place.become_websocket() else {
        return door.front.no_more_websockets();
    };
    let arrival = Arrival { worker, observed, protocol, room, challenge, permit };
    if is_v1 {
        let selected = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, selected);
    }
    // In a box of its own, since the task of a worker that is idle would hold room for it.
    let opening = Box::pin(async move {
        let socket = websocket::open(upgrade.await.ok()?, websocket_config()).await;
        let hub = Arc::clone(&door.hub);
        Some(Box::new(Connection::new(hub, socket, (arrival, ticket), verifier)))
    });
    tokio::spawn(async move {
        if let Some(connection) = opening.await {
            signalling::serve(connection).await;
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
fn not_admitted(front: &Front, worker: &WorkerId, ip: IpAddr, why: NotAdmitted) -> Response {
    let (status, refused) = match why {
        NotAdmitted::Full => (StatusCode::SERVICE_UNAVAILABLE, Refused::Full),
        NotAdmitted::ShareOfAddress(_) => (StatusCode::TOO_MANY_REQUESTS, Refused::ShareOfAddress),
        NotAdmitted::ShareOfSite(_) => (StatusCode::TOO_MANY_REQUESTS, Refused::ShareOfSite),
        NotAdmitted::ShareOfTenant(_) => (StatusCode::TOO_MANY_REQUESTS, Refused::ShareOfTenant),
    };
    front.refused.count(refused);
    if front.refusals.allows_one() {
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
