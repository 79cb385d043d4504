//! UPnP: the internet gateway device that a router is.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU16;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use url::{Host, Position, Url};

use super::route::Route;
use super::service::{Failure, LIFETIME, reachable};
use super::xml;

/// Where devices listen for searches.
const SEARCHED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
/// Every device answers to the first version of its kind (UPnP Device Architecture, section 1.3.2), within a second.
const SEARCH: &[u8] = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
/// Longest answer to a search, in bytes: a packet of an Ethernet.
const FOUND_BYTES_MAX: usize = 1500;
/// Longest body of an answer, in bytes. A description of a router has some 10 kB.
const ANSWER_BYTES_MAX: usize = 128 * 1024;
/// External ports that are tried one by one where the router chooses none itself: the dynamic ones (RFC 6335, section 6),
/// of which hardly any is taken. The last one tried is the local port, for routers that open no other.
const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
const PORTS_TRIED: usize = 3;

/// The service of a router that opens ports.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    route: Route,
    kind: &'static str,
    control: Url,
}

impl Connection {
    /// Searches for it.
    pub(super) async fn find(route: Route) -> Result<Self, Failure> {
        let socket = UdpSocket::bind((route.own, 0)).await?;
        SockRef::from(&socket).set_multicast_if_v4(&route.own)?;
        socket.send_to(SEARCH, SEARCHED).await?;
        let mut answer = [0; FOUND_BYTES_MAX];
        loop {
            let (length, from) = socket.recv_from(&mut answer).await?;
            let location = xml::location(&String::from_utf8_lossy(&answer[..length]), route);
            let (true, Some(location)) = (from.ip() == route.router, location) else {
                tracing::debug!(%from, "the answer is not of the router");
                continue;
            };
            // A router may have several devices.
            match Self::described(&location, route).await {
                Ok(connection) => return Ok(connection),
                Err(failure) => {
                    tracing::debug!(%location, %failure, "a device that opens no ports")
                }
            }
        }
    }

    pub(super) async fn described(location: &Url, route: Route) -> Result<Self, Failure> {
        let description = exchange(location, Request::get(target(location)), String::new()).await?;
        let found = xml::service(&description, location, route);
        let (kind, control) = found.ok_or(Failure::Malformed)?;
        Ok(Self { route, kind, control })
    }

    /// Opens a port that leads to this local one, the external one of `again` if there is one.
    pub(super) async fn open(
        &self,
        local_port: NonZeroU16,
        again: Option<u16>,
    ) -> Result<SocketAddrV4, Failure> {
        let ip = self.ask("GetExternalIPAddress", &[]).await?;
        let ip = xml::text_of(&ip, "NewExternalIPAddress").and_then(|ip| ip.parse().ok());
        // Nothing is opened where nobody could come in.
        let at = |port| reachable(ip.ok_or(Failure::Malformed)?, port);
        at(local_port.get())?;
        if let Some(port) = again {
            self.add("AddPortMapping", local_port, port).await?;
            return at(port);
        }
        if self.kind == xml::CHOOSING {
            match self.add("AddAnyPortMapping", local_port, rand::random_range(PORTS)).await {
                // Some know the action by its name alone.
                Err(Failure::Refused(_)) => {}
                answer => {
                    let port = xml::text_of(&answer?, "NewReservedPort");
                    return at(port
                        .and_then(|port| port.parse().ok())
                        .ok_or(Failure::Malformed)?);
                }
            }
        }
        let mut tried = Err(Failure::Malformed);
        for attempt in 0..=PORTS_TRIED {
            let port =
                if attempt < PORTS_TRIED { rand::random_range(PORTS) } else { local_port.get() };
            tried = self.add("AddPortMapping", local_port, port).await.and_then(|_| at(port));
            // Another port helps only against what the router says of this one.
            if !matches!(tried, Err(Failure::Refused(_))) {
                break;
            }
        }
        tried
    }

    pub(super) async fn close(&self, external: u16) -> Result<(), Failure> {
        let port = external.to_string();
        let arguments = [("NewRemoteHost", ""), ("NewExternalPort", &port), ("NewProtocol", "UDP")];
        self.ask("DeletePortMapping", &arguments).await.map(drop)
    }

    async fn add(&self, action: &str, local: NonZeroU16, external: u16) -> Result<String, Failure> {
        let [own, local, external, lifetime] = [
            self.route.own.to_string(),
            local.to_string(),
            external.to_string(),
            LIFETIME.as_secs().to_string(),
        ];
        let arguments = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", external.as_str()),
            ("NewProtocol", "UDP"),
            ("NewInternalPort", &local),
            ("NewInternalClient", &own),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", "holepunch"),
            ("NewLeaseDuration", &lifetime),
        ];
        self.ask(action, &arguments).await
    }

    /// Calls an action; its answer.
    async fn ask(&self, action: &str, arguments: &[(&str, &str)]) -> Result<String, Failure> {
        let kind = self.kind;
        let arguments: String =
            arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        let body = format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">{arguments}\
             </u:{action}></s:Body></s:Envelope>"
        );
        let request = Request::post(target(&self.control))
            .header("SOAPAction", format!("\"{kind}#{action}\""))
            .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"");
        let answer = exchange(&self.control, request, body).await?;
        if let Some(code) = xml::text_of(&answer, "errorCode") {
            return Err(code.parse().map_or(Failure::Malformed, Failure::Refused));
        }
        // Whatever else has answered, nothing was done.
        xml::text_of(&answer, &format!("{action}Response")).ok_or(Failure::Malformed)?;
        Ok(answer)
    }
}

fn target(url: &Url) -> &str {
    &url[Position::BeforePath..Position::AfterQuery]
}

/// One request and the body of its answer, on a connection of its own.
async fn exchange(
    url: &Url,
    request: hyper::http::request::Builder,
    body: String,
) -> Result<String, Failure> {
    let (Some(Host::Ipv4(ip)), Some(port)) = (url.host(), url.port_or_known_default()) else {
        return Err(Failure::Malformed);
    };
    let to = SocketAddrV4::new(ip, port);
    let request = request.header(HOST, to.to_string()).header(CONNECTION, "close");
    let request = request.body(Full::<Bytes>::from(body)).map_err(|_| Failure::Malformed)?;
    let stream = TokioIo::new(TcpStream::connect(to).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    // It ends with this function at the latest.
    let mut served = JoinSet::new();
    served.spawn(connection);
    let answer = sender.send_request(request).await?;
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests;
