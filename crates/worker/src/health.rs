//! The HTTP server for a platform's health check: 200, plain text, to a GET of every path.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running health server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Health {
    pub(crate) async fn bind(address: SocketAddrV4) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback_service(get(answer));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "health server has ended");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(uri: Uri) -> &'static str {
    if uri.path() == "/health" { "OK" } else { "OK: this holepunch worker is running\n" }
}
