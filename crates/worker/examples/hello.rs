//! A worker in a program of one's own: two of these say hello to each other.
//!
//!     cargo run -p holepunch-worker --example hello -- http://127.0.0.1:8080 tea
//!
//! The arguments are the rendezvous and the name of a room. Start it twice, on any two machines.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use holepunch_worker::Worker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rendezvous = arguments.next().ok_or("expected the URL of a rendezvous")?;
    let room = arguments.next().ok_or("expected the name of a room")?;

    let worker = Worker::builder(&rendezvous).room(&room).start().await?;
    let link = worker.accept().await?;
    // The two sides differ in who has begun.
    let mut stream =
        if link.is_initiator() { link.open_stream().await? } else { link.accept_stream().await? };
    stream.write_all(format!("hello from {}", worker.id()).as_bytes()).await?;
    stream.shutdown().await?;
    let (mut send, recv) = stream.into_split();
    let mut said = String::new();
    recv.take(1000).read_to_string(&mut said).await?;
    println!("{said}, {}", link.path().kind);
    // What has not arrived when the worker ends is lost.
    send.stopped().await?;
    worker.shutdown().await;
    Ok(())
}
