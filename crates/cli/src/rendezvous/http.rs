//! Where a server listens, and which proxies stand in front of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use holepunch_rendezvous::{BindError, IpNet};

use crate::exit::Failure;
use crate::settings::{Address, Environment, List, PortNumber, repeated};
use crate::signals::Stop;

const DEFAULT_PORT: u16 = 8080;

/// The options of whatever serves HTTP.
#[derive(Debug, clap::Args)]
#[group(id = "http")]
pub(crate) struct Args {
    /// Where HTTP is served; else on port 8080
    ///
    /// WebSockets are served there, too [env: PORT, the port alone] [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<Address>,
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
}

/// Runs a server until a signal comes.
pub(crate) async fn serve<S>(
    bind: impl FnOnce() -> Result<S, BindError>,
    shutdown: impl AsyncFnOnce(S),
) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let server = bind().map_err(Failure::failed)?;
    let signal = stop.wait().await;
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
}

impl Args {
    pub(crate) fn read(self, environment: &Environment) -> Result<Http, Failure> {
        let listen = match self.listen {
            Some(Address(address)) => address,
            None => {
                let port = environment.setting("--listen", None, &["PORT"])?;
                (Ipv4Addr::UNSPECIFIED, port.map_or(DEFAULT_PORT, |PortNumber(port)| port)).into()
            }
        };
        let (trusted_proxies, proxy_protocol) =
            proxies(&self.trusted_proxy, self.proxy_protocol, environment)?;
        Ok(Http { listen, trusted_proxies, proxy_protocol })
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
    let trusted: Option<List<Network>> = repeated("--trusted-proxy", trusted)?;
    let trusted = environment.setting("--trusted-proxy", trusted, &["TRUSTED_PROXY"])?;
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
