//! The prober: plain UDP sockets that show what a NAT does. It knows nothing of STUN or of probes.
//!
//! - `reflect ADDRESS…` binds each address and answers everything with itself and the source that it
//!   sees, and `from ADDRESS` by a packet that leaves from that one of its addresses.
//! - `ask PORT ADDRESS… -- ADDRESS…` asks, from one local port, each of the first addresses what it
//!   sees, and then the first of them to have each of the last addresses knock.
//! - `poke FROM TO` sends unsolicited packets and looks whether they are refused.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::multicall;

/// First argument of the binary when it is to be the prober.
pub(crate) const ENTRY: &str = "lab-prober";
/// What the reflector says once all its sockets are bound.
pub(crate) const READY: &str = "reflector is ready";

/// A question is repeated so often, each time waiting so long for the answer.
const TRIES: u32 = 10;
const TRY_WAIT: Duration = Duration::from_millis(500);
/// Unsolicited packets, and the wait after each. Without delay in the network an answer takes well
/// below a millisecond; a machine that is busy may take longer.
const POKES: u32 = 2;
const QUIET: Duration = Duration::from_millis(200);
/// Longest datagram that is read.
const BYTES_MAX: usize = 256;

/// Runs the prober's command line.
pub(crate) fn main(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["reflect", addresses @ ..] => reflect(addresses),
        ["ask", port, addresses @ ..] => ask(port, addresses),
        ["poke", from, to] => poke(from, to),
        _ => Err(invalid("unknown command")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(io::stderr(), error);
            ExitCode::FAILURE
        }
    }
}

fn reflect(addresses: &[&str]) -> io::Result<()> {
    multicall::end_with_the_lab();
    let bind = |address: &&str| UdpSocket::bind(parse(address)?);
    let sockets: Vec<UdpSocket> = addresses.iter().map(bind).collect::<io::Result<_>>()?;
    let sockets = Arc::new(sockets);
    for index in 1..sockets.len() {
        let sockets = Arc::clone(&sockets);
        thread::spawn(move || reflect_at(&sockets, index));
    }
    say(io::stderr(), READY);
    reflect_at(&sockets, 0)
}

fn reflect_at(sockets: &[UdpSocket], index: usize) -> io::Result<()> {
    let own = &sockets[index];
    loop {
        let Ok((text, source)) = receive(own) else { continue };
        let via = match text.strip_prefix("from ") {
            None => own,
            Some(address) => {
                let address: SocketAddr = parse(address)?.into();
                let other = sockets.iter().find(|other| other.local_addr().ok() == Some(address));
                other.ok_or_else(|| invalid("no socket at that address"))?
            }
        };
        via.send_to(format!("{text} {source}").as_bytes(), source)?;
    }
}

/// Prints `mapped DESTINATION SOURCE` for each destination, then `in` or `out` and the address for
/// each knock.
fn ask(port: &str, addresses: &[&str]) -> io::Result<()> {
    let port = port.parse().map_err(|_| invalid("not a port"))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    let mut halves = addresses.split(|word| *word == "--");
    let (destinations, knocks) =
        (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    for destination in destinations {
        let mapped = question(&socket, parse(destination)?)?;
        say(io::stdout(), format_args!("mapped {destination} {mapped}"));
    }
    let Some(first) = destinations.first() else { return Ok(()) };
    for knock in knocks {
        let gets_in = knocked(&socket, parse(first)?, parse(knock)?)?;
        say(io::stdout(), format_args!("{} {knock}", if gets_in { "in" } else { "out" }));
    }
    Ok(())
}

/// What `destination` sees this socket as.
fn question(socket: &UdpSocket, destination: SocketAddrV4) -> io::Result<SocketAddrV4> {
    socket.set_read_timeout(Some(TRY_WAIT))?;
    for _ in 0..TRIES {
        socket.send_to(b"seen", destination)?;
        // An answer to another question that came late is not this one's.
        if let Ok((text, source)) = receive(socket)
            && source == destination.into()
            && let Some(seen) = text.strip_prefix("seen ")
        {
            return parse(seen);
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, format!("{destination} does not answer")))
}

/// Whether a packet from `knock`, sent at the request of this socket to `via`, arrives.
///
/// A question follows the request. Its answer leaves after the knock, so silence means something once
/// the answer is there.
fn knocked(socket: &UdpSocket, via: SocketAddrV4, knock: SocketAddrV4) -> io::Result<bool> {
    let after = format!("after {knock}");
    let mut answered = false;
    for _ in 0..TRIES {
        socket.send_to(format!("from {knock}").as_bytes(), via)?;
        socket.send_to(after.as_bytes(), via)?;
        let mut until = Instant::now() + TRY_WAIT;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())
        {
            socket.set_read_timeout(Some(left))?;
            match receive(socket) {
                Ok((_, source)) if source == knock.into() => return Ok(true),
                Ok((text, _)) if text.starts_with(&after) && !answered => {
                    answered = true;
                    until = Instant::now() + QUIET;
                }
                Ok(_) | Err(_) => {}
            }
        }
        if answered {
            return Ok(false);
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, format!("{via} does not answer")))
}

/// Prints `refused` or `silent`.
fn poke(from: &str, to: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(parse(from)?)?;
    socket.connect(parse(to)?)?;
    socket.set_read_timeout(Some(QUIET))?;
    let mut answer = "silent";
    for _ in 0..POKES {
        let sent = socket.send(b"poke").map(drop);
        let heard = sent.and_then(|()| receive(&socket).map(drop));
        if heard.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            answer = "refused";
            break;
        }
    }
    say(io::stdout(), answer);
    Ok(())
}

fn receive(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    let mut buffer = [0; BYTES_MAX];
    let (length, source) = socket.recv_from(&mut buffer)?;
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), source))
}

fn parse(address: &str) -> io::Result<SocketAddrV4> {
    address.parse().map_err(|_| invalid("not an IPv4 address and port"))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why)
}

fn say(mut to: impl Write, text: impl Display) {
    let _when_nobody_reads = writeln!(to, "{text}");
}
