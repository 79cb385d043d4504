//! What a request must be like before anything looks at it, as far as the libraries that read it do not ask for it.

use axum::extract::Request;
use axum::http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The one version of the protocol (RFC 6455 §4.1).
const WEBSOCKET_VERSION: &str = "13";
/// Digits of 16 bytes in base64, and their padding (RFC 4648 §4).
const KEY_DIGITS: usize = 22;
const KEY_PADDING: &str = "==";

/// Refuses a request of HTTP/1.1 that does not name one host (RFC 9112 §3.2): what is behind a proxy must not understand
/// another host than the proxy did.
pub(crate) async fn has_host(request: Request, next: Next) -> Response {
    if names_one_host(request.version(), request.headers()) {
        return next.run(request).await;
    }
    let why = "a request of HTTP/1.1 names one host, in one Host header (RFC 9112 §3.2)";
    (StatusCode::BAD_REQUEST, [(CONNECTION, "close")], why).into_response()
}

fn names_one_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => is_host(host),
        (Some(_), Some(_)) => false,
    }
}

/// A host and a port, or nothing, as where a target has no host.
fn is_host(host: &HeaderValue) -> bool {
    let is_host = |text: &str| !text.contains('@') && text.parse::<Authority>().is_ok();
    host.to_str().is_ok_and(|text| text.is_empty() || is_host(text))
}

/// Refuses a WebSocket handshake of another version, and says which one is spoken here (RFC 6455 §4.4), and one whose
/// key is none (§4.2.1).
pub(crate) async fn is_handshake(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |value: Option<&HeaderValue>| Some(value?.to_str().ok()?.trim().to_owned());
    let is_upgrade =
        text(headers.get(UPGRADE)).is_some_and(|it| it.eq_ignore_ascii_case("websocket"));
    if !is_upgrade {
        return next.run(request).await;
    }
    if text(headers.get(SEC_WEBSOCKET_VERSION)).as_deref() != Some(WEBSOCKET_VERSION) {
        let spoken = [
            (SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION),
            (UPGRADE, "websocket"),
            (CONNECTION, "upgrade"),
        ];
        let why = "the version of WebSocket spoken here is 13 (RFC 6455)";
        return (StatusCode::UPGRADE_REQUIRED, spoken, why).into_response();
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (text(keys.next()), keys.next()) {
        (Some(key), None) if is_key(&key) => next.run(request).await,
        _ => {
            let why = "a WebSocket handshake has one Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455 §4.1)";
            (StatusCode::BAD_REQUEST, why).into_response()
        }
    }
}

fn is_key(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(KEY_PADDING)
        .is_some_and(|digits| digits.len() == KEY_DIGITS && digits.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ==") && is_key("+/+/AAAAAAAAAAAAAAAAAA=="));
        for no_key in
            ["", "==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZ-=="]
        {
            assert!(!is_key(no_key), "{no_key}");
        }
    }
}
