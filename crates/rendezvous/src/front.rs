//! Connections are taken, and served as HTTP until they end or are WebSockets.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client_address::is_trusted;
use crate::connections::{Connections, Place};
use crate::forwarded;
use crate::log_budget::{ACCEPT_FAILURES, LogBudget};
use crate::pace::Due;
use crate::proxy_protocol;
use crate::refused::{Refusals, Refused};
use crate::tls::{self, Tls};

/// Most bytes of a request's line and headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// After an accept that failed (no file descriptors left, most likely) before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What has to be known of every client of a server, whatever it serves.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Whether their connections begin with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// This server's names; none: whatever a client calls it.
    pub(crate) public_hosts: Arc<[String]>,
    /// For lines about requests that are refused.
    pub(crate) refusals: LogBudget,
    pub(crate) refused: Refusals,
    pub(crate) connections: Arc<Connections>,
    /// What the server speaks TLS with, if it does.
    pub(crate) tls: Option<Tls>,
    /// Held by every WebSocket; the server waits for all to be dropped when it ends.
    pub(crate) alive: mpsc::WeakSender<()>,
}

impl Front {
    /// Whether what this connection forwards is believed.
    pub(crate) fn trusts(&self, connection: SocketAddr) -> bool {
        is_trusted(connection.ip(), &self.trusted_proxies)
    }

    /// The answer where descriptors would run out. What is left of them is for health checks and for those who look after
    /// the server.
    pub(crate) fn no_more_websockets(&self) -> Response {
        self.refused.count(Refused::OpenFiles);
        if self.refusals.allows_one() {
            tracing::warn!(
                "WebSocket refused: the limit of open files is reached (LimitNOFILE, ulimit -n)"
            );
        }
        let why = "this server has as many connections as its system lets it have; try again later";
        (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
    }
}

/// Accepts connections until the server stops; then it returns when those that are being answered have ended. When it is
/// dropped, all end that are no WebSockets.
pub(crate) async fn accept(listener: TcpListener, front: Arc<Front>, router: Router) {
    let failures = LogBudget::new(ACCEPT_FAILURES);
    let mut tasks = JoinSet::new();
    let accepting = async {
        loop {
            while tasks.try_join_next().is_some() {}
            let permit = front.connections.free_place().await;
            match listener.accept().await {
                Ok((stream, from)) => {
                    // Acks and offers are small and urgent.
                    let _best_effort = stream.set_nodelay(true);
                    let place = front.connections.enter(permit, stream, from.ip());
                    let (front, router) = (Arc::clone(&front), router.clone());
                    tasks.spawn(async move {
                        let Some((place, client)) = introduced(&front, place, from).await else {
                            return;
                        };
                        // What a handshake needs is needed no more behind it.
                        if Box::pin(tls::secured(&front, &place)).await {
                            serve(Arc::new(place), client, router).await;
                        }
                    });
                }
                Err(error) => {
                    if failures.allows_one() {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    // What has taken the descriptors is not known, but this gives one back.
                    if is_out_of_files(&error) {
                        front.connections.end_one();
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = front.connections.stopped() => {}
    }
    drop(listener);
    // One may have come since the others were told.
    front.connections.stop();
    while tasks.join_next().await.is_some() {}
}

/// Whether an accept has failed for want of descriptors, and not with the one connection that it was to take.
fn is_out_of_files(error: &io::Error) -> bool {
    #[cfg(unix)]
    let codes =
        [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    #[cfg(not(unix))]
    let codes: [i32; 0] = [];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Who talks HTTP on a connection.
#[derive(Debug, Clone, Copy)]
struct Client {
    address: SocketAddr,
    /// Whether it may be a proxy that says in headers for whom it speaks.
    may_forward: bool,
}

/// What `work` comes to before the connection is due to end.
pub(crate) async fn in_time<T>(place: &Place, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut timer) = (pin!(work), pin!(tokio::time::sleep(Duration::ZERO)));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        timer.as_mut().reset(place.pace.due(cx).0);
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Who the client is: a trusted proxy may say so before anything else. `None` where it has to, and does not in time.
async fn introduced(front: &Front, mut place: Place, from: SocketAddr) -> Option<(Place, Client)> {
    if !front.proxy_protocol || !front.trusts(from) {
        return Some((place, Client { address: from, may_forward: true }));
    }
    let mut io = place.io();
    // It has the time of the first request, which follows it.
    match in_time(&place, proxy_protocol::read(&mut io)).await {
        Some(Ok(named)) => {
            let address = named.unwrap_or(from);
            place.is_of(address.ip());
            // The address is the proxy's where it names nobody, and the headers are those of whom it does not name.
            Some((place, Client { address, may_forward: named.is_some() }))
        }
        Some(Err(error)) => {
            front.refused.count(Refused::Proxy);
            if front.refusals.allows_one() {
                tracing::warn!(proxy = %from, %error, "connection of a trusted proxy refused (--proxy-protocol)");
            }
            None
        }
        None => {
            front.refused.count(Refused::Proxy);
            None
        }
    }
}

async fn serve(place: Arc<Place>, client: Client, router: Router) {
    let from = client.address;
    let (io, inner) = (TokioIo::new(place.io()), TowerToHyperService::new(router));
    let service = service_fn(|mut request: Request<Incoming>| {
        place.request();
        if !client.may_forward {
            forwarded::forget(request.headers_mut());
        }
        request.extensions_mut().insert(ConnectInfo(from));
        request.extensions_mut().insert(Arc::clone(&place));
        let answer = inner.call(request);
        let place = &place;
        async move {
            // One request in a turn: a client that asks for a hundred at once has them answered between those of others.
            tokio::task::yield_now().await;
            let answer = answer.await;
            place.pace.answered();
            let mut answer = answer?;
            if place.pace.is_stopped() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // It would count the time between two requests as well.
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(io, service)
        .with_upgrades();
    let (mut connection, mut timer) = (pin!(connection), pin!(tokio::time::sleep(Duration::ZERO)));
    let mut is_ending = false;
    // An upgrade ends this future; a WebSocket lives as long as its session.
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            let (at, due) = place.pace.due(cx);
            timer.as_mut().reset(at);
            ready!(timer.as_mut().poll(cx));
            if due == Due::Politely && place.has_unread() {
                // A request has come that the runtime has not told of yet: it is answered.
                return Poll::Pending;
            }
            if is_ending || due == Due::Cut {
                return Poll::Ready(None);
            }
            is_ending = true;
            connection.as_mut().graceful_shutdown();
        }
    });
    match ended.await {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%from, %error, "HTTP connection ended"),
        None => {
            place.cut();
            tracing::debug!(%from, "HTTP connection cut off");
        }
    }
}
