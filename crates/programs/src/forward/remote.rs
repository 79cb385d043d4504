//! Listeners on the peer's side: this side asks for one, and what comes there leads to a target that this side
//! reaches. The peer sees which connection of which listener it is, and never where it leads.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holepunch_link::RecvStream;
use tokio::net::TcpListener;
use tokio::sync::SemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::allow_listen::ListenRule;
use super::ask::ask;
use super::near::{self, Kind};
use super::request::{Answer, Entrance, Failure, REASON_CHARACTERS_MAX, Refusal, Request};
use super::station::{Carrier, Way};
use super::target::Target;
use super::telling::{NotListening, RemoteListening};
use crate::messages::write_message;
use crate::sending::Sending;
use holepunch_wire::text::harmless;

/// Listeners of a side for one peer.
pub const LISTENERS_FOR_PEER_MAX: u32 = 16;
/// After a listener could not be had, or was lost, it is asked for again: the port may still be that of a link that has
/// not ended yet.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Where the peer is to listen, and what that leads to on this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// On the peer's side.
    pub listen: SocketAddr,
    /// From this side.
    pub to: Target,
}

/// The numbers of the listeners that a peer was asked for: only what comes from these is connected.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<BTreeSet<u32>>);

impl Asked {
    fn with<T>(&self, what: impl FnOnce(&mut BTreeSet<u32>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a connection to this listener leads to.
    pub(super) fn target(&self, remotes: &[Remote], number: u32) -> Option<Target> {
        let is_asked = self.with(|asked| asked.contains(&number));
        let remote = remotes.get(usize::try_from(number).ok()?).filter(|_| is_asked)?;
        Some(remote.to.clone())
    }
}

/// Asks the peer for all listeners, once this is the link that connections take, and keeps them.
pub(super) async fn ask_for_all(way: Way) {
    let station = Arc::clone(&way.carrier.station);
    station.until_chosen(&way.carrier).await;
    let mut tasks = JoinSet::new();
    for (number, remote) in (0..).zip(&station.remotes) {
        tasks.spawn(keep(way.clone(), number, remote.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

/// One listener at the peer, for as long as the link lasts and the peer allows it.
async fn keep(way: Way, number: u32, remote: Remote) {
    let carrier = &way.carrier;
    let tell = |code: &'static str, reason: &str| {
        let Remote { listen, to } = remote.clone();
        let reason = harmless(reason, REASON_CHARACTERS_MAX);
        carrier.station.listener.not_listening(NotListening { listen, to, code, reason });
    };
    if !carrier.peer_listens() {
        return tell(
            "peer_too_old",
            "the peer's version cannot listen for this side; update it there",
        );
    }
    loop {
        carrier.asked.with(|asked| asked.insert(number));
        let outcome = listener(carrier, number, &remote).await;
        carrier.asked.with(|asked| asked.remove(&number));
        // What has ended with the link comes again with the next one.
        if carrier.link.ended().is_some() {
            return;
        }
        match outcome {
            Ok(Answer::Refused { reason, code }) => {
                return tell(code.unwrap_or(Refusal::Other).word(), &reason);
            }
            Ok(Answer::Failed { failure, reason }) => tell(failure.word(), &reason),
            Ok(Answer::Listening { .. } | Answer::Connected) => {
                tell("closed", "the peer listens there no longer");
            }
            Err(reason) => tell("other", &reason),
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// Asks for a listener; where there is one, returns at its end.
async fn listener(carrier: &Carrier, number: u32, remote: &Remote) -> Result<Answer, String> {
    let request = Request::Listen { listen: Entrance { address: remote.listen, number } };
    let (answer, _open, mut recv) = ask(carrier, &request).await?;
    if let Answer::Listening { address } = &answer {
        let Remote { listen, to } = remote.clone();
        let there = RemoteListening { listen, to, address: *address };
        carrier.station.listener.listening(there);
        // The peer sends nothing more: whatever comes is the end.
        let _the_end = recv.read_chunk(1).await;
    }
    Ok(answer)
}

/// Listens for the peer, where it may, until the peer or the link has ended that.
///
/// # Errors
/// What the peer is to be answered, and has not been yet.
pub(super) async fn serve(
    way: &Way,
    entrance: Entrance,
    send: &mut Sending,
    recv: &mut RecvStream,
) -> Result<(), Answer> {
    let carrier = &way.carrier;
    let (listener, _place) = listen(carrier, entrance.address)?;
    let address = listener.local_addr().unwrap_or(entrance.address);
    carrier.station.listener.listens_for_peer(address);
    let answer = Answer::Listening { address };
    let written = timeout(carrier.station.times.request, write_message(&mut **send, &answer)).await;
    if !matches!(written, Ok(Ok(()))) {
        return Ok(());
    }
    let station = Arc::clone(&carrier.station);
    let kind = Kind::ForPeer { way: way.clone(), number: entrance.number };
    tokio::select! {
        () = near::listen(station, listener, kind) => {}
        _ended = carrier.link.closed() => {}
        // Nothing more is said there: whatever comes is the end.
        _ended = recv.read_chunk(1) => {}
    }
    Ok(())
}

/// A listener, and its place among those of the peer.
fn listen(
    carrier: &Carrier,
    address: SocketAddr,
) -> Result<(TcpListener, SemaphorePermit<'_>), Answer> {
    if !carrier.station.allow_listen.has(address) {
        let rule = ListenRule::of(address);
        let reason = format!(
            "it is not allowed; --allow-listen {rule} on the side that is to listen would allow it"
        );
        return Err(Answer::Refused { reason, code: Some(Refusal::NotAllowed) });
    }
    let place = carrier.listeners.try_acquire().map_err(|_| {
        let reason = format!("{LISTENERS_FOR_PEER_MAX} listeners are the most for one peer");
        Answer::Refused { reason, code: Some(Refusal::TooMany) }
    })?;
    let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
    match near::bind(canonical) {
        Ok(listener) => Ok((listener, place)),
        Err(error) => {
            let failures = [
                (io::ErrorKind::AddrInUse, Failure::InUse),
                (io::ErrorKind::AddrNotAvailable, Failure::NotAvailable),
                (io::ErrorKind::PermissionDenied, Failure::NoPermission),
            ];
            let known = failures.iter().find(|(kind, _)| *kind == error.kind());
            let failure = known.map_or(Failure::Other, |(_, failure)| *failure);
            Err(Answer::Failed { failure, reason: format!("cannot listen on {address}: {error}") })
        }
    }
}
