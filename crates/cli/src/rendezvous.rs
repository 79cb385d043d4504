//! `holepunch rendezvous`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::str::FromStr;

use holepunch_link::{ServerName, ServerNameError};
use holepunch_rendezvous::{Auth, Config, MatchmakerConfig, STUN_ANSWERS_MAX, Server};

pub(crate) mod admin;
mod auth;
pub(crate) mod http;
pub(crate) mod relay;
pub(crate) mod relay_limits;
mod store;
mod tls;
mod turn;

use crate::exit::Failure;
use crate::inspecting;
use crate::reloading::Hooks;
use crate::settings::{Address, Environment, List, Number, OrNone, Seconds};

const DEFAULT_STUN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3478);

/// Run the rendezvous service: registration, pairing, STUN
///
/// Workers register with it, it brings together those that are in one room or call each other, and it carries for pairs that have
/// no direct path. With --tls-cert it speaks TLS; without it, a reverse proxy may add that (--trusted-proxy).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch rendezvous\n  \
    holepunch rendezvous --listen [::]:9000 --stun-listen [::]:3478,[::]:3479\n  \
    holepunch rendezvous --stun-listen none --trusted-proxy 10.0.0.0/8")]
pub(crate) struct Args {
    #[command(flatten)]
    http: http::Args,
    /// UDP addresses for STUN, or `none`
    ///
    /// A second port or address turns RFC 5780 on [env: STUN_LISTEN] [default: 0.0.0.0:3478, unless it is taken]
    #[arg(long, value_name = "ADDR,…|none")]
    stun_listen: Vec<String>,
    /// STUN addresses that workers are told of
    ///
    /// Addresses or names, where they differ from those that are listened on: behind a NAT or a load balancer. Names are
    /// looked up at the start. As many as --stun-listen has, in the same order, stand in STUN's answers as well
    /// (RFC 5780). Where their number is another one, only workers are told of them [env: STUN_ADVERTISE]
    #[arg(long, value_name = "ADDR,…")]
    stun_advertise: Vec<String>,
    /// Most STUN answers a second, to all together
    ///
    /// They cost bytes, and whoever asks in others' names has them sent there [env: STUN_ANSWERS_MAX] [default: 50000]
    #[arg(long, value_name = "N|none", hide_short_help = true)]
    stun_answers_max: Option<OrNone<Number<1>>>,
    /// Names of this server in its workers' URLs
    ///
    /// A worker that proves its key signs one of these names. Where none is set, it signs the host that it has asked for
    /// (the Host header). Another rendezvous could then pass this one's challenge on to a worker of its own, and register
    /// here in that worker's name. Web pages of these names may open WebSockets; where none is set, those of the Host header
    /// [env: HOLEPUNCH_PUBLIC_HOST]
    #[arg(long, value_name = "NAME,…")]
    public_host: Vec<String>,
    /// Take private endpoints from every worker
    ///
    /// These are UDP endpoints with a private, link-local or loopback address [env: ALLOW_PRIVATE]
    #[arg(long)]
    allow_private: bool,
    /// Time between two pings of a worker [env: PING_INTERVAL_SEC] [default: 25]
    #[arg(long, value_name = "SECONDS", hide_short_help = true)]
    ping_interval_sec: Option<Seconds>,
    /// Time that a ping may stay without an answer [env: PING_TIMEOUT_SEC] [default: 25]
    #[arg(long, value_name = "SECONDS", hide_short_help = true)]
    ping_timeout_sec: Option<Seconds>,
    /// Most workers at once [default: 100000]
    ///
    /// [env: MAX_WORKERS]
    #[arg(long, value_name = "N")]
    max_workers: Option<Number<1>>,
    /// Most of one IP address [default: 10000]
    ///
    /// Of IPv6, one /64 counts as one address, and twice as many may come from one /48. The address may be that of a NAT or of a proxy that is not
    /// trusted. The next one is refused (429) [env: MAX_WORKERS_PER_IP]
    #[arg(long, value_name = "N|none")]
    max_workers_per_ip: Option<OrNone<Number<1>>>,
    /// Do not serve /debug/list_workers
    ///
    /// It tells everybody who is registered [env: NO_LISTING]
    #[arg(long)]
    no_listing: bool,
    #[command(flatten)]
    auth: auth::Args,
    #[command(flatten)]
    admin: admin::Args,
    #[command(flatten)]
    store: store::Args,
    #[command(flatten)]
    relay: relay::Args,
    #[command(flatten)]
    turn: turn::Args,
    #[command(flatten)]
    pub(crate) inspecting: inspecting::Args,
}

/// A name as in a URL, without scheme, port and path.
#[derive(Debug, Clone)]
struct HostName(String);

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let name = bracketed.unwrap_or(text);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.parse::<IpAddr>().is_ok() || (!name.is_empty() && name.chars().all(is_name)) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err("expected a host such as rendezvous.example.com, without scheme, port or path")
        }
    }
}

