//! The worker's one task, between the rendezvous and the UDP port.

mod port;
mod rendezvous;
mod resuming;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use holepunch_link::{Identity, Port, PortEvent};
use holepunch_wire::WorkerId;
use holepunch_wire::rate::{Lines, Rate};
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::{Welcome, WorkerV1};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::Config;
use crate::handover::Handover;
use crate::notice::Notice;
use crate::reach::Access;
use crate::relay::Relays;
use crate::signalling::{Signal, Signalling};
use crate::story::Stories;
use crate::turn::Turns;
pub(crate) use resuming::Resuming;

pub(crate) use rendezvous::CALL_AGAIN_AFTER;

/// Log lines that a rendezvous causes. It offers a peer every few seconds, and those of a room of everyone with everyone at
/// once: with their offers, and an offer that is not followed, that is far less.
pub(crate) const LOGGED: Rate = Rate { count: 200, per: Duration::from_secs(1), burst: 200 };

/// What the task holds.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: WorkerId,
    pub(crate) identity: Identity,
    pub(crate) config: Config,
    pub(crate) access: Access,
    pub(crate) signalling: Signalling,
    pub(crate) port: Option<Port>,
    /// When the UDP port is to be bound, as long as it is not.
    pub(crate) bind_at: Instant,
    /// When the peer that is wanted is called again.
    pub(crate) call_at: Instant,
    /// Whether there is a session with the rendezvous.
    pub(crate) registered: bool,
    /// Whether the rendezvous has given it a room of its own.
    pub(crate) room_own: bool,
    /// What the rendezvous has said at first in this session, where it speaks `holepunch.v1`.
    pub(crate) welcome: Option<Welcome>,
    pub(crate) resuming: Resuming,
    pub(crate) look_up: Option<JoinHandle<Result<IpAddr, String>>>,
    pub(crate) public_ip: Option<IpAddr>,
    pub(crate) notices: mpsc::Sender<Notice>,
    /// What the rendezvous may still have logged.
    pub(crate) log_budget: Lines,
    /// How many peers have not known the room's secret.
    pub(crate) wrong_secrets: watch::Sender<u64>,
    pub(crate) handover: Handover,
    /// Those that the rendezvous was asked for, and that it has said nothing of: it answers in order.
    pub(crate) called: VecDeque<WorkerId>,
    pub(crate) stories: Stories,
    pub(crate) relays: Relays,
    pub(crate) turns: Turns,
}

/// What the task woke up for.
enum Woken {
    Stop,
    Signal(Signal),
    Udp(PortEvent),
    Bind,
    PublicIp(Result<IpAddr, String>),
    /// Another peer is to be called.
    Called,
    CallDue,
    /// An address on a TURN server, which the peer of the session is to be told.
    TurnAddress(SessionId, SocketAddr),
}

impl Run {
    pub(crate) async fn until(mut self, mut stopped: oneshot::Receiver<()>) {
        self.start_look_up();
        loop {
            match self.woken(&mut stopped).await {
                Woken::Stop => break,
                Woken::Signal(signal) => self.signal(signal),
                Woken::Udp(PortEvent::Traversal(event)) => self.udp(event),
                Woken::Udp(PortEvent::Link(event)) => self.link(event),
                Woken::Bind => self.bind().await,
                Woken::PublicIp(found) => self.public_ip(found),
                Woken::Called => self.call(),
                Woken::CallDue => self.call_again(),
                Woken::TurnAddress(session, address) => {
                    self.send_v1(WorkerV1::TurnAddress { session, address });
                }
            }
        }
        if let Some(look_up) = self.look_up {
            look_up.abort();
        }
        let close_port = async {
            if let Some(port) = self.port {
                let (dropped, packet_drops) = (port.dropped(), port.packet_drops());
                tracing::debug!(?dropped, ?packet_drops, "UDP port closed");
                port.close().await;
            }
            // The last packets of links may go by them.
            self.turns.close().await;
        };
        tokio::join!(self.signalling.close(), close_port);
        // The last packets of links go by the relays, too.
        self.relays.abort_all();
    }

    async fn woken(&mut self, stopped: &mut oneshot::Receiver<()>) -> Woken {
        let bind_at = self.bind_at;
        let has_calls = self.config.peer.is_some() || self.handover.is_calling();
        let udp = async {
            match &mut self.port {
                Some(port) => Woken::Udp(port.next_event().await),
                None => {
                    tokio::time::sleep_until(bind_at).await;
                    Woken::Bind
                }
            }
        };
        let look_up = async {
            match &mut self.look_up {
                Some(task) => task.await.unwrap_or_else(|error| Err(error.to_string())),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An owner that is dropped stops its worker too.
            _stop = stopped => Woken::Stop,
            signal = self.signalling.next() => Woken::Signal(signal),
            woken = udp => woken,
            (session, address) = self.turns.next() => Woken::TurnAddress(session, address),
            found = look_up => Woken::PublicIp(found),
            () = self.handover.called() => Woken::Called,
            () = tokio::time::sleep_until(self.call_at), if has_calls => Woken::CallDue,
        }
    }

    pub(crate) fn notice(&self, notice: Notice) {
        let tell_left_out = |left_out| {
            tracing::warn!(left_out, "log lines were left out: the rendezvous says too much");
        };
        if !notice.is_of_the_rendezvous()
            || self.log_budget.allows_one(Instant::now().into_std(), tell_left_out)
        {
            notice.log(self.config.names);
        }
        self.stories.note(&notice);
        let _unless_nobody_reads = self.notices.try_send(notice);
    }
}
