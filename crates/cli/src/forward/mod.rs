//! `holepunch forward`.

mod forms;
mod once;
mod staying;
mod telling;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;

use holepunch_programs::forward::{
    self, Forward, ListenRule, Listener, Protocol, Rule, Summary, Target,
};
use tokio::net::{TcpListener, UdpSocket};

use crate::exit::Failure;
use crate::headings::MEETING;
use crate::joining::{Alone, JoinArgs, MeetArgs};
use crate::open_files::connections_max;
use crate::output;
use crate::peering::ModeArg;
use crate::settings::Environment;
use forms::{Entry, Pair, Reverse, UdpPair, is_open};
use telling::{Event, in_words, teller};

/// Carry connections to what the other side can reach
///
/// Those of this side go to what the peer can reach, and the peer's to what is allowed here. It stays: after the link is lost, or the peer was started again, it goes on with the next link, and the listeners are open meanwhile. By a code, and with --once, it ends when the peer leaves (exit code 0); with --once, also when the link is lost (1).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: SSH to a machine behind a NAT. There, and here:\n  \
    holepunch forward --allow 127.0.0.1:22\n  \
    holepunch forward 7-guitar-fox -L 2222:127.0.0.1:22",
    after_long_help = "Example: SSH to a machine behind a NAT. On that machine:\n  \
    holepunch forward --allow 127.0.0.1:22\n\
    which prints a code, and on the other side:\n  \
    holepunch forward 7-guitar-fox -L 2222:127.0.0.1:22\n  \
    ssh -p 2222 127.0.0.1\n\
    For good, and for many peers:\n  \
    holepunch forward --room office --room-mode mesh --room-secret-file words --allow 127.0.0.1:22\n  \
    holepunch forward --room office --room-secret-file words -L 2222:127.0.0.1:22\n\
    A web server of this side, on a port of the other one (which has --allow-listen 8080):\n  \
    holepunch forward 7-guitar-fox -R 8080:127.0.0.1:3000"
)]
pub(crate) struct Args {
    #[command(flatten)]
    meet: MeetArgs,
    /// Where to take connections for --to, on this side
    ///
    /// PORT alone is on the loopback.
    #[arg(long, value_name = "[IP:]PORT", requires = "to", hide_short_help = true)]
    listen: Option<Entry>,
    /// Where they lead, on the peer's side
    #[arg(long, value_name = "HOST:PORT", requires = "listen", hide_short_help = true)]
    to: Option<Target>,
    /// Listen here, and reach HOST:PORT from the peer
    ///
    /// As ssh has it, and as often as needed. PORT alone is on the loopback; IP:PORT:HOST:PORT names another address. --listen with --to, and IP:PORT=HOST:PORT, mean the same. With /udp behind it, it is for UDP.
    #[arg(short = 'L', value_name = "PORT:HOST:PORT")]
    pairs: Vec<Pair>,
    /// The same for UDP: a game, DNS, WireGuard
    ///
    /// -L with /udp behind it means the same.
    #[arg(long, value_name = "PORT:HOST:PORT", hide_short_help = true)]
    udp: Vec<UdpPair>,
    /// The peer listens, and this side reaches HOST:PORT
    ///
    /// The peer has to allow it by --allow-listen. PORT alone is on its loopback; IP:PORT:HOST:PORT names another address.
    #[arg(short = 'R', value_name = "PORT:HOST:PORT")]
    reverse: Vec<Reverse>,
    /// What the peer may reach; nothing without it
    ///
    /// It reaches that through this side. `*` stands for any host or any port. For UDP, with /udp behind it.
    #[arg(long, value_name = "HOST:PORT")]
    allow: Vec<Rule>,
    /// Where the peer may listen here (-R there)
    ///
    /// Nowhere without it. PORT alone is on 127.0.0.1 and ::1; IP:PORT is that very address.
    #[arg(long, value_name = "PORT")]
    allow_listen: Vec<ListenRule>,
    /// Where to speak SOCKS 5
    ///
    /// Names are looked up on the peer's side. PORT alone is on the loopback.
    #[arg(long, short = 'D', value_name = "[IP:]PORT")]
    socks: Vec<Entry>,
    /// End when the peer leaves or the link is lost
    ///
    /// Without it, wait for the next link.
    #[arg(long)]
    once: bool,
    /// pair, mesh or call: who is offered to whom
    ///
    /// With mesh (everyone with everyone) or call (whoever calls), one side serves many. The first that names one decides [env: ROOM_MODE] [default: pair]
    #[arg(long, value_name = "MODE", help_heading = MEETING, hide_short_help = true)]
    room_mode: Option<ModeArg>,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let json = args.json;
    let mut end = End { json, was_told: false };
    let outcome = carry(args, environment, &mut end).await;
    // The last object is one of the two.
    output::json_failure(json && !end.was_told, &outcome);
    outcome
}

