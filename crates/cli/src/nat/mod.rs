//! `holepunch nat`: what the NAT in front of this machine does, and what that means for linking.

mod words;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use holepunch_link::{Event, NatMapping, Port, PortEvent, ServerName, StunServer, TraversalConfig};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::{NatProfile, UdpState};
use holepunch_worker::milliseconds;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::doctor;
use crate::exit::Failure;
use crate::output;
use crate::peering::rendezvous_if_named;
use crate::screen::{Stream, is_terminal};
use crate::settings::{Environment, Seconds};
use crate::table::table;
use crate::worker::StunArgs;

/// Two servers of two operators: one alone cannot show whether the mapping depends on the
/// destination.
const DEFAULT_SERVERS: [(&str, u16); 2] =
    [("stun.l.google.com", 19302), ("stun.cloudflare.com", 3478)];
/// Time for the answers: three requests by the schedule of RFC 8489, and some.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the profile is complete is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Tell what the NAT in front of this machine does
///
/// It asks STUN servers, and also tells what the answers mean for linking: those that are named, and those of the rendezvous that `holepunch login` or RENDEZVOUS_SERVICE_URL names; where none is named, stun.l.google.com:19302 and stun.cloudflare.com:3478 as well. Exit code 1 when no server answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch nat\n  \
    holepunch nat --stun-servers stun1.example:3478,stun2.example:3478 --json")]
pub(crate) struct Args {
    #[command(flatten)]
    stun: StunArgs,
    /// UDP port to ask from, 0 for any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    udp_port: u16,
    /// How long answers are waited for [default: 5]
    #[arg(long, value_name = "SECONDS")]
    timeout_sec: Option<Seconds>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// The whole result.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The local port that was used for all servers.
    local_port: u16,
    pub(crate) servers: Vec<Row>,
    /// `none`, `endpoint-independent`, `endpoint-dependent` or `unknown`.
    pub(crate) mapping: &'static str,
    /// Whether the mapped address depends on the destination; `null` when that is not known.
    depends_on_destination: Option<bool>,
    meaning: &'static str,
    /// All that was learnt.
    pub(crate) profile: NatProfile,
    /// What the answers by IPv6 say; `null` where nobody could be asked by it.
    pub(crate) ipv6: Option<ByIpv6>,
    /// With which peers a direct path is to be expected, in words.
    pub(crate) linking: Vec<String>,
    /// What would make linking easier, where there is something.
    pub(crate) fix: Option<String>,
    /// Why nobody could be asked, or why nobody by IPv4.
    pub(crate) error: Option<String>,
}

/// What IPv6 gave.
#[derive(Debug, Serialize)]
pub(crate) struct ByIpv6 {
    /// Whether a server has answered.
    pub(crate) answered: bool,
    /// The address that peers are told; `null` without one.
    address: Option<SocketAddr>,
    /// Whether it is another address than this machine's.
    translated: Option<bool>,
    pub(crate) meaning: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) server: String,
    pub(crate) address: SocketAddr,
    local: Option<SocketAddr>,
    pub(crate) mapped: Option<SocketAddr>,
    pub(crate) refused: bool,
    /// How long the first answer took, requests that were sent again included; `null` without one.
    pub(crate) answered_ms: Option<f64>,
    #[serde(skip)]
    asked_at: Instant,
}

impl Row {
    /// A server that has just been asked.
    fn asked(server: String, address: SocketAddr, local: Option<SocketAddr>) -> Self {
        let (mapped, answered_ms, refused, asked_at) = (None, None, false, Instant::now());
        Self { server, address, local, mapped, refused, answered_ms, asked_at }
    }

    fn answered(&mut self, mapped: SocketAddr) {
        self.mapped = Some(mapped);
        let asked_at = self.asked_at;
        self.answered_ms.get_or_insert_with(|| milliseconds(asked_at.elapsed()));
    }

    /// Whether it is that of a server, of whose name each family has a row.
    fn is_of(&self, server: &StunServer) -> bool {
        self.server == server.name && self.address.is_ipv4() == server.address.is_ipv4()
    }
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let shows_progress = !args.json && is_terminal(Stream::Err);
    let servers = servers(args.stun, environment, shows_progress).await?;
    let mut port = open(servers, args.udp_port).await?;
    let time = args.timeout_sec.map_or(DEFAULT_TIMEOUT, |seconds| seconds.0);
    if shows_progress {
        output::progress(format!("asking STUN servers, for {} s at most", time.as_secs_f64()));
    }
    let report = ask(&mut port, Instant::now() + time).await;
    let answered = report.servers.iter().any(|row| row.mapped.is_some());
    if args.json {
        output::json(&report);
    } else {
        print(&report);
    }
    Ok(ExitCode::from(u8::from(!answered)))
}

