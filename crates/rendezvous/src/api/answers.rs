//! Answers that are long to make: each in its turn, so that whoever looks keeps nobody who works here from his own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::client_address::client_address;
use crate::front::Front;
use crate::listing::Listings;

/// What is known of a request.
pub(super) type Asked = (ConnectInfo<SocketAddr>, RawQuery, HeaderMap);

/// Those under way at one door. Not together with those of the listing: whoever reads that slowly keeps nobody from the metrics.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) front: Arc<Front>,
    listings: Listings,
}

impl Answers {
    pub(super) fn new(front: Arc<Front>) -> Self {
        Self { front, listings: Listings::default() }
    }

    /// Answers with what is made in this one's turn; `Err`: what is wrong with the query.
    pub(super) async fn answer(
        &self,
        (ConnectInfo(from), _, headers): &Asked,
        kind: &'static str,
        make: impl FnOnce() -> Result<String, String>,
    ) -> Response {
        let client = client_address(*from, headers, &self.front.trusted_proxies).ip;
        let (turn, reading) = match self.listings.turn(&self.front, client).await {
            Ok(reading) => reading,
            Err(refusal) => return refusal,
        };
        let made = make();
        tokio::task::yield_now().await;
        drop(turn);
        let mut response = match made {
            Ok(text) => reading.answer(kind, text.into_bytes()),
            Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
