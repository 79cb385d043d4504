//! `holepunch forward`.

mod telling;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use holepunch_programs::forward::{
    self, Ended, Forward, ForwardError, Listener, Rule, Summary, Target, forward,
};
use holepunch_programs::{INTERRUPTED, is_orderly};
use holepunch_worker::{Link, PathKind};
use tokio::net::TcpListener;

use crate::exit::Failure;
use crate::joining::{self, Alone, Manner, MeetArgs, Telling, Turn};
use crate::open_files::connections_max;
use crate::output;
use crate::settings::Environment;
use crate::signals::Stop;
use telling::{Event, in_words, tell_not_made};

/// Carry TCP connections to what the other side can reach
///
/// Those of this side go to what the peer can reach, and the peer's to what is allowed here. It runs until it is interrupted, the peer leaves (exit code 0), or the link is lost (1).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: SSH to a machine behind a NAT. On that machine:\n  \
    holepunch forward --allow 127.0.0.1:22\n\
    which prints a code, and on the other side:\n  \
    holepunch forward 7-guitar-fox --listen 127.0.0.1:2222 --to 127.0.0.1:22\n  \
    ssh -p 2222 127.0.0.1")]
pub(crate) struct Args {
    #[command(flatten)]
    meet: MeetArgs,
    /// Where to take connections for --to, on this side
    #[arg(long, value_name = "IP:PORT", requires = "to")]
    listen: Option<Entry>,
    /// Where they lead, on the peer's side
    #[arg(long, value_name = "HOST:PORT", requires = "listen")]
    to: Option<Target>,
    /// The same as --listen with --to, as often as needed
    #[arg(short = 'L', value_name = "IP:PORT=HOST:PORT")]
    pairs: Vec<Pair>,
    /// What the peer may reach; nothing without it
    ///
    /// It reaches that through this side. Of the port or the host `*`: any.
    #[arg(long, value_name = "HOST:PORT")]
    allow: Vec<Rule>,
    /// Where to speak SOCKS 5
    ///
    /// Names are looked up on the peer's side.
    #[arg(long, value_name = "IP:PORT")]
    socks: Vec<Entry>,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Where to listen.
#[derive(Debug, Clone, Copy)]
struct Entry(SocketAddr);

impl FromStr for Entry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let example = "expected IP:PORT, such as 127.0.0.1:2222 for programs of this machine alone";
        text.parse().map(Self).map_err(|_| example)
    }
}

/// Where to listen, and where that leads.
#[derive(Debug, Clone)]
struct Pair {
    listen: SocketAddr,
    to: Target,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "such as 127.0.0.1:2222=127.0.0.1:22";
        let (listen, to) =
            text.split_once('=').ok_or(format!("expected IP:PORT=HOST:PORT, {example}"))?;
        let listen =
            listen.parse().map_err(|_| format!("expected IP:PORT before `=`, {example}"))?;
        Ok(Self { listen, to: to.parse().map_err(|why| format!("behind `=`: {why}"))? })
    }
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let json = args.json;
    let mut has_ended = false;
    let outcome = carry(args, environment, &mut has_ended).await;
    // The last object is one of the two.
    output::json_failure(json && !has_ended, &outcome);
    outcome
}

/// `has_ended`: whether the end was told.
async fn carry(
    args: Args,
    environment: &Environment,
    has_ended: &mut bool,
) -> Result<ExitCode, Failure> {
    let single = args.listen.zip(args.to).map(|(Entry(listen), to)| Pair { listen, to });
    let pairs: Vec<Pair> = single.into_iter().chain(args.pairs).collect();
    if pairs.is_empty() && args.socks.is_empty() && args.allow.is_empty() {
        return Err(Failure::usage(
            "nothing to forward: give --listen with --to, -L, or --socks on the side that connects, \
             and --allow on the side that is connected to",
        ));
    }
    let json = args.json;
    let mut stop = Stop::listen()?;
    // A port that is taken is said before anybody is called.
    let mut what = listen(pairs, args.socks, args.allow, json)?;
    what.listener = Listener::new(tell_not_made(json));
    let counts = Arc::clone(&what.counts);
    let telling = Telling::lines();
    let telling = if json {
        telling
            .with_json(|path| output::json_line(&Event::Path(path)))
            .with_json_code(|invited| output::json_line(&Event::Code(invited.clone())))
    } else {
        telling
    };
    let manner = Manner { telling, alone: Alone::BothWays("forward"), replaces: false };
    let mut joined = joining::join(args.meet.into(), environment, manner, &mut stop).await?;
    let mut ended = |why: String, summary: Summary| {
        *has_ended = true;
        if json {
            output::json_line(&Event::Ended { why, summary });
        } else {
            output::progress(in_words(&summary));
        }
    };
    let (joined, outcome) = loop {
        if json {
            linked(&joined.link);
        }
        let outcome = tokio::select! {
            outcome = forward(&joined.link, &mut what) => outcome,
            _signal = stop.wait() => {
                ended(INTERRUPTED.to_owned(), counts.summary());
                return Err(joined.interrupted().await);
            }
        };
        let has_begun = !matches!(outcome, Err(ForwardError::Agree(_)));
        match joined.turn(has_begun, outcome, &mut stop).await? {
            Turn::Over(joined, outcome) => break (joined, outcome),
            Turn::Again(next) => joined = next,
        }
    };
    joined.leave("forwarding has ended").await;
    let Ended { why, summary } = outcome.map_err(Failure::failed)?;
    ended(why.to_string(), summary);
    if is_orderly(&why) {
        output::progress("the peer has left; nothing is listened for any more");
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::failed(format!("{why}; nothing is listened for any more")))
}

fn linked(link: &Link) {
    let kind = link.path().kind;
    let direct = matches!(kind, PathKind::Direct { .. });
    let (peer, path) = (link.peer().as_str(), kind.to_string());
    output::json_line(&Event::Linked { peer, path, direct });
}

fn listen(
    pairs: Vec<Pair>,
    socks: Vec<Entry>,
    allow: Vec<Rule>,
    json: bool,
) -> Result<Forward, Failure> {
    let (allow, open_files_max) = (allow.into_iter().collect(), connections_max());
    let mut what = Forward { allow, open_files_max, ..Forward::default() };
    for Pair { listen, to } in pairs {
        what.listeners.push((bind(listen, Some(&to), json)?, to));
    }
    for Entry(address) in socks {
        if !address.ip().is_loopback() {
            output::progress(format!(
                "warning: SOCKS on {address} is open to everyone who can reach this machine; 127.0.0.1 \
                 keeps it to this one"
            ));
        }
        what.socks.push(bind(address, None, json)?);
    }
    Ok(what)
}

fn bind(address: SocketAddr, to: Option<&Target>, json: bool) -> Result<TcpListener, Failure> {
    let failed = |error: std::io::Error| {
        let hints = [
            (ErrorKind::AddrInUse, "; choose another port"),
            (
                ErrorKind::AddrNotAvailable,
                "; expected an address of this machine, such as 127.0.0.1",
            ),
            (ErrorKind::PermissionDenied, "; choose a port from 1024 on"),
        ];
        let hint =
            hints.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, hint)| hint);
        Failure::failed(format!("cannot listen on {address}: {error}{hint}"))
    };
    let listener = forward::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if json {
        output::json_line(&Event::Listening { address, to });
    } else {
        let to = to.map_or("by SOCKS".to_owned(), |to| format!("to {to} on the peer's side"));
        output::progress(format!("listening on {address}, {to}"));
    }
    Ok(listener)
}
