//! `holepunch demo`: two workers behind simulated NATs, linked; or plainly, on loopback.

mod hard;
mod plain;
mod progress;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use holepunch_rendezvous::{
    AdminConfig, Auth, Config as ServerConfig, MatchmakerConfig, RelayLimits, Server,
};

use crate::exit::Failure;
use crate::output;

/// Without a link by then the demo has failed.
const LINK_WITHIN: Duration = Duration::from_secs(10);
const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// Link two workers on this machine, through simulated NATs
///
/// The NATs are such that the plain way does not link the two: it is tried, then the search; a file goes over the link. The rendezvous, its STUN server and the workers are the real ones, in one process. Exit code 1 when the two are not linked within 10 s.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  holepunch demo\n  holepunch demo --seed 7 --json\n  \
    holepunch demo --plain\n  holepunch demo --keep")]
pub(crate) struct Args {
    /// Without NATs: each step of two workers on loopback
    #[arg(long)]
    plain: bool,
    /// The same, and stay up until Ctrl-C, with URLs to look at
    #[arg(long)]
    keep: bool,
    /// What the NATs' ports are drawn from [default: a random number]
    #[arg(long, value_name = "N", conflicts_with_all = ["plain", "keep"])]
    seed: Option<u64>,
    /// Print the result as a JSON object; the steps go to standard error
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let Args { plain, keep, seed, json } = args;
    if plain || keep {
        return plain::run(json, keep).await;
    }
    if !hard::is_possible() {
        output::progress(
            "this system has one loopback address alone, too few for the simulated NATs: `demo --plain` follows, \
             and `lab` plays NATs without sockets",
        );
        return plain::run(json, false).await;
    }
    hard::run(json, seed).await
}

/// A rendezvous on loopback, with STUN at these addresses, which workers are told as those; the same without any.
fn server(
    stun_listen: Vec<SocketAddr>,
    stun_advertise: Vec<SocketAddr>,
) -> Result<Server, Failure> {
    Server::bind(ServerConfig {
        stun_advertise,
        listen: ANY_PORT,
        stun_listen,
        stun_is_optional: false,
        stun_answers_max: None,
        auth: Auth::Open,
        listing: true,
        admin: AdminConfig::default(),
        open_files_max: None,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        tls: None,
        relay: Some(RelayLimits::default()),
        public_hosts: Vec::new(),
        matchmaker: MatchmakerConfig::default(),
    })
    .map_err(Failure::failed)
}
