//! One session's task: asks TURN servers for an address, one after the other, and carries packets.

mod open;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holepunch_link::RelayEnd;
use holepunch_wire::address::AddressKind;
use holepunch_wire::relay::{self, RelayFrame};
use holepunch_wire::session::SessionId;
use holepunch_wire::turn::TurnServer;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::allocation::{Allocation, Failure, HEADER_BYTES, Told};
use super::knock::{ANSWER, KNOCK, Knocking};

/// The first wait before the next attempt, which doubles up to the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_LONGEST: Duration = Duration::from_secs(60);
/// Datagrams that are read before the rest has its turn.
const BATCH_MAX: usize = 64;
/// Longest datagram of a server: more than any path carries.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// An allocation is looked at no more often than this, whatever it says.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);
/// Until the server has confirmed that the address is given back.
const DELETE_TIMEOUT: Duration = Duration::from_millis(100);

/// What a task works with.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) session: SessionId,
    pub(super) servers: Vec<TurnServer>,
    /// What the rendezvous tells from now on: what the session has been told may have ended.
    pub(super) newest: watch::Receiver<Vec<TurnServer>>,
    /// Where the peer's server takes packets.
    pub(super) peer: watch::Receiver<Option<SocketAddr>>,
    /// Takes the own address, which the peer is to be told.
    pub(super) told: mpsc::Sender<(SessionId, SocketAddr)>,
    /// The worker ends.
    pub(super) stop: watch::Receiver<bool>,
}

/// Keeps a session's address on a TURN server until the session is over.
pub(super) async fn serve(mut end: RelayEnd, mut given: Given) {
    let mut wait = AGAIN_FIRST;
    let mut next = 0;
    loop {
        let is_renewed = given.newest.has_changed().unwrap_or(false);
        let newest = is_renewed.then(|| given.newest.borrow_and_update().clone());
        // A rendezvous that names none now may be another one than that of the session.
        if let Some(newest) = newest.filter(|newest| !newest.is_empty()) {
            given.servers = newest;
        }
        if given.servers.is_empty() {
            return;
        }
        next %= given.servers.len();
        let server = given.servers[next].clone();
        let attempt = Instant::now();
        let Err(failure) = by(&mut end, &server, &mut given).await else { return };
        end.down();
        if failure.is_refused {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            let hint = if server.has_expired(now) {
                "they have expired, or the clock of this host or of the rendezvous is wrong"
            } else {
                "the rendezvous' secret for TURN is not the server's, or a clock is wrong"
            };
            let why = failure.why;
            tracing::warn!(server = server.url, why, hint, "no relay by TURN");
            given.servers.remove(next);
            continue;
        }
        if attempt.elapsed() > AGAIN_LONGEST {
            wait = AGAIN_FIRST;
        }
        let retry_in_ms = wait.as_millis();
        tracing::info!(server = server.url, why = failure.why, retry_in_ms, "no relay by TURN");
        tokio::select! {
            () = sleep(wait) => {}
            () = over(&end, &mut given.stop) => return,
        }
        wait = (wait * 2).min(AGAIN_LONGEST);
        next += 1;
    }
}

/// Returns when the session is over, or the worker ends.
async fn over(end: &RelayEnd, stop: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = end.ended() => {}
        _stopped = stop.wait_for(|stop| *stop) => {}
    }
}

/// Uses one server until the session is over, or it fails.
async fn by(end: &mut RelayEnd, server: &TurnServer, given: &mut Given) -> Result<(), Failure> {
    let opened = tokio::select! {
        opened = Carrier::open(server) => opened,
        () = over(end, &mut given.stop) => return Ok(()),
    };
    let mut carrier = opened.map_err(|why| Failure { why, is_refused: false })?;
    let carried = carrier.carry(end, given).await;
    if carried.is_ok() {
        end.down();
    }
    let carried = carried.map_err(|failure| carrier.with_others(failure));
    let _in_time = timeout(DELETE_TIMEOUT, carrier.give_back()).await;
    carried
}

/// An allocation with its socket.
#[derive(Debug)]
struct Carrier {
    socket: UdpSocket,
    url: String,
    allocation: Allocation,
    /// The way to the peer, where there is a channel to it.
    knocking: Option<Knocking>,
    /// The server's host has said that nobody is there.
    refusal: Option<io::Error>,
    /// Other addresses of the server's name, and what they have said.
    others: Vec<String>,
    message: Vec<u8>,
}

impl Carrier {
    async fn carry(&mut self, end: &mut RelayEnd, given: &mut Given) -> Result<(), Failure> {
        given.peer.mark_changed();
        loop {
            let look_at = self.advance(given).await?;
            if self.knocking.as_ref().is_some_and(|it| it.is_heard) {
                if !end.is_up() {
                    end.up();
                    tracing::debug!(server = self.url, "relay by TURN connected");
                }
            } else if end.is_up() {
                end.down();
            }
            tokio::select! {
                () = over(end, &mut given.stop) => return Ok(()),
                changed = given.peer.changed() => match changed {
                    Ok(()) => {
                        let peer = *given.peer.borrow_and_update();
                        self.peer_at(peer);
                    }
                    Err(_) => return Ok(()),
                },
                readable = self.socket.readable() => {
                    readable.map_err(lost)?;
                    if !self.receive(end).await.map_err(lost)? {
                        return Ok(());
                    }
                }
                frame = end.next_frame() => {
                    let sending = self.send_frame(&frame);
                    end.patiently(sending).await;
                }
                () = sleep_until(look_at.into()) => {}
            }
        }
    }

