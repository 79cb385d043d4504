//! Serves HTTP to whoever connects, within bounds: what stands on a public port is found by those who open connections and
//! say nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Most bytes of a request's line and headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// After an accept that failed (no file descriptors left, most likely), the time before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at once; for one more, the oldest gives way.
    pub(super) connections_max: usize,
    /// Time for the request, and for its answer to be taken: it is the only one of its connection.
    pub(super) within: Duration,
}

impl Default for Bounds {
    /// Far more connections than a platform's health checks have, and longer than any of them waits.
    fn default() -> Self {
        Self { connections_max: 64, within: Duration::from_secs(10) }
    }
}

/// Until it is dropped, with all connections.
pub(super) async fn serve(listener: TcpListener, router: Router, bounds: Bounds) {
    let mut tasks = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                while tasks.try_join_next().is_some() {}
                by_age.retain(|connection| !connection.is_finished());
                if by_age.len() >= bounds.connections_max
                    && let Some(oldest) = by_age.pop_front()
                {
                    oldest.abort();
                }
                let router = router.clone();
                by_age.push_back(tasks.spawn(async move {
                    if timeout(bounds.within, connection(stream, from, router)).await.is_err() {
                        tracing::debug!(%from, "a client of the health server was too slow");
                    }
                }));
            }
            Err(error) => {
                tracing::debug!(%error, "the health server cannot take a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, router: Router) {
    let inner = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        inner.call(request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        // The time of the whole connection is bounded.
        .header_read_timeout(None)
        // One that is kept might be cut while the next request is under way: a check that fails for nothing.
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%from, %error, "a connection of the health server has ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(40);

    async fn started(bounds: Bounds) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback_service(get(|| async { "OK" }));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, router, bounds));
        (address, server)
    }

    async fn connected(address: SocketAddr, said: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        stream
    }

    /// What comes until the connection ends.
    async fn heard(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        let reading = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
        let _or_reset = reading.expect("an end of the connection");
        String::from_utf8(text).unwrap()
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

    #[tokio::test]
    async fn who_is_silent_or_slow_is_dropped() {
        let bounds = Bounds { within: Duration::from_millis(200), ..Bounds::default() };
        let (address, _server) = started(bounds).await;
        for said in ["", "GET / HTTP/1.1\r\nHost:"] {
            assert_eq!(heard(connected(address, said).await).await, "");
        }
        assert!(heard(connected(address, REQUEST).await).await.ends_with("OK"));
    }

    #[tokio::test]
    async fn who_came_first_gives_way_when_all_places_are_taken() {
        let bounds = Bounds { connections_max: 3, within: 2 * PATIENCE };
        let (address, _server) = started(bounds).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(connected(address, "").await);
        }
        assert!(heard(connected(address, REQUEST).await).await.ends_with("OK"));
        assert_eq!(heard(silent.remove(0)).await, "");
        let mut byte = [0];
        for kept in &mut silent {
            let read = kept.try_read(&mut byte).map_err(|error| error.kind());
            assert_eq!(read, Err(std::io::ErrorKind::WouldBlock), "it is kept");
        }
    }
}
