//! What outlives the links: who may reach what, the counts, and through which link the listeners' connections go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use holepunch_link::Link;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::allow::Allow;
use super::allow_listen::AllowListen;
use super::counts::Counts;
use super::remote::{Asked, LISTENERS_FOR_PEER_MAX, Remote};
use super::telling::{Asker, Listener, NotMade};
use super::udp::Flows;
use super::window::{Pool, Pools};
use super::{
    CONNECTIONS_MAX, Forward, LOOKUPS_MAX, LOOKUPS_OF_ONE_MAX, SERVED_MAX, Target, Times, VERSION,
};
use crate::agree::Greeting;

/// In a greeting: this side lets the peer reach something. One that says nothing of that may be an older one.
const SERVES: &str = "serves";
/// In a greeting: this side carries UDP.
const UDP: &str = "udp";
/// In a greeting: this side listens for the peer, where that is allowed.
const LISTENS: &str = "listens";

/// What outlives the links.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) allow: Allow,
    pub(super) allow_listen: AllowListen,
    pub(super) remotes: Vec<Remote>,
    pub(super) times: Times,
    pub(super) counts: Arc<Counts>,
    pub(super) listener: Listener,
    lookups: Arc<Semaphore>,
    open_files: Arc<Semaphore>,
    peers_max: usize,
    pools: Arc<Pools>,
    ways: Mutex<Vec<Way>>,
    /// The one that the listeners' connections take.
    current: watch::Sender<Option<Way>>,
    missing: Mutex<Missing>,
}

/// What is missing while there is no link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// A word for programs.
    pub code: &'static str,
    /// The same for people.
    pub text: String,
}

impl Default for Missing {
    fn default() -> Self {
        Self { code: "no_link", text: "there is none yet".to_owned() }
    }
}

/// All that the connections of one link share.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) station: Arc<Station>,
    pub(super) link: Link,
    pub(super) pool: Pool,
    /// What this side has asked the peer to listen for.
    pub(super) asked: Asked,
    /// The UDP flows.
    pub(super) flows: Flows,
    peer: Greeting,
    lookups: Arc<Semaphore>,
    /// Places that are taken for the peer.
    places: AtomicUsize,
    /// Places of listeners for the peer.
    pub(super) listeners: Semaphore,
}

/// A link that connections are carried by. Whoever has one keeps the end of the link waiting for a moment.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) carrier: Arc<Carrier>,
    _alive: mpsc::Sender<()>,
}

