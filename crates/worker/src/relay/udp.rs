//! The relay by UDP, beside its WebSocket: it carries while it answers.

mod machine;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holepunch_link::{DatagramLine, DatagramReads, RelayEnd};
use holepunch_wire::address::AddressKind;
use holepunch_wire::relay::udp::{HEADER_BYTES, data_header};
use holepunch_wire::relay::{RelayFrame, datagrams};
use holepunch_wire::session::RelayToken;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Bytes;

use super::{RelayAddress, Turn};
use crate::url::WebSocketUrl;
use machine::{Action, Heard, Machine};

/// Reads of one call of the kernel.
const READS: usize = 4;
/// A socket that fails is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// One session's way to its relay by UDP.
pub(super) struct ByUdp {
    addresses: Vec<SocketAddr>,
    url: WebSocketUrl,
    token: watch::Receiver<RelayToken>,
    state: Mutex<State>,
    /// The machine has to be asked anew when it is due.
    changed: Notify,
    /// It answers.
    used: Notify,
}

struct State {
    machine: Machine,
    line: Option<Arc<DatagramLine>>,
    /// Counts the sockets: the next one may be toward another address.
    opened: usize,
}

impl ByUdp {
    pub(super) fn new(address: &RelayAddress) -> Self {
        let machine = Machine::new(address.session, &mut rand::rng(), Instant::now());
        let state = Mutex::new(State { machine, line: None, opened: 0 });
        Self {
            addresses: address.udp.iter().copied().filter(may_be_asked).collect(),
            url: address.url.clone(),
            token: address.token.clone(),
            state,
            changed: Notify::new(),
            used: Notify::new(),
        }
    }

