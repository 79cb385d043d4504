//! `holepunch load`: many workers from one process, against any rendezvous.

mod client;
mod echo;
mod idle;
mod pair;
mod relay;
mod stats;
mod stay;
mod stun;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use holepunch_worker::Proxy;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::output;
use crate::peering::rendezvous_url_or;
use crate::settings::{Environment, Seconds};
use crate::signals::Stop;
pub(crate) use client::Target;
pub(crate) use relay::{NoRelay, RelayedPair};

use client::Client;
use stats::{Meter, Sample};

/// Handshakes under way at once: more would measure the kernel's backlog, not the server.
const HANDSHAKES_MAX: usize = 128;
/// A rendezvous on this machine.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// Most workers of one process: it needs a file descriptor each.
const WORKERS_MAX: usize = 60_000;

/// Put load on a rendezvous
///
/// The load is idle workers, pairings, echoes, relayed bytes, or questions to its STUN server; or workers that stay while
/// rendezvous come and go.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch load idle --url http://127.0.0.1:8080 --workers 10000 --hold-sec 60\n  \
    holepunch load pair --url http://127.0.0.1:8080 --workers 5000 --json\n  \
    holepunch load echo --url http://127.0.0.1:8080 --connections 50 --in-flight 16\n  \
    holepunch load relay --url http://127.0.0.1:8080 --pairs 1 --seconds 10\n  \
    holepunch load stun --server 127.0.0.1:3478 --sockets 64 --seconds 10")]
pub(crate) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Connect workers and keep them, saying nothing
    #[command(after_help = "Example: holepunch load idle --workers 10000 --hold-sec 60")]
    Idle {
        #[command(flatten)]
        common: Common,
        /// Workers
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count)]
        workers: usize,
        /// Time that they stay once all are connected
        #[arg(long, value_name = "SECONDS", default_value = "10")]
        hold_sec: Seconds,
    },
    /// Connect workers, let all report an endpoint at once, wait for the offers
    #[command(after_help = "Example: holepunch load pair --workers 5000")]
    Pair {
        #[command(flatten)]
        common: Common,
        /// Workers
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count)]
        workers: usize,
        /// Time in which every offer has to come
        #[arg(long, value_name = "SECONDS", default_value = "30")]
        timeout_sec: Seconds,
    },
    /// Send echo requests as fast as they are answered
    #[command(after_help = "Example: holepunch load echo --connections 50 --in-flight 16")]
    Echo {
        #[command(flatten)]
        common: Common,
        /// Connections
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = count)]
        connections: usize,
        /// Requests that each connection has under way
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
        in_flight: usize,
        /// Length of the payload, in bytes
        #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=60_000))]
        payload_bytes: u32,
        /// Time that is measured, after a second that is not
        #[arg(long, value_name = "SECONDS", default_value = "5")]
        duration_sec: Seconds,
    },
    /// Push datagrams through the relay, from one worker of each pair to the other
    #[command(after_help = "Example: holepunch load relay --pairs 1 --seconds 10")]
    Relay {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        plan: relay::Plan,
    },
    /// Pair workers over and over while rendezvous come and go, and check that no pair is lost or doubled
    ///
    /// Half of the workers keep their peer for the whole run; the others leave theirs after a while, and ask for the next one.
    /// A worker that loses its connection comes back within half a second, and takes up its sessions
    #[command(
        after_help = "Example: holepunch load stay --url http://a:8080 --url http://b:8080 --workers 2000"
    )]
    Stay {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        plan: stay::Plan,
    },
    /// Ask a STUN server as fast as it answers, any one
    #[command(after_help = "Example: holepunch load stun --server 127.0.0.1:3478 --sockets 64")]
    Stun {
        #[command(flatten)]
        plan: stun::Plan,
        /// Print the result as a JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The rendezvous; of several, which are one service, workers come to each in turn
    ///
    /// [env: RENDEZVOUS_SERVICE_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

/// A number of workers, connections or requests.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=WORKERS_MAX).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {WORKERS_MAX}"))
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    tokio::select! {
        done = run_kind(args.kind, environment) => done,
        _signal = stop.wait() => Err(Failure::interrupted()),
    }
}

