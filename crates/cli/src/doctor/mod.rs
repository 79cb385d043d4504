//! `holepunch doctor`: what stands between this machine and a rendezvous, check by check.

mod check;
mod links;
mod machine;
mod reach;
mod report;
mod udp;

use std::process::ExitCode;
use std::time::Duration;

use holepunch_link::ServerName;
use holepunch_wire::signal::v1::Welcome;
use holepunch_worker::Proxy;

use crate::entry;
use crate::exit::Failure;
use crate::headings::NETWORK;
use crate::peering::rendezvous_url;
use crate::settings::Environment;
use crate::signals::Stop;
use crate::worker::StunArgs;
use check::{Check, Name};
use links::Place;
use machine::Given;
use report::{Report, watch};

/// All checks together take no longer: the limits of those that follow each other, and a second for what they close.
const TOTAL: Duration = Duration::from_secs(48);
const _: () = {
    let way = Name::Dns.limit().as_secs()
        + Name::Tcp.limit().as_secs()
        + Name::Proxy.limit().as_secs()
        + Name::Tls.limit().as_secs()
        + Name::Http.limit().as_secs()
        + Name::Websocket.limit().as_secs();
    // The relay and the router are tried beside these two.
    let links = Name::Stun.limit().as_secs() + Name::Direct.limit().as_secs();
    assert!(Name::Relay.limit().as_secs() <= links && Name::PortMapping.limit().as_secs() <= links);
    assert!(way + links + 4 <= TOTAL.as_secs());
};

/// Try all that lies between this machine and a rendezvous
///
/// Each check is one line: ok, warning, fault or not tried; what was seen, what it means, the fix. It takes 48 s at most, and a few seconds where all is well. It links with nobody but itself. Exit code 1 with a fault.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch doctor\n  \
    holepunch doctor https://rendezvous.example --json")]
pub(crate) struct Args {
    /// The rendezvous
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// The same [env: RENDEZVOUS_SERVICE_URL]
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    rendezvous_url: Option<String>,
    #[command(flatten)]
    stun: StunArgs,
    /// Do not ask the router for a port by UPnP, NAT-PMP or PCP [env: NO_PORT_MAPPING]
    #[arg(long, help_heading = NETWORK)]
    no_port_mapping: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let no_router =
        environment.switch("--no-port-mapping", args.no_port_mapping, "NO_PORT_MAPPING")?;
    let mut report = Report::new(args.json);
    let named = args.url.or(args.rendezvous_url);
    let by_argument = named.is_some();
    let given = given(named, environment);
    let stun = args.stun.named(environment);
    report.rendezvous = given.as_ref().ok().map(|given| given.url.public());
    report.push(machine::settings(&given, &stun, by_argument, environment));
    let examining = async {
        examine(&mut report, given.ok(), &stun.unwrap_or_default(), !no_router).await;
        report.push(machine::open_files());
    };
    tokio::select! {
        done = tokio::time::timeout(TOTAL, examining) => {
            done.map_err(|_| Failure::failed(format!("the checks took longer than {TOTAL:?}")))?;
        }
        _signal = stop.wait() => return Err(Failure::interrupted()),
    }
    Ok(ExitCode::from(u8::from(!report.end())))
}

/// The STUN servers that a program asks which uses the rendezvous of the settings: those that are named, and the rendezvous' own.
pub(crate) async fn stun_servers(
    named: &[ServerName],
    environment: &Environment,
) -> Result<Vec<ServerName>, Failure> {
    let Given { url, proxy, token } = given(None, environment)?;
    let place = Place { url, proxy, token, stun: Vec::new() };
    let (_, welcome) = links::websocket(&place).await;
    let told = welcome.map(|welcome| welcome.stun).unwrap_or_default();
    Ok(udp::servers(named, &told, Some(place.url.host())))
}