    /// Whether the relay is said to take datagrams.
    pub(super) fn is_offered(&self) -> bool {
        !self.addresses.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether datagrams go by it.
    pub(super) fn is_in_use(&self) -> bool {
        self.state().machine.in_use().is_some()
    }

    /// Sends what a frame holds, or gives the frame back: it goes by the WebSocket.
    pub(super) async fn send(&self, frame: Vec<u8>) -> Option<Vec<u8>> {
        let (line, channel, is_news) = {
            let mut state = self.state();
            let Some((channel, most)) = state.machine.in_use() else { return Some(frame) };
            let Some(line) = state.line.clone() else { return Some(frame) };
            if datagrams(&frame).any(|datagram| datagram.len() > most) {
                return Some(frame);
            }
            (line, channel, state.machine.carried(Instant::now()))
        };
        if is_news {
            self.changed.notify_one();
        }
        let header = data_header(channel);
        // A header is longer than a length of the frame.
        let (mut run, mut stride) = (Vec::with_capacity(2 * frame.len()), 0);
        for datagram in datagrams(&frame) {
            let bytes = HEADER_BYTES + datagram.len();
            // A run goes on with datagrams of its length; a shorter one is its last.
            let goes_on = stride > 0
                && bytes <= stride
                && run.len() % stride == 0
                && run.len() / stride < line.run_max(stride);
            if !goes_on {
                send_run(&line, &run, stride).await;
                run.clear();
                stride = bytes;
            }
            run.extend_from_slice(&header);
            run.extend_from_slice(datagram);
        }
        send_run(&line, &run, stride).await;
        None
    }

    /// Carries all alone, where there is no WebSocket, until that changes.
    pub(super) async fn carry(&self, end: &RelayEnd) -> Turn {
        let carrying = async {
            if !end.is_up() {
                while !self.is_in_use() {
                    self.used.notified().await;
                }
                return Turn::Answers;
            }
            loop {
                // What is too long for it is lost: there is no other way.
                let frame = end.next_frame().await;
                if self.send(frame).await.is_some() && !self.is_in_use() {
                    return Turn::IsSilent;
                }
            }
        };
        tokio::select! {
            turn = carrying => turn,
            () = self.keep(end) => Turn::IsSilent,
        }
    }

    /// Opens a channel, keeps it, and delivers what comes by it, for as long as the future is polled; it never returns.
    pub(super) async fn keep(&self, end: &RelayEnd) {
        if self.is_offered() {
            self.run(end).await;
        }
        std::future::pending().await
    }

    async fn run(&self, end: &RelayEnd) {
        let mut reads = DatagramReads::of(READS);
        loop {
            let due = self.state().machine.due();
            let Some(due) = due else { return };
            let Some(line) = self.line().await else {
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            };
            tokio::select! {
                read = line.read(&mut reads) => match read {
                    Ok(()) => self.deliver(end, &reads).await,
                    // An ICMP message, say, of a port at which nobody is: it was told once.
                    Err(error) => tracing::trace!(%error, "relay by UDP"),
                },
                () = sleep_until(due) => self.handle_timeout(&line).await,
                () = self.changed.notified() => {}
            }
        }
    }

    async fn handle_timeout(&self, line: &DatagramLine) {
        let token = self.token.borrow().clone();
        let action = {
            let mut state = self.state();
            let action = state.machine.handle_timeout(&token, &mut rand::rng(), Instant::now());
            if matches!(action, Some(Action::SendFromElsewhere(_))) {
                state.line = None;
            }
            action
        };
        let (sent, bytes) = match action {
            None => return,
            Some(Action::Send(bytes)) => (line.send(&bytes, bytes.len()).await, bytes),
            Some(Action::SendFromElsewhere(bytes)) => match self.line().await {
                Some(line) => (line.send(&bytes, bytes.len()).await, bytes),
                None => return,
            },
        };
        if let Err(error) = sent {
            tracing::trace!(%error, bytes = bytes.len(), "relay by UDP");
        }
    }

    async fn deliver(&self, end: &RelayEnd, reads: &DatagramReads) {
        let mut frame = RelayFrame::default();
        let now = Instant::now();
        for datagram in reads.datagrams() {
            let (heard, begins) = {
                let State { machine, .. } = &mut *self.state();
                let was_in_use = machine.in_use().is_some();
                let heard = machine.handle(datagram, &mut rand::rng(), now);
                (heard, !was_in_use && machine.in_use().is_some())
            };
            if begins {
                tracing::debug!(url = %self.url, "the relay answers by UDP");
                self.used.notify_one();
            }
            let payload = match heard {
                Heard::Data(payload) => payload,
                Heard::Nothing => continue,
                Heard::Over(why) => {
                    tracing::debug!(url = %self.url, ?why, "no relay by UDP any more");
                    continue;
                }
            };
            if !frame.push(payload) {
                end.deliver(Bytes::from(std::mem::take(&mut frame).into_bytes())).await;
                frame.push(payload);
            }
        }
        if !frame.is_empty() {
            end.deliver(Bytes::from(frame.into_bytes())).await;
        }
    }

    /// The socket, opened anew where there is none.
    async fn line(&self) -> Option<Arc<DatagramLine>> {
        let opened = {
            let state = self.state();
            if let Some(line) = &state.line {
                return Some(Arc::clone(line));
            }
            state.opened
        };
        let address = self.addresses.get(opened % self.addresses.len().max(1)).copied()?;
        let line = match DatagramLine::open_of_host(address, self.url.host()).await {
            Ok(line) => Some(Arc::new(line)),
            Err(error) => {
                tracing::debug!(%address, %error, "no relay by UDP");
                None
            }
        };
        let mut state = self.state();
        state.opened = opened.wrapping_add(1);
        state.line.clone_from(&line);
        line
    }
}

impl Drop for ByUdp {
    /// The relay is told, so that it need not wait.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (Some(close), Some(line)) = (state.machine.close(), &state.line) {
            line.send_now(&close);
        }
    }
}

/// No rendezvous makes a worker send to a network's every host.
fn may_be_asked(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let is_host = ip.is_unspecified() || AddressKind::of(ip).is_reachable_unicast();
    is_host && address.port() != 0
}

async fn send_run(line: &DatagramLine, run: &[u8], stride: usize) {
    if !run.is_empty() {
        // What is lost is lost, as on any network.
        let _best_effort = line.send(run, stride).await;
    }
}
