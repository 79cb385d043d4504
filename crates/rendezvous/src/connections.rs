//! Who has a place among the connections: those that are WebSockets, and all others.
//!
//! The others have few places. When all are taken, the source that has most of them loses the one that has been silent for
//! longest, and a new connection of anybody is taken: after the grace of those that have only just come ([`pace`](crate::pace))
//! at the latest.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holepunch_wire::address::{Site, Source};
use holepunch_wire::shares::Table as Shares;
use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::client_address::is_trusted;
use crate::client_io::ClientIo;
use crate::client_stream::ClientStream;
use crate::open_files::Places;
use crate::pace::Pace;

/// When no connection of the largest source may be ended yet, before the next look.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The right to be connected as a WebSocket, until its session ends.
pub(crate) type WebSocketPlace = OwnedSemaphorePermit;

/// All connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    trusted_proxies: Vec<IpNet>,
    websockets: Arc<Semaphore>,
    others: Arc<Semaphore>,
    /// How many places there are of each kind.
    places: [usize; 2],
    /// Those that were ended since their places were needed.
    ended: Counter,
    table: Mutex<Table>,
    /// The server stops.
    stopped: watch::Sender<bool>,
}

/// Those that are no WebSockets.
#[derive(Debug, Default)]
struct Table {
    /// `None`: a trusted proxy has the connections of thousands of clients, and keeps strangers from them by itself. Each of
    /// them will be a WebSocket, or is kept for others, and has a WebSocket's place from the start.
    of_sources: Shares<Option<Source>, Waiting>,
    of_sites: Shares<Site, usize>,
    /// Counts connections, each of them anew when it has asked for something.
    next: u64,
}

/// Connections by their number: the one that has been silent for longest comes first.
type Waiting = BTreeMap<u64, (Arc<ClientStream>, Pace)>;

/// One connection's place, until it is dropped or becomes a WebSocket's.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    /// `None`: a trusted proxy, while there are places for it.
    source: Option<Source>,
    pub(crate) stream: Arc<ClientStream>,
    pub(crate) pace: Pace,
    /// Its number in the table, and its right to be there.
    held: Mutex<Option<(u64, OwnedSemaphorePermit)>>,
}

impl Connections {
    pub(crate) fn new(places: Places, trusted_proxies: Vec<IpNet>) -> Arc<Self> {
        let count =
            [places.websockets, places.others].map(|places| places.min(Semaphore::MAX_PERMITS));
        let [websockets, others] = count.map(|places| Arc::new(Semaphore::new(places)));
        Arc::new(Self {
            trusted_proxies,
            websockets,
            others,
            places: count,
            ended: Counter::default(),
            table: Mutex::default(),
            stopped: watch::Sender::new(false),
        })
    }

    /// A place for the next connection, in somebody else's if need be.
    pub(crate) async fn free_place(&self) -> OwnedSemaphorePermit {
        loop {
            let has_room = self.others.available_permits() > 0 || self.end_one();
            let place = Arc::clone(&self.others).acquire_owned();
            // One that is ended leaves as soon as its task has its turn.
            let patience = if has_room { Duration::MAX } else { LOOK_AGAIN };
            match tokio::time::timeout(patience, place).await {
                Ok(Ok(place)) => return place,
                Ok(Err(_)) => unreachable!("invariant: the semaphore is never closed"),
                Err(_) => {}
            }
        }
    }

    /// Gives a connection its place.
    pub(crate) fn enter(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        stream: TcpStream,
        from: IpAddr,
    ) -> Place {
        let is_proxy = is_trusted(from, &self.trusted_proxies);
        let apart = is_proxy.then(|| Arc::clone(&self.websockets).try_acquire_owned().ok());
        let (source, permit) = match apart.flatten() {
            Some(apart) => (None, apart),
            None => (Some(Source::even_of_loopback(from)), permit),
        };
        let (stream, pace) =
            (Arc::new(ClientStream::new(stream)), Pace::new(is_proxy, Instant::now()));
        let number = self.lock().insert(source, (Arc::clone(&stream), pace.clone()));
        let held = Mutex::new(Some((number, permit)));
        Place { connections: Arc::clone(self), source, stream, pace, held }
    }

