//! Flows of bytes over a line, and how much of them arrives.
//!
//! [`Flow`] is one that goes: a program over a link, or the kernel's TCP with the congestion control of one's choice. As
//! a program of its own, in a host, this is TCP's two sides:
//!
//! - `receive ADDRESS:PORT MILLISECONDS` takes one connection, counts what comes in that time from its start, and prints it.
//! - `send ADDRESS:PORT CONTROL` sends until nobody takes it any more.

mod arrivals;
mod running;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

pub use arrivals::Arrivals;
pub use running::{Flow, TcpFlow};

use crate::multicall;

/// First argument of the binary when it is to be a side of a flow.
pub(crate) const ENTRY: &str = "lab-flow";
/// What a receiver says once it listens, and when its connection is there.
pub(crate) const READY: &str = "flow is ready";
pub(crate) const ACCEPTED: &str = "flow has begun";
/// Bytes that are written and read at once.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// A receiver looks at the clock at least so often, also while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the command line of a side.
pub(crate) fn main(words: &[String]) -> ExitCode {
    multicall::end_with_the_lab();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words[..] {
        ["receive", address, millis] => match (address.parse(), millis.parse()) {
            (Ok(address), Ok(millis)) => receive(address, Duration::from_millis(millis)),
            _ => Err(ErrorKind::InvalidInput.into()),
        },
        ["send", address, control] => match address.parse() {
            Ok(address) => send(address, control),
            Err(_) => Err(ErrorKind::InvalidInput.into()),
        },
        _ => Err(ErrorKind::InvalidInput.into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the flow has failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn receive(address: SocketAddr, time: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    say(READY);
    let (mut stream, _) = listener.accept()?;
    let began = Instant::now();
    say(ACCEPTED);
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let mut arrivals = Arrivals::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    while began.elapsed() < time {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => arrivals.add(began.elapsed(), bytes),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &arrivals)?;
    writeln!(out)
}

fn send(address: SocketAddr, control: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_tcp_congestion(control.as_bytes())?;
    socket.connect(&address.into())?;
    let mut stream = std::net::TcpStream::from(socket);
    let chunk = vec![0xa5; CHUNK_BYTES];
    loop {
        match stream.write_all(&chunk) {
            Ok(()) => {}
            // The receiver has counted enough.
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

fn say(text: &str) {
    let _when_nobody_reads = writeln!(io::stderr(), "{text}");
}
