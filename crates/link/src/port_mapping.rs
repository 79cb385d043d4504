//! A port that the router opens on request: UPnP, NAT-PMP or PCP, kept by the library.

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use portmapper::{Client, Config, Protocol};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// A router that has opened no port is asked again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// A router that has not opened a port by one protocol within this time is asked by the next that it
/// speaks.
const OPENED_WITHIN: Duration = Duration::from_secs(2);
/// Time for the router to be told that the port is no longer needed. The library does not say when it
/// has been.
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
    let until = Instant::now() + within;
    let mut asked: JoinSet<_> = protocols()
        .into_iter()
        .map(|(name, config)| async move { spoken_by_the_router(config).await.map(|_| name) })
        .collect();
    let mut mapping = PortMapping::ask(local_port);
    let mut answer = RouterAnswer::default();
    let opened = async {
        loop {
            if let Some(external) = mapping.changed().await {
                break external;
            }
        }
    };
    let probed = async {
        while let Some(name) = asked.join_next().await {
            answer.protocols.extend(name.ok().flatten());
        }
        if answer.protocols.is_empty() {
            // Nobody is there who could open one.
            return;
        }
        std::future::pending().await
    };
    tokio::select! {
        external = timeout_at(until, opened) => answer.external = external.ok(),
        () = probed => {}
    }
    answer.protocols.sort_unstable();
    mapping.give_back().await;
    answer
}

/// The protocols by which a router is asked, each with the configuration of a client that speaks it alone.
fn protocols() -> [(&'static str, Config); 3] {
    let none = Config {
        enable_upnp: false,
        enable_pcp: false,
        enable_nat_pmp: false,
        protocol: Protocol::Udp,
    };
    [
        ("PCP", Config { enable_pcp: true, ..none.clone() }),
        ("NAT-PMP", Config { enable_nat_pmp: true, ..none.clone() }),
        ("UPnP", Config { enable_upnp: true, ..none }),
    ]
}

/// A client whose protocol the router speaks.
async fn spoken_by_the_router(config: Config) -> Option<Client> {
    let client = Client::new(config);
    let found = client.probe().await.ok()?.ok()?;
    (found.pcp || found.nat_pmp || found.upnp).then_some(client)
}

/// A request for a port that stands for as long as this lives.
///
/// Each protocol has a client of its own. One client for all would wait for the slowest protocol before
/// it asks for a port, and would renew the port by UPnP alone once it has forgotten, after ten minutes,
/// what the router speaks.
#[derive(Debug)]
pub(crate) struct PortMapping {
    local_port: NonZeroU16,
    /// Those that wait for the router to say that it speaks their protocol.
    asked: JoinSet<Option<Client>>,
    /// Those that it has answered, the first one first.
    spoken: VecDeque<Client>,
    /// The one that maps.
    mapping: Option<Mapping>,
    ask_at: Instant,
    /// When the next protocol has its turn, as long as no port is open.
    next_at: Instant,
}

#[derive(Debug)]
struct Mapping {
    client: Client,
    external: watch::Receiver<Option<SocketAddrV4>>,
}

impl PortMapping {
    /// Asks the router for a port that leads to this local one.
    pub(crate) fn ask(local_port: NonZeroU16) -> Self {
        let now = Instant::now();
        let (asked, spoken) = (JoinSet::new(), VecDeque::new());
        Self { local_port, asked, spoken, mapping: None, ask_at: now, next_at: now }
    }

    /// Asks anew, where no port is open: there may be another router.
    pub(crate) fn ask_again(&mut self) {
        self.ask_at = Instant::now();
    }

    /// Waits for the next change; the external address from then on. Dropping the future loses nothing.
    pub(crate) async fn changed(&mut self) -> Option<SocketAddr> {
        loop {
            let is_open = self.is_open();
            let external = async {
                if let Some(Mapping { external, .. }) = &mut self.mapping
                    && external.changed().await.is_ok()
                {
                    return external.borrow_and_update().map(SocketAddr::V4);
                }
                // There is none, or the library has given up.
                std::future::pending().await
            };
            tokio::select! {
                changed = external => return changed,
                Some(answered) = self.asked.join_next(), if !self.asked.is_empty() => {
                    self.spoken.extend(answered.ok().flatten());
                }
                () = sleep_until(self.ask_at) => {
                    self.ask_at = Instant::now() + ASK_AGAIN_AFTER;
                    if !is_open {
                        self.ask_all();
                    }
                }
                () = sleep_until(self.next_at), if !is_open && !self.spoken.is_empty() => {
                    self.next_at = Instant::now() + OPENED_WITHIN;
                    self.mapping = self.spoken.pop_front().map(|client| Mapping::ask(client, self.local_port));
                }
            }
        }
    }

    fn is_open(&self) -> bool {
        self.mapping.as_ref().is_some_and(|mapping| mapping.external.borrow().is_some())
    }

    fn ask_all(&mut self) {
        self.asked = JoinSet::new();
        self.spoken.clear();
        self.mapping = None;
        self.next_at = Instant::now();
        for (_, config) in protocols() {
            self.asked.spawn(spoken_by_the_router(config));
        }
    }

    /// Gives the port back to the router, where it has opened one, or is about to.
    pub(crate) async fn give_back(self) {
        let Some(Mapping { client, mut external }) = self.mapping else { return };
        let is_open = external.wait_for(Option::is_some);
        if timeout(UNDER_WAY, is_open).await.is_ok_and(|open| open.is_ok()) {
            client.deactivate();
            sleep(GIVE_BACK_WITHIN).await;
        }
    }
}

impl Mapping {
    fn ask(client: Client, local_port: NonZeroU16) -> Self {
        let external = client.watch_external_address();
        client.update_local_port(local_port);
        Self { client, external }
    }
}
