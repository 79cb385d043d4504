//! The reflector: it answers at many addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use super::{invalid, parse, places, receive, say, since_epoch};
use crate::multicall;

/// What the reflector says once all its sockets are bound.
pub(crate) const READY: &str = "reflector is ready";

/// Most sources whose ticks are counted: each side has one.
const SOURCES_MAX: usize = 64;

pub(super) fn reflect() -> io::Result<()> {
    multicall::end_with_the_lab();
    let sockets: Vec<UdpSocket> =
        places::reflected().into_iter().map(UdpSocket::bind).collect::<io::Result<_>>()?;
    let sockets = Arc::new(sockets);
    for index in 1..sockets.len() {
        let sockets = Arc::clone(&sockets);
        thread::spawn(move || reflect_at(&sockets, index));
    }
    say(io::stderr(), READY);
    reflect_at(&sockets, 0)
}

/// Answers everything with itself and the source that it sees:
/// - `from ADDRESS` by a packet that leaves from that address,
/// - `tick NUMBER` with how many of them have come from that source, and the time,
/// - `ticks …` with how many of them have come.
fn reflect_at(sockets: &[UdpSocket], index: usize) -> io::Result<()> {
    let own = &sockets[index];
    let mut ticks = Ticks::default();
    loop {
        let Ok((text, source)) = receive(own) else { continue };
        let mut via = own;
        let mut answer = format!("{text} {source}");
        if let Some(address) = text.strip_prefix("from ") {
            let address: SocketAddr = parse(address)?.into();
            let other = sockets.iter().find(|other| other.local_addr().ok() == Some(address));
            via = other.ok_or_else(|| invalid("no socket at that address"))?;
        } else if text.starts_with("tick ") {
            ticks.count(source);
            answer = format!("{text} {}", since_epoch().as_nanos());
        } else if text.starts_with("ticks ") {
            answer = format!("{text} {}", ticks.of(source));
        }
        via.send_to(answer.as_bytes(), source)?;
    }
}

/// How many ticks have come from each source.
#[derive(Default)]
struct Ticks(BTreeMap<SocketAddr, u64>);

impl Ticks {
    fn count(&mut self, source: SocketAddr) {
        if self.0.len() < SOURCES_MAX || self.0.contains_key(&source) {
            *self.0.entry(source).or_default() += 1;
        }
    }

    fn of(&self, source: SocketAddr) -> u64 {
        self.0.get(&source).copied().unwrap_or(0)
    }
}
