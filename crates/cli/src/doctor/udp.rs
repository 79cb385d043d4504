//! What UDP shows: STUN servers, the NAT, IPv6, and the router's own help.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use holepunch_link::{RouterAnswer, ServerName, ask_router};
use holepunch_wire::nat::{Mapping, UdpState};
use holepunch_worker::nat_in_words;
use serde_json::json;
use tokio::time::Instant;

use super::check::{Check, Name};
use crate::nat::{self, Report, Row};

/// The port of STUN (RFC 8489 §14.1).
const STUN_PORT: u16 = 3478;

/// Whom to ask: those that are named, and the rendezvous' own; where that has told none, the port of STUN at its host.
pub(super) fn servers(
    named: &[ServerName],
    told: &[SocketAddr],
    host: Option<&str>,
) -> Vec<ServerName> {
    let mut servers = named.to_vec();
    let mut add = |server: Result<ServerName, _>| {
        let new = server.ok().filter(|server: &ServerName| !servers.contains(server));
        servers.extend(new);
    };
    told.iter().for_each(|address| add(ServerName::new(&address.ip().to_string(), address.port())));
    if let (true, Some(host)) = (told.is_empty(), host) {
        add(ServerName::new(host, STUN_PORT));
    }
    servers
}

/// Asks them; a line for each server and family, and one each for the NAT and for IPv6. The first is a fault where no server
/// has answered.
pub(super) async fn stun(servers: Vec<ServerName>) -> Vec<Check> {
    if servers.is_empty() {
        let fix = "name one (--stun-servers, STUN_SERVERS), or let the rendezvous have one (--stun-listen)";
        let check = Check::fault(Name::Stun, "no_server", "there is no STUN server to ask", fix)
            .means("direct links need one that tells this machine's public address");
        return without_answer(vec![check]);
    }
    let mut port = match nat::open(servers, 0).await {
        Ok(port) => port,
        Err(failure) => {
            let fix = "let this program open UDP sockets";
            let check = Check::fault(Name::Stun, "no_socket", failure.why(), fix);
            return without_answer(vec![check]);
        }
    };
    let began = Instant::now();
    let report = nat::ask(&mut port, began + Name::Stun.limit()).await;
    let took = began.elapsed();
    port.close().await;
    let is_answered = report.servers.iter().any(|row| row.mapped.is_some());
    let mut checks: Vec<Check> =
        report.servers.iter().map(|row| of_row(row, is_answered, took)).collect();
    if let (true, Some(why)) = (checks.is_empty(), &report.error) {
        let fix = "correct its name (--stun-servers, STUN_SERVERS)";
        let check = Check::fault(Name::Stun, "name_unknown", why.as_str(), fix)
            .means("no STUN server has an address that this machine reaches");
        checks.push(check.took(took));
    } else if checks.is_empty() {
        let fix = "look at the load of this machine, and try again";
        checks.push(Check::silent(Name::Stun, "no STUN server could be asked", fix));
    }
    if !is_answered {
        return without_answer(checks);
    }
    checks.extend([of_nat(&report), of_ipv6(&report)]);
    checks
}

fn without_answer(mut checks: Vec<Check>) -> Vec<Check> {
    checks.extend([Name::Nat, Name::Ipv6].map(|name| Check::not_tried(name, Name::Stun)));
    checks
}

/// One server, by one family.
fn of_row(row: &Row, is_answered: bool, took: Duration) -> Check {
    let Row { server, address, mapped, refused, answered_ms, .. } = row;
    let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
    let shown = if *server == address.to_string() {
        server.clone()
    } else {
        format!("{server} ({address})")
    };
    let details = json!({
        "server": server, "address": address, "family": family, "mapped": mapped,
        "answered_ms": answered_ms,
    });
    let check = match (mapped, refused) {
        (Some(mapped), _) => {
            let after = answered_ms.unwrap_or_default();
            let seen = format!("{shown} sees {mapped} by {family}, after {after:.1} ms");
            Check::ok(Name::Stun, seen)
        }
        (None, true) => {
            let seen = format!("{shown} answers by {family} without an address");
            let fix = "name another server (--stun-servers, STUN_SERVERS)";
            without_address(is_answered, "refused", seen, fix)
        }
        (None, false) => {
            let seen =
                format!("{shown} does not answer by {family}, within {:.1} s", took.as_secs_f64());
            let fix = "let UDP out to it, or name a server that can be reached (--stun-servers, STUN_SERVERS)";
            without_address(is_answered, "silent", seen, fix)
                .means("UDP to this port is not let out, or nothing listens there")
        }
    };
    check.took(took).details(details)
}

