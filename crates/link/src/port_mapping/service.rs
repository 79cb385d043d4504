//! A service of the router that opens ports, and a port that it has opened.

use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::pcp::BaseMapRequest;
use crab_nat::{
    GATEWAY_PORT, InternetProtocol, MappingFailure, PortMappingOptions, PortMappingType,
    TimeoutConfig, VersionCode, natpmp, pcp,
};
use holepunch_wire::address::AddressKind;
use tokio::net::UdpSocket;
use tokio::task::JoinError;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::route::Route;
use super::upnp::Connection;

/// A port is asked for this long. What a killed program leaves open is closed by then, and a router that has lost its ports,
/// or its address, is found out in half of it.
pub(super) const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// A port is not renewed sooner, however short its life (RFC 6887, section 11.2.1).
const RENEWED_AFTER_LEAST: Duration = Duration::from_secs(4);
/// A router tells within this time that it speaks a protocol: milliseconds for most; up to a second for UPnP, which may wait as
/// long as it has been told, and then describes itself.
const FOUND_WITHIN: Duration = Duration::from_millis(1500);
/// A router opens a port, or renews it, within this time: one or several requests.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// A request by UDP is repeated after 250 and 500 ms (RFC 6886, section 3.1), and given up after a second more.
const REPEATED: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};
/// Longest message of PCP, in bytes (RFC 6887, section 7).
const PCP_BYTES_MAX: usize = 1100;

/// A service that has answered.
#[derive(Debug, Clone)]
pub(super) enum Service {
    Pcp(Route),
    NatPmp(Route),
    Upnp(Connection),
}

/// Why the router has opened no port.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Silent(#[from] Elapsed),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Library(#[from] MappingFailure),
    #[error("UPnP error {0}")]
    Refused(u16),
    #[error("the answer is not understood")]
    Malformed,
    #[error("no peer could come in at {0}")]
    Unreachable(IpAddr),
    #[error(transparent)]
    Task(#[from] JoinError),
}

impl Service {
    /// Each service that the router may have is asked for a word.
    pub(super) async fn pcp(route: Route) -> Result<Self, Failure> {
        timeout(FOUND_WITHIN, announced(route)).await?.map(|()| Self::Pcp(route))
    }

    pub(super) async fn nat_pmp(route: Route) -> Result<Self, Failure> {
        let address = natpmp::external_address(route.router.into(), Some(REPEATED));
        timeout(FOUND_WITHIN, address).await?.map_err(MappingFailure::from)?;
        Ok(Self::NatPmp(route))
    }

    pub(super) async fn upnp(route: Route) -> Result<Self, Failure> {
        timeout(FOUND_WITHIN, Connection::find(route)).await?.map(Self::Upnp)
    }

    /// The protocol by which it is asked.
    pub(super) fn protocol(&self) -> &'static str {
        match self {
            Self::Pcp(_) => "PCP",
            Self::NatPmp(_) => "NAT-PMP",
            Self::Upnp(_) => "UPnP",
        }
    }

    /// Asks for a port that leads to this local one.
    pub(super) async fn open(self, local_port: NonZeroU16) -> Result<Lease, Failure> {
        timeout(ANSWERED_WITHIN, self.ask(local_port)).await?
    }

    async fn ask(self, local_port: NonZeroU16) -> Result<Lease, Failure> {
        let options = PortMappingOptions {
            external_port: None,
            lifetime_seconds: u32::try_from(LIFETIME.as_secs()).ok(),
            timeout_config: Some(REPEATED),
        };
        let udp = InternetProtocol::Udp;
        let mapping = match self {
            Self::Pcp(Route { router, own }) => {
                let asked = BaseMapRequest::new(router.into(), own.into(), udp, local_port);
                let mapping = pcp::port_mapping(asked, None, None, options).await;
                mapping.map_err(MappingFailure::from)?
            }
            Self::NatPmp(Route { router, .. }) => {
                let mapping = natpmp::port_mapping(router.into(), udp, local_port, options).await;
                mapping.map_err(MappingFailure::from)?
            }
            Self::Upnp(connection) => {
                let external = connection.open(local_port, None).await?;
                return Ok(Lease::by_upnp(connection, local_port, external));
            }
        };
        Lease::by_library(mapping).await
    }
}

