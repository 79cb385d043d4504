//! A web service over links: `axum` serves every stream as if it were a TCP connection. Nothing listens on a port.
//!
//!     cargo run -p holepunch-worker --example axum -- http://127.0.0.1:8080 serve
//!     cargo run -p holepunch-worker --example axum -- http://127.0.0.1:8080 get ID /
//!
//! The first argument is the rendezvous; ID is what the first command prints.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::io;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::serve::{IncomingStream, Listener};
use holepunch_worker::{BiStream, Link, RoomMode, Worker, WorkerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Streams that wait to be served, and the longest answer that is read, in bytes.
const STREAMS_MAX: usize = 64;
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [rendezvous, "serve"] => {
            let worker = worker(rendezvous).await?;
            println!("{}", worker.id());
            serve(worker).await
        }
        [rendezvous, "get", peer, path] => {
            let worker = worker(rendezvous).await?;
            println!("{}", request(&worker, &WorkerId::new(peer)?, path).await?);
            worker.shutdown().await;
            Ok(())
        }
        _ => Err("expected RENDEZVOUS serve, or RENDEZVOUS get ID PATH".into()),
    }
}

async fn worker(rendezvous: &str) -> Result<Worker, Box<dyn Error>> {
    let worker = Worker::builder(rendezvous).room("web").room_mode(RoomMode::Call);
    Ok(worker.protocols(["http/1.1"]).start().await?)
}

/// Every stream of every link, as a connection.
struct Streams {
    own: WorkerId,
    incoming: mpsc::Receiver<(BiStream, WorkerId)>,
}

impl Listener for Streams {
    type Io = BiStream;
    type Addr = WorkerId;

    async fn accept(&mut self) -> (BiStream, WorkerId) {
        match self.incoming.recv().await {
            Some(stream) => stream,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<WorkerId> {
        Ok(self.own.clone())
    }
}

/// Who asks: the peer's id, which its key has proved.
#[derive(Clone)]
struct Peer(WorkerId);

impl axum::extract::connect_info::Connected<IncomingStream<'_, Streams>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Streams>) -> Self {
        Self(stream.remote_addr().clone())
    }
}

pub(crate) async fn serve(worker: Worker) -> Result<(), Box<dyn Error>> {
    let hello = async |ConnectInfo(Peer(peer)): ConnectInfo<Peer>| format!("hello, {peer}\n");
    let router = Router::new().route("/", get(hello));
    let (sender, incoming) = mpsc::channel(STREAMS_MAX);
    let streams = Streams { own: worker.id().clone(), incoming };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let serving = async { axum::serve(streams, service).await };
    let accepting = async {
        loop {
            tokio::spawn(forward(worker.accept().await?, sender.clone()));
        }
    };
    tokio::select! {
        served = serving => Ok(served?),
        accepted = accepting => accepted,
    }
}

async fn forward(link: Link, streams: mpsc::Sender<(BiStream, WorkerId)>) {
    while let Ok(stream) = link.accept_stream().await {
        if streams.send((stream, link.peer().clone())).await.is_err() {
            return;
        }
    }
}

/// What the service answers, with its head. A program of more than an example takes an HTTP library, and gives it the
/// stream.
pub(crate) async fn request(
    worker: &Worker,
    peer: &WorkerId,
    path: &str,
) -> Result<String, Box<dyn Error>> {
    let link = worker.connect(peer).await?;
    let mut stream = link.open_stream().await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    link.close("done");
    Ok(answer)
}
