//! TCP connections, and [UDP](udp), through a link: what one side listens for, the other connects to, where it allows
//! that. A [`Forwarder`] outlives links: its listeners stay open from one to the next, and it serves many at once.
//!
//! Each connection has a stream of its own. It begins with a [`Request`], which the connection's first
//! bytes follow at once, and which the other side answers with an [`Answer`]: the first byte arrives after
//! half a round trip. Behind that the bytes stand in [`frames`], and each side tells how much it takes: a
//! connection whose reader has stopped holds up no other. The end of either direction is passed on as the end of that direction, a reset as a
//! reset; and where the link breaks, every connection is reset, never ended.

mod allow;
mod allow_listen;
mod ask;
mod buffer;
mod counts;
mod far;
pub mod frames;
mod metadata;
mod near;
mod remote;
mod request;
pub mod socks;
mod splice;
mod station;
mod target;
mod telling;
pub mod udp;
mod window;

use std::sync::Arc;
use std::time::Duration;

use holepunch_link::{Link, LinkError};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::agree::{AgreeError, Agreed, agree};
use near::Kind;
use station::Station;

pub use allow::{Allow, Rule};
pub use allow_listen::{AllowListen, ListenRule, ListenRuleError};
pub use counts::{Counts, Summary};
pub use near::bind;
pub use remote::{LISTENERS_FOR_PEER_MAX, Remote};
pub use request::{Answer, Entrance, Failure, FlowRequest, REQUEST_BYTES_MAX, Refusal, Request};
pub use station::Missing;
pub use target::{Host, NAME_BYTES_MAX, Protocol, Target, TargetError};
pub use telling::{Asker, ListenRefused, Listener, NotListening, NotMade, RemoteListening, Told};
pub use udp::bind_udp;

/// The version of what goes over the link; the two sides have to have the same one.
pub const VERSION: u32 = 2;
/// Connections at once, of each listener.
pub const CONNECTIONS_MAX: usize = 1024;
/// Connections at once for the peer: below the 2,048 streams that a link takes. Those that have ended for the
/// peer are still among them, until this side has heard so: on a busy link that takes seconds.
pub const SERVED_MAX: usize = 2000;
/// Look-ups of names at once, for all peers: each keeps a thread, of which the runtime has twice as many for such work.
const LOOKUPS_MAX: usize = 256;
/// For one peer; of several, each has no more than its share of all.
const LOOKUPS_OF_ONE_MAX: usize = 32;
/// After the link has ended, time to write what has arrived.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A stream's request, a SOCKS client's words, or the writing of a refusal.
    pub request: Duration,
    /// A name's look-up.
    pub lookup: Duration,
    /// A TCP connection, over all addresses of a name.
    pub connect: Duration,
    /// The peer's answer to a request: its look-up, its connection, and the way there and back.
    pub answer: Duration,
    /// The wait of a connection for a link, where there is none.
    pub link: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            lookup: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            link: Duration::from_secs(5),
        }
    }
}

/// What to forward.
#[derive(Debug, Default)]
pub struct Forward {
    /// Where connections are taken, and what they lead to on the peer's side.
    pub listeners: Vec<(TcpListener, Target)>,
    /// Where SOCKS 5 is spoken; names are looked up on the peer's side.
    pub socks: Vec<TcpListener>,
    /// Where UDP is taken, and what it leads to on the peer's side.
    pub udp: Vec<(UdpSocket, Target)>,
    /// Where the peer is to listen, and what that leads to on this side.
    pub remotes: Vec<Remote>,
    /// What the peer may reach through this side.
    pub allow: Allow,
    /// Where the peer may have this side listen.
    pub allow_listen: AllowListen,
    /// Most connections at once, of all listeners and for the peers: as many files as may be open. `None`: no bound.
    pub open_files_max: Option<usize>,
    /// Most peers at once, as far as this side knows: where there may be several, none takes what others need.
    pub peers_max: usize,
    /// How long each step may take.
    pub times: Times,
    /// What is counted.
    pub counts: Arc<Counts>,
    /// Who is told of each connection that does not come about.
    pub listener: Listener,
}

