//! The prober: plain UDP sockets that show what a NAT and a line do. It knows nothing of STUN or of
//! probes, and nothing of the simulator.
//!
//! - `reflect` answers at many addresses with the source that it sees, or from another address.
//! - `ask` prints, from behind a NAT, what is seen of it (see [`ask`]).
//! - `knock FROM TO` sends unsolicited packets.
//! - `poke FROM TO` sends unsolicited packets and looks whether they are refused.

mod ask;
pub(crate) mod places;
mod reflect;
mod ticks;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use reflect::READY;
pub(crate) use ticks::Measured;

/// First argument of the binary when it is to be the prober.
pub(crate) const ENTRY: &str = "lab-prober";

/// A question is repeated so often, each time waiting so long for the answer. Lines take up to 100 ms
/// for a round trip, and a machine that is busy may take its time, too.
const TRIES: u32 = 10;
const TRY_WAIT: Duration = Duration::from_millis(250);
/// How long is listened for what should not come. Without a line an answer takes well below a
/// millisecond.
const QUIET: Duration = Duration::from_millis(200);
/// How often a packet is sent whose arrival tells something, but not its absence: with a tenth of the
/// packets lost in each direction, all of them are lost once in a million times.
const COPIES: usize = 8;
/// Longest datagram that is read.
const BYTES_MAX: usize = 256;

/// Runs the prober's command line.
pub(crate) fn main(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["reflect"] => reflect::reflect(),
        ["ask"] => ask::ask(),
        ["knock", from, to] => knock(from, to),
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

fn knock(from: &str, to: &str) -> io::Result<()> {
    let (socket, to) = (UdpSocket::bind(parse(from)?)?, parse(to)?);
    (0..COPIES).try_for_each(|_| socket.send_to(b"knock", to).map(drop))
}

/// Prints `refused` or `silent`.
fn poke(from: &str, to: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(parse(from)?)?;
    socket.connect(parse(to)?)?;
    let refused = (0..COPIES).any(|_| is_refused(socket.send(b"poke")))
        || is_refused(until(Instant::now() + QUIET, &socket).map(drop));
    say(io::stdout(), if refused { "refused" } else { "silent" });
    Ok(())
}

fn is_refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn receive(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    let mut buffer = [0; BYTES_MAX];
    let (length, source) = socket.recv_from(&mut buffer)?;
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), source))
}

/// What comes before `deadline`; an error of the kind `TimedOut` when it has passed.
fn until(deadline: Instant, socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    socket.set_read_timeout(Some(left))?;
    let timed_out = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
    receive(socket).map_err(
        |error| {
            if timed_out(&error) { ErrorKind::TimedOut.into() } else { error }
        },
    )
}

fn since_epoch() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
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
