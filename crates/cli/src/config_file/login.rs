//! `holepunch login`: tries a rendezvous, and remembers it.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_worker::{
    Config, FailureCode, Notice, Proxy, RendezvousUrl, Signal, Worker, without_name,
};
use tokio::time::{sleep, timeout};

use super::write;
use crate::code::first_line_of_input;
use crate::exit::Failure;
use crate::output;
use crate::settings::Environment;

/// A rendezvous that has not let a worker in by then is not remembered.
const WITHIN: Duration = Duration::from_secs(20);

/// Try a rendezvous, and remember it for all programs
///
/// It is written into the settings file (see `holepunch config`), which is its owner's alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch login https://rendezvous.example\n  \
    echo https://user:password@rendezvous.example | holepunch login -")]
pub(crate) struct Args {
    /// The rendezvous, or `-` for a line of standard input
    #[arg(value_name = "URL")]
    url: String,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let text = if args.url == "-" { first_line_of_input()? } else { args.url };
    let url: RendezvousUrl = text.parse().map_err(Failure::usage)?;
    let path = environment.file().path.clone().ok_or_else(|| {
        Failure::usage("the system names no folder for settings (HOME): give a file with --config")
    })?;
    try_out(&url, environment).await?;
    write(&path, "rendezvous", text.trim()).map_err(|error| {
        Failure::failed(format!("cannot write the settings file {}: {error}", path.display()))
    })?;
    output::line(format!("{} answers, and is remembered in {}", url.authority(), path.display()));
    if environment.get("RENDEZVOUS_SERVICE_URL").is_some_and(|set| set.trim() != text.trim()) {
        output::progress("RENDEZVOUS_SERVICE_URL is set as well, and is over the file: unset it");
    }
    Ok(ExitCode::SUCCESS)
}

/// Registers a worker that links with nobody.
async fn try_out(url: &RendezvousUrl, environment: &Environment) -> Result<(), Failure> {
    let proxy = Proxy::for_rendezvous(url, |name| environment.get(name)).map_err(Failure::usage)?;
    let mut worker = Worker::start(visitor(url, proxy)).await.map_err(Failure::failed)?;
    let outcome = tokio::select! {
        outcome = registered(&mut worker) => outcome,
        () = sleep(WITHIN) => Err(Refused {
            why: format!("no answer within {} s", WITHIN.as_secs()),
            code: FailureCode::TimedOut,
        }),
    };
    let _or_a_second = timeout(Duration::from_secs(1), worker.shutdown()).await;
    outcome.map(drop).map_err(|Refused { why, .. }| {
        Failure::failed(format!(
            "{} is not remembered, since it cannot be used: {}",
            url.authority(),
            without_name(&url.authority(), &why)
        ))
    })
}

/// A worker that registers, and links with nobody.
pub(crate) fn visitor(url: &RendezvousUrl, proxy: Option<Proxy>) -> Config {
    Config {
        proxy,
        links: false,
        port_mapping: false,
        host_candidates: false,
        stun_servers: Vec::new(),
        ..Config::new(url.clone())
    }
}

/// Why a worker is not let in.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: String,
    pub(crate) code: FailureCode,
}

impl Refused {
    /// The worker has ended.
    pub(crate) fn by_its_end() -> Self {
        Self { why: "the worker has ended by itself".to_owned(), code: FailureCode::WorkerEnded }
    }
}

/// Waits until a worker is let in, or is not; whether the rendezvous speaks `holepunch.v1`.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else says whether it is let in")]
pub(crate) async fn registered(worker: &mut Worker) -> Result<bool, Refused> {
    while let Some(notice) = worker.next_notice().await {
        match notice {
            Notice::Signal(Signal::Connected) => return Ok(false),
            Notice::Signal(Signal::ConnectedV1) => return Ok(true),
            Notice::Signal(Signal::Disconnected { why, code, .. }) => {
                return Err(Refused { why, code });
            }
            _ => {}
        }
    }
    Err(Refused::by_its_end())
}
