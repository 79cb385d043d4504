//! What a worker's task and whoever embeds the worker hand to each other: links that have come, peers that are called,
//! and why neither comes about.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holepunch_link::Link;
use holepunch_wire::WorkerId;
use holepunch_wire::session::{SESSIONS_MAX, SessionId};
use tokio::sync::Notify;

use crate::failure::{AcceptError, ConnectError, RendezvousError};

/// Links that nobody has taken yet: as many as a worker has sessions.
const LINKS_MAX: usize = SESSIONS_MAX;
/// Peers that are called at once: each is to become a session.
const CALLS_MAX: usize = SESSIONS_MAX;
/// The rendezvous brings two that have parted together again after some seconds: a call that it refuses is made anew so
/// often in all, 5 s apart.
const REFUSALS_MAX: u32 = 3;

/// Both sides have one; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handover(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Something has changed for those that wait.
    changed: Notify,
    /// Another peer is to be called.
    called: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Those that nobody has taken.
    links: VecDeque<Link>,
    /// Whoever took them wants no more.
    is_given_up: bool,
    /// The peers of all links that there are.
    linked: BTreeMap<SessionId, WorkerId>,
    calls: BTreeMap<WorkerId, Call>,
    failure: Option<RendezvousError>,
    /// Failures to reach the rendezvous so far, and how many of them somebody has heard of.
    failures: u64,
    told: u64,
    was_registered: bool,
    /// There will be no links, with this rendezvous.
    makes_no_links: bool,
    has_ended: bool,
}

/// A peer that is called.
#[derive(Debug, Default)]
struct Call {
    refusals: u32,
    failed: Option<ConnectError>,
}

impl State {
    /// A failure that nobody knew of when `since` were told, where it is for whoever waits: once the worker was registered,
    /// it comes back by itself.
    fn failure_since(&mut self, since: u64) -> Option<RendezvousError> {
        let failure = self.failure.as_ref().filter(|_| self.failures > since)?;
        let is_for_them = !self.was_registered || failure.is_final();
        let failure = is_for_them.then(|| failure.clone());
        self.told = self.failures;
        failure
    }

    fn connected(&mut self, peer: &WorkerId, since: u64) -> Option<Result<Link, ConnectError>> {
        if let Some(index) = self.links.iter().position(|link| link.peer() == peer) {
            let link = self.links.remove(index)?;
            return Some(link.ended().map_or(Ok(link), |error| Err(error.into())));
        }
        if let Some(failed) = self.calls.get(peer).and_then(|call| call.failed.clone()) {
            return Some(Err(failed));
        }
        if let Some(failure) = self.failure_since(since) {
            return Some(Err(failure.into()));
        }
        if self.makes_no_links {
            return Some(Err(ConnectError::NoLinks));
        }
        self.has_ended.then_some(Err(ConnectError::WorkerEnded))
    }

    fn accepted(&mut self, since: u64) -> Option<Result<Link, AcceptError>> {
        let is_wanted = |link: &Link| self.calls.contains_key(link.peer());
        if let Some(index) = self.links.iter().position(|link| !is_wanted(link)) {
            return self.links.remove(index).map(Ok);
        }
        if let Some(failure) = self.failure_since(since) {
            return Some(Err(failure.into()));
        }
        if self.makes_no_links {
            return Some(Err(AcceptError::NoLinks));
        }
        self.has_ended.then_some(Err(AcceptError::WorkerEnded))
    }

    fn begin(&mut self, peer: &WorkerId) -> Result<u64, ConnectError> {
        if self.calls.contains_key(peer) {
            return Err(ConnectError::AlreadyCalling(peer.clone()));
        }
        if self.calls.len() >= CALLS_MAX {
            return Err(ConnectError::TooManyCalls(CALLS_MAX));
        }
        // One that ended before anybody took it says nothing about this call.
        self.links.retain(|link| link.peer() != peer || link.ended().is_none());
        let waits = self.links.iter().any(|link| link.peer() == peer);
        if !waits && self.linked.values().any(|linked| linked == peer) {
            return Err(ConnectError::AlreadyLinked(peer.clone()));
        }
        self.calls.insert(peer.clone(), Call::default());
        Ok(self.told)
    }
}

