//! QUIC's socket: what it writes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use noq::UdpSender;
use noq::udp::Transmit;
use tokio::io::Interest;

use super::relay::Pushed;
use super::{Drop, Mux, Route, Udp, drops, read};

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// One task's way to all routes.
pub(super) struct MuxSender {
    mux: Arc<Mux>,
    /// A socket was full: until it is not.
    blocked: Option<Writable>,
    /// Bytes of a batch that have left, where its datagrams leave one by one.
    left: usize,
}

impl MuxSender {
    pub(super) fn new(mux: Arc<Mux>) -> Self {
        Self { mux, blocked: None, left: 0 }
    }

    fn poll_udp(
        &mut self,
        socket: &Arc<Udp>,
        to: SocketAddr,
        transmit: &Transmit<'_>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let transmit = Transmit { destination: to, src_ip: None, ..*transmit };
        loop {
            if let Some(writable) = &mut self.blocked {
                let _an_error_shows_again = ready!(writable.as_mut().poll(context));
                self.blocked = None;
            }
            let sent = socket.io.try_io(Interest::WRITABLE, || {
                socket.state.try_send((&*socket.io).into(), &transmit)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let io = Arc::clone(&socket.io);
                    self.blocked = Some(Box::pin(async move { io.writable().await }));
                }
                // What cannot be sent is lost, as on any network: too long for the path, or no route.
                Err(_) => {
                    self.mux.drops.count(Drop::SendRefused, count(&transmit));
                    return Poll::Ready(());
                }
                Ok(()) => return Poll::Ready(()),
            }
        }
    }

    fn no_route(&self, transmit: &Transmit<'_>) -> Poll<()> {
        self.mux.drops.count(Drop::NoRoute, count(transmit));
        Poll::Ready(())
    }

    /// Sends the datagrams of a batch one by one. The caller comes with the same batch until all have left.
    fn poll_one_by_one(
        &mut self,
        socket: &Arc<Udp>,
        to: SocketAddr,
        transmit: &Transmit<'_>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        while let Some(rest) = transmit.contents.get(self.left..).filter(|rest| !rest.is_empty()) {
            let contents = &rest[..segment.min(rest.len())];
            let single = Transmit { contents, segment_size: None, ..*transmit };
            ready!(self.poll_udp(socket, to, &single, context));
            self.left += contents.len();
        }
        self.left = 0;
        Poll::Ready(())
    }
}

fn count(transmit: &Transmit<'_>) -> usize {
    drops::datagrams(transmit.contents.len(), transmit.segment_size)
}

impl Mux {
    fn note_pushed(&self, outcome: Pushed, datagrams: usize) {
        match outcome {
            Pushed::Taken => {}
            Pushed::TooLong(count) => self.drops.count(Drop::RelayTooLong, count),
            Pushed::Stuck => self.drops.count(Drop::RelayStuck, datagrams),
            Pushed::Closed => self.drops.count(Drop::NoRoute, datagrams),
        }
    }
}

impl fmt::Debug for MuxSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MuxSender")
    }
}

impl UdpSender for MuxSender {
    fn poll_send(
        mut self: Pin<&mut Self>,
        transmit: &Transmit<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let label = transmit.destination;
        let own = self.mux.own_of(label);
        let sent = match self.mux.own_route(own) {
            Some(route @ Route::Direct(id, to)) => {
                let socket = read(&self.mux.sockets).get(&id).cloned();
                match socket {
                    Some(socket)
                        if transmit.segment_size.is_some() && self.mux.is_unbatched(route) =>
                    {
                        self.poll_one_by_one(&socket, to, transmit, context)
                    }
                    Some(socket) => self.poll_udp(&socket, to, transmit, context),
                    None => self.no_route(transmit),
                }
            }
            Some(Route::Relay(_) | Route::Turn(_)) => {
                let queue = read(&self.mux.relays).get(&own).cloned();
                let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
                match queue {
                    Some(queue) => {
                        let now = Instant::now();
                        queue
                            .push(transmit.contents, segment, context.waker(), now)
                            .map(|outcome| self.mux.note_pushed(outcome, count(transmit)))
                    }
                    None => self.no_route(transmit),
                }
            }
            None => self.no_route(transmit),
        };
        ready!(sent);
        self.mux.note_sent(transmit.contents, label);
        self.mux.watched.sent(label);
        Poll::Ready(Ok(()))
    }

    fn max_transmit_segments(&self) -> NonZeroUsize {
        let sockets = read(&self.mux.sockets);
        sockets
            .values()
            .map(|socket| socket.state.max_gso_segments())
            .min()
            .unwrap_or(NonZeroUsize::MIN)
    }
}
