//! `holepunch forward`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;

use holepunch_programs::forward::{self, Ended, Forward, Rule, Summary, Target, forward};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::exit::Failure;
use crate::joining::{self, JoinArgs};
use crate::output;
use crate::settings::Environment;
use crate::signals::Stop;

/// Carry TCP connections to what the peer can reach, and the peer's to what is allowed here
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: SSH to a machine behind a NAT. On that machine:\n  \
    holepunch forward --room home --allow 127.0.0.1:22\n\
    and on the other side:\n  \
    holepunch forward --room home --listen 127.0.0.1:2222 --to 127.0.0.1:22\n  \
    ssh -p 2222 127.0.0.1\n\
    It runs until it is interrupted or the link ends (exit code 1).")]
pub(crate) struct Args {
    #[command(flatten)]
    join: JoinArgs,
    /// Where to take connections for --to, on this side
    #[arg(long, value_name = "IP:PORT", requires = "to")]
    listen: Option<SocketAddr>,
    /// Where they lead, on the peer's side
    #[arg(long, value_name = "HOST:PORT", requires = "listen")]
    to: Option<Target>,
    /// The same as --listen with --to, as often as needed
    #[arg(short = 'L', value_name = "IP:PORT=HOST:PORT")]
    pairs: Vec<Pair>,
    /// What the peer may reach through this side; nothing without it. Of the port or the host `*`: any
    #[arg(long, value_name = "HOST:PORT")]
    allow: Vec<Rule>,
    /// Where to speak SOCKS 5; names are looked up on the peer's side
    #[arg(long, value_name = "IP:PORT")]
    socks: Vec<SocketAddr>,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    json: bool,
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

/// What happens, in JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    Listening { address: SocketAddr, to: Option<&'a Target> },
    Ended { why: String, summary: Summary },
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let single = args.listen.zip(args.to).map(|(listen, to)| Pair { listen, to });
    let pairs: Vec<Pair> = single.into_iter().chain(args.pairs).collect();
    if pairs.is_empty() && args.socks.is_empty() && args.allow.is_empty() {
        return Err(Failure::usage(
            "nothing to forward: give --listen with --to, -L, or --socks on the side that connects, \
             and --allow on the side that is connected to",
        ));
    }
    let mut stop = Stop::listen()?;
    // A port that is taken is said before anybody is called.
    let what = listen(pairs, args.socks, args.allow, args.json)?;
    let joined = tokio::select! {
        joined = joining::join(args.join, environment) => joined?,
        _signal = stop.wait() => return Err(Failure::interrupted()),
    };
    let outcome = tokio::select! {
        outcome = forward(&joined.link, what) => outcome,
        _signal = stop.wait() => {
            joined.leave("interrupted").await;
            return Err(Failure::interrupted());
        }
    };
    joined.leave("forwarding has ended").await;
    let Ended { summary, why } = outcome.map_err(Failure::failed)?;
    if args.json {
        event(&Event::Ended { why: why.to_string(), summary });
    }
    Err(Failure::failed(format!("{why}; nothing is listened for any more")))
}

fn listen(
    pairs: Vec<Pair>,
    socks: Vec<SocketAddr>,
    allow: Vec<Rule>,
    json: bool,
) -> Result<Forward, Failure> {
    let mut what = Forward { allow: allow.into_iter().collect(), ..Forward::default() };
    for Pair { listen, to } in pairs {
        what.listeners.push((bind(listen, Some(&to), json)?, to));
    }
    for address in socks {
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
        Failure::failed(format!("cannot listen on {address}: {error}; choose another port"))
    };
    let listener = forward::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if json {
        event(&Event::Listening { address, to });
    } else {
        let to = to.map_or("by SOCKS".to_owned(), |to| format!("to {to} on the peer's side"));
        output::progress(format!("listening on {address}, {to}"));
    }
    Ok(listener)
}

fn event(event: &Event<'_>) {
    match serde_json::to_string(event) {
        Ok(text) => output::line(text),
        Err(error) => output::progress(format!("cannot write JSON: {error}")),
    }
}
