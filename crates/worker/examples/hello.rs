//! A worker in a program of one's own: two of these say hello to each other.
//!
//!     cargo run -p holepunch-worker --example hello -- http://127.0.0.1:8080 tea
//!
//! The arguments are the rendezvous and the name of a room. Start it twice, on any two machines.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use holepunch_worker::{Config, Worker};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rendezvous = arguments.next().ok_or("expected the URL of a rendezvous")?.parse()?;
    let room = arguments.next().ok_or("expected the name of a room")?.parse()?;

    let mut worker = Worker::start(Config { room, ..Config::new(rendezvous) }).await?;
    let mut links = worker.take_links().ok_or("the links have an owner")?;
    let link = links.next().await.ok_or("the worker has ended")?;
    let (mut send, recv) =
        if link.is_initiator() { link.open_bi().await? } else { link.accept_bi().await? };
    send.write_all(format!("hello from {}", worker.id()).as_bytes()).await?;
    send.finish()?;
    let mut said = String::new();
    recv.take(1000).read_to_string(&mut said).await?;
    println!("{said}, {}", link.path().kind);
    send.stopped().await?;
    worker.shutdown().await;
    Ok(())
}
