//! `GET /ws/relay/{session}`: who may open a relay.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use holepunch_matchmaker::{Input, RelayRefusal};
use holepunch_wire::address::Source;
use holepunch_wire::relay::{RELAY_SCHEME, RELAY_TOKEN_HEADER};
use holepunch_wire::session::{RelayToken, SessionId};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::client_address::client_address;
use crate::client_io::ClientIo;
use crate::connections::Place as ConnectionPlace;
use crate::http::{App, no_more_websockets};
use crate::websocket;

use super::Relay;
use super::budget::{Payer, Refusal};

/// Checks the token, and opens the WebSocket.
pub(crate) async fn relay(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(connection): Extension<Arc<ConnectionPlace>>,
    Path(session): Path<String>,
    mut request: Request,
) -> Response {
    let refuse = |status: StatusCode, why: &dyn ToString| (status, why.to_string()).into_response();
    let Some(relay) = app.relay.clone() else {
        return refuse(StatusCode::NOT_FOUND, &"this rendezvous has no relay");
    };
    let Some(alive) = app.alive.upgrade() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &"shutting down");
    };
    let (session, token, own) = match authorize(&app, &session, request.headers()) {
        Ok(authorized) => authorized,
        Err(refusal) => {
            let status = match refusal {
                RelayRefusal::UnknownSession => StatusCode::NOT_FOUND,
                RelayRefusal::WrongToken => StatusCode::FORBIDDEN,
            };
            return refuse(status, &refusal);
        }
    };
    let client = client_address(from, request.headers(), &app.trusted_proxies);
    let payer = Payer { session, source: Source::of(client.ip) };
    let (response, upgrade) = match websocket::upgrade(&mut request) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(refusal) = relay.enter(payer) {
        let status = match refusal {
            Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::ShareOfAddress
            | Refusal::ShareOfSite
            | Refusal::QuotaOfAddress
            | Refusal::QuotaOfSession => StatusCode::TOO_MANY_REQUESTS,
        };
        return refuse(status, &refusal);
    }
    let place = Place { relay, payer };
    let Some(websocket) = connection.become_websocket() else {
        return no_more_websockets(&app);
    };
    tokio::spawn(async move {
        let is_alive = || app.hub.read(|machine| machine.relay_end(session, &token).is_ok());
        if let Some(socket) = upgrade.await.ok().and_then(socket) {
            let is_open = |is_open| app.hub.input(Input::Relay { session, end: own, is_open });
            place.relay.serve((payer, own), socket, is_alive, is_open).await;
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

/// Which end of which session a client may open.
fn authorize(
    app: &App,
    session: &str,
    headers: &HeaderMap,
) -> Result<(SessionId, RelayToken, usize), RelayRefusal> {
    let session = session.parse().map_err(|_| RelayRefusal::UnknownSession)?;
    let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
    let bearer = || {
        // The scheme is the same in capitals (RFC 9110 §11.1).
        let parts = text(AUTHORIZATION.as_str())?.split_at_checked(RELAY_SCHEME.len())?;
        parts.0.eq_ignore_ascii_case(RELAY_SCHEME).then_some(parts.1)
    };
    let token = text(RELAY_TOKEN_HEADER).or_else(bearer);
    let token = token.and_then(|token| RelayToken::try_from(token.trim().to_owned()).ok());
    // A text that is no token is a wrong one, where the session has any.
    let asked = token.clone().unwrap_or_else(|| RelayToken::from_random([0; 16]));
    let own = app.hub.read(|machine| machine.relay_end(session, &asked))?;
    token.map(|token| (session, token, own)).ok_or(RelayRefusal::WrongToken)
}

/// The TCP connection itself, and what of the client's bytes has been read with the request.
fn socket(upgraded: Upgraded) -> Option<(Arc<TcpStream>, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<ClientIo>>().ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}