/// Why forwarding did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The peer runs something else.
    #[error(transparent)]
    Agree(#[from] AgreeError),
}

/// How forwarding has ended.
#[derive(Debug)]
pub struct Ended {
    /// What has been forwarded.
    pub summary: Summary,
    /// Why the link has ended.
    pub why: LinkError,
}

/// Forwards through one link after the other, or through many at once: the listeners stay open meanwhile. Where it is
/// dropped, they are closed, and all connections are reset.
#[derive(Debug)]
pub struct Forwarder {
    station: Arc<Station>,
    _listening: JoinSet<()>,
}

impl Forwarder {
    /// Begins to take connections. One that comes while there is no link waits for one, [`Times::link`] long.
    #[must_use]
    pub fn new(mut what: Forward) -> Self {
        let (listeners, socks) =
            (std::mem::take(&mut what.listeners), std::mem::take(&mut what.socks));
        let udp = std::mem::take(&mut what.udp);
        let station = Arc::new(Station::new(what));
        let mut listening = JoinSet::new();
        for (listener, target) in listeners {
            listening.spawn(near::listen(Arc::clone(&station), listener, Kind::To(target)));
        }
        for listener in socks {
            listening.spawn(near::listen(Arc::clone(&station), listener, Kind::Socks));
        }
        for (socket, target) in udp {
            listening.spawn(udp::near::listen(Arc::clone(&station), socket, target));
        }
        Self { station, _listening: listening }
    }

    /// What is missing while there is no link: connections that do not get one are told so.
    pub fn is_missing(&self, missing: Missing) {
        self.station.is_missing(missing);
    }

    /// What has been forwarded so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.station.counts.summary()
    }

    /// Forwards through this link until it ends; then its connections that are not at their end are reset. No single
    /// connection ends it. Of several links, each serves its peer, and the listeners' connections take the first whose
    /// peer lets anything be reached.
    ///
    /// # Errors
    /// The peer runs something else.
    pub async fn through(&self, link: &Link) -> Result<Ended, ForwardError> {
        // The stream stays open as long as the program runs.
        let greeted = agree(link, &self.station.greeting()).await?;
        Ok(self.carry(link, greeted).await)
    }

    async fn carry(&self, link: &Link, greeted: Agreed) -> Ended {
        let (entered, mut gone) = self.station.enter(link, greeted.peer.clone());
        let mut parts = JoinSet::new();
        parts.spawn(far::serve(entered.way().clone()));
        parts.spawn(udp::carry(Arc::clone(&entered.way().carrier)));
        // Ends with this value, and need not come to its end.
        let mut asking = JoinSet::new();
        asking.spawn(remote::ask_for_all(entered.way().clone()));
        let why = link.closed().await;
        drop((entered, asking));
        // Those that have the way write what has arrived.
        let in_time = async {
            while parts.join_next().await.is_some() {}
            gone.recv().await
        };
        let _in_time = timeout(DRAIN_WITHIN, in_time).await;
        Ended { summary: self.summary(), why }
    }
}

/// Forwards until the link ends; then the listeners are closed, and connections that are not at their end
/// are reset. No single connection ends it. Where it is dropped, all connections are reset.
///
/// What to forward is taken once the two have greeted each other: where that fails it may be used on another
/// link.
///
/// # Errors
/// The peer runs something else.
pub async fn forward(link: &Link, what: &mut Forward) -> Result<Ended, ForwardError> {
    let own = station::greeting_of(&what.allow, &what.allow_listen);
    let greeted = agree(link, &own).await?;
    let forwarder = Forwarder::new(std::mem::take(what));
    Ok(forwarder.carry(link, greeted).await)
}