    /// Sends what is due, and takes what has become of the allocation. When to do so again.
    async fn advance(&mut self, given: &Given) -> Result<Instant, Failure> {
        loop {
            let now = Instant::now();
            if let Some(error) = self.refusal.take() {
                return Err(lost(error));
            }
            match self.allocation.poll_told(now) {
                Some(Told::Allocated(own)) => {
                    tracing::debug!(server = self.url, %own, "address on a TURN server");
                    let _unless_the_worker_ends = given.told.send((given.session, own)).await;
                    continue;
                }
                Some(Told::Bound(peer)) => {
                    tracing::debug!(server = self.url, %peer, "channel to the peer");
                    self.knocking = Some(Knocking::begin(now));
                    continue;
                }
                Some(Told::Failed(failure)) => return Err(failure),
                None => {}
            }
            let mut sent = false;
            while let Some(request) = self.allocation.poll_transmit(now) {
                self.send(&request).await;
                sent = true;
            }
            if self.knocking.as_mut().is_some_and(|knocking| knocking.is_due(now)) {
                self.send_to_peer(KNOCK).await;
                sent = true;
            }
            if sent {
                continue;
            }
            let knock_at = self.knocking.as_ref().and_then(|it| it.next_at);
            let Some(look_at) = self.allocation.poll_timeout(now) else {
                let why = "the TURN server has not answered for long".to_owned();
                return Err(Failure { why, is_refused: false });
            };
            let look_at = look_at.max(now + LOOK_AGAIN_MIN);
            return Ok(knock_at.map_or(look_at, |at| at.min(look_at)));
        }
    }

    fn peer_at(&mut self, peer: Option<SocketAddr>) {
        let Some(peer) = peer else { return };
        let is_one = peer.port() != 0 && AddressKind::of(peer.ip()).is_reachable_unicast();
        let now = Instant::now();
        if !is_one || !self.allocation.want_peer(peer, now) {
            tracing::debug!(server = self.url, %peer, "an address of the peer that is not used");
        } else if self.allocation.header(0).is_none() {
            self.knocking = None;
        }
    }

    /// Reads what has come, and hands the peer's packets on; `false` when nobody wants them any more.
    async fn receive(&mut self, end: &RelayEnd) -> io::Result<bool> {
        let mut frame = RelayFrame::default();
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        for _ in 0..BATCH_MAX {
            let length = match self.socket.try_recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let data = self.allocation.handle(&buffer[..length], Instant::now());
            let Some((data, knocking)) = data.zip(self.knocking.as_mut()) else { continue };
            let (is_packet, is_to_answer) = knocking.handle(data);
            if is_packet && !frame.push(data) {
                let full = std::mem::take(&mut frame);
                if !end.deliver(full.into_bytes().into()).await {
                    return Ok(false);
                }
                frame.push(data);
            }
            if is_to_answer {
                self.send_to_peer(ANSWER).await;
            }
        }
        Ok(frame.is_empty() || end.deliver(frame.into_bytes().into()).await)
    }

    async fn send_frame(&mut self, frame: &[u8]) {
        for datagram in relay::datagrams(frame) {
            self.send_to_peer(datagram).await;
        }
    }

    async fn send_to_peer(&mut self, datagram: &[u8]) {
        let Some(header) = self.allocation.header(datagram.len()) else { return };
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        message.reserve(HEADER_BYTES + datagram.len());
        message.extend_from_slice(&header);
        message.extend_from_slice(datagram);
        self.send(&message).await;
        self.message = message;
    }

    async fn send(&mut self, message: &[u8]) {
        // What cannot be sent is lost, as on any network. That nobody is there is said by an answer to what
        // was sent before, and wakes no reader.
        if let Err(error) = self.socket.send(message).await
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            self.refusal = Some(error);
        }
    }

    /// Tells the server that the address is free, and waits for its answer.
    async fn give_back(mut self) {
        self.allocation.delete(Instant::now());
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let now = Instant::now();
            while let Some(request) = self.allocation.poll_transmit(now) {
                self.send(&request).await;
            }
            let Some(look_at) = self.allocation.poll_timeout(now) else { return };
            tokio::select! {
                received = self.socket.recv(&mut buffer) => {
                    let Ok(length) = received else { return };
                    self.allocation.handle(&buffer[..length], Instant::now());
                }
                () = sleep_until(look_at.max(now + LOOK_AGAIN_MIN).into()) => {}
            }
        }
    }
}

fn lost(error: io::Error) -> Failure {
    Failure { why: format!("the TURN server cannot be reached: {error}"), is_refused: false }
}
