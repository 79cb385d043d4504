//! `holepunch login`: tries a rendezvous, and remembers it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use holepunch_worker::{
    Config, FailureCode, Notice, Proxy, RendezvousUrl, Signal, Token, Worker, without_name,
};
use tokio::time::{sleep, timeout};

use super::write;
use crate::code::first_line_of_input;
use crate::entry::{NamedBy, TokenArgs};
use crate::exit::Failure;
use crate::output;
use crate::settings::Environment;

/// A rendezvous that has not let a worker in by then is not remembered.
const WITHIN: Duration = Duration::from_secs(20);

/// Try a rendezvous, and remember it for all programs
///
/// It is written into the settings file (see `holepunch config`), which is its owner's alone, and its token with it. A rendezvous that
/// wants one, and gets none, is asked about on a terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch login https://rendezvous.example\n  \
    holepunch login https://rendezvous.example --token-file token\n  \
    echo https://user:password@rendezvous.example | holepunch login -")]
pub(crate) struct Args {
    /// The rendezvous, or `-` for a line of standard input
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    token: TokenArgs,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let text = if args.url == "-" { first_line_of_input()? } else { args.url };
    let url: RendezvousUrl = text.parse().map_err(Failure::usage)?;
    let path = environment.file().path.clone().ok_or_else(|| {
        Failure::usage("the system names no folder for settings (HOME): give a file with --config")
    })?;
    let is_given = args.token.is_given();
    let token = args.token.read(&url, NamedBy::Own, environment)?;
    let token = match try_out(&url, token.clone(), environment).await? {
        // One of the environment stays there.
        Outcome::LetIn => token.filter(|_| is_given),
        Outcome::WantsToken(why) => {
            let token = asked_for(&why)?;
            match try_out(&url, Some(token.clone()), environment).await? {
                Outcome::LetIn => Some(token),
                Outcome::WantsToken(why) => return Err(not_remembered(&url, &why)),
            }
        }
    };
    let token = token.map(|token| token.reveal()).transpose().map_err(Failure::failed)?;
    // A token of before was for another one.
    let settings = [("rendezvous", Some(text.trim())), ("token", token.as_deref())];
    write(&path, &settings).map_err(|error| {
        Failure::failed(format!("cannot write the settings file {}: {error}", path.display()))
    })?;
    output::line(format!("{} answers, and is remembered in {}", url.authority(), path.display()));
    if environment.get("RENDEZVOUS_SERVICE_URL").is_some_and(|set| set.trim() != text.trim()) {
        output::progress("RENDEZVOUS_SERVICE_URL is set as well, and is over the file: unset it");
    }
    Ok(ExitCode::SUCCESS)
}

/// What has become of an attempt.
enum Outcome {
    LetIn,
    /// It says so, and none was given.
    WantsToken(String),
}

/// Asks for a token where somebody is there to be asked.
fn asked_for(why: &str) -> Result<Token, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::failed(why));
    }
    output::progress(why);
    let text = output::answer("token: ").map_err(Failure::failed)?;
    Token::new(&text).map_err(Failure::usage)
}

fn not_remembered(url: &RendezvousUrl, why: &str) -> Failure {
    let (authority, why) = (url.authority(), without_name(&url.authority(), why));
    Failure::failed(format!("{authority} is not remembered, since it cannot be used: {why}"))
}

/// Registers a worker that links with nobody.
async fn try_out(
    url: &RendezvousUrl,
    token: Option<Token>,
    environment: &Environment,
) -> Result<Outcome, Failure> {
    let has_token = token.is_some();
    let proxy = Proxy::for_rendezvous(url, |name| environment.get(name)).map_err(Failure::usage)?;
    let mut worker = Worker::start(visitor(url, proxy, token)).await.map_err(Failure::failed)?;
    let outcome = tokio::select! {
        outcome = registered(&mut worker) => outcome,
        () = sleep(WITHIN) => Err(Refused {
            why: format!("no answer within {} s", WITHIN.as_secs()),
            code: FailureCode::TimedOut,
        }),
    };
    let _or_a_second = timeout(Duration::from_secs(1), worker.shutdown()).await;
    match outcome {
        // What the token allows is for the rooms of programs: a rendezvous that says so has taken it.
        Ok(_) | Err(Refused { code: FailureCode::NotAllowed, .. }) => Ok(Outcome::LetIn),
        Err(Refused { why, code: FailureCode::TokenRefused }) if !has_token => {
            Ok(Outcome::WantsToken(why))
        }
        Err(Refused { why, .. }) => Err(not_remembered(url, &why)),
    }
}

/// A worker that registers, and links with nobody.
pub(crate) fn visitor(url: &RendezvousUrl, proxy: Option<Proxy>, token: Option<Token>) -> Config {
    Config {
        token,
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
