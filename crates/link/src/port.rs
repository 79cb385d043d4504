//! One UDP port and the machine that it serves.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
#[cfg(feature = "port-mapping")]
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_traversal::{
    Config, Dropped, Event, Input, SessionEvent, SessionStatus, SocketId, StunServer, Surroundings,
    Traversal,
};
use holepunch_wire::nat::NatProfile;
use holepunch_wire::session::SessionId;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::links::{LinkConfig, LinkEvent, Links, RelayEnd, RelayKind};
use crate::mux::{Arrived, Mux, PacketDrops};
use crate::port_mapping::PortMapping;
use crate::resolve::{LocalPorts, ServerName, resolve};
use crate::sockets::Sockets;
use crate::surroundings::interface_addresses;

/// The interfaces are looked at this often: a laptop that changes its network notices within the
/// time that its peer needs to become suspicious.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Datagrams read before the events that they caused are handed out.
const BATCH_MAX: usize = 32;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The UDP port cannot be bound.
    #[error("cannot bind UDP {address}: {source}")]
    Bind {
        /// The address; port 0 stands for any free one.
        address: SocketAddrV4,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// One UDP port: discovery, probes and keep-alive happen while [`next_event`](Self::next_event) is
/// awaited.
#[derive(Debug)]
pub struct Port {
    sockets: Sockets,
    links: Links,
    arrived: mpsc::Receiver<Arrived>,
    local: SocketAddr,
    surroundings: Surroundings,
    look_at: Instant,
    mapping: Option<PortMapping>,
    machine: Traversal,
    servers: Vec<ServerName>,
    resolving: Option<JoinHandle<Result<Vec<StunServer>, String>>>,
}

/// What happened at a port.
#[derive(Debug)]
pub enum PortEvent {
    /// In discovery, punching or keep-alive.
    Traversal(Event),
    /// To a link.
    Link(LinkEvent),
}

/// What woke a port up.
enum Woken {
    Arrived(Option<Arrived>),
    Link(LinkEvent),
    Look,
    PortMapped(Option<SocketAddr>),
    Resolved(Result<Vec<StunServer>, String>),
    Due,
}

impl Port {
    /// Binds a UDP socket; port 0 means any free one. Without `links`, there are none: sessions are
    /// punched and kept, and nothing more.
    ///
    /// # Errors
    /// The port cannot be bound, or the system gives no random numbers.
    pub async fn open(
        address: SocketAddrV4,
        servers: Vec<ServerName>,
        config: Config,
        links: Option<LinkConfig>,
    ) -> Result<Self, OpenError> {
        let bind = |source| OpenError::Bind { address, source };
        let socket = UdpSocket::bind(address).await.map_err(bind)?;
        let local = socket.local_addr().map_err(bind)?;
        // A fresh socket counts as not writable until the runtime has looked: without this the first
        // request would be dropped, and sent again only after half a second.
        socket.writable().await.map_err(bind)?;
        let rng = StdRng::try_from_rng(&mut SysRng)
            .map_err(|error| OpenError::Random(error.to_string()))?;
        let socket = Arc::new(socket);
        let (mux, quic, arrived) = Mux::new(Arc::clone(&socket)).map_err(bind)?;
        let links = Links::new(Arc::clone(&mux), quic, links).map_err(bind)?;
        let mut sockets = Sockets::new(socket, mux);
        // A host without IPv6 goes on without. One that is bound to a single address has none either.
        let wildcard = local.ip().is_unspecified();
        let main_v6 = if wildcard { sockets.open_main_v6(local.port()).ok() } else { None };
        let machine = Traversal::new(config, rng);
        let surroundings = Surroundings { main: Some(local), main_v6, ..Surroundings::default() };
        let mut port = Self {
            sockets,
            links,
            arrived,
            local,
            surroundings,
            look_at: Instant::now() + LOOK_EVERY,
            mapping: None,
            machine,
            servers,
            resolving: None,
        };
        port.look_around();
        Ok(port)
    }

    /// Tells the machine of the interfaces, where they have changed.
    fn look_around(&mut self) {
        let bound = self.local.ip();
        let interfaces = if bound.is_unspecified() { interface_addresses() } else { vec![bound] };
        self.look_at = Instant::now() + LOOK_EVERY;
        if interfaces != self.surroundings.interfaces {
            if let Some(mapping) = &mut self.mapping {
                mapping.ask_again();
            }
            self.surroundings.interfaces = interfaces;
            self.tell_surroundings();
        }
    }

    fn tell_surroundings(&mut self) {
        self.handle(Input::Surroundings(self.surroundings.clone()));
    }

    /// Asks the router for a port that leads to the worker's own, by UPnP, NAT-PMP or PCP. Where it
    /// opens one, that is a candidate. A port that is bound to one address asks for none.
    #[cfg(feature = "port-mapping")]
    pub fn ask_port_mapping(&mut self) {
        let port = NonZeroU16::new(self.local.port());
        self.mapping = port.filter(|_| self.local.ip().is_unspecified()).map(PortMapping::ask);
    }

    /// Closes the port with all its links, and gives the one that the router has opened back; that takes half a second at most.
    pub async fn close(mut self) {
        if let Some(lookup) = &self.resolving {
            lookup.abort();
        }
        let mapping = self.mapping.take();
        let give_back = async {
            if let Some(mapping) = mapping {
                mapping.give_back().await;
            }
        };
        tokio::join!(self.links.close(), give_back);
    }

    /// A way to attach a relay to a session; `None` where the session has no link, or relays are not to
    /// be used.
    #[must_use]
    pub fn relay(&self, session: SessionId, kind: RelayKind) -> Option<RelayEnd> {
        self.links.relay(session, kind)
    }

    fn port_mapped(&mut self, external: Option<SocketAddr>) {
        match external {
            Some(external) => tracing::info!(%external, "port that the router has opened"),
            None => tracing::info!("the port that the router had opened is closed"),
        }
        self.surroundings.port_mapped = external;
        self.tell_surroundings();
    }

    /// The NAT profile as far as it is known.
    #[must_use]
    pub fn profile(&self) -> &NatProfile {
        self.machine.profile()
    }

    /// Whether the profile holds all that can be learnt within a second, once the servers have answered.
    #[must_use]
    pub fn profile_is_settled(&self) -> bool {
        self.machine.profile_is_settled()
    }

    /// How every session stands.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.machine.sessions(Instant::now()).collect()
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams dropped so far, by reason.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.machine.dropped()
    }

    /// Datagrams dropped so far between sockets, relays, QUIC and the machine, by reason.
    #[must_use]
    pub fn packet_drops(&self) -> PacketDrops {
        self.links.drops()
    }

    /// Tells the machine what the rendezvous said.
    pub fn handle(&mut self, input: Input<'_>) {
        self.machine.handle_input(input, Instant::now());
        self.transmit();
    }

    /// What the machine has to say, beside what the port has dealt with by itself.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(event) = self.machine.poll_event() {
            if let Some(event) = self.traversal_event(event) {
                return Some(event);
            }
        }
        None
    }

    /// Serves the socket until something happens that is of interest. Dropping the future loses
    /// nothing.
    pub async fn next_event(&mut self) -> PortEvent {
        loop {
            if let Some(event) = self.poll_event() {
                return PortEvent::Traversal(event);
            }
            // A socket that is never empty must not keep the task from everything else.
            tokio::task::consume_budget().await;
            match self.woken().await {
                Woken::Resolved(servers) => {
                    self.resolving = None;
                    self.machine.handle_input(Input::Resolved(servers), Instant::now());
                }
                Woken::Arrived(arrived) => self.arrived(arrived),
                Woken::Link(LinkEvent::Doubt(session)) => {
                    self.links.doubt(session);
                    self.machine.handle_input(Input::Doubt(session), Instant::now());
                }
                Woken::Link(LinkEvent::Relayed(session, relay)) => {
                    let input = Input::Relayed(session, relay);
                    self.machine.handle_input(input, Instant::now());
                }
                Woken::Link(event) => {
                    if let LinkEvent::Ended { session, .. } = &event {
                        self.links.ended(*session);
                    }
                    return PortEvent::Link(event);
                }
                Woken::Look => self.look_around(),
                Woken::PortMapped(external) => self.port_mapped(external),
                Woken::Due => self.machine.handle_timeout(Instant::now()),
            }
            self.transmit();
        }
    }

    /// Does what an event of the machine asks for; the rest is for the owner.
    fn traversal_event(&mut self, event: Event) -> Option<Event> {
        if event == Event::Resolve {
            let v6 = self.surroundings.main_v6.map(|main| main.port());
            let ports = LocalPorts { v4: self.local.port(), v6 };
            let lookup = resolve(self.servers.clone(), ports);
            self.resolving = Some(tokio::spawn(lookup));
            return None;
        } else if let Event::OpenSocket(socket) = event {
            self.open_socket(socket);
            return None;
        } else if let Event::CloseSocket(socket) = event {
            self.sockets.close(socket);
            return None;
        } else if let Event::Mapped { is_endpoint: true, replaces: Some(_), .. } = &event {
            self.links.rebound();
        } else if let Event::Session(session, _, told) = &event {
            if let SessionEvent::Started(offer) = told {
                self.links.begin(offer);
            }
            self.links.handle(*session, told);
            if let SessionEvent::Linked(path)
            | SessionEvent::PathChanged(path)
            | SessionEvent::Repaired(path) = told
            {
                self.sockets.promote(path.socket);
            }
        }
        Some(event)
    }

    /// Hands what has arrived to the machine, with all that has arrived behind it.
    fn arrived(&mut self, first: Option<Arrived>) {
        let mut next = first;
        for _ in 0..BATCH_MAX {
            let Some(Arrived { socket, from, payload }) = next else { return };
            let input = Input::Datagram { socket, from, payload: &payload };
            self.machine.handle_input(input, Instant::now());
            self.transmit();
            next = self.arrived.try_recv().ok();
        }
        if let Some(Arrived { socket, from, payload }) = next {
            let input = Input::Datagram { socket, from, payload: &payload };
            self.machine.handle_input(input, Instant::now());
        }
    }

    fn open_socket(&mut self, socket: SocketId) {
        let input = match self.sockets.open(socket) {
            Ok(local) => Input::SocketOpened(socket, local),
            Err(error) => {
                tracing::debug!(%error, "no further UDP socket");
                Input::SocketFailed(socket)
            }
        };
        self.handle(input);
    }

    async fn woken(&mut self) -> Woken {
        let due = self.machine.poll_timeout().map(|(at, _)| at);
        let due = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let resolved = async {
            match &mut self.resolving {
                Some(lookup) => lookup.await.unwrap_or_else(|error| Err(error.to_string())),
                None => std::future::pending().await,
            }
        };
        let mapped = async {
            match &mut self.mapping {
                Some(mapping) => mapping.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            external = mapped => Woken::PortMapped(external),
            arrived = self.arrived.recv() => Woken::Arrived(arrived),
            event = self.links.next_event() => Woken::Link(event),
            () = tokio::time::sleep_until(self.look_at.into()) => Woken::Look,
            servers = resolved => Woken::Resolved(servers),
            () = due => Woken::Due,
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            // What cannot be sent is lost, as on any network: every request is repeated by its timer.
            if let Err(error) = self.sockets.send(&transmit) {
                tracing::debug!(%error, to = %transmit.to, "datagram not sent");
            }
        }
    }
}