/// A server that has shown no address: no fault where another one has.
fn without_address(is_answered: bool, code: &'static str, seen: String, fix: &str) -> Check {
    if is_answered {
        Check::warning(Name::Stun, code, seen, fix)
    } else {
        Check::fault(Name::Stun, code, seen, fix)
    }
}

fn of_nat(report: &Report) -> Check {
    let Report { profile, linking, fix, mapping, .. } = report;
    let seen = nat_in_words(profile);
    let meaning = linking.join(" ");
    let meaning = meaning.trim_end_matches('.').to_owned();
    let details = json!({ "mapping": mapping, "profile": profile, "linking": linking });
    let check = match (fix, profile.mapping) {
        (Some(fix), _) if profile.udp == UdpState::Blocked => {
            Check::fault(Name::Nat, "udp_blocked", seen, fix.as_str())
        }
        (Some(fix), _) => Check::warning(Name::Nat, "hard_nat", seen, fix.as_str()),
        (None, Mapping::Unknown) => {
            let fix = "name a second STUN server at another address (--stun-servers, STUN_SERVERS)";
            Check::warning(Name::Nat, "nat_not_known", seen, fix)
        }
        (None, _) => Check::ok(Name::Nat, seen),
    };
    check.means(meaning).details(details)
}

fn of_ipv6(report: &Report) -> Check {
    match &report.ipv6 {
        Some(ipv6) if ipv6.answered => {
            Check::ok(Name::Ipv6, ipv6.meaning.trim_end_matches('.')).details(json!(ipv6))
        }
        Some(ipv6) => {
            let seen = ipv6.meaning.trim_end_matches('.');
            Check::warning(Name::Ipv6, "silent", seen, "let UDP out by IPv6")
                .means("links go by IPv4 alone")
                .details(json!(ipv6))
        }
        None => Check::ok(
            Name::Ipv6,
            "no STUN server could be asked by it: this machine has no route by IPv6, or no server an address of it",
        ),
    }
}

/// Asks the router whether it opens a port.
pub(super) async fn port_mapping() -> Check {
    let began = Instant::now();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let port = socket.as_ref().ok().and_then(|socket| socket.local_addr().ok());
    let Some(port) = port.and_then(|local| NonZeroU16::new(local.port())) else {
        return Check::left_out(Name::PortMapping, "because no UDP socket could be opened");
    };
    let RouterAnswer { protocols, external } = ask_router(port, Name::PortMapping.limit()).await;
    let took = began.elapsed();
    let details = json!({ "protocols": protocols, "external": external });
    let spoken = protocols.join(", ");
    let check = match external {
        Some(external) => {
            let seen = format!("the router speaks {spoken}, and opened {external} for a moment");
            Check::ok(Name::PortMapping, seen)
                .means("peers can be let in there, whatever its NAT does")
        }
        None if protocols.is_empty() => {
            Check::ok(Name::PortMapping, "no router answers by UPnP, NAT-PMP or PCP")
                .means("links do without; where the NAT is hard, turning one of them on helps")
        }
        None => {
            let seen = format!("the router speaks {spoken}, and opens no port");
            let fix = "allow it in the router's settings, where linking is slow or fails";
            Check::warning(Name::PortMapping, "not_opened", seen, fix).means("links do without")
        }
    };
    check.took(took).details(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rendezvous_own_servers_are_asked_beside_those_that_are_named_each_once() {
        let name = |text: &str| text.parse::<ServerName>().unwrap();
        let told: [SocketAddr; 2] =
            ["192.0.2.1:3478", "[2001:db8::1]:3478"].map(|it| it.parse().unwrap());
        let named = [name("192.0.2.1:3478"), name("stun.example:19302")];
        let asked = servers(&named, &told, Some("a.example"));
        assert_eq!(asked, [named[0].clone(), named[1].clone(), name("[2001:db8::1]:3478")]);
        let asked = servers(&[], &[], Some("a.example"));
        assert_eq!(asked, [name("a.example:3478")]);
        assert!(servers(&[], &[], None).is_empty());
    }
}
