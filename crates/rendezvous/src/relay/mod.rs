//! The relay: two workers of a session that have no direct path send each other messages over a second
//! WebSocket, each to `/ws/relay/{session}`.
//!
//! 1. `request`: the token proves itself, and the place is asked of the budgets; then the upgrade. Nobody else is asked: a
//!    relay knows no workers, and of sessions those alone that are connected, or have ended lately.
//! 2. `connection`: one task for each WebSocket. What it reads it writes to the other worker's socket
//!    itself, without another task in between; what that socket does not take waits in the queue of its
//!    `end`, bounded, and the reader pauses while it is full: TCP slows the sender, and nobody else.
//! 3. `frame`, `queue`: how messages are read and written, where they lie.
//! 4. `budget`: how much.
//! 5. `udp`: the same by datagrams, for each of the two workers.
//! 6. A session that ends closes both WebSockets, where the relay is told of it: one beside a rendezvous is. The workers of
//!    the session are told, too, and a token ends by itself.

mod budget;
mod connection;
mod end;
mod frame;
mod queue;
mod request;
mod server;
#[cfg(feature = "testing")]
pub mod testing;
mod udp;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use holepunch_wire::relay::RelayKey;
use holepunch_wire::session::SessionId;
use holepunch_wire::shares;
use prometheus_client::metrics::counter::Counter;

use crate::client_stream::ClientStream;
use crate::log_budget::{LINES, LogBudget, WARNINGS};
use crate::metrics::ByWord;
use budget::{Budgets, Payer, Refusal, Verdict};
use connection::{Connection, Counts};
use end::{Close, End};
use holepunch_wire::close_code::CloseCode;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::relay::udp::Reason;
use udp::{Channels, Drops};

pub(crate) use request::RelayDoor;
pub use server::{RelayConfig, RelayServer};
pub(crate) use udp::Arrival;
pub use udp::RelayDrop;

/// Sessions that are remembered to have ended, some 100 bytes each: their tokens may be good for a day. The oldest are forgotten.
const ENDED_MAX: usize = 65_536;

const ENDED: Close = (CloseCode::Normal as u16, "the session has ended");
const SHUTDOWN: Close = (CloseCode::GoingAway as u16, CloseReason::ShuttingDown.text());

/// How much a relay carries. What is `None` has no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Bytes a second of one session, both ways together.
    pub rate: Option<u64>,
    /// Bytes of one session, both ways together.
    pub quota: Option<u64>,
    /// Bytes a second that come from one IP address (of IPv6: from one /64), but for loopback.
    pub rate_per_ip: Option<u64>,
    /// Bytes in a day that come from one IP address, likewise.
    pub quota_per_ip: Option<u64>,
    /// Bytes a second in all.
    pub rate_total: Option<u64>,
    /// WebSockets at once, two for each session.
    pub connections_max: usize,
}

impl Default for RelayLimits {
    /// No rates: TCP shares a line among its connections, and a relay that is slower than its line
    /// serves nobody. What costs money is bytes: an address has 100 GiB of them in a day. 2,048
    /// connections need at most some 400 MiB of queues, when nobody reads what he is sent.
    fn default() -> Self {
        Self {
            rate: None,
            quota: None,
            rate_per_ip: None,
            quota_per_ip: Some(100 << 30),
            rate_total: None,
            connections_max: 2048,
        }
    }
}

/// The two ends of a session.
#[derive(Debug, Default)]
struct Pair {
    ends: [End; 2],
}

/// Every session with a relay under way.
#[derive(Debug)]
pub(crate) struct Relay {
    key: RelayKey,
    table: Mutex<Table>,
    budgets: Mutex<Budgets>,
    channels: Channels,
    log_budget: LogBudget,
    warnings: LogBudget,
    figures: Figures,
}

/// What is counted of a relay.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) bytes: Counter,
    pub(crate) refused: ByWord,
    pub(crate) slowed: Counter,
    pub(crate) over_quota: Counter,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            bytes: Counter::default(),
            refused: ByWord::new("reason", Refusal::CODES),
            slowed: Counter::default(),
            over_quota: Counter::default(),
        }
    }
}

#[derive(Debug)]
struct Table {
    pairs: HashMap<SessionId, Arc<Pair>>,
    /// Sessions that have ended lately.
    over: shares::Table<SessionId, Option<Instant>>,
    /// The server stops.
    ended: bool,
}

impl Table {
    fn is_over(&self, session: SessionId) -> bool {
        self.over.find(&session).is_some()
    }
}

impl Relay {
    pub(crate) fn new(limits: RelayLimits, key: RelayKey) -> Self {
        let over = shares::Table::bounded(ENDED_MAX);
        let channels = Channels::new(key.derived(b"cookies of the relay on UDP"));
        Self {
            key,
            channels,
            table: Mutex::new(Table { pairs: HashMap::new(), over, ended: false }),
            budgets: Mutex::new(Budgets::new(limits)),
            log_budget: LogBudget::new(LINES),
            warnings: LogBudget::new(WARNINGS),
            figures: Figures::default(),
        }
    }