async fn run_kind(kind: Kind, environment: &Environment) -> Result<ExitCode, Failure> {
    let (summary, json) = match kind {
        Kind::Idle { common, workers, hold_sec } => {
            let clients = common.connect(workers, environment).await?;
            (idle::run(clients, hold_sec.0).await, common.json)
        }
        Kind::Pair { common, workers, timeout_sec } => {
            let clients = common.connect(workers, environment).await?;
            (pair::run(clients, timeout_sec.0).await, common.json)
        }
        Kind::Echo { common, connections, in_flight, payload_bytes, duration_sec } => {
            let clients = common.connect(connections, environment).await?;
            let plan = echo::Plan { in_flight, payload_bytes, duration: duration_sec.0 };
            (echo::run(clients, plan).await, common.json)
        }
        Kind::Stay { common, plan } => {
            (stay::run(common.targets(environment)?, plan).await, common.json)
        }
        Kind::Relay { common, plan } => {
            let target = Arc::clone(&common.targets(environment)?[0]);
            (relay::run(target, plan).await.map_err(Failure::failed)?, common.json)
        }
        Kind::Stun { plan, json } => (stun::run(plan).await.map_err(Failure::failed)?, json),
    };
    if json {
        output::json(&summary)
    } else {
        output::line(&summary)
    }
    Ok(ExitCode::from(u8::from(summary.failed())))
}

/// Connected workers, and what connecting them took.
struct Connected {
    clients: Vec<Client>,
    handshakes: Sample,
    meter: Meter,
    failures: Vec<String>,
}

impl Common {
    /// All rendezvous: one at least.
    fn targets(&self, environment: &Environment) -> Result<Vec<Arc<Target>>, Failure> {
        let mut texts = self.url.iter().cloned();
        let place = |text| -> Result<_, Failure> {
            let url = rendezvous_url_or("--url", text, DEFAULT_URL, environment)?;
            let proxy = Proxy::for_rendezvous(&url, |name| environment.get(name));
            let token = crate::entry::token(&url, environment)?;
            Ok((url, proxy.map_err(Failure::usage)?, token))
        };
        let (url, proxy, token) = place(texts.next())?;
        let mut targets = vec![Arc::new(Target::new(url, proxy, token)?)];
        for text in texts {
            let (url, proxy, token) = place(Some(text))?;
            targets.push(Arc::new(targets[0].beside(url, proxy, token)));
        }
        Ok(targets)
    }

    /// Connects `workers` workers; those that fail are counted.
    async fn connect(
        &self,
        workers: usize,
        environment: &Environment,
    ) -> Result<Connected, Failure> {
        let targets = self.targets(environment)?;
        let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut opening = JoinSet::new();
        let meter = Meter::start();
        for index in 0..workers {
            let target = Arc::clone(&targets[index % targets.len()]);
            let permits = Arc::clone(&permits);
            opening.spawn(async move {
                let _permit = permits.acquire_owned().await;
                Client::open(&target, index).await
            });
        }
        let mut connected = Connected {
            clients: Vec::new(),
            handshakes: Sample::default(),
            meter,
            failures: Vec::new(),
        };
        while let Some(opened) = opening.join_next().await {
            match opened {
                Ok(Ok((client, took))) => {
                    connected.handshakes.add(took);
                    connected.clients.push(client);
                }
                Ok(Err(why)) => connected.failures.push(why),
                Err(error) => connected.failures.push(error.to_string()),
            }
        }
        let Connected { clients, failures, .. } = &connected;
        output::progress(format!("{} of {workers} workers are connected", clients.len()));
        if let (true, Some(why)) = (clients.is_empty(), failures.first()) {
            return Err(Failure::failed(format!("no worker could connect: {why}")));
        }
        Ok(connected)
    }
}
