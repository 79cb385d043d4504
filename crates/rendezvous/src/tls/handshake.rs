//! A connection becomes TLS before anything else is read of it, where the server speaks that.

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use rustls::ServerConnection;
use tokio::time::Instant;

use super::Tls;
use crate::connections::Place;
use crate::front::{Front, in_time};

/// The answer to a client that speaks HTTP where it should speak TLS.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
content-type: text/plain; charset=utf-8\r\n\
content-length: 66\r\n\
connection: close\r\n\r\n\
this port speaks TLS: ask for https:// or wss:// instead of http:\n";

/// Whether the client may be served: it has shaken hands within the time of its first request, or there is no TLS here.
pub(crate) async fn secured(front: &Front, place: &Place) -> bool {
    let Some(tls) = &front.tls else { return true };
    let first = in_time(place, poll_fn(|cx| place.stream.poll_first_byte(cx))).await;
    // One that has not said a word is a health check of a load balancer, most likely.
    let Some(Ok(Some(first))) = first else { return false };
    if first.is_ascii_uppercase() {
        place.stream.answer_in_plain(PLAIN);
        tls.0.plain_requests.fetch_add(1, Ordering::Relaxed);
        return false;
    }
    let is_secured = shaken_hands(tls, place).await;
    if !is_secured {
        tls.0.handshake_failures.fetch_add(1, Ordering::Relaxed);
    }
    is_secured
}

async fn shaken_hands(tls: &Tls, place: &Place) -> bool {
    match ServerConnection::new(tls.config()) {
        Ok(connection) => place.stream.begin_tls(connection),
        Err(error) => {
            tracing::debug!(%error, "no TLS connection can be made");
            return false;
        }
    }
    place.pace.handshake(Instant::now());
    match in_time(place, poll_fn(|cx| place.stream.poll_handshake(cx))).await {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            false
        }
        None => {
            tracing::debug!("TLS handshake cut off");
            false
        }
    }
}
