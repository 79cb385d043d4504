//! `GET /ws/relay/{session}`: who may open a relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use holepunch_wire::address::Source;
use holepunch_wire::relay::{
    RELAY_PATH, RELAY_SCHEME, RELAY_TOKEN_HEADER, RelayKey, RelayTokenRefusal,
};
use holepunch_wire::session::{RelayToken, SessionId};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use crate::client_address::client_address;
use crate::client_io::ClientIo;
use crate::client_stream::ClientStream;
use crate::connections::Place as ConnectionPlace;
use crate::front::Front;
use crate::websocket;

use super::Relay;
use super::budget::{Payer, Refusal, Way};

/// Where relays are opened.
pub(crate) struct RelayDoor {
    pub(crate) front: Arc<Front>,
    /// None where it is turned off.
    pub(crate) relay: Option<Arc<Relay>>,
    /// Tells which end of a session is connected.
    pub(crate) tell: Box<dyn Fn(SessionId, usize, bool) + Send + Sync>,
}

impl RelayDoor {
    pub(crate) fn routes(self) -> Router {
        let open = get(open).with_state(Arc::new(self));
        Router::new().route(&format!("{RELAY_PATH}{{session}}"), open)
    }
}

fn refuse(status: StatusCode, why: &dyn ToString) -> Response {
    (status, why.to_string()).into_response()
}

/// Checks the token, and opens the WebSocket.
async fn open(
    State(door): State<Arc<RelayDoor>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(connection): Extension<Arc<ConnectionPlace>>,
    Path(session): Path<String>,
    mut request: Request,
) -> Response {
    let Some(relay) = door.relay.clone() else {
        return refuse(StatusCode::NOT_FOUND, &"this rendezvous has no relay");
    };
    let Some(alive) = door.front.alive.upgrade() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &"shutting down");
    };
    let Ok(session) = session.parse() else {
        return refuse(StatusCode::NOT_FOUND, &"no such session has a relay");
    };
    let (own, quota) = match authorize(&relay.key, session, request.headers()) {
        Ok(own) => own,
        Err(refusal @ RelayTokenRefusal::NotOurs) => {
            return refuse(StatusCode::FORBIDDEN, &refusal);
        }
        Err(refusal @ RelayTokenRefusal::Expired { .. }) => {
            // As RFC 6750 §3.1 has it: with another token it may be tried again.
            let mut response = refuse(StatusCode::UNAUTHORIZED, &refusal);
            let expired = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, expired);
            return response;
        }
    };
    let client = client_address(from, request.headers(), &door.front.trusted_proxies);
    let payer = Payer { session, source: Source::of(client.ip), way: Way::WebSocket, quota };
    let (response, upgrade) = match websocket::upgrade(&mut request) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(refusal) = relay.enter(payer) {
        let status = match refusal {
            Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Ended => StatusCode::NOT_FOUND,
            Refusal::ShareOfAddress
            | Refusal::ShareOfSite
            | Refusal::QuotaOfAddress
            | Refusal::QuotaOfSession => StatusCode::TOO_MANY_REQUESTS,
        };
        return refuse(status, &refusal);
    }
    let place = Place { relay, payer };
    let Some(websocket) = connection.become_websocket() else {
        return door.front.no_more_websockets();
    };
    tokio::spawn(async move {
        if let Some(socket) = upgrade.await.ok().and_then(socket) {
            let tell = |is_open| (door.tell)(session, own, is_open);
            place.relay.serve((payer, own), socket, tell).await;
        }
        drop((place, alive, websocket));
    });
    response
}

/// A place among the budgets, given back however its task ends.
struct Place {
    relay: Arc<Relay>,
    payer: Payer,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.relay.leave(self.payer);
    }
}

/// Which end of a session a client may open, and how much that may carry, where its token bounds it.
fn authorize(
    key: &RelayKey,
    session: SessionId,
    headers: &HeaderMap,
) -> Result<(usize, Option<u64>), RelayTokenRefusal> {
    let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
    let bearer = || {
        // The scheme is the same in capitals (RFC 9110 §11.1).
        let parts = text(AUTHORIZATION.as_str())?.split_at_checked(RELAY_SCHEME.len())?;
        parts.0.eq_ignore_ascii_case(RELAY_SCHEME).then_some(parts.1)
    };
    let token = text(RELAY_TOKEN_HEADER).or_else(bearer);
    let token = token.and_then(|token| RelayToken::try_from(token.trim().to_owned()).ok());
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    key.side(session, &token.ok_or(RelayTokenRefusal::NotOurs)?, unix.as_secs())
}

/// The connection itself, and what of the client's bytes has been read with the request.
fn socket(upgraded: Upgraded) -> Option<(Arc<ClientStream>, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<ClientIo>>().ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}
