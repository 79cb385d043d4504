//! An echo over a link: one side answers, and the other one asks it by its id.
//!
//!     cargo run -p holepunch-worker --example echo -- http://127.0.0.1:8080 serve
//!     cargo run -p holepunch-worker --example echo -- http://127.0.0.1:8080 ask ID hello
//!
//! The first argument is the rendezvous; ID is what the first command prints.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use holepunch_worker::{Link, RoomMode, Worker, WorkerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

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
        [rendezvous, "ask", peer, text] => {
            let worker = worker(rendezvous).await?;
            println!("{}", ask(&worker, &WorkerId::new(peer)?, text).await?);
            worker.shutdown().await;
            Ok(())
        }
        _ => Err("expected RENDEZVOUS serve, or RENDEZVOUS ask ID TEXT".into()),
    }
}

/// A worker in a room in which nobody meets anybody but by a call.
async fn worker(rendezvous: &str) -> Result<Worker, Box<dyn Error>> {
    let worker = Worker::builder(rendezvous).room("echo").room_mode(RoomMode::Call);
    Ok(worker.protocols(["echo/1"]).start().await?)
}

pub(crate) async fn serve(worker: Worker) -> Result<(), Box<dyn Error>> {
    loop {
        tokio::spawn(answer(worker.accept().await?));
    }
}

/// Answers every stream of a link.
async fn answer(link: Link) {
    while let Ok(stream) = link.accept_stream().await {
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(stream);
            tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await
        });
    }
}

pub(crate) async fn ask(
    worker: &Worker,
    peer: &WorkerId,
    text: &str,
) -> Result<String, Box<dyn Error>> {
    let link = worker.connect(peer).await?;
    let mut stream = link.open_stream().await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    link.close("done");
    Ok(answer)
}