/// An IP address with a port, or a name that has one, looked up at the start.
#[derive(Debug, Clone)]
struct Advertised(SocketAddr);

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(Address(address)) = text.parse() {
            return Ok(Self(address));
        }
        let name: ServerName = text.parse().map_err(|why: ServerNameError| why.to_string())?;
        let found = name.to_string().to_socket_addrs().map_err(|why| format!("{name}: {why}"))?;
        // Workers ask by IPv4 wherever they can.
        let first = found.min_by_key(|address| !address.is_ipv4());
        first.map(Self).ok_or_else(|| format!("{name}: it has no address"))
    }
}

fn config(
    args: Args,
    environment: &Environment,
) -> Result<(Config, Option<store::Shared>), Failure> {
    let http::Http { listen, trusted_proxies, proxy_protocol, tls } =
        args.http.read(environment)?;
    let stun: Option<OrNone<List<Address>>> =
        environment.list("--stun-listen", &args.stun_listen, &["STUN_LISTEN"])?;
    let advertised: Option<List<Advertised>> =
        environment.list("--stun-advertise", &args.stun_advertise, &["STUN_ADVERTISE"])?;
    let answers = args.stun_answers_max;
    let answers = environment.setting("--stun-answers-max", answers, &["STUN_ANSWERS_MAX"])?;
    let hosts: Option<List<HostName>> =
        environment.list("--public-host", &args.public_host, &["HOLEPUNCH_PUBLIC_HOST"])?;
    let allow_private =
        environment.switch("--allow-private", args.allow_private, "ALLOW_PRIVATE")?;
    let interval = args.ping_interval_sec;
    let interval = environment.setting("--ping-interval-sec", interval, &["PING_INTERVAL_SEC"])?;
    let timeout = args.ping_timeout_sec;
    let timeout = environment.setting("--ping-timeout-sec", timeout, &["PING_TIMEOUT_SEC"])?;
    let workers = environment.setting("--max-workers", args.max_workers, &["MAX_WORKERS"])?;
    let per_ip = args.max_workers_per_ip;
    let per_ip = environment.setting("--max-workers-per-ip", per_ip, &["MAX_WORKERS_PER_IP"])?;
    let no_listing = environment.switch("--no-listing", args.no_listing, "NO_LISTING")?;
    let stun_is_optional = stun.is_none();
    let (auth, workers_per_tenant_max) = environment.kept(args.auth.read(environment))?;
    let (relay, relay_access) = environment.kept(args.relay.read(environment))?;
    let store = environment.kept(args.store.read(environment, relay_access.as_ref()))?;
    let default = MatchmakerConfig::default();
    let config = Config {
        listen,
        tls,
        stun_listen: udp_addresses(stun),
        stun_is_optional,
        stun_answers_max: answers
            .map_or(Some(STUN_ANSWERS_MAX), |most| most.value().map(|Number(most)| most.into())),
        stun_advertise: advertised
            .map(|List(all)| all.into_iter().map(|Advertised(address)| address).collect())
            .unwrap_or_default(),
        trusted_proxies,
        proxy_protocol,
        auth,
        listing: !no_listing,
        admin: args.admin.read(environment)?,
        open_files_max: None,
        relay,
        public_hosts: hosts
            .map(|List(hosts)| hosts.into_iter().map(|HostName(name)| name).collect())
            .unwrap_or_default(),
        matchmaker: MatchmakerConfig {
            ping_interval: interval.map_or(default.ping_interval, |seconds| seconds.0),
            ping_timeout: timeout.map_or(default.ping_timeout, |seconds| seconds.0),
            allow_private,
            workers_max: workers.map_or(default.workers_max, Number::count),
            workers_per_address_max: per_ip
                .map_or(default.workers_per_address_max, |most| most.value().map(Number::count)),
            workers_per_tenant_max,
            relay: relay_access,
            turn: environment.kept(args.turn.access(environment))?,
            ..default
        },
    };
    Ok((config, store))
}

/// Those that are set, or the usual one.
pub(crate) fn udp_addresses(set: Option<OrNone<List<Address>>>) -> Vec<SocketAddr> {
    match set {
        None => vec![DEFAULT_STUN],
        Some(OrNone::None) => Vec::new(),
        Some(OrNone::Some(List(all))) => all.into_iter().map(|Address(address)| address).collect(),
    }
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let (config, store) = config(args, environment)?;
    let peers = store.map(|store| store.peers(&config.matchmaker));
    let mut hooks = Hooks::default().with_tls(config.tls.as_ref());
    if matches!(config.auth, Auth::Token { .. }) {
        hooks.add("keys of tokens", |server: &Server| {
            if let Err(error) = server.reload() {
                tracing::warn!(%error, "the keys of tokens stay as they were");
            }
        });
    }
    http::serve(&hooks, || Server::bind_among(peers, config), Server::shutdown).await
}

