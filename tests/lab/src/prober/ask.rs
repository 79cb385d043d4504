//! What is seen of a NAT from behind it.
//!
//! The answers, one a line:
//! - `mapped DESTINATION SOURCE` for each of three destinations, or `blocked` and nothing else,
//! - `poked SOURCE` as the first of them sees a port that it has poked before,
//! - `in ADDRESS` or `out ADDRESS` for packets from two addresses that were not asked,
//! - `socket PORT SOURCE` for local ports that were opened one after the other,
//! - `crowd SOURCE` as many addresses see one port, in the order in which they were asked,
//! - `line …` (see [`super::ticks`]).

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Instant;

use super::places::{self, ASKING_PORT, POKED_PORT, SOCKETS_FROM};
use super::ticks::measure;
use super::{COPIES, QUIET, TRIES, TRY_WAIT, parse, say, until};

/// Local ports that are opened one after the other: many show how ports are chosen where a port has
/// one mapping, and a few suffice where each destination shows it. (A NAT may have as few as 64 ports
/// for a host.)
const SOCKETS: u16 = 40;
const SOCKETS_FEW: u16 = 3;

/// How often a question is sent before an answer is waited for: on a line with loss, one answer
/// suffices.
const QUESTIONS: usize = 3;

pub(super) fn ask() -> io::Result<()> {
    let socket = open(ASKING_PORT)?;
    let asked = places::asked();
    let mapped = questions(&socket, &asked)?;
    if mapped.iter().all(Option::is_none) {
        say(io::stdout(), "blocked");
        return Ok(());
    }
    let mapped = answered(mapped)?;
    for (destination, source) in asked.iter().zip(&mapped) {
        say(io::stdout(), format_args!("mapped {destination} {source}"));
    }
    let poked = answered(questions(&open(POKED_PORT)?, &asked[..1])?)?;
    say(io::stdout(), format_args!("poked {}", poked[0]));
    for knock in [places::other_port(), places::other_address()] {
        let gets_in = knocked(&socket, asked[0], knock)?;
        say(io::stdout(), format_args!("{} {knock}", if gets_in { "in" } else { "out" }));
    }
    let depends = mapped.iter().any(|source| *source != mapped[0]);
    let count = if depends { SOCKETS_FEW } else { SOCKETS };
    for (port, source) in sockets(count, asked[0])? {
        say(io::stdout(), format_args!("socket {port} {source}"));
    }
    for source in answered(questions(&socket, &places::destinations())?)? {
        say(io::stdout(), format_args!("crowd {source}"));
    }
    say(io::stdout(), format_args!("line {}", measure(&socket, asked[0])?));
    Ok(())
}

fn open(port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
}

/// What each of `destinations` sees this socket as. The first questions leave in their order.
fn questions(
    socket: &UdpSocket,
    destinations: &[SocketAddrV4],
) -> io::Result<Vec<Option<SocketAddrV4>>> {
    let mut sources = vec![None; destinations.len()];
    for _ in 0..TRIES {
        for _ in 0..QUESTIONS {
            for (destination, source) in destinations.iter().zip(&sources) {
                if source.is_none() {
                    socket.send_to(b"seen", destination)?;
                }
            }
        }
        let deadline = Instant::now() + TRY_WAIT;
        while sources.iter().any(Option::is_none) {
            let (text, from) = match until(deadline, socket) {
                Ok(answer) => answer,
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                // Refused, perhaps: then it will be again.
                Err(_) => continue,
            };
            let index = destinations.iter().position(|asked| from == (*asked).into());
            // Answers to other questions may still come.
            if let (Some(index), Some(seen)) = (index, text.strip_prefix("seen ")) {
                sources[index] = Some(parse(seen)?);
            }
        }
        if sources.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(sources)
}

fn answered(sources: Vec<Option<SocketAddrV4>>) -> io::Result<Vec<SocketAddrV4>> {
    let all: Option<Vec<SocketAddrV4>> = sources.into_iter().collect();
    all.ok_or_else(|| io::Error::new(ErrorKind::TimedOut, "some destinations do not answer"))
}

/// Opens local ports one after the other; each with what `destination` sees it as.
fn sockets(count: u16, destination: SocketAddrV4) -> io::Result<Vec<(u16, SocketAddrV4)>> {
    let ports = SOCKETS_FROM..SOCKETS_FROM + count;
    let sockets: Vec<UdpSocket> = ports.clone().map(open).collect::<io::Result<_>>()?;
    // All are opened outside before the first answer comes.
    for socket in &sockets {
        socket.send_to(b"open", destination)?;
    }
    let mut seen = Vec::new();
    for (port, socket) in ports.zip(&sockets) {
        seen.push((port, answered(questions(socket, &[destination])?)?[0]));
    }
    Ok(seen)
}

/// Whether packets from `knock`, sent at the request of this socket to `via`, arrive.
///
/// A question follows the requests. Its answer leaves after the knocks, so silence means something
/// once the answer is there.
fn knocked(socket: &UdpSocket, via: SocketAddrV4, knock: SocketAddrV4) -> io::Result<bool> {
    let after = format!("after {knock}");
    for _ in 0..TRIES {
        for _ in 0..COPIES {
            socket.send_to(format!("from {knock}").as_bytes(), via)?;
        }
        socket.send_to(after.as_bytes(), via)?;
        let mut answered = false;
        let mut deadline = Instant::now() + TRY_WAIT;
        loop {
            match until(deadline, socket) {
                Ok((_, source)) if source == knock.into() => return Ok(true),
                Ok((text, _)) if text.starts_with(&after) && !answered => {
                    answered = true;
                    deadline = Instant::now() + QUIET;
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Ok(_) | Err(_) => {}
            }
        }
        if answered {
            return Ok(false);
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, format!("{via} does not answer")))
}
