//! One end of a flow: the QUIC machine, driven as the real driver drives it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use holepunch_link::machine::{Reader, SEGMENTS_MAX};
use noq_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, FourTuple, PathId, PathStats, ServerConfig, StreamEvent, StreamId, VarInt,
};

/// What one call of the machine may write to the application's end of a stream, in bytes.
const WRITE_BYTES: usize = 256 * 1024;
/// Rounds of the machine at one moment; more are a fault that never comes to rest.
const ROUNDS_MAX: usize = 100_000;

/// How the real driver differs from an ideal one.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    /// Datagrams that leave by one system call.
    pub segments: NonZeroUsize,
    /// Timers fire at the next multiple of this after their moment; zero: at their moment.
    pub timer: Duration,
    /// Datagrams that have arrived are read at multiples of this; zero: as they come.
    pub batch: Duration,
    /// The process of an end runs so long, then does not run so long, as on a machine that is busy; zero: it always runs.
    pub runs: Duration,
    /// See `runs`.
    pub pauses: Duration,
    /// An end that sleeps is woken late by up to this, at random, and then takes all that has come; zero: in time.
    pub jitter: Duration,
}

impl Driver {
    /// As noq on tokio: its segments, timers of a millisecond, and datagrams that wait for the reader a moment.
    pub const REAL: Self = Self {
        segments: SEGMENTS_MAX,
        timer: Duration::from_millis(1),
        batch: Duration::from_micros(50),
        runs: Duration::ZERO,
        pauses: Duration::ZERO,
        jitter: Duration::ZERO,
    };

    /// The next moment, at or after `at`, at which datagrams are read.
    pub(crate) fn read_at(self, at: Duration) -> Duration {
        self.running(round_up(at, self.batch))
    }

    /// The next moment, at or after `at`, at which the process runs.
    fn running(self, at: Duration) -> Duration {
        let cycle = (self.runs + self.pauses).as_nanos();
        if cycle == 0 || at.as_nanos() % cycle < self.runs.as_nanos() {
            return at;
        }
        round_up(at, self.runs + self.pauses)
    }

    /// The same for the other end, whose pauses are at other moments.
    pub(crate) fn other(self) -> Self {
        Self { runs: self.runs * 3 / 2, pauses: self.pauses * 3 / 2, ..self }
    }
}

fn round_up(at: Duration, step: Duration) -> Duration {
    if step.is_zero() {
        return at;
    }
    let steps = at.as_nanos().div_ceil(step.as_nanos());
    let nanos = u64::try_from(steps * step.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos)
}

/// How much may come unread, in bytes.
enum Window {
    /// As much as the reader of a link lets come, which depends on how it is read.
    OfReader(Reader),
    /// So much, however it is read.
    Fixed(u32),
}

/// A machine, its connection, and what the application does with it: it writes all that is taken, and reads all that
/// comes.
pub(crate) struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    driver: Driver,
    epoch: Instant,
    peer: SocketAddr,
    /// The stream that is written to.
    stream: Option<StreamId>,
    writes: bool,
    reads: Vec<StreamId>,
    window: Window,
    /// Stream bytes read in order.
    pub(crate) read_bytes: u64,
    pub(crate) connected: bool,
    pub(crate) lost: Option<String>,
    buffer: Vec<u8>,
    zeros: Bytes,
}

impl End {
    pub(crate) fn new(
        endpoint: EndpointConfig,
        server: Option<ServerConfig>,
        driver: Driver,
        epoch: Instant,
        peer: SocketAddr,
    ) -> Self {
        Self {
            endpoint: Endpoint::new(Arc::new(endpoint), server.map(Arc::new), true),
            connection: None,
            driver,
            epoch,
            peer,
            stream: None,
            writes: false,
            reads: Vec::new(),
            window: Window::OfReader(Reader::default()),
            read_bytes: 0,
            connected: false,
            lost: None,
            buffer: Vec::new(),
            zeros: Bytes::from(vec![0; WRITE_BYTES]),
        }
    }

    /// So many unread bytes may come, however they are read.
    pub(crate) fn fix_window(&mut self, bytes: u32) {
        self.window = Window::Fixed(bytes);
    }

    /// Begins the handshake.
    pub(crate) fn connect(&mut self, config: ClientConfig, now: Duration) {
        let now = self.epoch + now;
        let connection = self.endpoint.connect(now, config, self.peer, "link");
        self.connection = Some(connection.expect("the configuration is that of links"));
        self.writes = true;
    }