/// How the end is told, and whether it was.
struct End {
    json: bool,
    was_told: bool,
}

impl End {
    fn tell(&mut self, why: String, summary: Summary) {
        self.was_told = true;
        if self.json {
            output::json_line(&Event::Ended { why, summary });
        } else {
            output::progress(in_words(&summary));
        }
    }
}

async fn carry(args: Args, environment: &Environment, end: &mut End) -> Result<ExitCode, Failure> {
    let tcp = Protocol::Tcp;
    let single = args.listen.zip(args.to);
    let single = single.map(|(Entry(listen), to)| Pair { listen, to, protocol: tcp });
    let udp = args.udp.into_iter().map(|UdpPair(pair)| pair);
    let pairs: Vec<Pair> = single.into_iter().chain(args.pairs).chain(udp).collect();
    let is_idle = pairs.is_empty() && args.socks.is_empty() && args.reverse.is_empty();
    if is_idle && args.allow.is_empty() && args.allow_listen.is_empty() {
        return Err(Failure::usage(
            "nothing to forward: give -L, -R, -D (--socks), or --listen with --to on the side that connects, \
             and --allow (for -R --allow-listen) on the side that is connected to",
        ));
    }
    let json = args.json;
    let join = in_room(args.meet.into(), args.room_mode, environment)?;
    let mut what = Forward {
        allow: args.allow.into_iter().collect(),
        allow_listen: args.allow_listen.into_iter().collect(),
        remotes: args.reverse.into_iter().map(|Reverse(remote)| remote).collect(),
        open_files_max: connections_max(),
        listener: Listener::new(teller(json)),
        ..Forward::default()
    };
    // A port that is taken is said before anybody is called.
    listen(&mut what, pairs, args.socks, json)?;
    if args.once {
        return once::carry(join, environment, what, end).await;
    }
    staying::carry(join, environment, what, end).await
}

/// With the mode of the room, where one is named.
fn in_room(
    join: JoinArgs,
    room_mode: Option<ModeArg>,
    environment: &Environment,
) -> Result<JoinArgs, Failure> {
    if !join.is_named(environment) {
        if room_mode.is_some() {
            return Err(Failure::usage(
                "--room-mode without --room: a code is for one peer. Name the room",
            ));
        }
        return Ok(join);
    }
    let room_mode = environment.setting("--room-mode", room_mode, &["ROOM_MODE"])?;
    Ok(join.in_room_of(room_mode.map(|ModeArg(mode)| mode)))
}

/// How the two meet where nobody has said it.
const ALONE: Alone = Alone::BothWays("forward");

fn listen(
    what: &mut Forward,
    pairs: Vec<Pair>,
    socks: Vec<Entry>,
    json: bool,
) -> Result<(), Failure> {
    for Pair { listen, to, protocol } in pairs {
        match protocol {
            Protocol::Tcp => what.listeners.push((bind(listen, Some(&to), json)?, to)),
            Protocol::Udp => what.udp.push((bind_udp(listen, &to, json)?, to)),
        }
    }
    for Entry(address) in socks {
        if is_open(address) {
            output::progress(format!(
                "warning: SOCKS on {address} is open to everyone who can reach this machine; 127.0.0.1 \
                 keeps it to this one"
            ));
        }
        what.socks.push(bind(address, None, json)?);
    }
    Ok(())
}

/// Why nothing can be taken there, and what to do.
fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let hints = [
        (ErrorKind::AddrInUse, "; choose another port"),
        (ErrorKind::AddrNotAvailable, "; expected an address of this machine, such as 127.0.0.1"),
        (ErrorKind::PermissionDenied, "; choose a port from 1024 on"),
    ];
    let hint = hints.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, hint)| hint);
    Failure::failed(format!("cannot listen on {address}: {error}{hint}"))
}

fn bind(address: SocketAddr, to: Option<&Target>, json: bool) -> Result<TcpListener, Failure> {
    let failed = |error| cannot_listen(address, &error);
    let listener = forward::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if json {
        output::json_line(&Event::Listening { address, to, protocol: "tcp" });
    } else {
        let to = to.map_or("by SOCKS".to_owned(), |to| format!("to {to} on the peer's side"));
        output::progress(format!("listening on {address}, {to}"));
    }
    Ok(listener)
}

fn bind_udp(address: SocketAddr, to: &Target, json: bool) -> Result<UdpSocket, Failure> {
    let failed = |error| cannot_listen(address, &error);
    let socket = forward::bind_udp(address).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    if json {
        output::json_line(&Event::Listening { address, to: Some(to), protocol: "udp" });
    } else {
        output::progress(format!("listening on {address} (UDP), to {to} on the peer's side"));
    }
    Ok(socket)
}
