//! The paths.

use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use holepunch_wire::relay::RELAY_PATH;
use holepunch_wire::signal::REGISTER_PATH;

use crate::front::Front;
use crate::{origin, well_formed};

/// What this server is, for whoever looks at it from outside.
const SOFTWARE: &str = concat!("holepunch/", env!("CARGO_PKG_VERSION"));

/// The paths of a rendezvous.
pub(crate) fn rendezvous(front: Arc<Front>, websockets: Router, others: Router) -> Router {
    with_checks(others.route("/", get(index)), websockets, front)
}

/// The paths of a relay alone.
pub(crate) fn relay(front: Arc<Front>, websockets: Router, others: Router) -> Router {
    with_checks(others.route("/", get(relay_index)), websockets, front)
}

/// With the health checks, and what every request and every WebSocket has to be like.
fn with_checks(others: Router, websockets: Router, front: Arc<Front>) -> Router {
    let websockets = websockets
        .route_layer(from_fn_with_state(front, origin::check))
        .route_layer(from_fn(well_formed::is_handshake));
    with_health(others.merge(websockets))
}

/// The same without WebSockets.
pub(crate) fn with_health(others: Router) -> Router {
    others
        .route("/healthz", get(health))
        .route("/health", get(health))
        .route("/ready", get(health))
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
