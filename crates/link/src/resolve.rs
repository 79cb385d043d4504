//! Names of STUN servers, and their addresses.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use holepunch_traversal::StunServer;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::surroundings::local_towards;

/// The port of STUN where none is named (RFC 8489 §18.6).
const STUN_PORT: u16 = 3478;
/// A look-up may take so long.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Once one name is known, the others are waited for no longer than this: the first public address
/// should not wait for a second opinion.
const STRAGGLER_TIMEOUT: Duration = Duration::from_millis(200);

/// Addresses of a name that are asked, one more with each request that stays without an answer.
const ADDRESSES_MAX: usize = 4;

/// The scheme of a STUN server's URI (RFC 7064), as configurations of WebRTC write it.
const SCHEME: &str = "stun:";
/// That of one by TLS.
const SECURE_SCHEME: &str = "stuns:";

/// A STUN server as configured: `host:port`, or `host` for port 3478, either of them with `stun:` in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName {
    host: String,
    port: u16,
}

/// Why a text does not name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerNameError {
    /// There is no host, or it is not one.
    #[error("expected the host of a STUN server, by name or by IP address, got {0:?}")]
    NoHost(String),
    /// It speaks STUN by TLS alone.
    #[error(
        "STUN by TLS runs on TCP and shows no mapping of UDP: name a server by UDP, as stun:host:3478"
    )]
    Secure,
    /// The port is not one.
    #[error("expected a port from 1 to 65535 after the last colon, got {0:?}")]
    BadPort(String),
}

impl ServerName {
    /// A server from its two parts.
    ///
    /// # Errors
    /// The host is empty or holds white space, or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, ServerNameError> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let colons_elsewhere = bare.contains(':') && bare.parse::<Ipv6Addr>().is_err();
        let no_host = |c: char| c.is_whitespace() || c == '/';
        if bare.is_empty() || bare.contains(no_host) || colons_elsewhere {
            return Err(ServerNameError::NoHost(host.to_owned()));
        }
        if port == 0 {
            return Err(ServerNameError::BadPort(port.to_string()));
        }
        Ok(Self { host: bare.to_owned(), port })
    }
}

impl FromStr for ServerName {
    type Err = ServerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let has_scheme = |scheme: &str| {
            text.split_at_checked(scheme.len()).filter(|(it, _)| it.eq_ignore_ascii_case(scheme))
        };
        // A host may be called `stun`: what follows its colon is a port.
        let is_port = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
        if has_scheme(SECURE_SCHEME).is_some_and(|(_, rest)| !is_port(rest)) {
            return Err(ServerNameError::Secure);
        }
        let text = match has_scheme(SCHEME) {
            Some((_, rest)) if !is_port(rest) => rest,
            _ => text,
        };
        // Several colons without brackets are an IPv6 address without a port.
        match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let bad = || ServerNameError::BadPort(port.to_owned());
                let all_digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let number = if all_digits { port.parse().ok() } else { None };
                Self::new(host, number.ok_or_else(bad)?)
            }
            _ => Self::new(text, STUN_PORT),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The ports of the worker's own sockets; those of IPv6 may be missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalPorts {
    pub(crate) v4: u16,
    pub(crate) v6: Option<u16>,
}

/// Looks all names up at once; the addresses to which this host has a route, in the order of the names.
pub(crate) async fn resolve(
    names: Vec<ServerName>,
    ports: LocalPorts,
) -> Result<Vec<StunServer>, String> {
    if names.is_empty() {
        return Err("no STUN server is named".to_owned());
    }
    let mut lookups = JoinSet::new();
    for (index, name) in names.into_iter().enumerate() {
        lookups.spawn(async move { (index, lookup(&name, ports).await) });
    }
    let mut found = Vec::new();
    let mut failures = Vec::new();
    let mut deadline = Instant::now() + LOOKUP_TIMEOUT;
    while let Ok(Some(joined)) = timeout_at(deadline, lookups.join_next()).await {
        match joined {
            Ok((index, Ok(servers))) => {
                found.push((index, servers));
                deadline = deadline.min(Instant::now() + STRAGGLER_TIMEOUT);
            }
            Ok((_, Err(why))) => failures.push(why),
            Err(error) => failures.push(error.to_string()),
        }
    }
    found.sort_by_key(|(index, _)| *index);
    if !found.is_empty() {
        for why in &failures {
            tracing::warn!(why, "STUN server left out");
        }
    }
    match (found.is_empty(), failures.is_empty()) {
        (true, true) => Err(format!("no answer to a name look-up within {LOOKUP_TIMEOUT:?}")),
        (true, false) => Err(failures.join("; ")),
        (false, _) => Ok(found.into_iter().flat_map(|(_, servers)| servers).collect()),
    }
}