    /// Ends the connection that has been silent for longest among those of the source that has most; where none of these
    /// is silent, the one that has asked least lately of those that are old. `false` where there is no such one.
    pub(crate) fn end_one(&self) -> bool {
        let mut table = self.lock();
        let Some((source, waiting)) = table.largest() else { return false };
        let now = Instant::now();
        let is_idle = |(stream, pace): &(Arc<ClientStream>, Pace)| {
            pace.may_be_evicted(now) && (pace.is_stuck() || stream.is_silent())
        };
        let idle = waiting.iter().find(|(_, it)| is_idle(it));
        let found = idle.or_else(|| waiting.iter().find(|(_, (_, pace))| pace.is_old(now)));
        let Some((number, pace)) = found.map(|(number, (_, pace))| (*number, pace.clone())) else {
            return false;
        };
        table.remove(Some(source), number);
        drop(table);
        self.ended.inc();
        pace.evict();
        true
    }

    /// Ends those that wait for their client, and lets those end that are being answered.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
        let table = self.lock();
        for (_, pace) in table.of_sources.iter().flat_map(|(_, waiting)| waiting.values()) {
            pace.stop();
        }
    }

    /// Returns when the server stops.
    pub(crate) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        let _never_closed = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Connections that were ended since their places were needed.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.get()
    }

    /// The same, as it is counted.
    pub(crate) fn evicted(&self) -> Counter {
        self.ended.clone()
    }

    /// WebSockets that are open, and other connections. Those of trusted proxies are among the first from the start.
    pub(crate) fn open(&self) -> [usize; 2] {
        let free = [&self.websockets, &self.others].map(|it| it.available_permits());
        [self.places[0].saturating_sub(free[0]), self.places[1].saturating_sub(free[1])]
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(crate) fn io(&self) -> ClientIo {
        ClientIo::new(Arc::clone(&self.stream), self.pace.clone())
    }

    /// Whose it counts as.
    pub(crate) fn source(&self) -> Option<Source> {
        self.source
    }

    /// The client of a proxy is known now: the connection counts as its own.
    pub(crate) fn is_of(&mut self, client: IpAddr) {
        let source = Some(Source::even_of_loopback(client));
        let before = std::mem::replace(&mut self.source, source);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((number, _)) = held.as_mut() else { return };
        let mut table = self.connections.lock();
        if let Some(client) = table.remove(before, *number) {
            *number = table.insert(source, client);
        }
    }

    /// The client has asked for something: of its source, it is the last to be ended.
    pub(crate) fn request(&self) {
        self.pace.request(Instant::now());
        let mut held = self.lock();
        let Some((number, _)) = held.as_mut() else { return };
        let mut table = self.connections.lock();
        // One that is being ended is not there any more.
        if let Some(client) = table.remove(self.source, *number) {
            *number = table.insert(self.source, client);
        }
    }

    /// A WebSocket's place in the place of this one; none where so many are taken that descriptors would run out.
    pub(crate) fn become_websocket(&self) -> Option<WebSocketPlace> {
        if self.source.is_none() {
            return self.leave();
        }
        let websocket = Arc::clone(&self.connections.websockets).try_acquire_owned().ok()?;
        self.leave();
        Some(websocket)
    }

    /// Whether something has come that was not read yet.
    pub(crate) fn has_unread(&self) -> bool {
        !self.stream.is_silent()
    }

    /// Lets the kernel throw away what a client does not read, too.
    pub(crate) fn cut(&self) {
        if self.pace.is_stuck() {
            let _best_effort = self.stream.set_zero_linger();
        }
    }

    fn leave(&self) -> Option<OwnedSemaphorePermit> {
        let (number, permit) = self.lock().take()?;
        self.connections.lock().remove(self.source, number);
        Some(permit)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, OwnedSemaphorePermit)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
        self.pace.leave();
    }
}

impl Table {
    fn insert(&mut self, source: Option<Source>, client: (Arc<ClientStream>, Pace)) -> u64 {
        self.next += 1;
        if let Some(source) = source {
            self.of_sites.add(source.site());
        }
        self.of_sources.change(source, |waiting| waiting.insert(self.next, client));
        self.next
    }

    fn remove(&mut self, source: Option<Source>, number: u64) -> Option<(Arc<ClientStream>, Pace)> {
        let client = self.of_sources.change(source, |waiting| waiting.remove(&number))?;
        if let Some(source) = source {
            self.of_sites.take_off(source.site());
        }
        Some(client)
    }

