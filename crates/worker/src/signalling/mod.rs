//! The connection to the rendezvous: opened, kept, and opened again until the worker ends.

mod backoff;
mod connection;
pub(crate) mod handshake;
pub(crate) mod hint;
pub(crate) mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_link::FailureCode;
use holepunch_wire::signal::{FromServer, WorkerMessage};
use tokio::sync::mpsc;

use backoff::{Backoff, Ended};
use connection::Connection;

use crate::config::SettingNames;
use crate::reach::Access;
use crate::token::Token;
use crate::url::WebSocketUrl;

/// Messages to the rendezvous that wait; a worker has at most a few to say for each of its sessions.
const OUTGOING_MAX: usize = 64;
/// Messages of the rendezvous that wait; then the WebSocket is read no further.
const INCOMING_MAX: usize = 64;
/// While the rendezvous does not take the token in a file, that is looked at again this often.
const TOKEN_LOOKED_AT_EVERY: Duration = Duration::from_secs(2);
/// The task may take so long to end: more than a close handshake. One that waits for a connection
/// that takes no data is aborted.
const END_TIMEOUT: Duration = Duration::from_millis(600);

/// What happened on the signalling connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A connection to this URL is tried.
    Connecting(WebSocketUrl),
    /// The worker is registered, in a session in which the rendezvous knows nothing of it.
    Connected,
    /// The same, and the rendezvous speaks `holepunch.v1`: its welcome follows.
    ConnectedV1,
    /// There is no connection (any more); the next is tried after this time.
    Disconnected {
        /// Why.
        why: String,
        /// The same for programs.
        code: FailureCode,
        /// Whether the next attempt would end alike, as of [`RendezvousError::is_final`](crate::RendezvousError::is_final).
        is_final: bool,
        /// The wait.
        retry_in: Duration,
    },
    /// A frame was not a message.
    Malformed(String),
    /// A message came.
    Message(FromServer),
}

/// How a connection is kept.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) url: WebSocketUrl,
    /// Whether to ask for `holepunch.v1`.
    pub(crate) ask_v1: bool,
    /// What settings are called.
    pub(crate) names: SettingNames,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) access: Access,
}

/// The task that keeps the connection, and the two queues to it.
#[derive(Debug)]
pub(crate) struct Signalling {
    outgoing: Option<mpsc::Sender<WorkerMessage>>,
    incoming: mpsc::Receiver<Signal>,
    task: tokio::task::JoinHandle<()>,
}

impl Signalling {
    pub(crate) fn start(settings: Settings) -> Self {
        let (outgoing, to_send) = mpsc::channel(OUTGOING_MAX);
        let (signals, incoming) = mpsc::channel(INCOMING_MAX);
        let task = tokio::spawn(run(settings, to_send, signals));
        Self { outgoing: Some(outgoing), incoming, task }
    }

    /// The next thing that happened; never returns once the task has ended.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.incoming.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Queues a message. One that finds the queue full is dropped: the connection is stuck, and the
    /// next one begins with all that matters.
    pub(crate) fn send(&self, message: WorkerMessage) {
        if let Some(outgoing) = &self.outgoing
            && let Err(error) = outgoing.try_send(message)
        {
            tracing::warn!(%error, "message to the rendezvous dropped");
        }
    }

    /// Says goodbye to the rendezvous and ends.
    pub(crate) async fn close(mut self) {
        self.outgoing = None;
        // A task that waits to hand over a signal would wait for ever.
        self.incoming.close();
        let _in_time = tokio::time::timeout(END_TIMEOUT, &mut self.task).await;
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects again and again, until the other end of `to_send` is dropped.
async fn run(
    settings: Settings,
    mut to_send: mpsc::Receiver<WorkerMessage>,
    signals: mpsc::Sender<Signal>,
) {
    let mut backoff = Backoff::default();
    loop {
        // What was meant for the last session has no place in the next.
        while to_send.try_recv().is_ok() {}
        if signals.send(Signal::Connecting(settings.url.clone())).await.is_err() {
            return;
        }
        let token = settings.access.token.as_ref();
        let tried = token.and_then(|token| token.read().ok());
        let opened = tokio::select! {
            opened = Connection::open(&settings) => opened,
            () = until_dropped(&mut to_send) => return,
        };
        let started = Instant::now();
        let (error, ended) = match opened {
            Ok(mut connection) => {
                let connected =
                    if connection.is_v1 { Signal::ConnectedV1 } else { Signal::Connected };
                if signals.send(connected).await.is_err() {
                    return connection.close().await;
                }
                match connection.serve(&mut to_send, &signals).await {
                    Some(error) => (error, Ended::After(started.elapsed())),
                    None => return connection.close().await,
                }
            }
            Err(error) => (error, Ended::After(Duration::ZERO)),
        };
        let is_refused = error.is_refusal();
        let ended = if is_refused { Ended::Refused } else { ended };
        let retry_in = backoff.next(ended, &mut rand::rng());
        let error = error.where_token_changes(token.is_some_and(Token::may_change));
        let is_final = error.is_final();
        let (why, code) = error.into_parts();
        if signals.send(Signal::Disconnected { why, code, is_final, retry_in }).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = another_token(token.filter(|_| is_refused), tried) => {}
            () = until_dropped(&mut to_send) => return,
        }
    }
}

/// Waits until the token in a file is another one than that which was tried.
async fn another_token(token: Option<&Token>, tried: Option<Arc<str>>) {
    let Some(token) = token.filter(|token| token.may_change()) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(TOKEN_LOOKED_AT_EVERY).await;
        if token.read().is_ok_and(|token| Some(token) != tried) {
            return;
        }
    }
}

/// Drops messages until nobody can send any more.
async fn until_dropped(to_send: &mut mpsc::Receiver<WorkerMessage>) {
    while to_send.recv().await.is_some() {}
}