    /// Datagrams that have gone nowhere.
    pub(crate) fn dropped(&self) -> &Drops {
        &self.channels.drops
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// How many connections are open.
    pub(crate) fn open_ends(&self) -> usize {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).connections()
    }

    /// Takes a connection's place among the budgets, for [`serve`](Self::serve).
    fn enter(&self, payer: Payer) -> Result<(), Refusal> {
        let entered = self.may_enter(payer);
        if let Err(refusal) = entered {
            self.figures.refused.add(refusal as usize, 1);
        }
        entered
    }

    fn may_enter(&self, payer: Payer) -> Result<(), Refusal> {
        if self.with_table(|table| table.is_over(payer.session)) {
            return Err(Refusal::Ended);
        }
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.enter(payer, Instant::now())
    }

    fn leave(&self, payer: Payer) {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.leave(payer, Instant::now());
    }

    /// Serves one worker's WebSocket to its end. `tell` takes whether this end of the session is connected.
    async fn serve(
        &self,
        (payer, own): (Payer, usize),
        (stream, first): (Arc<ClientStream>, Bytes),
        tell: impl Fn(bool),
    ) {
        let session = payer.session;
        let (pair, number) = self.with_table(|table| {
            // It may have ended since the place was asked for.
            let is_over = table.is_over(session);
            let pair = if is_over {
                Arc::default()
            } else {
                Arc::clone(table.pairs.entry(session).or_default())
            };
            let number = pair.ends[own].connect(Arc::clone(&stream));
            if table.ended {
                pair.ends[own].close(SHUTDOWN);
            } else if is_over {
                pair.ends[own].close(ENDED);
            }
            (pair, number)
        });
        tell(true);
        let counts = Counts::default();
        let mut connection =
            Connection { relay: self, pair: &pair, own, number, stream, payer, counts };
        let why = connection.serve(first).await;
        let Counts { messages, bytes } = connection.counts;
        pair.ends[own].disconnect(number);
        self.forget_unused(session, &pair);
        // Another connection may have taken the place of this one.
        if !pair.ends[own].is_connected() {
            tell(false);
        }
        if self.log_budget.allows_one() {
            let dropped = pair.ends[1 - own].dropped();
            tracing::info!(%session, end = own, why, messages, bytes, dropped, "relay left");
        }
    }

    /// Closes what a session has open, and what comes too late; nothing else of it has to be known any more.
    pub(crate) fn session_ended(&self, session: SessionId, reason: &'static str) {
        let pair = self.with_table(|table| {
            table.over.change(session, |at| *at = Some(Instant::now()));
            table.pairs.remove(&session)
        });
        for end in pair.iter().flat_map(|pair| &pair.ends) {
            end.close((CloseCode::Normal.into(), reason));
            if let Some(channel) = end.channel() {
                self.close_channel(&channel, Some(Reason::Ended));
            }
        }
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).forget(session);
    }

    /// Closes everything (1001).
    pub(crate) fn shutdown(&self) {
        let pairs: Vec<Arc<Pair>> = self.with_table(|table| {
            table.ended = true;
            table.pairs.values().cloned().collect()
        });
        for end in pairs.iter().flat_map(|pair| &pair.ends) {
            end.close(SHUTDOWN);
        }
        self.close_channels(Reason::ShuttingDown);
        let dropped: Vec<(RelayDrop, u64)> =
            self.drops().into_iter().filter(|(_, count)| *count > 0).collect();
        let (slowed, over_quota) = (self.figures.slowed.get(), self.figures.over_quota.get());
        tracing::info!(open = pairs.len(), slowed, over_quota, ?dropped, "relay has ended");
    }

    /// Nobody is left to read what waits.
    fn forget_unused(&self, session: SessionId, pair: &Arc<Pair>) {
        self.with_table(|table| {
            let is_unused = !pair.ends.iter().any(End::is_used);
            if is_unused && table.pairs.get(&session).is_some_and(|it| Arc::ptr_eq(it, pair)) {
                table.pairs.remove(&session);
            }
        });
    }

    /// How many datagrams have gone nowhere, and why.
    pub(crate) fn drops(&self) -> Vec<(RelayDrop, u64)> {
        self.channels.drops.all()
    }

    /// Counts bytes that a worker has sent, and logs once what is too much.
    fn spend(&self, payer: Payer, bytes: usize) -> Verdict {
        self.figures.bytes.inc_by(bytes as u64);
        let verdict = self.budgets.lock().unwrap_or_else(PoisonError::into_inner).spend(
            payer,
            bytes,
            Instant::now(),
        );
        let session = payer.session;
        match verdict {
            Verdict::Slow(_, bound, true) => {
                self.figures.slowed.inc();
                if self.log_budget.allows_one() {
                    tracing::info!(%session, ?bound, "relay slowed: it is over its rate");
                }
            }
            Verdict::Over(bound) => {
                self.figures.over_quota.inc();
                if self.warnings.allows_one() {
                    tracing::warn!(%session, ?bound, "relay closed: its quota is used up");
                }
            }
            Verdict::Slow(..) | Verdict::Within => {}
        }
        verdict
    }

    fn with_table<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        act(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
