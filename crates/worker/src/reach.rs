//! A stream to the rendezvous: TCP to whichever address answers, through a proxy where there is one, and TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use holepunch_link::FailureCode;
use holepunch_link::dial::{Mute, dial, dial_any, without_name};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::failure::Told;
use crate::login::Login;
use crate::proxy::Proxy;
use crate::rendezvous_url::RendezvousUrl;
use crate::signalling::stream::{Below, Stream};
use crate::tls::Tls;
use crate::token::Token;
use crate::url::{WebSocketUrl, without_brackets};

/// Behind a proxy nothing but a STUN server hangs on the rendezvous' own address: it may take so long.
const OWN_ADDRESS_WITHIN: Duration = Duration::from_secs(1);

/// How every connection to the rendezvous is made.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) tls: Tls,
    pub(crate) proxy: Option<Proxy>,
    /// What its URL names, for a server in front of it that asks for a password.
    pub(crate) login: Option<Login>,
    /// What the rendezvous itself asks for.
    pub(crate) token: Option<Token>,
    /// Addresses, of the proxy where there is one, at which TCP alone has answered.
    pub(crate) mute: Mute,
}

impl Access {
    pub(crate) fn new(
        rendezvous: &RendezvousUrl,
        proxy: Option<Proxy>,
        token: Option<Token>,
    ) -> Self {
        let (tls, login) = (Tls::default(), rendezvous.login());
        Self { tls, proxy, login, token, mute: Mute::default() }
    }

    /// The host and the port to which TCP connects: those of the proxy, where there is one.
    pub(crate) fn first<'a>(&'a self, url: &'a WebSocketUrl) -> (&'a str, u16) {
        match &self.proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => host_and_port(url),
        }
    }

    /// Connects to the host of `url`, or to the proxy; the address of the other end is told. `known` is that address, where
    /// it needs no look-up.
    pub(crate) async fn tcp(
        &self,
        url: &WebSocketUrl,
        known: Option<SocketAddr>,
        tcp_within: Duration,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let (to, to_port) = self.first(url);
        let tcp = async {
            match known {
                Some(known) => dial_any(&[known], tcp_within).await.map_err(io::Error::from),
                None => dial(to, to_port, &self.mute, tcp_within).await,
            }
        };
        // What TLS needs is made while TCP connects.
        let config = async {
            if url.is_encrypted() {
                _ = self.tls.config().await;
            }
        };
        let (stream, ()) = tokio::join!(tcp, config);
        let stream = stream.map_err(|error| match &self.proxy {
            Some(proxy) => {
                let why = error.to_string();
                let why = without_name(&proxy.authority(), &why);
                let why = format!("{proxy} is not reached: {why}");
                Told::io(FailureCode::Proxy, error.kind(), why)
            }
            None => error,
        })?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        self.mute.connected(peer);
        Ok((stream, peer))
    }

    /// What leads to the rendezvous on a TCP connection: through the proxy where there is one, and with TLS.
    pub(crate) async fn stream(
        &self,
        url: &WebSocketUrl,
        mut tcp: TcpStream,
    ) -> io::Result<Stream> {
        self.tunnel(url, &mut tcp).await?;
        self.secure(url, tcp).await
    }

    /// Asks the proxy, where there is one, for a connection to the host of `url`.
    pub(crate) async fn tunnel(&self, url: &WebSocketUrl, tcp: &mut TcpStream) -> io::Result<()> {
        let Some(proxy) = &self.proxy else { return Ok(()) };
        let (_, port) = host_and_port(url);
        // With the brackets of an IPv6 address.
        let asked = proxy.tunnel(tcp, &format!("{}:{port}", url.host())).await;
        asked.map_err(|error| Told::io(FailureCode::Proxy, error.kind(), error.to_string()))
    }

    /// Speaks TLS on a connection to the host of `url`, where the URL asks for it.
    pub(crate) async fn secure(&self, url: &WebSocketUrl, tcp: TcpStream) -> io::Result<Stream> {
        if !url.is_encrypted() {
            return Ok(Stream::new(Below::Left(tcp)));
        }
        let (name, _) = host_and_port(url);
        let config = self.tls.config().await.map_err(io::Error::other)?;
        let server = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TlsConnector::from(config).connect(server, tcp).await;
        let stream = stream.map_err(|error| self.tls.in_words(error))?;
        Ok(Stream::new(Below::Right(Box::new(stream))))
    }

    /// The rendezvous' own address behind a proxy, where a look-up finds it; without a proxy, the TCP connection has it at
    /// the other end.
    pub(crate) async fn own_address(&self, url: &WebSocketUrl) -> Option<IpAddr> {
        self.proxy.as_ref()?;
        let (name, port) = host_and_port(url);
        let found = timeout(OWN_ADDRESS_WITHIN, lookup_host((name, port))).await.ok()?.ok()?;
        // A worker's endpoint is IPv4.
        found.map(|address| address.ip().to_canonical()).min_by_key(IpAddr::is_ipv6)
    }
}

/// The host without brackets, and the port.
fn host_and_port(url: &WebSocketUrl) -> (&str, u16) {
    (without_brackets(url.host()), url.port_or_default())
}