/// The first address of each family, in the order that the system prefers (RFC 6724). Both are asked at the same
/// time, so that nobody has to guess which family works, as RFC 8305 has to with TCP.
async fn lookup(name: &ServerName, ports: LocalPorts) -> Result<Vec<StunServer>, String> {
    let addresses = tokio::net::lookup_host((name.host.as_str(), name.port))
        .await
        .map_err(|error| format!("the name {} cannot be looked up: {error}", name.host))?;
    at_any(name, addresses, ports)
}

/// A server for each family that a name has addresses of, and that this host has a route by.
fn at_any(
    name: &ServerName,
    found: impl Iterator<Item = SocketAddr>,
    ports: LocalPorts,
) -> Result<Vec<StunServer>, String> {
    let mut families: [Vec<SocketAddr>; 2] = Default::default();
    for address in found {
        let family = &mut families[usize::from(address.is_ipv6())];
        if family.len() < ADDRESSES_MAX && !family.contains(&address) {
            family.push(address);
        }
    }
    let (mut servers, mut failures) = (Vec::new(), Vec::new());
    for family in families {
        let mut reached = Vec::new();
        for address in family {
            match local_of(address, ports) {
                Ok(local) => reached.push((address, Some(local))),
                Err(why) => failures.push(why),
            }
        }
        let mut reached = reached.into_iter();
        if let Some((address, local)) = reached.next() {
            // Of IPv6, the first alone is asked.
            let others = reached.filter(|(other, _)| other.is_ipv4()).collect();
            let name = name.to_string();
            servers.push(StunServer { name, address, local, others });
        }
    }
    match (servers.is_empty(), failures.is_empty()) {
        (true, true) => Err(format!("{name}: it has no address")),
        (true, false) => Err(format!("{name}: {}", failures.join("; "))),
        (false, _) => Ok(servers),
    }
}

