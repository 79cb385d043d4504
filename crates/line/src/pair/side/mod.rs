//! One side: the QUIC machine, the machine of the paths, and what the application does.

mod serving;

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use holepunch_link::machine::SEGMENTS_MAX;
use holepunch_link::quic_paths;
use holepunch_paths::{Event as PathsEvent, Input, PathId, Paths, Routes};
use noq_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event, FourTuple, StreamEvent,
    StreamId,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::checks::Checks;
use super::scenario::Load as Use;
use super::way::{By, Load};
use super::world::Without;

/// What one call of the machine may write, in bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// A trickle: so many bytes, so often.
const TRICKLE: (usize, Duration) = (200, Duration::from_millis(50));
/// Rounds of the machines at one moment; more are a fault that never comes to rest.
const ROUNDS_MAX: usize = 10_000;

/// A packet that leaves.
pub(crate) struct Out {
    pub(crate) by: By,
    pub(crate) load: Load,
    /// It leaves together with others, by segmentation offload.
    pub(crate) batch: bool,
}

/// One end of a link.
pub(crate) struct Side {
    epoch: Instant,
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Option<(ConnectionHandle, Connection)>,
    is_controlling: bool,
    load: Use,
    without: Without,
    paths: Option<Paths<By>>,
    checks: Checks,
    /// Whether the relay is connected, and how often it has been.
    pub(crate) relay: (bool, u32),
    told: Routes<By>,
    /// The two routes have exchanged their addresses.
    is_exchanged: bool,
    /// By which route the handshake goes.
    first: By,
    is_unbatched: bool,
    watched: Option<By>,
    stream: Option<StreamId>,
    write_at: Duration,
    /// What is to be said in turn and has not been, in bytes.
    owed_bytes: usize,
    pub(crate) read_bytes: u64,
    pub(crate) lost: Option<String>,
    /// What has happened to the paths, and is not read.
    pub(crate) told_events: Vec<PathsEvent<By>>,
    random: StdRng,
    buffer: Vec<u8>,
    zeros: Bytes,
}

/// The address by which QUIC knows a route, unless it has been exchanged.
fn own_address(by: By) -> SocketAddr {
    let group = match by {
        By::Direct => 0x2001,
        By::Relay => 0xfd68,
    };
    SocketAddr::from((Ipv6Addr::new(group, 0xdb8, 0, 0, 0, 0, 0, 1), 1_000))
}

impl Side {
    pub(crate) fn new(
        endpoint: Endpoint,
        epoch: Instant,
        is_controlling: bool,
        (load, without, seed): (Use, Without, u64),
    ) -> Self {
        Self {
            epoch,
            endpoint,
            connection: None,
            is_controlling,
            load,
            without,
            paths: None,
            checks: Checks::new(epoch),
            relay: (false, 0),
            told: Routes::default(),
            is_exchanged: false,
            first: By::Direct,
            is_unbatched: false,
            watched: None,
            stream: None,
            write_at: Duration::ZERO,
            owed_bytes: if is_controlling { TRICKLE.0 } else { 0 },
            read_bytes: 0,
            lost: None,
            told_events: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            buffer: Vec::new(),
            zeros: Bytes::from(vec![0; WRITE_BYTES]),
        }
    }

    /// Begins the handshake.
    pub(crate) fn connect(&mut self, config: noq_proto::ClientConfig, by: By, now: Duration) {
        self.first = by;
        let to = self.address(by);
        let connection = self.endpoint.connect(self.epoch + now, config, to, "link");
        self.connection = Some(connection.expect("the configuration is that of links"));
    }

    fn address(&self, by: By) -> SocketAddr {
        let other = if by == By::Direct { By::Relay } else { By::Direct };
        own_address(if self.is_exchanged { other } else { by })
    }

    fn route(&self, address: SocketAddr) -> Option<By> {
        [By::Direct, By::Relay].into_iter().find(|by| self.address(*by) == address)
    }

    /// Whether data is written and read by both sides alike.
    pub(crate) fn reads(&self) -> bool {
        self.load != Use::Bulk || !self.is_controlling
    }

    /// A packet has come.
    pub(crate) fn receive(&mut self, by: By, load: Load, now: Duration) -> Vec<Out> {
        let at = self.epoch + now;
        match load {
            Load::Check(sent_at) => {
                let mut out = vec![Out { by, load: Load::Answer(sent_at), batch: false }];
                if self.checks.peer_checks() {
                    out.push(Out { by, load: Load::Check(now), batch: false });
                }
                out
            }
            Load::Answer(sent_at) => {
                self.checks.answered(self.epoch + sent_at, at, &mut self.random);
                Vec::new()
            }
            Load::Quic(datagram) => self.receive_quic(by, &datagram, at),
        }
    }