    /// A datagram has come.
    pub(crate) fn receive(&mut self, datagram: BytesMut, now: Duration) -> VecDeque<Bytes> {
        let at = self.epoch + now;
        let mut out = VecDeque::new();
        self.buffer.clear();
        let path = FourTuple::from_remote(self.peer);
        match self.endpoint.handle(at, path, None, datagram, &mut self.buffer) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.buffer.clear();
                self.connection = self.endpoint.accept(incoming, at, &mut self.buffer, None).ok();
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                out.push_back(Bytes::copy_from_slice(&self.buffer[..transmit.size]));
            }
            None => {}
        }
        out
    }

    /// Does all that there is to do at `now`; tells the datagrams that leave.
    pub(crate) fn drive(&mut self, now: Duration) -> VecDeque<Bytes> {
        let mut out = VecDeque::new();
        for _ in 0..ROUNDS_MAX {
            self.application(now);
            if !self.machine(now, &mut out) {
                return out;
            }
        }
        panic!("the machine does not come to rest at {now:?}");
    }

    /// One round of the machine; tells whether there may be more to do.
    fn machine(&mut self, now: Duration, out: &mut VecDeque<Bytes>) -> bool {
        let at = self.epoch + now;
        let Some((handle, connection)) = &mut self.connection else { return false };
        let mut busy = false;
        if connection.poll_timeout().is_some_and(|due| due <= at) {
            connection.handle_timeout(at);
            busy = true;
        }
        self.buffer.clear();
        while let Some(transmit) =
            connection.poll_transmit(at, self.driver.segments, &mut self.buffer)
        {
            busy = true;
            let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
            let datagrams = self.buffer[..transmit.size].chunks(segment);
            out.extend(datagrams.map(Bytes::copy_from_slice));
            self.buffer.clear();
        }
        while let Some(event) = connection.poll_endpoint_events() {
            busy = true;
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        busy
    }

    fn application(&mut self, now: Duration) {
        let Some((_, connection)) = &mut self.connection else { return };
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => {
                    self.connected = true;
                    if let Window::Fixed(bytes) = self.window {
                        connection.set_receive_window(VarInt::from_u32(bytes));
                    }
                }
                Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
                Event::Stream(StreamEvent::Opened { .. }) => {
                    while let Some(id) = connection.streams().accept(Dir::Bi) {
                        self.reads.push(id);
                    }
                }
                Event::HandshakeDataReady
                | Event::HandshakeConfirmed
                | Event::Stream(_)
                | Event::DatagramReceived
                | Event::DatagramsUnblocked
                | Event::Path(_)
                | Event::NatTraversal(_) => {}
            }
        }
        if self.connected && self.writes {
            if self.stream.is_none() {
                self.stream = connection.streams().open(Dir::Bi);
            }
            if let Some(id) = self.stream {
                while matches!(
                    connection.send_stream(id).write_chunks(&mut &mut [self.zeros.clone()][..]),
                    Ok(1..)
                ) {}
            }
        }
        let before = self.read_bytes;
        for id in &self.reads {
            let mut stream = connection.recv_stream(*id);
            let Ok(mut chunks) = stream.read(true) else { continue };
            while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                self.read_bytes += chunk.bytes.len() as u64;
            }
            let _ = chunks.finalize();
        }
        if let Window::OfReader(reader) = &self.window {
            let came = usize::try_from(self.read_bytes - before).unwrap_or(usize::MAX);
            let round_trip = connection.rtt(PathId::ZERO);
            if let Some(bytes) = reader.read(came, self.epoch + now, round_trip) {
                connection.set_receive_window(VarInt::from_u32(bytes));
            }
        }
    }

    /// When to drive this end again, at the latest.
    pub(crate) fn wakes_at(&mut self) -> Option<Duration> {
        let (_, connection) = self.connection.as_mut()?;
        let due = connection.poll_timeout()?;
        let due = due.saturating_duration_since(self.epoch);
        Some(self.driver.running(round_up(due, self.driver.timer)))
    }

    /// The figures of the first path.
    pub(crate) fn path(&mut self) -> Option<PathStats> {
        let (_, connection) = self.connection.as_mut()?;
        connection.path_stats(PathId::ZERO)
    }
}

impl End {
    /// What the controller of the first path is doing, in words.
    pub(crate) fn state(&mut self) -> String {
        let Some((_, connection)) = &self.connection else { return String::new() };
        connection
            .congestion_state(PathId::ZERO)
            .map_or_else(String::new, |controller| format!("{controller:?}"))
    }
}