    /// The source with most connections, of the site with most of them; where several have as many, the one that has
    /// been silent for longest.
    fn largest(&self) -> Option<(Source, &Waiting)> {
        let size = |(source, waiting): &(Source, &Waiting)| {
            let first = waiting.keys().next().copied();
            (self.of_sites.of(&source.site()), waiting.len(), Reverse(first))
        };
        let of_sources = self.of_sources.iter();
        of_sources.filter_map(|(source, waiting)| Some(((*source)?, waiting))).max_by_key(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place for each of these addresses in turn, where there are so many.
    async fn table(places: usize, addresses: &[&str]) -> (Arc<Connections>, Vec<Place>) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let places = Places { websockets: 2, others: places };
        let connections = Connections::new(places, vec!["10.0.0.0/8".parse().unwrap()]);
        let mut held = Vec::new();
        for address in addresses {
            let permit = connections.free_place().await;
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let place = connections.enter(permit, client, address.parse().unwrap());
            held.push(place);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        (connections, held)
    }

    fn is_ended(place: &Place) -> bool {
        let context = std::task::Context::from_waker(std::task::Waker::noop());
        // Only an eviction is due so soon.
        place.pace.due(&context).0 <= Instant::now()
    }

    /// In which order they are ended, where their places are needed.
    async fn order(addresses: &[&str]) -> Vec<usize> {
        let (connections, places) = table(addresses.len() + 1, addresses).await;
        let mut order = Vec::new();
        while connections.end_one() {
            let new = |at: &usize| is_ended(&places[*at]) && !order.contains(at);
            let new = (0..places.len()).find(new);
            order.extend(new);
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn the_source_with_most_loses_its_oldest_and_a_proxy_none() {
        let order = order(&["10.0.0.1", "10.0.0.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"]).await;
        assert_eq!(order, [3, 2, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_networks_of_a_site_count_together() {
        let order =
            order(&["192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"])
                .await;
        assert_eq!(order, [2, 0, 3, 1, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_of_a_proxy_counts_by_itself_once_it_is_known() {
        let proxied = ["192.0.2.9"; 3];
        let (connections, mut held) = table(6, &[&proxied[..], &["192.0.2.1"; 2]].concat()).await;
        for (place, client) in held.iter_mut().zip(["198.51.100.1", "198.51.100.2", "8.8.8.8"]) {
            place.is_of(client.parse().unwrap());
        }
        assert!(connections.end_one());
        let ended: Vec<bool> = held.iter().map(is_ended).collect();
        assert_eq!(ended, [false, false, false, true, false]);
        drop(held);
        let table = connections.lock();
        assert!(table.of_sources.is_empty() && table.of_sites.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_asked_for_something_goes_later() {
        let (connections, held) = table(3, &["192.0.2.1", "192.0.2.1"]).await;
        held[0].request();
        assert!(connections.end_one() && !connections.end_one(), "it has only just asked");
        assert_eq!([is_ended(&held[0]), is_ended(&held[1])], [false, true]);
        held[1].request();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(connections.end_one() && !connections.end_one());
        assert_eq!(connections.ended(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_again_and_again_keeps_no_place_for_ever() {
        let (connections, held) = table(3, &["192.0.2.1", "192.0.2.1"]).await;
        tokio::time::advance(Duration::from_millis(900)).await;
        held.iter().for_each(Place::request);
        assert!(!connections.end_one(), "they have only just asked");
        tokio::time::advance(Duration::from_millis(100)).await;
        [1, 0].into_iter().for_each(|at| held[at].request());
        assert!(connections.end_one());
        assert_eq!(
            [is_ended(&held[0]), is_ended(&held[1])],
            [false, true],
            "who has asked least lately"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_leaves_its_place_to_others_and_there_are_only_so_many() {
        let addresses = ["192.0.2.1", "192.0.2.1", "10.0.0.1"];
        let (connections, held) = table(3, &addresses).await;
        assert_eq!(connections.others.available_permits(), 1);
        let websocket = held[0].become_websocket().unwrap();
        assert_eq!(connections.others.available_permits(), 2);
        assert!(held[1].become_websocket().is_none());
        let proxied = held[2].become_websocket().unwrap();
        drop((websocket, proxied, held));
        let left = [&connections.others, &connections.websockets].map(|it| it.available_permits());
        assert_eq!(left, [3, 2]);
        let table = connections.lock();
        assert!(table.of_sources.is_empty() && table.of_sites.is_empty());
    }
}
