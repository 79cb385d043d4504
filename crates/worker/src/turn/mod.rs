//! TURN (RFC 8656) as a further relay. Each worker has an address on a TURN server, and tells it to its
//! peer by the rendezvous; each sends through its own server to the address of the other, which works
//! whatever the NATs on both sides are.
//!
//! | module | what |
//! | --- | --- |
//! | `allocation` | the address on the server, and the channel to the peer; no IO |
//! | `knock` | whether packets get through; no IO |
//! | `serve` | one session's task: a socket of its own, and frames both ways |

mod allocation;
mod knock;
mod serve;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use holepunch_link::RelayEnd;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::SessionDetails;
use holepunch_wire::turn::TurnServer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use serve::{Given, serve};

/// Own addresses that have not been told yet.
const TOLD_MAX: usize = 64;
/// At the end of the worker, time to give addresses back to their servers.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(150);

/// The TURN relays of all sessions.
#[derive(Debug)]
pub(crate) struct Turns {
    sessions: BTreeMap<SessionId, Entry>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// What the rendezvous has told last, in a welcome or an offer.
    newest: watch::Sender<Vec<TurnServer>>,
    sender: mpsc::Sender<(SessionId, SocketAddr)>,
    told: mpsc::Receiver<(SessionId, SocketAddr)>,
}

#[derive(Debug)]
struct Entry {
    peer: watch::Sender<Option<SocketAddr>>,
    own: Option<SocketAddr>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let (sender, told) = mpsc::channel(TOLD_MAX);
        let (stop, _) = watch::channel(false);
        let (newest, _) = watch::channel(Vec::new());
        Self { sessions: BTreeMap::new(), tasks: JoinSet::new(), stop, newest, sender, told }
    }

    /// The rendezvous tells servers, and what opens them: for the sessions to come, and for those that have
    /// to ask for an address again.
    pub(crate) fn renewed(&self, servers: Vec<TurnServer>) {
        self.newest.send_replace(servers);
    }

    /// A session has begun, in which the offer's servers may be used, or those that were told before: where there are
    /// any, the `end` gets an address on one of them.
    pub(crate) fn begin(
        &mut self,
        details: &SessionDetails,
        end: impl FnOnce() -> Option<RelayEnd>,
    ) {
        let session = details.session;
        while self.tasks.try_join_next().is_some() {}
        self.sessions.retain(|it, entry| *it != session && !entry.peer.is_closed());
        if !details.turn.is_empty() {
            self.renewed(details.turn.clone());
        }
        let mut newest = self.newest.subscribe();
        let servers = newest.borrow_and_update().clone();
        if servers.is_empty() {
            return;
        }
        let Some(end) = end() else { return };
        let (peer, peer_at) = watch::channel(None);
        self.sessions.insert(session, Entry { peer, own: None });
        let given = Given {
            session,
            servers,
            newest,
            peer: peer_at,
            told: self.sender.clone(),
            stop: self.stop.subscribe(),
        };
        self.tasks.spawn(serve(end, given));
    }

    /// The peer says where its server takes packets.
    pub(crate) fn peer_at(&self, session: SessionId, address: SocketAddr) {
        if let Some(entry) = self.sessions.get(&session) {
            entry.peer.send_replace(Some(address));
        }
    }

    /// The next own address that the peer of a session is to be told. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> (SessionId, SocketAddr) {
        match self.told.recv().await {
            Some((session, own)) => {
                if let Some(entry) = self.sessions.get_mut(&session) {
                    entry.own = Some(own);
                }
                (session, own)
            }
            // One sender lives as long as this does.
            None => std::future::pending().await,
        }
    }

    /// All own addresses, for a rendezvous that may not have passed them on.
    pub(crate) fn own(&self) -> Vec<(SessionId, SocketAddr)> {
        let alive = self.sessions.iter().filter(|(_, entry)| !entry.peer.is_closed());
        alive.filter_map(|(session, entry)| Some((*session, entry.own?))).collect()
    }

    /// Gives all addresses back.
    pub(crate) async fn close(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _in_time = tokio::time::timeout(CLOSE_TIMEOUT, all).await;
    }
}
