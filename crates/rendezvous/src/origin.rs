//! Web pages that use their visitor's browser: it reaches rendezvous in private networks that the page's
//! author does not, and lets a page of any site open a WebSocket (RFC 6455 §10.2). It always tells whose page
//! it is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::front::Front;
use crate::identity::{asked, host_name};
use crate::log_budget::excerpt;
use crate::refused::Refused;

/// The default ports of `http` and `https`. A proxy in front may speak either, and a header that names no
/// port means that of the scheme it was written for.
const DEFAULT_PORTS: [u16; 2] = [80, 443];

const REFUSED: &str = "the Origin of this request is another site than this server: web pages of other sites may not \
                       open WebSockets here. A program had better send no Origin; where a proxy changes the Host \
                       header, or this server is known by a further name, name it (--public-host)";

/// Lets requests through that are of no web page, or of one of this server's own names.
pub(crate) async fn check(
    State(front): State<Arc<Front>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if is_own(headers, &asked(headers, front.trusts(from)), &front.public_hosts) {
        return next.run(request).await;
    }
    front.refused.count(Refused::Origin);
    if front.refusals.allows_one() {
        let written = |name| headers.get(name).map(|value| excerpt(value.as_bytes()));
        let (origin, host) = (written(ORIGIN), written(HOST));
        tracing::warn!(origin, host, "WebSocket refused: its Origin is another site");
    }
    (StatusCode::FORBIDDEN, REFUSED).into_response()
}

/// Whether every Origin is this server: one of its names, or what the request calls it, as many client libraries
/// send what they ask for as their origin. A server that knows its names is called by one of them or by an
/// address: any other name may be of a site that has it resolve to here (DNS rebinding).
pub(crate) fn is_own(headers: &HeaderMap, asked: &[String], public_hosts: &[String]) -> bool {
    let asked: Vec<Authority> = asked.iter().filter_map(|asked| Authority::of(asked)).collect();
    headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(authority_of_origin).and_then(Authority::of);
        origin.is_some_and(|origin| {
            public_hosts.contains(&origin.name)
                || (public_hosts.is_empty() || origin.is_nobodys_name())
                    && asked.iter().any(|asked| origin.is(asked))
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

    /// An address, or this machine: no site has such a name.
    fn is_nobodys_name(&self) -> bool {
        self.name == "localhost" || self.name.parse::<IpAddr>().is_ok()
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

    /// Whether a request passes where the server has these names.
    fn passes_at(names: &[&str], host: &str, origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        if !host.is_empty() {
            headers.insert(HOST, host.parse().unwrap());
        }
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        is_own(&headers, &asked(&headers, false), &names)
    }

    const NAMES: [&str; 2] = ["own.example", "2001:db8::1"];

    /// Whether it passes with names and without.
    fn passes(host: &str, origins: &[&str]) -> (bool, bool) {
        (passes_at(&NAMES, host, origins), passes_at(&[], host, origins))
    }

    #[test]
    fn a_program_that_names_what_it_asks_for_passes_and_one_that_names_nothing() {
        for (host, origin) in [
            ("192.0.2.1:8080", "http://192.0.2.1:8080"),
            ("[2001:db8::9]:8080", "http://[2001:DB8::9]:8080"),
            ("[2001:db8::9]", "http://[2001:db8::9]"),
            ("localhost:8080", "http://localhost:8080"),
            // A proxy that ends TLS, and a header that names its port where the other does not.
            ("own.example", "https://own.example:443"),
            ("own.example:443", "https://own.example"),
            ("own.example:80", "https://own.example"),
        ] {
            assert_eq!(passes(host, &[origin]), (true, true), "{host} {origin}");
        }
        assert_eq!([passes("rendezvous.example", &[]), passes("", &[])], [(true, true); 2]);
    }

    #[test]
    fn a_proxy_may_call_the_server_by_another_name() {
        for origin in ["https://own.example", "https://own.example:8443", "https://[2001:db8::1]"] {
            assert_eq!(passes("10.0.0.7:8080", &[origin]), (true, false), "{origin}");
        }
    }

    /// The page of a site whose name has come to mean this server (DNS rebinding) is of what it asks for.
    #[test]
    fn a_name_that_is_not_among_those_of_the_server_passes_only_where_it_has_none() {
        for (host, origin) in [
            ("rendezvous.example:8080", "http://rendezvous.example:8080"),
            ("rendezvous.example", "https://Rendezvous.Example"),
            ("rendezvous.example", "https://rendezvous.example:443"),
            ("rendezvous.example:443", "https://rendezvous.example"),
            ("10.evil.example:8080", "http://10.evil.example:8080"),
            ("localhost.evil.example", "http://localhost.evil.example"),
        ] {
            assert_eq!(passes(host, &[origin]), (false, true), "{host} {origin}");
        }
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
            assert_eq!(passes(host, &[origin]), (false, false), "{host} {origin}");
        }
        let both = ["http://10.0.0.7", "http://evil.example"];
        assert_eq!(passes("10.0.0.7", &both), (false, false), "each of them");
    }
}
