//! `holepunch worker`.

use std::process::ExitCode;

use holepunch_worker::{Config, ServerName, Worker, WorkerId};
use url::Url;

use crate::exit::Failure;
use crate::headings::{MEETING, NETWORK};
use crate::hints::not_started;
use crate::peering::{IdentityFile, ModeArg, PeeringArgs, rendezvous_url};
use crate::reloading::{Hangups, Hooks};
use crate::settings::{Environment, List, Number, OrNone, Pause, PortNumber, Seconds};
use crate::signals::Stop;
use crate::{inspecting, service_manager};

const DEFAULT_HEALTH_PORT: u16 = 8080;
const DEFAULT_STUN_HOST: &str = "stun.l.google.com";
const DEFAULT_STUN_PORT: u16 = 19302;
const DEFAULT_UDP_PORT: u16 = 8081;
/// In the place of a rendezvous that no setting names.
const UNNAMED: &str = "http://127.0.0.1:8080";
const DEFAULT_IP_ECHO_URL: &str = "https://api.ipify.org";

/// Run a worker
///
/// It registers, learns its public UDP endpoint, and links with the peers that it is offered. Without --room a worker is in the room of all that name none.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch worker --rendezvous-url https://rendezvous.example\n  \
    PORT=0 INTERNAL_UDP_PORT_ENV=0 IP_ECHO_URL=none STUN_SERVERS=127.0.0.1:3478 \\\n    \
    holepunch worker --rendezvous-url http://127.0.0.1:8080")]
pub(crate) struct Args {
    /// The rendezvous, unless one is remembered
    ///
    /// `holepunch login URL` remembers one [env: RENDEZVOUS_SERVICE_URL]
    #[arg(long, value_name = "URL", help_heading = MEETING)]
    rendezvous_url: Option<String>,
    /// TCP port of the health server [default: 8080]
    ///
    /// 0 for any free one [env: PORT]
    #[arg(long, value_name = "PORT")]
    port: Option<PortNumber>,
    #[command(flatten)]
    stun: StunArgs,
    /// Repetitions of STUN discovery after it failed; for ever without it [env: STUN_MAX_RETRIES]
    #[arg(long, value_name = "N", help_heading = NETWORK, hide_short_help = true)]
    stun_max_retries: Option<Number<0>>,
    /// Pause before each repetition; half a second to 30 s, growing, without it [env: STUN_RETRY_DELAY_SEC]
    #[arg(long, value_name = "SECONDS", help_heading = NETWORK, hide_short_help = true)]
    stun_retry_delay_sec: Option<Pause>,
    /// UDP port for STUN and peers [default: 8081]
    ///
    /// 0 for any free one [env: INTERNAL_UDP_PORT_ENV]
    #[arg(long, value_name = "PORT")]
    internal_udp_port: Option<PortNumber>,
    /// Time between two pings on the WebSocket [env: PING_INTERVAL_SEC] [default: 25]
    #[arg(long, value_name = "SECONDS", help_heading = NETWORK, hide_short_help = true)]
    ping_interval_sec: Option<Seconds>,
    /// Time that a ping may stay without an answer [env: PING_TIMEOUT_SEC] [default: 25]
    #[arg(long, value_name = "SECONDS", help_heading = NETWORK, hide_short_help = true)]
    ping_timeout_sec: Option<Seconds>,
    /// HTTP service that tells the caller's IP
    ///
    /// `none` asks nobody [env: IP_ECHO_URL] [default: https://api.ipify.org]
    #[arg(long, value_name = "URL|none", help_heading = NETWORK)]
    ip_echo_url: Option<OrNone<Url>>,
    /// The worker's id; else one made from its key
    ///
    /// [env: WORKER_ID] [default: the one that is made from its key; a fresh UUID with --baseline]
    #[arg(long, value_name = "ID", help_heading = MEETING)]
    worker_id: Option<String>,
    /// Who is offered to whom: pair, mesh or call
    ///
    /// It counts where this worker is the first of the room [env: ROOM_MODE] [default: pair]
    #[arg(long, value_name = "MODE", help_heading = MEETING)]
    room_mode: Option<ModeArg>,
    #[command(flatten)]
    peering: PeeringArgs,
    /// Speak the baseline protocol only
    ///
    /// [env: BASELINE]
    #[arg(long)]
    baseline: bool,
    #[command(flatten)]
    pub(crate) inspecting: inspecting::Args,
}

/// Which STUN servers to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct StunArgs {
    /// STUN server [env: STUN_HOST_ENV, STUN_HOST] [default: stun.l.google.com]
    #[arg(long, value_name = "HOST", help_heading = NETWORK, hide_short_help = true)]
    stun_host: Option<String>,
    /// Its port [env: STUN_PORT_ENV, STUN_PORT] [default: 19302]
    #[arg(long, value_name = "PORT", help_heading = NETWORK, hide_short_help = true)]
    stun_port: Option<PortNumber>,
    /// STUN servers, asked at the same time
    ///
    /// With these the default one of --stun-host is left out [env: STUN_SERVERS]
    #[arg(long, value_name = "HOST:PORT,…", help_heading = NETWORK)]
    stun_servers: Vec<String>,
}

