//! A request becomes a WebSocket.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::close_watch::CloseWatch;

/// A WebSocket of the library, which takes every close code that is registered.
pub(crate) type WebSocket = WebSocketStream<CloseWatch<TokioIo<Upgraded>>>;

/// Why a request does not become a WebSocket: status and text of the answer.
pub(crate) type Refusal = (StatusCode, &'static str);

/// The answer to a handshake, and what its connection becomes; else why it is none.
pub(crate) fn upgrade(request: &mut Request) -> Result<(Response, OnUpgrade), Refusal> {
    let Ok(response) = create_response_with_body(request, Body::empty) else {
        let why = "expected a WebSocket handshake (RFC 6455)";
        return Err((StatusCode::BAD_REQUEST, why));
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        let why = "this connection cannot be upgraded";
        return Err((StatusCode::UPGRADE_REQUIRED, why));
    };
    Ok((response, upgrade))
}

/// The library's side of it.
pub(crate) async fn open(upgraded: Upgraded, config: WebSocketConfig) -> WebSocket {
    let io = CloseWatch::new(TokioIo::new(upgraded));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
