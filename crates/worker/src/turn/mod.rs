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
use holepunch_wire::session::{SESSIONS_MAX, SessionId};
use holepunch_wire::signal::v1::SessionDetails;
use holepunch_wire::turn::TurnServer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use serve::{Given, serve};

/// Sessions whose TURN addresses are kept in mind: twice as many as a worker may have.
const KEPT_MAX: usize = 2 * SESSIONS_MAX;
/// Own addresses that have not been told yet.
const TOLD_MAX: usize = 64;
/// At the end of the worker, time to give addresses back to their servers.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(150);

/// The TURN relays of all sessions.
#[derive(Debug)]
pub(crate) struct Turns {
    sessions: BTreeMap<SessionId, Entry>,
    /// Offers so far.
    offers: u64,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// What the rendezvous has told last, in a welcome or an offer.
    newest: watch::Sender<Vec<TurnServer>>,
    sender: mpsc::Sender<(SessionId, SocketAddr)>,
    told: mpsc::Receiver<(SessionId, SocketAddr)>,
}

#[derive(Debug)]
struct Entry {
    /// Counts offers.
    offer: u64,
    /// What the session may use, until its task has it.
    servers: Vec<TurnServer>,
    peer: watch::Sender<Option<SocketAddr>>,
    own: Option<SocketAddr>,
    has_begun: bool,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let (sender, told) = mpsc::channel(TOLD_MAX);
        let (stop, _) = watch::channel(false);
        let (newest, _) = watch::channel(Vec::new());
        Self {
            sessions: BTreeMap::new(),
            offers: 0,
            tasks: JoinSet::new(),
            stop,
            newest,
            sender,
            told,
        }
    }

    /// The rendezvous tells servers, and what opens them: for the sessions to come, and for those that have
    /// to ask for an address again.
    pub(crate) fn renewed(&self, servers: Vec<TurnServer>) {
        self.newest.send_replace(servers);
    }

    /// A session is offered, in which the offer's servers may be used, or those that were told before.
    pub(crate) fn offered(&mut self, details: &SessionDetails) {
        self.sessions.retain(|_, entry| !entry.has_begun || !entry.peer.is_closed());
        if !details.turn.is_empty() {
            self.renewed(details.turn.clone());
        }
        let servers = self.newest.borrow().clone();
        if servers.is_empty() {
            return;
        }
        self.keep(details.session, servers);
    }

    /// Keeps a session in mind, and for one too many forgets the one that was offered first.
    fn keep(&mut self, session: SessionId, servers: Vec<TurnServer>) {
        let (peer, _) = watch::channel(None);
        self.offers += 1;
        let entry = Entry { offer: self.offers, servers, peer, own: None, has_begun: false };
        self.sessions.insert(session, entry);
        if self.sessions.len() > KEPT_MAX {
            // Ids of sessions are random numbers.
            let oldest = self.sessions.iter().min_by_key(|(_, entry)| entry.offer);
            if let Some(session) = oldest.map(|(session, _)| *session) {
                self.sessions.remove(&session);
            }
        }
    }

    /// Whether a session that begins may use TURN.
    pub(crate) fn expects(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|entry| !entry.has_begun)
    }

    /// The session has begun: an address is asked for.
    pub(crate) fn begin(&mut self, session: SessionId, end: RelayEnd) {
        while self.tasks.try_join_next().is_some() {}
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        entry.has_begun = true;
        let given = Given {
            session,
            servers: std::mem::take(&mut entry.servers),
            newest: self.newest.subscribe(),
            peer: entry.peer.subscribe(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_session_that_was_offered_first_gives_way_whatever_its_number() {
        let mut turns = Turns::new();
        let most = u64::try_from(KEPT_MAX).unwrap();
        for number in (1..=most + 1).rev() {
            turns.keep(SessionId(number), Vec::new());
        }
        assert_eq!(turns.sessions.len(), KEPT_MAX);
        assert!(!turns.expects(SessionId(most + 1)), "it was the first");
        assert!(turns.expects(SessionId(1)), "it is the newest");
    }
}