/// From where packets to `address` leave, or why none does.
fn local_of(address: SocketAddr, ports: LocalPorts) -> Result<SocketAddr, String> {
    let (family, port) = match address {
        SocketAddr::V4(_) => ("IPv4", Some(ports.v4)),
        SocketAddr::V6(_) => ("IPv6", ports.v6),
    };
    let ip = address.ip();
    let port = port.ok_or_else(|| format!("{ip} is of {family}, and this UDP port is not"))?;
    // A route that is missing is known at once; to ask all the same would look like silence.
    let local = local_towards(ip).ok_or_else(|| format!("no route by {family} to {ip}"))?;
    Ok(SocketAddr::new(local, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<String, ServerNameError> {
        text.parse::<ServerName>().map(|name| name.to_string())
    }

    #[test]
    fn a_server_is_a_host_with_or_without_a_port() {
        assert_eq!(name("stun.example.org:19302").as_deref(), Ok("stun.example.org:19302"));
        assert_eq!(name("stun.example.org").as_deref(), Ok("stun.example.org:3478"));
        assert_eq!(name("192.0.2.1:5").as_deref(), Ok("192.0.2.1:5"));
        assert_eq!(name("[2001:db8::1]:5").as_deref(), Ok("[2001:db8::1]:5"));
        assert_eq!(name("2001:db8::1").as_deref(), Ok("[2001:db8::1]:3478"));
    }

    #[test]
    fn a_uri_names_a_server_too() {
        assert_eq!(name("stun:stun.example.org:19302").as_deref(), Ok("stun.example.org:19302"));
        assert_eq!(name("STUN:stun.example.org").as_deref(), Ok("stun.example.org:3478"));
        assert_eq!(name("stun:[2001:db8::1]:5").as_deref(), Ok("[2001:db8::1]:5"));
        assert_eq!(name("stun:192.0.2.1").as_deref(), Ok("192.0.2.1:3478"));
        assert_eq!(name("stun:3478").as_deref(), Ok("stun:3478"), "a host of that name");
        assert_eq!(name("stuns:3478").as_deref(), Ok("stuns:3478"));
        let secure = name("stuns:stun.example.org:5349").unwrap_err();
        assert!(secure.to_string().contains("TLS"), "{secure}");
        assert!(name("stun:").is_err() && name("stun:x:y").is_err() && name("stun://x").is_err());
    }

    #[tokio::test]
    async fn without_a_name_nothing_is_waited_for() {
        let nobody = resolve(Vec::new(), LocalPorts { v4: 9, v6: None }).await;
        assert_eq!(nobody, Err("no STUN server is named".to_owned()));
    }

    #[test]
    fn what_is_no_server_says_why() {
        for text in ["", ":5", "a b:5", "[]:5", "http://x"] {
            assert!(name(text).is_err(), "{text:?}");
        }
        for text in ["x:0", "x:70000", "x:+5", "x:", "x:y"] {
            assert!(matches!(name(text), Err(ServerNameError::BadPort(_))), "{text:?}");
        }
    }

    const PORTS: LocalPorts = LocalPorts { v4: 9, v6: Some(10) };

    async fn found(names: &[&str], ports: LocalPorts) -> Result<Vec<StunServer>, String> {
        resolve(names.iter().map(|name| name.parse().unwrap()).collect(), ports).await
    }

    #[test]
    fn each_address_of_a_name_is_one_to_ask_and_there_are_not_many() {
        let name: ServerName = "stun.example".parse().unwrap();
        let at = |last: u8| SocketAddr::from(([127, 0, 0, last], 3478));
        let found = [at(1), at(1)].into_iter().chain((2..9).map(at));
        let servers = at_any(&name, found, PORTS).unwrap();
        let [server] = &servers[..] else { panic!("{servers:?}") };
        assert_eq!((server.address, server.others.len()), (at(1), ADDRESSES_MAX - 1));
        let (second, local) = server.others[0];
        assert_eq!(second, at(2));
        assert!(local.is_some_and(|it| it.port() == 9 && it.ip().is_loopback()), "{local:?}");
        assert!(at_any(&name, [].into_iter(), PORTS).unwrap_err().contains("no address"));
    }

    #[tokio::test]
    async fn one_name_that_is_unknown_does_not_hide_the_others() {
        let servers = found(&["no-such-host.invalid:1", "127.0.0.1:7"], PORTS).await.unwrap();
        assert_eq!(servers.len(), 1);
        assert_eq!(servers[0].address, "127.0.0.1:7".parse().unwrap());
        assert_eq!(servers[0].local, Some("127.0.0.1:9".parse().unwrap()));
    }

    #[tokio::test]
    async fn servers_of_both_families_are_found() {
        if local_towards(Ipv6Addr::LOCALHOST.into()).is_none() {
            return;
        }
        let servers = found(&["[::1]:7", "127.0.0.1:7"], PORTS).await.unwrap();
        let locals: Vec<_> = servers.iter().map(|server| server.local.unwrap()).collect();
        assert_eq!(locals, ["[::1]:10".parse().unwrap(), "127.0.0.1:9".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_asked_says_which_family_is_missing() {
        let v4_alone = LocalPorts { v6: None, ..PORTS };
        let error = found(&["[::1]:7"], v4_alone).await.unwrap_err();
        assert_eq!(error, "[::1]:7: ::1 is of IPv6, and this UDP port is not");
        // Nobody has a route to a link-local address without its link.
        let error = found(&["[fe80::1]:7"], PORTS).await.unwrap_err();
        assert_eq!(error, "[fe80::1]:7: no route by IPv6 to fe80::1");
    }
}
