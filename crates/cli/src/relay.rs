//! `holepunch relay`.

use std::process::ExitCode;

use holepunch_rendezvous::{RelayConfig, RelayServer};

use crate::exit::Failure;
use crate::rendezvous::admin;
use crate::rendezvous::http::{self, Http};
use crate::rendezvous::relay::KeyArgs;
use crate::rendezvous::relay_limits::LimitArgs;
use crate::rendezvous::udp_addresses;
use crate::settings::{Address, Environment, List, OrNone};
use crate::{inspecting, reloading::Hooks};

/// Run a relay alone, for a rendezvous elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples, with one key for both:\n  \
    RELAY_KEY=… holepunch relay --listen 0.0.0.0:9000\n  \
    RELAY_KEY=… holepunch rendezvous --no-relay --relay-url https://relay.example.com")]
pub(crate) struct Args {
    #[command(flatten)]
    http: http::Args,
    /// UDP addresses for the relay's datagrams, or `none`
    ///
    /// Workers whose UDP gets there are relayed faster, and without the pauses of TCP. The rendezvous names them by
    /// --relay-udp [env: RELAY_UDP_LISTEN] [default: 0.0.0.0:3478, unless it is taken]
    #[arg(long, value_name = "ADDR,…|none")]
    udp_listen: Vec<String>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    admin: admin::Args,
    #[command(flatten)]
    pub(crate) inspecting: inspecting::Args,
}

fn config(args: Args, environment: &Environment) -> Result<RelayConfig, Failure> {
    let Http { listen, trusted_proxies, proxy_protocol, tls } = args.http.read(environment)?;
    let limits = args.limits.limits(environment)?;
    let key = args.key.key(environment)?.ok_or_else(|| {
        Failure::usage("a relay needs RELAY_KEY (--relay-key), which its rendezvous shares")
    })?;
    let udp: Option<OrNone<List<Address>>> =
        environment.list("--udp-listen", &args.udp_listen, &["RELAY_UDP_LISTEN"])?;
    Ok(RelayConfig {
        listen,
        tls,
        udp_is_optional: udp.is_none(),
        udp_listen: udp_addresses(udp),
        trusted_proxies,
        proxy_protocol,
        admin: args.admin.read(environment)?,
        open_files_max: None,
        limits,
        key,
    })
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let config = config(args, environment)?;
    let hooks = Hooks::default().with_tls(config.tls.as_ref());
    http::serve(&hooks, || RelayServer::bind(config), RelayServer::shutdown).await
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

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<RelayConfig, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        config(line.args, &Environment::of(variables))
    }

    #[test]
    fn it_needs_a_key_and_takes_the_bounds_and_proxies_of_a_rendezvous() {
        let failure = format!("{:?}", read(&[], &[]).unwrap_err());
        assert!(failure.contains("--relay-key"), "{failure}");
        let key = ("RELAY_KEY", "0123456789abcdef0123456789abcdef");
        let flags =
            ["--listen", "127.0.0.1:1", "--relay-quota", "1M", "--admin-listen", "127.0.0.1:2"];
        let config = read(&flags, &[key, ("TRUSTED_PROXY", "10.0.0.0/8")]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.admin.listen, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!((config.limits.quota, config.trusted_proxies.len()), (Some(1 << 20), 1));
    }
}