/// Reads all settings, and begins nothing.
pub(crate) fn check(args: Args, environment: &Environment) -> Result<(), Failure> {
    config(args, environment).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        Ok(config(line.args, &Environment::of(variables))?.0)
    }

    #[test]
    fn the_defaults_are_those_of_the_baseline() {
        let config = read(&[], &[]).unwrap();
        assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(config.stun_listen, ["0.0.0.0:3478".parse().unwrap()]);
        assert!(config.trusted_proxies.is_empty() && !config.matchmaker.allow_private);
    }

    #[test]
    fn the_platform_sets_everything_by_environment() {
        let config = read(
            &[],
            &[
                ("PORT", "9000"),
                ("STUN_LISTEN", "none"),
                ("TRUSTED_PROXY", "169.254.0.0/16,::1"),
                ("ALLOW_PRIVATE", "true"),
                ("HOLEPUNCH_PUBLIC_HOST", "One.example, [2001:DB8::1]"),
            ],
        )
        .unwrap();
        assert_eq!(config.listen.port(), 9000);
        assert!(config.stun_listen.is_empty() && config.matchmaker.allow_private);
        assert_eq!(config.trusted_proxies.len(), 2);
        assert_eq!(config.public_hosts, ["one.example", "2001:db8::1"]);
    }

    #[test]
    fn flags_win_over_the_environment() {
        let flags = ["--listen", "127.0.0.1:1", "--stun-listen", "127.0.0.1:2,127.0.0.1:3"];
        let config = read(&flags, &[("PORT", "9"), ("STUN_LISTEN", "none")]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.stun_listen.len(), 2);
        let flags = ["--public-host", "a", "--public-host", "b,c"];
        assert_eq!(read(&flags, &[]).unwrap().public_hosts, ["a", "b", "c"]);
        let flags = ["--stun-listen", "127.0.0.1:2", "--stun-listen", "127.0.0.1:3"];
        assert_eq!(read(&flags, &[]).unwrap().stun_listen, config.stun_listen);
    }

    #[test]
    fn the_proxy_protocol_is_that_of_trusted_proxies() {
        let proxied = |flags: &[&str], variables: &[(&str, &str)]| {
            read(flags, variables).map(|config| config.proxy_protocol)
        };
        assert!(!proxied(&[], &[]).unwrap());
        let trusted = ("TRUSTED_PROXY", "10.0.0.0/8");
        assert!(proxied(&["--proxy-protocol"], &[trusted]).unwrap());
        assert!(proxied(&[], &[("PROXY_PROTOCOL", "on"), trusted]).unwrap());
        let failure = format!("{:?}", proxied(&["--proxy-protocol"], &[]).unwrap_err());
        assert!(failure.contains("--trusted-proxy"), "{failure}");
    }

    #[test]
    fn advertised_stun_servers_may_have_names() {
        let read = |text: &str| read(&["--stun-advertise", text], &[]);
        let expected = ["127.0.0.1:7", "[2001:db8::1]:9"].map(|it| it.parse().unwrap());
        assert_eq!(read("localhost:7,[2001:db8::1]:9").unwrap().stun_advertise, expected);
        assert_eq!(read("127.0.0.1").unwrap().stun_advertise, ["127.0.0.1:3478".parse().unwrap()]);
        let failure = format!("{:?}", read("no-such-host.invalid:1").unwrap_err());
        assert!(failure.contains("no-such-host.invalid"), "{failure}");
    }

    #[test]
    fn the_share_of_an_address_is_set_and_lifted() {
        let most = |flags: &[&str], variables: &[(&str, &str)]| {
            read(flags, variables).unwrap().matchmaker.workers_per_address_max
        };
        let flags = ["--max-workers-per-ip", "none"];
        assert_eq!(most(&[], &[]), Some(10_000));
        assert_eq!(most(&[], &[("MAX_WORKERS_PER_IP", "20")]), Some(20));
        assert_eq!(most(&flags, &[("MAX_WORKERS_PER_IP", "20")]), None);
    }

    #[test]
    fn the_listing_is_turned_off_by_flag_or_variable() {
        let listing =
            |flags: &[&str], variables: &[(&str, &str)]| read(flags, variables).unwrap().listing;
        assert!(listing(&[], &[]) && listing(&[], &[("NO_LISTING", "false")]));
        assert!(!listing(&["--no-listing"], &[]) && !listing(&[], &[("NO_LISTING", "1")]));
    }

    #[test]
    fn a_bad_variable_is_a_usage_error() {
        for (name, value) in [
            ("PORT", "70000"),
            ("STUN_LISTEN", "3478"),
            ("TRUSTED_PROXY", "x"),
            ("PING_INTERVAL_SEC", "0"),
            ("MAX_WORKERS_PER_IP", "many"),
            ("MAX_WORKERS", "0"),
            ("MAX_WORKERS_PER_TENANT", "0"),
            ("STUN_ANSWERS_MAX", "0"),
            ("RELAY_SESSIONS_MAX", "0"),
            ("HOLEPUNCH_PUBLIC_HOST", "https://one.example"),
            ("HOLEPUNCH_PUBLIC_HOST", "one.example:8080"),
        ] {
            let failure = read(&[], &[(name, value)]).unwrap_err();
            assert!(format!("{failure:?}").contains(name), "{failure:?}");
        }
    }
}
