//! The HTTP server for a platform's health check: 200, plain text, to a GET of every path. To its own
//! machine it tells the stories of its sessions, too.

mod serving;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::header::{FORWARDED, HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::serving::{Bounds, serve};
use crate::story::{Stories, Story};
use crate::tls;
use crate::url::without_brackets;

/// Where the stories are told.
const WHY_PATH: &str = "/why";
/// Whoever asks for them waits so long.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A running health server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Health {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Health {
    pub(crate) async fn bind(address: SocketAddrV4, stories: Stories) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback_service(get(answer)).layer(Extension(stories));
        let task = tokio::spawn(serve(listener, router, Bounds::default()));
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    uri: Uri,
    headers: HeaderMap,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(stories): Extension<Stories>,
) -> Response {
    match uri.path() {
        // With whom the worker is linked, and at which addresses, is nobody else's business.
        WHY_PATH if from.ip().to_canonical().is_loopback() && is_own(&uri, &headers) => {
            Json(stories.all()).into_response()
        }
        "/health" => "OK".into_response(),
        _ => "OK: this holepunch worker is running\n".into_response(),
    }
}

/// Whether the request is of a program on this machine. A web page whose name was made to resolve to here (DNS
/// rebinding) comes from this machine, too, and so does what a reverse proxy passes on for somebody else: the first
/// has another host, and the second one says for whom.
fn is_own(uri: &Uri, headers: &HeaderMap) -> bool {
    let is_for_another = [FORWARDED.as_str(), "x-forwarded-for", "x-real-ip", ORIGIN.as_str()]
        .into_iter()
        .any(|name| headers.contains_key(name));
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST).map(|host| host.to_str().unwrap_or("?")),
    };
    let is_here = host.is_none_or(|host| {
        let url = Url::parse(&format!("http://{host}"));
        url.is_ok_and(|url| {
            let host = without_brackets(url.host_str().unwrap_or_default());
            let ip = host.parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
        })
    });
    is_here && !is_for_another
}

/// Asks a worker on this machine for its stories.
///
/// # Errors
/// In words: nothing listens there, or no worker does.
pub async fn ask_why(health_server: &Url) -> Result<Vec<Story>, String> {
    let mut url = health_server.clone();
    url.set_path(WHY_PATH);
    let asking = async {
        let client = reqwest::Client::builder()
            .timeout(ASK_TIMEOUT)
            .no_proxy()
            .tls_backend_preconfigured(
                (*tls::client_config().map_err(|it| it.to_string())?).clone(),
            )
            .build()
            .map_err(|error| error.to_string())?;
        let answer = client.get(url.clone()).send().await.map_err(|error| cause(&error))?;
        answer.text().await.map_err(|error| cause(&error))
    };
    let text = asking.await.map_err(|why| {
        format!(
            "no worker answers at {health_server} ({why}): the port is that of its health server, as in \
             http://127.0.0.1:8080"
        )
    })?;
    serde_json::from_str(&text).map_err(|_| {
        let start = holepunch_wire::text::start(text.trim(), 60);
        format!(
            "what answers at {health_server} is no health server of a holepunch worker, or that of one on \
             another machine (a worker tells its history to its own machine alone): expected a history of \
             links, came {}",
            if start.is_empty() { "nothing".to_owned() } else { format!("{start:?}") }
        )
    })
}

/// The innermost reason: what is around it names the URL again.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(error) = tls::of(error) {
        return tls::words(error, None);
    }
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own_of(headers: &[(&'static str, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), value.parse().unwrap())
        });
        is_own(&Uri::from_static(WHY_PATH), &headers.collect())
    }

    #[test]
    fn the_stories_are_no_web_page_s_and_no_proxy_s() {
        for own in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.0.2"] {
            assert!(is_own_of(&[("host", own)]), "{own}");
        }
        for other in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "192.0.2.1"] {
            assert!(!is_own_of(&[("host", other)]), "{other}");
        }
        for header in ["x-forwarded-for", "forwarded", "origin"] {
            assert!(!is_own_of(&[("host", "127.0.0.1"), (header, "x")]), "{header}");
        }
    }
}
