//! One UDP port and the machine that it serves.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_traversal::{
    Config, Dropped, Event, Input, SessionStatus, SocketId, StunServer, Surroundings, Traversal,
};
use holepunch_wire::nat::NatProfile;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::port_mapping::PortMapping;
use crate::resolve::{ServerName, resolve};
use crate::sockets::{Arrived, READ_BYTES, Sockets};
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
    socket: Arc<UdpSocket>,
    sockets: Sockets,
    local: SocketAddr,
    surroundings: Surroundings,
    look_at: Instant,
    mapping: Option<PortMapping>,
    machine: Traversal,
    servers: Vec<ServerName>,
    resolving: Option<JoinHandle<Result<Vec<StunServer>, String>>>,
    buffer: Box<[u8; READ_BYTES]>,
}

/// What woke a port up.
enum Woken {
    Readable(io::Result<()>),
    Arrived(Arrived),
    Look,
    PortMapped(Option<SocketAddr>),
    Resolved(Result<Vec<StunServer>, String>),
    Due,
}

impl Port {
    /// Binds a UDP socket; port 0 means any free one.
    ///
    /// # Errors
    /// The port cannot be bound, or the system gives no random numbers.
    pub async fn open(
        address: SocketAddrV4,
        servers: Vec<ServerName>,
        config: Config,
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
        let mut sockets = Sockets::new(Arc::clone(&socket));
        // A host without IPv6 goes on without. One that is bound to a single address has none either.
        let wildcard = local.ip().is_unspecified();
        let main_v6 = if wildcard { sockets.open_main_v6(local.port()).ok() } else { None };
        let machine = Traversal::new(config, rng);
        let surroundings = Surroundings { main: Some(local), main_v6, ..Surroundings::default() };
        let mut port = Self {
            socket,
            sockets,
            local,
            surroundings,
            look_at: Instant::now() + LOOK_EVERY,
            mapping: None,
            machine,
            servers,
            resolving: None,
            buffer: Box::new([0; READ_BYTES]),
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
    pub fn ask_port_mapping(&mut self) {
        let port = NonZeroU16::new(self.local.port());
        self.mapping = port.filter(|_| self.local.ip().is_unspecified()).map(PortMapping::ask);
    }

    /// Closes the port, and gives the one that the router has opened back; that takes half a second at most.
    pub async fn close(mut self) {
        if let Some(mapping) = self.mapping.take() {
            mapping.give_back().await;
        }
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

    /// Tells the machine what the rendezvous said.
    pub fn handle(&mut self, input: Input<'_>) {
        self.machine.handle_input(input, Instant::now());
        self.transmit();
    }

    /// Serves the socket until something happens that is of interest. Dropping the future loses
    /// nothing.
    pub async fn next_event(&mut self) -> Event {
        loop {
            while let Some(event) = self.machine.poll_event() {
                if event == Event::Resolve {
                    let lookup = resolve(self.servers.clone(), self.local.port());
                    self.resolving = Some(tokio::spawn(lookup));
                } else if let Event::OpenSocket(socket) = event {
                    self.open_socket(socket);
                } else if let Event::CloseSocket(socket) = event {
                    self.sockets.close(socket);
                } else {
                    return event;
                }
            }
            // A socket that is never empty must not keep the task from everything else.
            tokio::task::consume_budget().await;
            match self.woken().await {
                Woken::Readable(Ok(())) => self.read(),
                Woken::Readable(Err(error)) => {
                    tracing::warn!(%error, "UDP socket");
                    tokio::task::yield_now().await;
                }
                Woken::Resolved(servers) => {
                    self.resolving = None;
                    self.machine.handle_input(Input::Resolved(servers), Instant::now());
                }
                Woken::Arrived(Arrived { socket, from, payload }) => {
                    let input = Input::Datagram { socket, from, payload: &payload };
                    self.machine.handle_input(input, Instant::now());
                }
                Woken::Look => self.look_around(),
                Woken::PortMapped(external) => self.port_mapped(external),
                Woken::Due => self.machine.handle_timeout(Instant::now()),
            }
            self.transmit();
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
            arrived = self.sockets.next() => Woken::Arrived(arrived),
            () = tokio::time::sleep_until(self.look_at.into()) => Woken::Look,
            readable = self.socket.readable() => Woken::Readable(readable),
            servers = resolved => Woken::Resolved(servers),
            () = due => Woken::Due,
        }
    }

    fn read(&mut self) {
        for _ in 0..BATCH_MAX {
            // An error here is that of one datagram (an ICMP message, say); the socket goes on.
            let Ok((length, from)) = self.socket.try_recv_from(&mut self.buffer[..]) else {
                return;
            };
            let payload = &self.buffer[..length];
            let input = Input::Datagram { socket: SocketId::MAIN, from, payload };
            self.machine.handle_input(input, Instant::now());
            self.transmit();
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

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(lookup) = &self.resolving {
            lookup.abort();
        }
    }
}
