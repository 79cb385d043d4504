//! The time of small frames there and back, one after the other.

use std::net::Ipv4Addr;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::super::stats::Sample;
use super::link::Socket;

/// Round trips that are measured, and those before them that are not.
const ROUND_TRIPS: usize = 5000;
const WARM_UP: usize = 200;
/// A small datagram, an acknowledgement.
const BYTES: usize = 64;

/// Through the relay, from the first worker to the second and back.
pub(super) async fn relayed([first, second]: &mut [Socket; 2]) -> Result<Sample, String> {
    let mut sample = Sample::default();
    let ask = async {
        for number in 0..WARM_UP + ROUND_TRIPS {
            let asked = Instant::now();
            send(first, Bytes::from_static(&[7; BYTES])).await?;
            receive(first).await?;
            if number >= WARM_UP {
                sample.add(asked.elapsed());
            }
        }
        Ok::<_, String>(())
    };
    tokio::select! {
        done = ask => done?,
        failed = echo(second) => failed?,
    }
    Ok(sample)
}

/// Over one TCP connection on loopback, with nothing in between.
pub(super) async fn direct() -> Result<Sample, String> {
    let text = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(text)?;
    let mut first = TcpStream::connect(listener.local_addr().map_err(text)?).await.map_err(text)?;
    let (mut second, _) = listener.accept().await.map_err(text)?;
    for stream in [&first, &second] {
        stream.set_nodelay(true).map_err(text)?;
    }
    let mut sample = Sample::default();
    let ask = async {
        let mut bytes = [7; BYTES];
        for number in 0..WARM_UP + ROUND_TRIPS {
            let asked = Instant::now();
            first.write_all(&bytes).await?;
            first.read_exact(&mut bytes).await?;
            if number >= WARM_UP {
                sample.add(asked.elapsed());
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let done = tokio::select! {
        done = ask => done,
        failed = echo_bytes(&mut second) => failed,
    };
    done.map_err(text)?;
    Ok(sample)
}

/// Sends back whatever comes.
pub(super) async fn echo(socket: &mut Socket) -> Result<(), String> {
    loop {
        let frame = receive(socket).await?;
        send(socket, frame).await?;
    }
}

async fn echo_bytes(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; BYTES];
    loop {
        stream.read_exact(&mut bytes).await?;
        stream.write_all(&bytes).await?;
    }
}

pub(super) async fn send(socket: &mut Socket, bytes: Bytes) -> Result<(), String> {
    socket.send(Message::Binary(bytes)).await.map_err(|error| error.to_string())
}

pub(super) async fn receive(socket: &mut Socket) -> Result<Bytes, String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(other)) => return Err(format!("expected a frame, got {other}")),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the relay ended".to_owned()),
        }
    }
}
