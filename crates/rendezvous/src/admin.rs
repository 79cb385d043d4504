//! Who may look at the server from inside: metrics, the API, and the listing where it is guarded as well.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, VIA, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::client_address::client_address;
use crate::forwarded;
use crate::front::Front;
use crate::http;
use crate::identity::{asked, host_name};
use crate::listening::{BindError, Bound, Listening, Settings};
use crate::origin;
use crate::refused::Refused;

/// A shorter token can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// A longer one does not fit into a header as all proxies take it.
const TOKEN_BYTES_MAX: usize = 1024;
/// The key under which tokens are compared; it says nothing that has to be kept from anybody.
const COMPARED_UNDER: &[u8] = b"holepunch admin token";

const SET_A_TOKEN: &str = "this is for clients of the server's own machine; for others, set a token (--admin-token, ADMIN_TOKEN), or \
                           an address of its own (--admin-listen, ADMIN_LISTEN)";
const OTHER_NAME: &str = "the Host of this request is neither an address, nor localhost, nor a name of this server (--public-host): \
                          another site's name may lead here. With a token (--admin-token), any name will do";
const NO_TOKEN: &str =
    "this needs the admin token: Authorization: Bearer TOKEN, or as the password of any name";

/// Where metrics and the API are served, and to whom.
#[derive(Debug, Clone, Default)]
pub struct AdminConfig {
    /// What whoever looks has to show; `None`: clients of this machine need nothing, and others see nothing.
    pub token: Option<AdminToken>,
    /// An address of their own; port 0 means any free one. Then they are served there alone, together with
    /// `/debug/list_workers`, and to everybody who reaches it where there is no token.
    pub listen: Option<SocketAddr>,
    /// A collector of OpenTelemetry that takes traces of sessions.
    #[cfg(feature = "otel")]
    pub otlp_endpoint: Option<crate::traces::OtlpEndpoint>,
}

/// The token of whoever looks after the server. It is not kept itself, and `Debug` shows nothing of it.
#[derive(Clone)]
pub struct AdminToken(hmac::Tag);

/// Why a text is no admin token. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters as the admin token"
)]
pub struct AdminTokenError;

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl AdminToken {
    /// Takes a text as the token.
    ///
    /// # Errors
    /// The text is too short or too long, or has something else than visible ASCII characters.
    pub fn new(text: &str) -> Result<Self, AdminTokenError> {
        let is_long = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len());
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let key = hmac::Key::new(hmac::HMAC_SHA256, COMPARED_UNDER);
        (is_long && is_visible)
            .then(|| Self(hmac::sign(&key, text.as_bytes())))
            .ok_or(AdminTokenError)
    }

    /// Whether this is the token, in the same time whatever it is.
    fn is(&self, text: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, COMPARED_UNDER);
        hmac::verify(&key, text, self.0.as_ref()).is_ok()
    }
}

/// Who is let through to what.
#[derive(Debug)]
struct Guard {
    front: Arc<Front>,
    token: Option<AdminToken>,
    /// What is guarded has an address of its own: whoever reaches it may look.
    has_own_address: bool,
}

/// Lets those through who may look.
async fn check(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match guard.refusal(from, request.headers()) {
        None => next.run(request).await,
        Some((why, text)) => guard.refuse(why, text),
    }
}

impl AdminConfig {
    /// Lets those alone to these paths, at this front, who may look.
    pub(crate) fn guarded(&self, front: Arc<Front>, paths: Router) -> Router {
        let (token, has_own_address) = (self.token.clone(), self.listen.is_some());
        let guard = Arc::new(Guard { front, token, has_own_address });
        paths.route_layer(from_fn_with_state(guard, check))
    }

    /// The socket for these, if they have one of their own.
    pub(crate) fn bind(&self, workers: &Front) -> Result<Option<Bound>, BindError> {
        let Some(listen) = self.listen else { return Ok(None) };
        let bound = Bound::bind(Settings {
            listen,
            trusted_proxies: workers.trusted_proxies.clone(),
            // Whoever looks comes there directly, also from the network of a proxy.
            proxy_protocol: false,
            public_hosts: workers.public_hosts.to_vec(),
            open_files_max: None,
            tls: None,
            websockets_max: 0,
        });
        match bound {
            Err(BindError::Http { address, source }) => Err(BindError::Admin { address, source }),
            bound => bound.map(Some),
        }
    }
}