/// For whoever embeds the worker.
impl Handover {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that others may wait for.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.0.changed.notify_waiters();
        changed
    }

    /// Waits until there is something to be seen. Dropping the future loses nothing.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let seen = look(&mut self.lock());
            match seen {
                Some(seen) => return seen,
                None => changed.await,
            }
        }
    }

    /// A link with this peer, which is called.
    pub(crate) async fn connect(&self, peer: &WorkerId) -> Result<Link, ConnectError> {
        let since = self.lock().begin(peer)?;
        let _until_then = Calling { handover: self, peer };
        self.0.called.notify_one();
        self.until(|state| state.connected(peer, since)).await
    }

    /// The next link of a peer that is not called.
    pub(crate) async fn accept(&self) -> Result<Link, AcceptError> {
        let since = self.lock().told;
        self.until(|state| state.accepted(since)).await
    }

    /// The next link, until the worker has ended.
    pub(crate) async fn next(&self) -> Option<Link> {
        let next = |state: &mut State| match state.links.pop_front() {
            Some(link) => Some(Some(link)),
            None => state.has_ended.then_some(None),
        };
        self.until(next).await
    }

    /// Nobody takes links any more.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.is_given_up = true;
        let _closed = std::mem::take(&mut state.links);
    }
}

/// A call, until its future is dropped.
struct Calling<'a> {
    handover: &'a Handover,
    peer: &'a WorkerId,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.handover.change(|state| state.calls.remove(self.peer));
    }
}

/// For the worker's task.
impl Handover {
    /// Returns when another peer is to be called.
    pub(crate) async fn called(&self) {
        self.0.called.notified().await;
    }

    /// Whether this peer is called.
    pub(crate) fn calls(&self, peer: &WorkerId) -> bool {
        self.lock().calls.contains_key(peer)
    }

    /// Whether anybody is called of whom nothing is known yet.
    pub(crate) fn is_calling(&self) -> bool {
        self.lock().calls.values().any(|call| call.failed.is_none())
    }

    /// Those that are called, and that nothing is known of yet.
    pub(crate) fn calling(&self) -> Vec<WorkerId> {
        let state = self.lock();
        let open = state.calls.iter().filter(|(_, call)| call.failed.is_none());
        open.map(|(peer, _)| peer.clone()).collect()
    }

    /// A link has come; it is given back where nobody takes it.
    pub(crate) fn linked(&self, link: Link) -> Result<(), Link> {
        self.change(|state| {
            let is_called = state.calls.contains_key(link.peer());
            if state.links.len() >= LINKS_MAX {
                // Those that have ended before anybody took them keep no place from others.
                state.links.retain(|link| link.ended().is_none());
            }
            let is_full = state.links.len() >= LINKS_MAX;
            if !is_called && (is_full || state.is_given_up) {
                return Err(link);
            }
            state.linked.insert(link.session(), link.peer().clone());
            state.links.push_back(link);
            Ok(())
        })
    }

    /// A session has ended; whether there was a link in it.
    pub(crate) fn ended(&self, session: SessionId) -> bool {
        self.lock().linked.remove(&session).is_some()
    }

    /// A call has failed.
    pub(crate) fn call_failed(&self, peer: &WorkerId, error: ConnectError) {
        self.change(|state| {
            if let Some(call) = state.calls.get_mut(peer) {
                call.failed = Some(error);
            }
        });
    }

    /// The rendezvous does not bring the two together, for now.
    pub(crate) fn call_refused(&self, peer: &WorkerId, why: &str) {
        self.change(|state| {
            let Some(call) = state.calls.get_mut(peer) else { return };
            call.refusals += 1;
            if call.refusals >= REFUSALS_MAX {
                let (peer, why) = (peer.clone(), why.to_owned());
                call.failed = Some(ConnectError::NotCallable { peer, why });
            }
        });
    }

    /// The worker is registered; with a rendezvous that makes links, or without.
    pub(crate) fn registered(&self, makes_links: bool) {
        self.change(|state| {
            (state.was_registered, state.makes_no_links) = (true, !makes_links);
            state.failure = None;
        });
    }

    /// There is no connection to the rendezvous.
    pub(crate) fn disconnected(&self, error: RendezvousError) {
        self.change(|state| {
            state.failures += 1;
            state.failure = Some(error);
        });
    }

    /// The worker has ended.
    pub(crate) fn end(&self) {
        self.change(|state| state.has_ended = true);
    }
}

#[cfg(test)]
mod tests;