/// Whether a PCP server answers what asks for no port (RFC 6887, section 14.1). The library does not ask so.
async fn announced(route: Route) -> Result<(), Failure> {
    let socket = UdpSocket::bind((route.own, 0)).await?;
    socket.connect((route.router, GATEWAY_PORT)).await?;
    let mut request = [0; 24];
    request[0] = VersionCode::Pcp as u8;
    request[8..].copy_from_slice(&route.own.to_ipv6_mapped().octets());
    let mut answer = [0; PCP_BYTES_MAX];
    let mut wait = REPEATED.initial_timeout;
    loop {
        socket.send(&request).await?;
        if let Ok(length) = timeout(wait, socket.recv(&mut answer)).await {
            let is_success = length? >= request.len() && matches!(answer, [2, 0x80, _, 0, ..]);
            return if is_success { Ok(()) } else { Err(Failure::Malformed) };
        }
        wait *= 2;
    }
}

/// A port that the router has opened, for as long as it is renewed.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) external: SocketAddrV4,
    pub(super) renewed_after: Duration,
    held: Held,
}

#[derive(Debug, Clone)]
enum Held {
    ByLibrary(crab_nat::PortMapping),
    ByUpnp(Connection, NonZeroU16),
}

impl Lease {
    fn by_upnp(connection: Connection, local_port: NonZeroU16, external: SocketAddrV4) -> Self {
        let held = Held::ByUpnp(connection, local_port);
        Self { external, renewed_after: LIFETIME / 2, held }
    }

    /// Gives back what leads nobody in.
    async fn by_library(mapping: crab_nat::PortMapping) -> Result<Self, Failure> {
        match external(&mapping).await {
            Ok(external) => {
                let lifetime = Duration::from_secs(mapping.lifetime().into());
                let renewed_after = (lifetime / 2).clamp(RENEWED_AFTER_LEAST, LIFETIME / 2);
                Ok(Self { external, renewed_after, held: Held::ByLibrary(mapping) })
            }
            Err(failure) => {
                let closed = mapping.try_drop().await;
                tracing::debug!(is_closed = closed.is_ok(), "a port that leads nobody in");
                Err(failure)
            }
        }
    }

    /// Asks for the same port again. The router may give another one, or have another address by now.
    pub(super) async fn renew(self) -> Result<Self, Failure> {
        let renewed = async {
            match self.held {
                Held::ByLibrary(mut mapping) => {
                    mapping.renew().await?;
                    Self::by_library(mapping).await
                }
                Held::ByUpnp(connection, local_port) => {
                    let port = Some(self.external.port());
                    let external = connection.open(local_port, port).await?;
                    Ok(Self::by_upnp(connection, local_port, external))
                }
            }
        };
        timeout(ANSWERED_WITHIN, renewed).await?
    }

    /// Tells the router that the port is no longer needed, until it says that it is closed.
    pub(super) async fn close(self) -> Result<(), Failure> {
        match self.held {
            Held::ByLibrary(mapping) => mapping.try_drop().await.map_err(|(why, _)| why.into()),
            Held::ByUpnp(connection, _) => connection.close(self.external.port()).await,
        }
    }
}

async fn external(mapping: &crab_nat::PortMapping) -> Result<SocketAddrV4, Failure> {
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip,
        PortMappingType::NatPmp => {
            let ip = natpmp::external_address(mapping.gateway(), Some(REPEATED)).await;
            ip.map_err(MappingFailure::from)?.into()
        }
    };
    // A port for no time is none, and the library would take its renewal for a deletion.
    if mapping.lifetime() == 0 {
        return Err(Failure::Malformed);
    }
    reachable(ip, mapping.external_port().get())
}

/// A router may have any address inside; a peer elsewhere reaches an ordinary one alone.
pub(super) fn reachable(ip: IpAddr, port: u16) -> Result<SocketAddrV4, Failure> {
    match ip {
        IpAddr::V4(v4) if port != 0 && AddressKind::of(ip) == AddressKind::Ordinary => {
            Ok(SocketAddrV4::new(v4, port))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Err(Failure::Unreachable(ip)),
    }
}