fn given(named: Option<String>, environment: &Environment) -> Result<Given, Failure> {
    let url = rendezvous_url(named, environment)?;
    let proxy = Proxy::for_rendezvous(&url, |name| environment.get(name));
    let token = entry::token(&url, environment)?;
    Ok(Given { url, proxy: proxy.map_err(Failure::usage)?, token })
}

/// All checks that need the network. What does not need the rendezvous is tried without it.
async fn examine(
    report: &mut Report,
    given: Option<Given>,
    named: &[ServerName],
    asks_router: bool,
) {
    // It waits most of its time, and needs nothing that comes before its line.
    let router = asks_router.then(|| tokio::spawn(udp::port_mapping()));
    let place = given.map(|Given { url, proxy, token }| {
        let stun = Vec::new();
        Place { url, proxy, token, stun }
    });
    let let_in = match &place {
        Some(place) => let_in(report, place).await,
        None => {
            let rest = reach::ALL.into_iter().chain([Name::Websocket]);
            rest.for_each(|name| report.push(Check::not_tried(name, Name::Settings)));
            Err(NotLetIn::Failed(Name::Settings))
        }
    };
    let told = let_in.as_ref().map(|welcome| welcome.stun.clone()).unwrap_or_default();
    let host = place.as_ref().map(|place| place.url.host());
    let servers = udp::servers(named, &told, host);
    let place = place.map(|place| Place { stun: servers.clone(), ..place });
    let place = place.ok_or(NotLetIn::Failed(Name::Settings));
    let place = let_in.and(place);
    let ((checks, direct), relayed) = tokio::join!(by_udp(servers, &place), relayed(&place));
    checks.into_iter().for_each(|check| report.push(check));
    report.push(match router {
        Some(asked) => watch(Name::PortMapping, asked).await.unwrap_or_else(|error| {
            Check::left_out(Name::PortMapping, format!("because it broke off: {error}"))
        }),
        None => Check::left_out(Name::PortMapping, "because it is turned off (NO_PORT_MAPPING)"),
    });
    report.push(relayed);
    report.push(direct);
}

/// Why there is no welcome.
#[derive(Debug, Clone, Copy)]
enum NotLetIn {
    /// This check has failed.
    Failed(Name),
    /// The rendezvous speaks the baseline protocol alone.
    Baseline,
}

impl NotLetIn {
    /// The line of a check that needs a welcome.
    fn not_tried(self, name: Name) -> Check {
        match self {
            Self::Failed(failed) => Check::not_tried(name, failed),
            Self::Baseline => {
                Check::left_out(name, "because the rendezvous speaks the baseline protocol alone")
            }
        }
    }
}

/// The STUN servers, and behind them a direct link.
async fn by_udp(servers: Vec<ServerName>, place: &Result<Place, NotLetIn>) -> (Vec<Check>, Check) {
    let checks = watch(Name::Stun, udp::stun(servers)).await;
    let is_seen = checks.iter().any(|it| it.check == Name::Stun && it.is_usable());
    let direct = match place {
        Ok(place) if is_seen => watch(Name::Direct, links::direct(place)).await,
        Ok(_) => Check::not_tried(Name::Direct, Name::Stun),
        Err(why) => why.not_tried(Name::Direct),
    };
    (checks, direct)
}

async fn relayed(place: &Result<Place, NotLetIn>) -> Check {
    match place {
        Ok(place) => watch(Name::Relay, links::relay(place)).await,
        Err(why) => why.not_tried(Name::Relay),
    }
}

/// Goes the whole way to a welcome.
async fn let_in(report: &mut Report, place: &Place) -> Result<Welcome, NotLetIn> {
    if let Err(failed) = reach::reach(report, &place.url, place.proxy.as_ref()).await {
        report.push(Check::not_tried(Name::Websocket, failed));
        return Err(NotLetIn::Failed(failed));
    }
    let (check, welcome) = watch(Name::Websocket, links::websocket(place)).await;
    report.need(check).map_err(NotLetIn::Failed)?;
    welcome.ok_or(NotLetIn::Baseline)
}
