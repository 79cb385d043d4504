//! A port that the router opens on request: UPnP, NAT-PMP or PCP.

mod route;
mod service;
mod upnp;
mod xml;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use route::Route;
use service::{Failure, Lease, Service};

/// A router that has opened no port is asked again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// A router that has not opened a port by one protocol within this time is asked by the next that it
/// speaks.
const OPENED_WITHIN: Duration = Duration::from_secs(2);
/// Time for the router to say that it has closed the port that is no longer needed.
const GIVE_BACK_WITHIN: Duration = Duration::from_millis(300);
/// Time for an answer that is under way when the port is given back.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// What a router says that is asked for a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouterAnswer {
    /// The protocols that it speaks: `PCP`, `NAT-PMP`, `UPnP`.
    pub protocols: Vec<&'static str>,
    /// The address that it has opened; it has been told to close it again.
    pub external: Option<SocketAddr>,
}

/// Asks the router, by all protocols at once, to open a port that leads to this local one, and gives it back. It takes this
/// long at most, and half a second more where a port was opened.
pub async fn ask_router(local_port: NonZeroU16, within: Duration) -> RouterAnswer {
    let mut mapping = PortMapping::ask(local_port);
    mapping.ask_all();
    mapping.answer(within).await
}

/// A request for a port that stands for as long as this lives.
#[derive(Debug)]
pub(crate) struct PortMapping {
    local_port: NonZeroU16,
    /// Tells the router of the moment.
    route: fn() -> Option<Route>,
    /// The router's word, for each protocol, that it speaks it.
    asked: JoinSet<Result<Service, Failure>>,
    /// The services that have answered, the first one first.
    spoken: VecDeque<Service>,
    /// The one that is to open a port, or to renew the open one.
    opening: JoinSet<Result<Lease, Failure>>,
    open: Option<Lease>,
    ask_at: Instant,
    /// When the next service has its turn, as long as no port is open.
    next_at: Instant,
    renew_at: Instant,
}

impl PortMapping {
    /// Asks the router for a port that leads to this local one.
    pub(crate) fn ask(local_port: NonZeroU16) -> Self {
        let now = Instant::now();
        Self {
            local_port,
            route: Route::current,
            asked: JoinSet::new(),
            spoken: VecDeque::new(),
            opening: JoinSet::new(),
            open: None,
            ask_at: now,
            next_at: now,
            renew_at: now,
        }
    }

    /// Asks anew: there may be another router.
    pub(crate) fn ask_again(&mut self) {
        // One that has never opened the port does not renew it.
        (self.ask_at, self.renew_at) = (Instant::now(), Instant::now());
    }

    /// Waits for the next change; the external address from then on. Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) -> Option<SocketAddr> {
        let before = self.external();
        while self.external() == before {
            self.step().await;
        }
        self.external()
    }

    fn external(&self) -> Option<SocketAddr> {
        self.open.as_ref().map(|lease| lease.external.into())
    }

    /// What the router says, by all protocols, until one has opened a port or none is left; it is given back.
    async fn answer(mut self, within: Duration) -> RouterAnswer {
        let mut protocols = Vec::new();
        let answered = async {
            while !self.has_answered() {
                protocols.extend(self.step().await);
            }
        };
        let _in_time = timeout(within, answered).await;
        protocols.sort_unstable();
        let external = self.external();
        self.give_back().await;
        RouterAnswer { protocols, external }
    }

    /// Whether a port is open, or nobody is left who could open one.
    fn has_answered(&self) -> bool {
        self.open.is_some()
            || self.asked.is_empty() && self.spoken.is_empty() && self.opening.is_empty()
    }

    /// Waits until something happens; the protocol that the router speaks, if that is it.
    async fn step(&mut self) -> Option<&'static str> {
        let is_open = self.open.is_some();
        let is_renewable = is_open && self.opening.is_empty();
        tokio::select! {
            Some(found) = self.asked.join_next() => {
                return self.found(found.unwrap_or_else(|error| Err(error.into())));
            }
            Some(opened) = self.opening.join_next() => {
                self.opened(opened.unwrap_or_else(|error| Err(error.into())));
            }
            () = sleep_until(self.ask_at) => {
                self.ask_at += ASK_AGAIN_AFTER;
                if !is_open {
                    self.ask_all();
                }
            }
            () = sleep_until(self.next_at), if !is_open && !self.spoken.is_empty() => {
                self.next_at = Instant::now() + OPENED_WITHIN;
                self.opening = JoinSet::new();
                if let Some(service) = self.spoken.pop_front() {
                    self.opening.spawn(service.open(self.local_port));
                }
            }
            () = sleep_until(self.renew_at), if is_renewable => {
                if let Some(lease) = self.open.clone() {
                    self.opening.spawn(lease.renew());
                }
            }
        }
        None
    }

    fn ask_all(&mut self) {
        (self.asked, self.opening) = (JoinSet::new(), JoinSet::new());
        self.spoken.clear();
        self.next_at = Instant::now();
        self.ask_at = self.next_at + ASK_AGAIN_AFTER;
        let Some(route) = (self.route)() else {
            tracing::debug!("there is no router to be asked for a port");
            return;
        };
        self.asked.spawn(Service::pcp(route));
        self.asked.spawn(Service::nat_pmp(route));
        self.asked.spawn(Service::upnp(route));
    }

    fn found(&mut self, found: Result<Service, Failure>) -> Option<&'static str> {
        match found {
            Ok(service) => {
                let protocol = service.protocol();
                self.spoken.push_back(service);
                return Some(protocol);
            }
            Err(failure) => tracing::debug!(%failure, "a protocol that the router does not speak"),
        }
        if self.has_answered() && self.open.is_none() {
            tracing::debug!("the router opens no port");
        }
        None
    }

    fn opened(&mut self, opened: Result<Lease, Failure>) {
        match opened {
            Ok(lease) => {
                self.renew_at = Instant::now() + lease.renewed_after;
                self.open = Some(lease);
            }
            Err(failure) => {
                tracing::debug!(%failure, "the router does not open the port");
                self.next_at = Instant::now();
                // It was started again perhaps, or is another one by now.
                if self.open.take().is_some() {
                    self.ask_all();
                }
            }
        }
    }

    /// Gives the port back to the router, where it has opened one, or is about to.
    pub(crate) async fn give_back(mut self) {
        if let Ok(Some(Ok(Ok(lease)))) = timeout(UNDER_WAY, self.opening.join_next()).await {
            self.open = Some(lease);
        }
        let Some(lease) = self.open else { return };
        let closed = timeout(GIVE_BACK_WITHIN, lease.close()).await;
        if let Err(failure) = closed.unwrap_or_else(|silent| Err(silent.into())) {
            tracing::debug!(%failure, "the router does not say that it has closed the port");
        }
    }
}

#[cfg(test)]
mod tests;
