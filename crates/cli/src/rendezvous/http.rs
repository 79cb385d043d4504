//! Where a server listens, and which proxies stand in front of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use holepunch_rendezvous::{BindError, IpNet, Tls};

use super::tls;
use crate::exit::Failure;
use crate::reloading::{Hangups, Hooks};
use crate::service_manager;
use crate::settings::{Address, Environment, List, PortNumber};
use crate::signals::Stop;

const DEFAULT_PORT: u16 = 8080;

/// The options of whatever serves HTTP.
#[derive(Debug, clap::Args)]
#[group(id = "http")]
pub(crate) struct Args {
    /// Where HTTP is served; else on port 8080
    ///
    /// WebSockets are served there, too [env: LISTEN, or PORT (the port alone)] [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// Proxies whose X-Forwarded-For is believed
    ///
    /// The networks of these proxies. Their X-Forwarded-Host and Forwarded are believed as well [env: TRUSTED_PROXY]
    #[arg(long, value_name = "CIDR,…", alias = "trusted-proxies")]
    trusted_proxy: Vec<String>,
    /// Trusted proxies speak the PROXY protocol
    ///
    /// Each connection of a trusted proxy begins with a header of version 1 or 2, which names the client; of others no
    /// such header is taken [env: PROXY_PROTOCOL]
    #[arg(long)]
    proxy_protocol: bool,
    #[command(flatten)]
    tls: tls::Args,
}

/// An address with a port, or a port of all addresses (of IPv4).
#[derive(Debug, Clone, Copy)]
struct Listen(SocketAddr);

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let everywhere = |PortNumber(port)| (Ipv4Addr::UNSPECIFIED, port).into();
        let port = text.parse().map(everywhere);
        let address = port.or_else(|_| text.parse().map(|Address(address)| address));
        address
            .map(Self)
            .map_err(|_| "expected an IP address and a port, as 0.0.0.0:9000, or a port")
    }
}

/// Runs a server until a signal comes.
pub(crate) async fn serve<S>(
    hooks: &Hooks<S>,
    bind: impl FnOnce() -> Result<S, BindError>,
    shutdown: impl AsyncFnOnce(S),
) -> Result<ExitCode, Failure> {
    let (mut stop, mut hangups) = (Stop::listen()?, Hangups::listen()?);
    let server = bind().map_err(Failure::failed)?;
    service_manager::ready();
    let signal = tokio::select! {
        signal = stop.wait() => signal,
        () = hangups.serve(hooks, &server) => unreachable!("invariant: it serves for ever"),
    };
    service_manager::stopping();
    tracing::info!(signal, "shutting down");
    shutdown(server).await;
    Ok(ExitCode::SUCCESS)
}

/// What they say.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) proxy_protocol: bool,
    pub(crate) tls: Option<Tls>,
}

impl Args {
    pub(crate) fn read(self, environment: &Environment) -> Result<Http, Failure> {
        let listen = environment.setting("--listen", self.listen, &["LISTEN", "PORT"])?;
        let default = (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into();
        let proxies = proxies(&self.trusted_proxy, self.proxy_protocol, environment);
        let (trusted_proxies, proxy_protocol) = environment.kept(proxies)?;
        let tls = environment.kept(self.tls.read(environment))?;
        let listen = listen.map_or(default, |Listen(address)| address);
        Ok(Http { listen, trusted_proxies, proxy_protocol, tls })
    }
}

/// A network, or a single address.
#[derive(Debug, Clone)]
struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let single = text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = single.or_else(|| text.parse().ok());
        network.map(Self).ok_or_else(|| "expected a network such as 10.0.0.0/8".to_owned())
    }
}

/// The networks of proxies, and whether they speak the PROXY protocol.
fn proxies(
    trusted: &[String],
    proxy_protocol: bool,
    environment: &Environment,
) -> Result<(Vec<IpNet>, bool), Failure> {
    let trusted: Option<List<Network>> =
        environment.list("--trusted-proxy", trusted, &["TRUSTED_PROXY"])?;
    let proxy_protocol =
        environment.switch("--proxy-protocol", proxy_protocol, "PROXY_PROTOCOL")?;
    if proxy_protocol && trusted.is_none() {
        let why = "--proxy-protocol (PROXY_PROTOCOL) needs the proxy's network: --trusted-proxy";
        return Err(Failure::usage(why));
    }
    let trusted =
        trusted.map(|List(networks)| networks.into_iter().map(|network| network.0).collect());
    Ok((trusted.unwrap_or_default(), proxy_protocol))
}
