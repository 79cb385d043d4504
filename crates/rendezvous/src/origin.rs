//! Web pages that use their visitor's browser: it reaches rendezvous in private networks that the page's
//! author does not, and lets a page of any site open a WebSocket (RFC 6455 §10.2). It always tells whose page
//! it is.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::identity::host_name;

/// The default ports of `http` and `https`. A proxy in front may speak either, and a header that names no
/// port means that of the scheme it was written for.
const DEFAULT_PORTS: [u16; 2] = [80, 443];

const REFUSED: &str = "the Origin of this request is another site than this server: web pages of other sites may not \
                       open WebSockets here. A program had better send no Origin; where a proxy changes the Host \
                       header, name this server (--public-host)";

/// Lets requests through that are of no web page, or of one of this server's own names.
pub(crate) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if is_own(headers, &app.public_hosts) {
        return next.run(request).await;
    }
    if app.hub.may_warn() {
        let (origin, host) = (headers.get(ORIGIN), headers.get(HOST));
        tracing::warn!(?origin, ?host, "WebSocket refused: its Origin is another site");
    }
    (StatusCode::FORBIDDEN, REFUSED).into_response()
}

/// Whether every Origin is this server: what the request calls it, or one of its names. Many client libraries
/// send what they ask for as their origin.
fn is_own(headers: &HeaderMap, public_hosts: &[String]) -> bool {
    let asked = headers.get(HOST).and_then(|host| Authority::of(host.to_str().ok()?));
    headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(authority_of_origin).and_then(Authority::of);
        origin.is_some_and(|origin| {
            asked.as_ref().is_some_and(|asked| origin.is(asked))
                || public_hosts.contains(&origin.name)
        })
    })
}

/// What follows the scheme of an origin (RFC 6454 §6.2); `null` has none.
fn authority_of_origin(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

/// A host and a port, where it names one.
#[derive(Debug)]
struct Authority {
    name: String,
    port: Option<u16>,
}

impl Authority {
    fn of(text: &str) -> Option<Self> {
        let name = host_name(text)?;
        let is_name_alone = !text.starts_with('[') && text.matches(':').count() > 1;
        let (_, port) = text.rsplit_once(':').filter(|_| !is_name_alone).unwrap_or_default();
        let has_port = !port.is_empty() && !port.ends_with(']');
        let port = if has_port { Some(port.parse().ok()?) } else { None };
        Some(Self { name, port })
    }

    fn is(&self, other: &Self) -> bool {
        let is_same_port = match (self.port, other.port) {
            (Some(own), Some(others)) => own == others,
            (Some(port), None) | (None, Some(port)) => DEFAULT_PORTS.contains(&port),
            (None, None) => true,
        };
        self.name == other.name && is_same_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(host: &str, origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        if !host.is_empty() {
            headers.insert(HOST, host.parse().unwrap());
        }
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        is_own(&headers, &["own.example".to_owned(), "2001:db8::1".to_owned()])
    }

    #[test]
    fn a_program_that_names_what_it_asks_for_passes_and_one_that_names_nothing() {
        for (host, origin) in [
            ("rendezvous.example:8080", "http://rendezvous.example:8080"),
            ("rendezvous.example", "https://Rendezvous.Example"),
            ("192.0.2.1:8080", "http://192.0.2.1:8080"),
            ("[2001:db8::9]:8080", "http://[2001:DB8::9]:8080"),
            ("[2001:db8::9]", "http://[2001:db8::9]"),
            // A proxy that ends TLS, and a header that names its port where the other does not.
            ("rendezvous.example", "https://rendezvous.example:443"),
            ("rendezvous.example:443", "https://rendezvous.example"),
            ("rendezvous.example:80", "https://rendezvous.example"),
            // A proxy that calls this server by another name.
            ("10.0.0.7:8080", "https://own.example"),
            ("10.0.0.7:8080", "https://own.example:8443"),
            ("10.0.0.7:8080", "https://[2001:db8::1]"),
        ] {
            assert!(passes(host, &[origin]), "{host} {origin}");
        }
        assert!(passes("rendezvous.example", &[]) && passes("", &[]));
    }

    #[test]
    fn a_page_of_another_site_does_not() {
        for (host, origin) in [
            ("10.0.0.7:8080", "https://evil.example"),
            ("10.0.0.7:8080", "null"),
            ("10.0.0.7:8080", ""),
            ("10.0.0.7:8080", "10.0.0.7:8080"),
            ("10.0.0.7:8080", "http://10.0.0.7:9090"),
            ("10.0.0.7:8080", "http://10.0.0.7"),
            ("10.0.0.7", "http://10.0.0.7:9090"),
            ("10.0.0.7:8080", "http://10.0.0.7:x"),
            ("10.0.0.7:8080", "http://10.0.0.7:8080.evil.example"),
            ("10.0.0.7:8080", "http://10.0.0.7:8080@evil.example"),
            ("rendezvous.example", "https://own.example.evil.example"),
            ("", "https://evil.example"),
            ("", "http://"),
            ("[2001:db8::9]:8080", "http://[2001:db8::8]:8080"),
            ("null", "null"),
        ] {
            assert!(!passes(host, &[origin]), "{host} {origin}");
        }
        assert!(!passes("a.example", &["http://a.example", "http://evil.example"]), "each of them");
    }
}
