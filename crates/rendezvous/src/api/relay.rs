//! `/metrics` of a relay alone. It knows no workers and no rooms, so it has nothing of `/api/v1`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::answers::{Answers, Asked};
use crate::front::Front;
use crate::metrics::{self, Shown};
use crate::relay::Relay;

#[derive(Debug)]
struct Door {
    answers: Answers,
    /// Where workers come in: what is looked at is not the door of those who look.
    workers: Arc<Front>,
    relay: Arc<Relay>,
    shown: Shown,
}

pub(crate) fn routes(
    (front, workers): (Arc<Front>, Arc<Front>),
    relay: Arc<Relay>,
    shown: Shown,
) -> Router {
    let door = Door { answers: Answers::new(front), workers, relay, shown };
    Router::new().route("/metrics", get(scrape)).with_state(Arc::new(door))
}

async fn scrape(State(door): State<Arc<Door>>, asked: Asked) -> Response {
    let make = || Ok(door.shown.text(&door.workers, Some(&door.relay)));
    door.answers.answer(&asked, metrics::CONTENT_TYPE, make).await
}