/// Serves these paths at the socket of their own, if they have one; else they are what comes back, for that of the workers.
pub(crate) fn serve(own: Option<Bound>, paths: Router) -> (Router, Option<Listening>) {
    match own {
        None => (paths, None),
        Some(own) => (Router::new(), Some(own.serve(http::with_health(paths)))),
    }
}

/// Ends what is served there.
pub(crate) async fn close(own: Option<Listening>) {
    if let Some(own) = own {
        own.close(|| {}).await;
    }
}

impl Guard {
    fn refusal(&self, from: SocketAddr, headers: &HeaderMap) -> Option<(Refused, &'static str)> {
        if let Some(token) = &self.token {
            let is_shown = shown(headers).is_some_and(|shown| token.is(&shown));
            return (!is_shown).then_some((Refused::Token, NO_TOKEN));
        }
        if !self.has_own_address && !is_of_this_machine(&self.front, from, headers) {
            return Some((Refused::NotLocal, SET_A_TOKEN));
        }
        // A page of any site may have its own name lead to an address that its visitor reaches, and its author does not.
        let hosts = asked(headers, self.front.trusts(from));
        let is_own = |host: &String| is_nobodys_or_own(host, &self.front.public_hosts);
        if !hosts.iter().all(is_own) {
            return Some((Refused::NotLocal, OTHER_NAME));
        }
        let is_own_page = origin::is_own(headers, &hosts, &self.front.public_hosts);
        (!is_own_page).then_some((Refused::Origin, SET_A_TOKEN))
    }

    fn refuse(&self, why: Refused, text: &'static str) -> Response {
        self.front.refused.count(why);
        if self.front.refusals.allows_one() {
            tracing::warn!(reason_code = why.code(), "metrics, API or listing refused");
        }
        if why != Refused::Token {
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        let mut response = (StatusCode::UNAUTHORIZED, text).into_response();
        for scheme in ["Bearer realm=\"holepunch\"", "Basic realm=\"holepunch\""] {
            response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        response
    }
}

/// The token that a request shows: that of a bearer, or a password (RFC 6750 §2.1, RFC 7617 §2).
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(value).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Whether a client is on this machine, and not behind a proxy that is. A trusted one names its client: where it does not,
/// it may be anybody. One that is not trusted shows itself by what it adds to a request.
fn is_of_this_machine(front: &Front, from: SocketAddr, headers: &HeaderMap) -> bool {
    let client = client_address(from, headers, &front.trusted_proxies);
    let is_named = client.port.is_none();
    let is_proxied = if front.trusts(from) {
        !is_named
    } else {
        headers.contains_key(VIA) || forwarded::is_any(headers)
    };
    client.ip.is_loopback() && !is_proxied
}

/// Whether no other site has such a name.
fn is_nobodys_or_own(host: &str, own: &[String]) -> bool {
    host_name(host).is_some_and(|name| {
        name == "localhost" || name.parse::<IpAddr>().is_ok() || own.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_visible_and_nothing_shows_it() {
        for bad in ["", "short", "fifteen-letters", "has a space in it", "ünïcödé-ünïcödé"]
        {
            assert!(AdminToken::new(bad).is_err(), "{bad}");
        }
        assert!(AdminToken::new(&"x".repeat(TOKEN_BYTES_MAX + 1)).is_err());
        let token = AdminToken::new("0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "(hidden)");
    }

    #[test]
    fn a_token_is_shown_as_that_of_a_bearer_or_as_a_password() {
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            shown(&headers).map(|it| String::from_utf8(it).unwrap())
        };
        assert_eq!(shown("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(shown("bearer  abc ").as_deref(), Some("abc"));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(shown(&basic("me:a:b")).as_deref(), Some("a:b"));
        for none in ["abc", "Basic !", &basic("no colon"), "Digest abc"] {
            assert_eq!(shown(none), None, "{none}");
        }
    }
}
