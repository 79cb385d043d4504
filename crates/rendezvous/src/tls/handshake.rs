//! A connection becomes TLS before anything else is read of it, where the server speaks that.

use std::future::poll_fn;
use std::sync::PoisonError;
use std::time::Duration;

use holepunch_wire::address::Source;
use holepunch_wire::rate::Rate;
use holepunch_wire::shares::SourceRates;
use rustls::ServerConnection;
use tokio::time::Instant;

use super::Tls;
use super::counts::Handshake;
use crate::client_address::is_trusted;
use crate::connections::Place;
use crate::front::{Front, in_time};

/// Handshakes of one address in a second, and at once. What costs the server most of all that a stranger may ask of it is the
/// signature: with the rest of a handshake 0.5 ms of a core with a key of P-256, and 1.2 ms with one of RSA-2048. As many workers
/// as may be registered from one address may come at once, as after a restart; beyond that, an address has an eighth of a core at
/// most. Whoever is refused comes again, each worker later than before.
pub(super) const HANDSHAKES: Rate = Rate { count: 100, per: Duration::from_secs(1), burst: 10_000 };
/// Addresses whose use of that is known, and as many sites, some 100 bytes each.
const KNOWN_MAX: usize = 65_536;

/// The answer to a client that speaks HTTP where it should speak TLS.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
content-type: text/plain; charset=utf-8\r\n\
content-length: 66\r\n\
connection: close\r\n\r\n\
this port speaks TLS: ask for https:// or wss:// instead of http:\n";

/// What everybody has left.
pub(super) fn rates() -> SourceRates {
    SourceRates::new(HANDSHAKES, KNOWN_MAX)
}

/// Whether the client may be served: it has shaken hands within the time of its first request, or there is no TLS here.
pub(crate) async fn secured(front: &Front, place: &Place) -> bool {
    let Some(tls) = &front.tls else { return true };
    let first = in_time(place, poll_fn(|cx| place.stream.poll_first_byte(cx))).await;
    // One that has not said a word is a health check of a load balancer, most likely.
    let Some(Ok(Some(first))) = first else { return false };
    let outcome = if first.is_ascii_uppercase() {
        place.stream.answer_in_plain(PLAIN);
        Handshake::Plain
    } else if !may_shake_hands(tls, front, place) {
        Handshake::Refused
    } else if shaken_hands(tls, place).await {
        Handshake::Done
    } else {
        Handshake::Failed
    };
    tls.figures().handshake(outcome);
    matches!(outcome, Handshake::Done)
}

/// Whether the client's address has not shaken hands too often. That is asked before anything of its handshake is read: whether a
/// ticket saves the signature is known after most of the other work.
fn may_shake_hands(tls: &Tls, front: &Front, place: &Place) -> bool {
    // A trusted proxy that does not say for whom it speaks speaks for thousands, and keeps them from each other by itself.
    let source = place.source().and_then(|it| Source::of(it.address()));
    let source = source.filter(|it| !is_trusted(it.address(), &front.trusted_proxies));
    let mut rates = tls.0.rates.lock().unwrap_or_else(PoisonError::into_inner);
    let may = rates.take(source, Instant::now().into_std(), || true);
    drop(rates);
    if !may && front.refusals.allows_one() {
        let from = source.map(Source::address).map(tracing::field::display);
        tracing::warn!(from, "TLS handshakes refused: too many from one address");
    }
    may
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