/// Whom to ask: those that are named, and those of the rendezvous in the settings, as programs do; where none is named,
/// two others as well.
async fn servers(
    stun: StunArgs,
    environment: &Environment,
    shows_progress: bool,
) -> Result<Vec<ServerName>, Failure> {
    let named = stun.named(environment)?;
    let is_any_named = !named.is_empty();
    let mut servers = named;
    if let Some(url) = rendezvous_if_named(None, environment)? {
        if shows_progress {
            output::progress(format!("asking {} for its STUN servers", url.authority()));
        }
        servers = doctor::stun_servers(&servers, environment).await?;
    }
    if !is_any_named {
        let default = DEFAULT_SERVERS.iter().map(|(host, port)| ServerName::new(host, *port));
        servers.extend(default.collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?);
    }
    Ok(servers)
}

/// A port that asks these servers, and no more than that.
pub(crate) async fn open(servers: Vec<ServerName>, udp_port: u16) -> Result<Port, Failure> {
    let own_id = WorkerId::new("nat").map_err(Failure::usage)?;
    let config = TraversalConfig { stun_retries_max: Some(0), ..TraversalConfig::new(own_id) };
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, udp_port);
    Port::open(address, servers, config, None).await.map_err(Failure::failed)
}

/// Gathers answers until all servers have answered or time is up.
pub(crate) async fn ask(port: &mut Port, deadline: Instant) -> Report {
    let mut rows: Vec<Row> = Vec::new();
    let mut mapping = NatMapping::Unknown;
    let mut error = None;
    let mut complete = false;
    let mut seen_by_ipv6 = None;
    while Instant::now() < deadline && !(complete && port.profile_is_settled()) {
        // The last test may end without an event.
        let look_at = deadline.min(Instant::now() + LOOK_EVERY);
        let Ok(PortEvent::Traversal(event)) = timeout_at(look_at, port.next_event()).await else {
            continue;
        };
        if let Event::StunAsked(StunServer { name, address, local, .. }) = event {
            rows.push(Row::asked(name, address, local));
        } else if let Event::Mapped { server, mapped, nat, .. } = event {
            mapping = nat;
            if let Some(row) = rows.iter_mut().find(|row| row.is_of(&server)) {
                // Another one of its name's addresses may have answered.
                (row.address, row.local) = (server.address, server.local);
                row.answered(mapped);
            }
        } else if let Event::MappedV6 { server, mapped, is_candidate, is_translated } = event {
            if is_candidate {
                seen_by_ipv6 = Some((mapped, is_translated));
            }
            if let Some(row) = rows.iter_mut().find(|row| row.address == server.address) {
                row.answered(mapped);
            }
        } else if let Event::StunRefused(server, _) = event {
            if let Some(row) = rows.iter_mut().find(|row| row.is_of(&server)) {
                row.refused = true;
            }
        } else if let Event::DiscoveryFailed { reason, .. } = event {
            // A server may yet answer by IPv6.
            error = Some(reason);
            complete = true;
        } else if let Event::RoundComplete(nat) = event {
            mapping = nat;
            complete = true;
        }
    }
    let local_port = port.local_address().port();
    let mut profile = port.profile().clone();
    if rows.is_empty() {
        // The machine counts it like silence, but nothing was sent that could show it.
        profile.udp = UdpState::Unknown;
    }
    let mapping = words::agree(mapping, &mut profile);
    let (mapping, depends_on_destination, meaning) = explain(mapping, &rows);
    let is_seen_by_ipv4 = rows.iter().any(|row| row.address.is_ipv4() && row.mapped.is_some());
    let linking = words::linking(&profile, is_seen_by_ipv4, !rows.is_empty());
    let linking = linking.iter().map(|it| (*it).to_owned()).collect();
    let ipv6 = by_ipv6(&rows, seen_by_ipv6);
    let fix = words::fix(&profile).map(str::to_owned);
    Report {
        local_port,
        servers: rows,
        mapping,
        depends_on_destination,
        meaning,
        profile,
        ipv6,
        linking,
        fix,
        error,
    }
}