impl StunArgs {
    /// The servers named by flags and environment; none where none is named.
    pub(crate) fn named(self, environment: &Environment) -> Result<Vec<ServerName>, Failure> {
        let host =
            environment.setting("--stun-host", self.stun_host, &["STUN_HOST_ENV", "STUN_HOST"])?;
        let port =
            environment.setting("--stun-port", self.stun_port, &["STUN_PORT_ENV", "STUN_PORT"])?;
        let more: Option<List<ServerName>> =
            environment.list("--stun-servers", &self.stun_servers, &["STUN_SERVERS"])?;
        let mut servers = Vec::new();
        // A port alone means the default host.
        if host.is_some() || (port.is_some() && more.is_none()) {
            let host = host.as_deref().unwrap_or(DEFAULT_STUN_HOST);
            let port = port.map_or(DEFAULT_STUN_PORT, |PortNumber(port)| port);
            let server = ServerName::new(host, port);
            servers.push(server.map_err(|why| {
                Failure::usage(format!(
                    "STUN_HOST_ENV and STUN_PORT_ENV (--stun-host, --stun-port): {why}"
                ))
            })?);
        }
        for server in more.into_iter().flat_map(|List(more)| more) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        Ok(servers)
    }
}

fn config(args: Args, environment: &Environment) -> Result<Config, Failure> {
    let (config, identity) = settings(args, environment)?;
    Ok(Config { identity: identity.load()?, ..config })
}

/// All settings, and the file of the key, which is not there yet perhaps.
fn settings(args: Args, environment: &Environment) -> Result<(Config, IdentityFile), Failure> {
    let rendezvous =
        environment.kept(rendezvous_url(args.rendezvous_url, environment).map(Some))?;
    // In a check alone: the others are looked at all the same.
    let rendezvous = rendezvous.map_or_else(|| UNNAMED.parse().map_err(Failure::usage), Ok)?;
    let worker_id: Option<String> =
        environment.setting("--worker-id", args.worker_id, &["WORKER_ID"])?;
    let worker_id = worker_id.map(|id| WorkerId::new(&id)).transpose();
    let worker_id =
        worker_id.map_err(|why| Failure::usage(format!("WORKER_ID (--worker-id): {why}")));
    let worker_id = environment.kept(worker_id)?;
    let mut stun_servers = environment.kept(args.stun.named(environment))?;
    if stun_servers.is_empty() {
        let default = ServerName::new(DEFAULT_STUN_HOST, DEFAULT_STUN_PORT);
        stun_servers.push(default.map_err(Failure::usage)?);
    }
    let retries = args.stun_max_retries;
    let retries = environment.setting("--stun-max-retries", retries, &["STUN_MAX_RETRIES"])?;
    let delay = args.stun_retry_delay_sec;
    let delay = environment.setting("--stun-retry-delay-sec", delay, &["STUN_RETRY_DELAY_SEC"])?;
    let interval = args.ping_interval_sec;
    let interval = environment.setting("--ping-interval-sec", interval, &["PING_INTERVAL_SEC"])?;
    let timeout = args.ping_timeout_sec;
    let timeout = environment.setting("--ping-timeout-sec", timeout, &["PING_TIMEOUT_SEC"])?;
    let echo = environment.setting("--ip-echo-url", args.ip_echo_url, &["IP_ECHO_URL"])?;
    let room_mode = environment.setting("--room-mode", args.room_mode, &["ROOM_MODE"])?;
    let baseline_only = environment.switch("--baseline", args.baseline, "BASELINE")?;
    let udp_port = args.internal_udp_port;
    let udp_port =
        environment.setting("--internal-udp-port", udp_port, &["INTERNAL_UDP_PORT_ENV"])?;
    let health_port = environment.setting("--port", args.port, &["PORT"])?;
    let (config, identity) = args.peering.apply(Config::new(rendezvous), environment)?;
    let config = Config {
        baseline_only,
        room_mode: room_mode.map(|ModeArg(mode)| mode).or(config.room_mode),
        worker_id,
        health_port: Some(health_port.map_or(DEFAULT_HEALTH_PORT, |PortNumber(port)| port)),
        stun_servers,
        stun_retries_max: retries.map(|Number(most)| most),
        stun_retry_delay: delay.map(|pause| pause.0),
        udp_port: udp_port.map_or(DEFAULT_UDP_PORT, |PortNumber(port)| port),
        ping_interval: interval.map_or(config.ping_interval, |seconds| seconds.0),
        ping_timeout: timeout.map_or(config.ping_timeout, |seconds| seconds.0),
        ip_echo_url: match echo {
            Some(OrNone::Some(url)) => Some(url),
            Some(OrNone::None) => None,
            None => Some(Url::parse(DEFAULT_IP_ECHO_URL).map_err(Failure::usage)?),
        },
        ..config
    };
    Ok((config, identity))
}

/// Reads all settings, and begins nothing: a key that is to be made is not.
pub(crate) fn check(args: Args, environment: &Environment) -> Result<(), Failure> {
    settings(args, environment).map(drop)
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let config = config(args, environment)?;
    // A worker has nothing to read again.
    let (mut stop, mut hangups, hooks) = (Stop::listen()?, Hangups::listen()?, Hooks::default());
    let mut worker = Worker::start(config).await.map_err(not_started)?;
    service_manager::ready();
    let signal = loop {
        tokio::select! {
            signal = stop.wait() => break signal,
            () = hangups.serve(&hooks, &()) => unreachable!("invariant: it serves for ever"),
            // Each notice stands in the log already.
            notice = worker.next_notice() => if notice.is_none() {
                return Err(Failure::failed("the worker has ended by itself; its log says why"));
            },
        }
    };
    service_manager::stopping();
    tracing::info!(signal, "shutting down");
    worker.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