/// Whose connection is carried.
#[derive(Debug, Clone, Copy)]
pub(super) enum Carried<'a> {
    OfAListener,
    /// It has come to a listener that the peer has asked for: the place is the peer's.
    OfThePeersListener(&'a Arc<Carrier>),
    ForThePeer(&'a Arc<Carrier>),
}

/// A place of one connection.
#[derive(Debug)]
pub(super) struct Place {
    _open_file: OwnedSemaphorePermit,
    of_peer: Option<Arc<Carrier>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(carrier) = &self.of_peer {
            carrier.places.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A link is among the ways for as long as this value is there.
pub(super) struct Entered {
    station: Arc<Station>,
    way: Way,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut ways = self.station.ways();
        ways.retain(|way| !Arc::ptr_eq(&way.carrier, &self.way.carrier));
        self.station.choose(&ways);
    }
}

impl Station {
    pub(super) fn new(what: Forward) -> Self {
        let open_files = what.open_files_max.unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            allow: what.allow,
            allow_listen: what.allow_listen,
            remotes: what.remotes,
            times: what.times,
            counts: what.counts,
            listener: what.listener,
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            open_files: Arc::new(Semaphore::new(open_files)),
            peers_max: what.peers_max,
            pools: Arc::default(),
            ways: Mutex::default(),
            current: watch::Sender::new(None),
            missing: Mutex::default(),
        }
    }

    pub(super) fn greeting(&self) -> Greeting {
        greeting_of(&self.allow, &self.allow_listen)
    }

    /// A new link. Its way, and what says when nobody has the way any more.
    pub(super) fn enter(
        self: &Arc<Self>,
        link: &Link,
        peer: Greeting,
    ) -> (Entered, mpsc::Receiver<()>) {
        let (alive, gone) = mpsc::channel(1);
        let lookups = (LOOKUPS_MAX / self.peers_max.max(1)).clamp(1, LOOKUPS_OF_ONE_MAX);
        let carrier = Carrier {
            station: Arc::clone(self),
            link: link.clone(),
            pool: Pool::of(&self.pools),
            asked: Asked::default(),
            flows: Flows::new(link.is_initiator()),
            peer,
            lookups: Arc::new(Semaphore::new(lookups)),
            places: AtomicUsize::new(0),
            listeners: Semaphore::new(LISTENERS_FOR_PEER_MAX as usize),
        };
        let way = Way { carrier: Arc::new(carrier), _alive: alive };
        let mut ways = self.ways();
        ways.push(way.clone());
        self.choose(&ways);
        (Entered { station: Arc::clone(self), way }, gone)
    }

    fn ways(&self) -> std::sync::MutexGuard<'_, Vec<Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first peer that lets anything be reached is the one; else the first, which says that it does not.
    fn choose(&self, ways: &[Way]) {
        let chosen = ways.iter().find(|way| way.carrier.may_serve()).or(ways.first());
        self.current.send_if_modified(|current| {
            let is_same = match (&*current, chosen) {
                (Some(current), Some(chosen)) => Arc::ptr_eq(&current.carrier, &chosen.carrier),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !is_same {
                *current = chosen.cloned();
            }
            !is_same
        });
    }

    /// The way that a connection takes; where there is none, it waits a while for one.
    ///
    /// # Errors
    /// There is none; what is missing.
    pub(super) async fn way(&self) -> Result<Way, Missing> {
        let mut current = self.current.subscribe();
        let within = self.times.link;
        let come = timeout(within, current.wait_for(Option::is_some)).await;
        let way = come.ok().and_then(|come| come.ok()?.clone());
        way.ok_or_else(|| self.missing())
    }

    /// The way of the moment.
    pub(super) fn way_now(&self) -> Option<Way> {
        self.current.borrow().clone()
    }

    /// Returns when the listeners' connections take this link.
    pub(super) async fn until_chosen(&self, carrier: &Arc<Carrier>) {
        let is_this =
            |way: &Option<Way>| way.as_ref().is_some_and(|way| Arc::ptr_eq(&way.carrier, carrier));
        let mut current = self.current.subscribe();
        // The sender is this station's own.
        let _always = current.wait_for(is_this).await;
    }

    pub(super) fn missing(&self) -> Missing {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_missing(&self, missing: Missing) {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
    }

    /// A place for one more connection beside so many of its kind; else why there is none.
    pub(super) fn place(&self, carried: usize, whose: Carried<'_>) -> Result<Place, String> {
        let (most, what) = match whose {
            Carried::OfAListener | Carried::OfThePeersListener(_) => {
                (CONNECTIONS_MAX, "of this listener are carried")
            }
            Carried::ForThePeer(_) => (SERVED_MAX, "are made for it"),
        };
        if carried >= most {
            return Err(format!("{most} connections {what} already"));
        }
        let of_peer = match whose {
            Carried::OfAListener => None,
            Carried::ForThePeer(carrier) | Carried::OfThePeersListener(carrier) => {
                // One of several peers leaves as many places to others as it has itself.
                let has = carrier.places.load(Ordering::Relaxed);
                if self.peers_max > 1 && has >= self.open_files.available_permits() {
                    return Err(format!(
                        "{has} connections are made for it, and others need the rest"
                    ));
                }
                Some(Arc::clone(carrier))
            }
        };
        let open_file = Arc::clone(&self.open_files).try_acquire_owned().map_err(|_| {
            "as many files are open as the system allows; raise that limit (ulimit -n)".to_owned()
        })?;
        if let Some(carrier) = &of_peer {
            carrier.places.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Place { _open_file: open_file, of_peer })
    }

    pub(super) fn not_made(&self, asked_by: Asker, target: Option<&Target>, reason: &str) {
        self.not_made_because(asked_by, target, reason, None);
    }

    pub(super) fn not_made_because(
        &self,
        asked_by: Asker,
        target: Option<&Target>,
        reason: &str,
        code: Option<&'static str>,
    ) {
        let (target, reason) = (target.cloned(), reason.to_owned());
        self.listener.not_made(NotMade { asked_by, target, reason, code });
    }
}

/// The greeting of a side that allows so much.
pub(super) fn greeting_of(allow: &Allow, allow_listen: &AllowListen) -> Greeting {
    let greeting = Greeting::new("forward", "", VERSION).with(LISTENS).with(UDP);
    if allow.is_empty() && allow_listen.is_empty() { greeting } else { greeting.with(SERVES) }
}

impl Carrier {
    /// An older peer does not say.
    fn may_serve(&self) -> bool {
        self.peer.has(SERVES) || !self.peer.has(LISTENS)
    }

    /// Whether the peer can be asked to listen.
    pub(super) fn peer_listens(&self) -> bool {
        self.peer.has(LISTENS)
    }

    /// Whether the peer can carry UDP.
    pub(super) fn peer_has_udp(&self) -> bool {
        self.peer.has(UDP)
    }

    /// A place for one more look-up, once there is one among those of this peer and of all.
    pub(super) async fn look_up(&self) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = Arc::clone(&self.lookups).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.station.lookups).acquire_owned().await.ok()?;
        Some([own, of_all])
    }
}

impl Entered {
    pub(super) fn way(&self) -> &Way {
        &self.way
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use holepunch_link::testing;

    use super::*;

    #[tokio::test]
    async fn however_many_names_other_peers_have_looked_up_each_has_its_share() {
        const PEERS: usize = 9;
        let station = Arc::new(Station::new(Forward { peers_max: PEERS, ..Forward::default() }));
        let (mut held, mut ways) = (Vec::new(), Vec::new());
        for peer in 0..PEERS {
            let (link, other, sockets) = testing::pair().await;
            let greeting = greeting_of(&Allow::default(), &AllowListen::default());
            let (entered, _gone) = station.enter(&link, greeting);
            let before = held.len();
            while let Some(place) = entered.way().carrier.look_up().now_or_never() {
                held.push(place.unwrap());
            }
            assert_eq!(held.len() - before, LOOKUPS_MAX / PEERS, "the peer {peer}");
            ways.push((entered, other, sockets));
        }
    }
}