    fn receive_quic(&mut self, by: By, datagram: &[u8], at: Instant) -> Vec<Out> {
        let is_handshake = datagram.first().is_some_and(|first| first >> 4 == 0b1110);
        let follows = !self.is_controlling && !self.without.follow_handshakes;
        if follows && is_handshake && by != self.first && !self.is_exchanged {
            // As `link::mux::handshakes`: it belongs to the handshake by the other route.
            self.is_exchanged = true;
        }
        self.buffer.clear();
        let path = FourTuple::from_remote(self.address(by));
        match self.endpoint.handle(at, path, None, BytesMut::from(datagram), &mut self.buffer) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.first = by;
                self.buffer.clear();
                self.connection = self.endpoint.accept(incoming, at, &mut self.buffer, None).ok();
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                let load = Load::Quic(Bytes::copy_from_slice(&self.buffer[..transmit.size]));
                return vec![Out { by, load, batch: false }];
            }
            None => {}
        }
        Vec::new()
    }

    /// Does all that there is to do at `now`; tells the packets that leave.
    pub(crate) fn drive(&mut self, now: Duration) -> Vec<Out> {
        let mut out = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let mut busy = self.events(now);
            busy |= self.application(now);
            busy |= self.serve_paths(now);
            busy |= self.quic(now, &mut out);
            if self.checks.is_due(self.epoch + now) {
                out.push(Out { by: By::Direct, load: Load::Check(now), batch: false });
                busy = true;
            }
            if !busy {
                return out;
            }
        }
        panic!("the machines do not come to rest at {now:?}");
    }

    fn quic(&mut self, now: Duration, out: &mut Vec<Out>) -> bool {
        let at = self.epoch + now;
        let Some((handle, connection)) = &mut self.connection else { return false };
        let mut busy = false;
        if connection.poll_timeout().is_some_and(|due| due <= at) {
            connection.handle_timeout(at);
            busy = true;
        }
        let mut transmits = Vec::new();
        self.buffer.clear();
        while let Some(transmit) = connection.poll_transmit(at, SEGMENTS_MAX, &mut self.buffer) {
            let contents = Bytes::copy_from_slice(&self.buffer[..transmit.size]);
            transmits.push((transmit.destination, transmit.segment_size, contents));
            self.buffer.clear();
        }
        while let Some(event) = connection.poll_endpoint_events() {
            busy = true;
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        for (to, segment, contents) in transmits {
            busy = true;
            let Some(by) = self.route(to) else { continue };
            let segment = segment.unwrap_or(contents.len()).max(1);
            let batch = contents.len() > segment && !self.is_unbatched;
            let loads = contents.chunks(segment).map(|it| Load::Quic(Bytes::copy_from_slice(it)));
            out.extend(loads.map(|load| Out { by, load, batch }));
            if self.watched == Some(by) {
                self.watched = None;
                self.paths_input(Input::Sent, now);
            }
        }
        busy
    }

    /// What QUIC says.
    fn events(&mut self, now: Duration) -> bool {
        let mut busy = false;
        while let Some(event) = self.connection.as_mut().and_then(|(_, it)| it.poll()) {
            busy = true;
            match event {
                Event::Connected if self.is_controlling => self.begin(now),
                Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
                Event::Stream(StreamEvent::Opened { .. }) => {
                    let Some((_, connection)) = &mut self.connection else { continue };
                    self.stream = connection.streams().accept(Dir::Bi).or(self.stream);
                    self.begin(now);
                }
                Event::Path(event) => {
                    let input =
                        quic_paths::input(&event, |id| self.located(quic_paths::number(id)));
                    if let Some(input) = input {
                        self.paths_input(input, now);
                    }
                }
                Event::Connected
                | Event::HandshakeDataReady
                | Event::HandshakeConfirmed
                | Event::Stream(_)
                | Event::DatagramReceived
                | Event::DatagramsUnblocked
                | Event::NatTraversal(_) => {}
            }
        }
        busy
    }

    /// The link is there.
    fn begin(&mut self, now: Duration) {
        if self.paths.is_some() {
            return;
        }
        let first = self.located(PathId::FIRST).unwrap_or(By::Direct);
        self.told = self.routes();
        let (routes, at) = (self.told.clone(), self.epoch + now);
        self.paths = Some(Paths::new(self.is_controlling, first, routes, at));
        self.drain(now, false);
    }

    fn application(&mut self, now: Duration) -> bool {
        let Some((_, connection)) = &mut self.connection else { return false };
        if self.paths.is_none() {
            return false;
        }
        if self.stream.is_none() && self.is_controlling {
            self.stream = connection.streams().open(Dir::Bi);
        }
        let Some(id) = self.stream else { return false };
        let mut busy = false;
        if self.load == Use::Bulk && self.is_controlling {
            let zeros = &self.zeros;
            while matches!(
                connection.send_stream(id).write_chunks(&mut &mut [zeros.clone()][..]),
                Ok(1..)
            ) {}
        } else if self.load == Use::Trickle && self.write_at <= now {
            self.write_at = now + TRICKLE.1;
            let _or_full = connection.send_stream(id).write(&self.zeros[..TRICKLE.0]);
            busy = true;
        } else if self.load == Use::Talk && self.owed_bytes > 0 {
            let written = connection.send_stream(id).write(&self.zeros[..self.owed_bytes]);
            busy = written.is_ok();
            self.owed_bytes -= written.unwrap_or_default();
        }
        let mut stream = connection.recv_stream(id);
        if let Ok(mut chunks) = stream.read(true) {
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                self.read_bytes += chunk.bytes.len() as u64;
                self.owed_bytes += chunk.bytes.len();
                busy = true;
            }
            let _ = chunks.finalize();
        }
        busy
    }

    /// When to drive this side again, at the latest.
    pub(crate) fn wakes_at(&self) -> Duration {
        let quic = self.connection.as_ref().and_then(|(_, connection)| connection.poll_timeout());
        let paths = self.paths.as_ref().and_then(Paths::poll_timeout).map(|(at, _)| at);
        let due = [quic, paths].into_iter().flatten().fold(self.checks.wakes_at(), Instant::min);
        let due = due.saturating_duration_since(self.epoch);
        let writes = self.load == Use::Trickle && self.stream.is_some();
        let due = if writes { due.min(self.write_at) } else { due };
        // Timers have a granularity of a millisecond.
        Duration::from_millis(u64::try_from(due.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
    }
}
