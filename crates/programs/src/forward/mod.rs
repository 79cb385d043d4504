//! TCP connections through a link: what one side listens for, the other connects to, where it allows
//! that.
//!
//! Each connection has a stream of its own. It begins with a [`Request`], which the connection's first
//! bytes follow at once, and which the other side answers with an [`Answer`]: the first byte arrives after
//! half a round trip. Behind that the bytes stand in [`frames`], and each side tells how much it takes: a
//! connection whose reader has stopped holds up no other. The end of either direction is passed on as the end of that direction, a reset as a
//! reset; and where the link breaks, every connection is reset, never ended.

mod allow;
mod buffer;
mod counts;
mod far;
pub mod frames;
mod metadata;
mod near;
mod request;
pub mod socks;
mod splice;
mod target;
mod telling;
mod window;

use std::sync::Arc;
use std::time::Duration;

use holepunch_link::{Link, LinkError};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::agree::{AgreeError, Greeting, agree};
use near::Kind;
use window::Pool;

pub use allow::{Allow, Rule};
pub use counts::{Counts, Summary};
pub use near::bind;
pub use request::{Answer, Failure, REQUEST_BYTES_MAX, Request};
pub use target::{Host, NAME_BYTES_MAX, Target, TargetError};
pub use telling::{Asker, Listener, NotMade};

/// The version of what goes over the link; the two sides have to have the same one.
pub const VERSION: u32 = 2;
/// Connections at once, of each listener.
pub const CONNECTIONS_MAX: usize = 1024;
/// Connections at once for the peer: below the 2,048 streams that a link takes. Those that have ended for the
/// peer are still among them, until this side has heard so: on a busy link that takes seconds.
pub const SERVED_MAX: usize = 2000;
/// Look-ups of names at once: each keeps a thread of the system's resolver.
const LOOKUPS_MAX: usize = 32;
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
}

impl Default for Times {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            lookup: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
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
    /// What the peer may reach through this side.
    pub allow: Allow,
    /// Most connections at once, of all listeners and for the peer: as many files as may be open. `None`: no bound.
    pub open_files_max: Option<usize>,
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

/// What all connections of a link share.
#[derive(Debug)]
struct Shared {
    link: Link,
    allow: Allow,
    times: Times,
    counts: Arc<Counts>,
    listener: Listener,
    lookups: Arc<Semaphore>,
    open_files: Arc<Semaphore>,
    pool: Pool,
}

/// Whose connection is carried.
#[derive(Debug, Clone, Copy)]
enum Carried {
    OfAListener,
    ForThePeer,
}

impl Shared {
    /// A place for one more connection beside so many of its kind; else why there is none.
    fn place(&self, carried: usize, whose: Carried) -> Result<OwnedSemaphorePermit, String> {
        let (most, what) = match whose {
            Carried::OfAListener => (CONNECTIONS_MAX, "of this listener are carried"),
            Carried::ForThePeer => (SERVED_MAX, "are made for it"),
        };
        if carried >= most {
            return Err(format!("{most} connections {what} already"));
        }
        Arc::clone(&self.open_files).try_acquire_owned().map_err(|_| {
            "as many files are open as the system allows; raise that limit (ulimit -n)".to_owned()
        })
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
    let own = Greeting::new("forward", "", VERSION);
    // The stream stays open as long as the program runs.
    let _greeted = agree(link, &own).await?;
    let what = std::mem::take(what);
    let open_files = what.open_files_max.unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let shared = Arc::new(Shared {
        link: link.clone(),
        allow: what.allow,
        times: what.times,
        counts: what.counts,
        listener: what.listener,
        lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        open_files: Arc::new(Semaphore::new(open_files)),
        pool: Pool::default(),
    });
    let mut parts = JoinSet::new();
    parts.spawn(far::serve(Arc::clone(&shared)));
    for (listener, target) in what.listeners {
        parts.spawn(near::listen(Arc::clone(&shared), listener, Kind::To(target)));
    }
    for listener in what.socks {
        parts.spawn(near::listen(Arc::clone(&shared), listener, Kind::Socks));
    }
    while parts.join_next().await.is_some() {}
    let why = link.closed().await;
    Ok(Ended { summary: shared.counts.summary(), why })
}