/// What the rows of IPv6 say together; `seen` is the address that peers are told, and whether it is translated.
fn by_ipv6(rows: &[Row], seen: Option<(SocketAddr, bool)>) -> Option<ByIpv6> {
    let mut of_ipv6 = rows.iter().filter(|row| row.address.is_ipv6()).peekable();
    of_ipv6.peek()?;
    let mut answers = of_ipv6.filter(|row| row.refused || row.mapped.is_some()).peekable();
    let answered = answers.peek().is_some();
    let is_nat64 = answers.any(|row| row.mapped.is_some_and(|mapped| mapped.is_ipv4()));
    let meaning = match seen {
        Some((_, false)) => {
            "By IPv6 UDP gets out, and peers see this machine's own address. A firewall may still drop what \
             it did not ask for."
        }
        Some((_, true)) => "By IPv6 UDP gets out, under another address than this machine's own.",
        None if is_nat64 => {
            "By IPv6 UDP gets out through a NAT64: the server has seen an IPv4 address, at which peers \
             are not sent."
        }
        None if answered => "By IPv6 UDP gets out, but the servers show no address.",
        None => "By IPv6 no server answered.",
    };
    let (address, translated) = seen.unzip();
    Some(ByIpv6 { answered, address, translated, meaning })
}

fn explain(mapping: NatMapping, rows: &[Row]) -> (&'static str, Option<bool>, &'static str) {
    match mapping {
        NatMapping::None => (
            "none",
            Some(false),
            "No address translation: peers see this machine's own address. A firewall may still \
             drop what it did not ask for.",
        ),
        NatMapping::EndpointIndependent => (
            "endpoint-independent",
            Some(false),
            "Every destination sees the same public address: hole punching works with most peers.",
        ),
        NatMapping::EndpointDependent => (
            "endpoint-dependent",
            Some(true),
            "Each destination sees another public address (a symmetric NAT): only peers that are \
             open, or that answer whatever source they see, can be linked. Behind a cloud NAT, turn \
             endpoint-independent mapping on.",
        ),
        NatMapping::Unknown
            if rows.iter().any(|row| row.mapped.is_some() && row.address.is_ipv4()) =>
        {
            (
                "unknown",
                None,
                "There is a NAT, but one server's answer cannot show whether the mapping depends on the \
             destination: name a second server, at another IP address.",
            )
        }
        NatMapping::Unknown if rows.iter().any(|row| row.mapped.is_some()) => {
            ("unknown", None, "No server answered by IPv4, which alone shows the mapping.")
        }
        NatMapping::Unknown if rows.is_empty() => (
            "unknown",
            None,
            "No STUN server could be asked, so nothing is known of UDP: the reason stands above.",
        ),
        NatMapping::Unknown => ("unknown", None, "No server answered: UDP may be blocked."),
    }
}

fn print(report: &Report) {
    let show =
        |address: Option<SocketAddr>| address.map_or("-".to_owned(), |address| address.to_string());
    let rows: Vec<Vec<String>> = report
        .servers
        .iter()
        .map(|row| {
            let mapped = if row.refused { "refused".to_owned() } else { show(row.mapped) };
            let mapped = if mapped == "-" { "no answer".to_owned() } else { mapped };
            vec![row.server.clone(), row.address.to_string(), show(row.local), mapped]
        })
        .collect();
    if !rows.is_empty() {
        output::table(&table(&["STUN server", "address", "local", "mapped"], &rows));
        output::line("");
    }
    let is_answered = report.servers.iter().any(|row| row.mapped.is_some());
    if let Some(error) = &report.error {
        output::line(format!("{}: {error}", if is_answered { "by IPv4" } else { "error" }));
    }
    let depends = match report.depends_on_destination {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    output::line(format!("mapping: {}; depends on the destination: {depends}", report.mapping));
    output::line(report.meaning);
    if let Some(ipv6) = &report.ipv6 {
        output::line(ipv6.meaning);
    }
    let rows: Vec<Vec<String>> = words::rows(&report.profile)
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    output::line("");
    output::table(&table(&["NAT profile", ""], &rows));
    output::line("");
    output::line("What it means for linking:");
    for line in &report.linking {
        output::line(format!("- {line}"));
    }
    if let Some(fix) = &report.fix {
        output::line(format!("What helps: {fix}"));
    }
}
