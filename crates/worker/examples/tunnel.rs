//! A TCP tunnel over a link: what connects to the near side is connected to an address of the far one.
//!
//!     cargo run -p holepunch-worker --example tunnel -- http://127.0.0.1:8080 far 127.0.0.1:22
//!     cargo run -p holepunch-worker --example tunnel -- http://127.0.0.1:8080 near ID 127.0.0.1:2222
//!
//! The first argument is the rendezvous; ID is what the first command prints. Whoever knows it reaches the address: a room
//! secret, or a look at `link.peer()`, keeps others out.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use holepunch_worker::{Link, RoomMode, Worker, WorkerId};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [rendezvous, "far", to] => {
            let worker = worker(rendezvous).await?;
            println!("{}", worker.id());
            loop {
                tokio::spawn(far(worker.accept().await?, to.to_owned()));
            }
        }
        [rendezvous, "near", peer, listen] => {
            let worker = worker(rendezvous).await?;
            let listener = TcpListener::bind(listen).await?;
            near(&worker.connect(&WorkerId::new(peer)?).await?, listener).await
        }
        _ => Err("expected RENDEZVOUS far ADDRESS, or RENDEZVOUS near ID ADDRESS".into()),
    }
}

async fn worker(rendezvous: &str) -> Result<Worker, Box<dyn Error>> {
    let worker = Worker::builder(rendezvous).room("tunnel").room_mode(RoomMode::Call);
    Ok(worker.protocols(["tunnel/1"]).start().await?)
}

/// A stream for each connection, until the link ends.
pub(crate) async fn near(link: &Link, listener: TcpListener) -> Result<(), Box<dyn Error>> {
    loop {
        tokio::select! {
            why = link.closed() => return Err(why.into()),
            accepted = listener.accept() => {
                let (mut connection, _) = accepted?;
                let mut stream = link.open_stream().await?;
                tokio::spawn(async move { copy_bidirectional(&mut connection, &mut stream).await });
            }
        }
    }
}

/// A connection for each stream, until the link ends.
pub(crate) async fn far(link: Link, to: String) {
    while let Ok(mut stream) = link.accept_stream().await {
        let to = to.clone();
        tokio::spawn(async move {
            let mut connection = TcpStream::connect(to).await?;
            copy_bidirectional(&mut connection, &mut stream).await
        });
    }
}
