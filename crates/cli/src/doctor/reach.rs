//! The way to the rendezvous, step by step: its name, TCP, the proxy, TLS, HTTP, and the clocks.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holepunch_link::dial::in_turn;
use holepunch_worker::{
    Certificate, FailureCode, Index, Proxy, RendezvousUrl, Steps, Stream, milliseconds as ms,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::check::{Check, Name, fix_of};
use super::report::{Report, watch};

/// A certificate that ends sooner than this should have been renewed: authorities do so with a third of its time left.
const RENEW_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// Clocks that differ by more than this: proofs of address and credentials of TURN live for minutes, and logs of two
/// machines can no longer be read beside each other.
const CLOCK_OFF: Duration = Duration::from_secs(30);
const SECONDS_OF_A_DAY: u64 = 86_400;

/// The checks in the order in which each needs the one before it.
pub(super) const ALL: [Name; 6] =
    [Name::Dns, Name::Tcp, Name::Proxy, Name::Tls, Name::Http, Name::Clock];

/// Goes the way until it ends; the check that has failed, where one has.
pub(super) async fn reach(
    report: &mut Report,
    url: &RendezvousUrl,
    proxy: Option<&Proxy>,
) -> Result<(), Name> {
    let gone = go(report, url, proxy).await;
    if let Err(failed) = gone {
        let rest = ALL.iter().skip_while(|name| **name != failed).skip(1);
        rest.for_each(|name| report.push(Check::not_tried(*name, failed)));
    }
    gone
}

async fn go(report: &mut Report, url: &RendezvousUrl, proxy: Option<&Proxy>) -> Result<(), Name> {
    let steps = Steps::new(url, proxy.cloned());
    let (check, addresses) = watch(Name::Dns, dns(&steps)).await;
    report.need(check)?;
    let (checks, stream) = watch(Name::Tcp, tcp(&steps, addresses)).await;
    checks.into_iter().for_each(|check| report.push(check));
    let mut stream = stream.ok_or(Name::Tcp)?;
    let check = watch(Name::Proxy, tunnel(&steps, proxy, &mut stream)).await;
    report.need(check)?;
    let (check, stream) = watch(Name::Tls, tls(&steps, url, stream)).await;
    report.need(check)?;
    let stream = stream.ok_or(Name::Tls)?;
    let asked = Instant::now();
    let (check, index) = watch(Name::Http, http(&steps, stream)).await;
    report.need(check)?;
    let date = index.and_then(|index| index.date);
    report.push(clock(date.as_deref(), asked.elapsed(), SystemTime::now()));
    Ok(())
}

/// Looks up the name to which TCP connects: that of the proxy, where there is one.
async fn dns(steps: &Steps) -> (Check, Vec<SocketAddr>) {
    let (host, port) = steps.first();
    let began = Instant::now();
    let looked_up = timeout(Name::Dns.limit(), lookup_host((host, port))).await;
    let took = began.elapsed();
    let found: Vec<SocketAddr> = match looked_up {
        Ok(Ok(found)) => in_turn(found),
        Ok(Err(error)) => {
            let (seen, fix) = (format!("{host}: {error}"), fix_of(FailureCode::NameUnknown));
            let check = Check::fault(Name::Dns, "name_unknown", seen, fix)
                .means("the name is wrong, or there is no DNS");
            return (check.took(took), Vec::new());
        }
        Err(_) => {
            let what = format!("no answer to the look-up of {host}");
            let fix = "look at them (/etc/resolv.conf), or name an IP address in the URL";
            let check = Check::silent(Name::Dns, &what, fix)
                .means("this machine's DNS servers do not answer");
            return (check, Vec::new());
        }
    };
    let v6 = found.iter().filter(|address| address.is_ipv6()).count();
    let v4 = found.len() - v6;
    let seen = if host.parse::<std::net::IpAddr>().is_ok() {
        format!("{host} is an address, and needs no look-up")
    } else {
        let ips: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
        let ips = ips.join(", ");
        format!("{host} has {v4} of IPv4 and {v6} of IPv6 ({ips}), after {:.1} ms", ms(took))
    };
    let details = json!({ "host": host, "ipv4": v4, "ipv6": v6, "addresses": found });
    (Check::ok(Name::Dns, seen).took(took).details(details), found)
}

/// Tries every address beside each other: a line each, and the connection that came first in the usual order.
async fn tcp(steps: &Steps, addresses: Vec<SocketAddr>) -> (Vec<Check>, Option<TcpStream>) {
    let mut trying = JoinSet::new();
    for (index, address) in addresses.into_iter().enumerate() {
        let steps = steps.clone();
        trying.spawn(async move {
            let began = Instant::now();
            let connected = steps.tcp(address, Name::Tcp.limit()).await;
            (index, address, connected, began.elapsed())
        });
    }
    let mut tried = trying.join_all().await;
    tried.sort_by_key(|(index, ..)| *index);
    let is_reached = tried.iter().any(|(_, _, connected, _)| connected.is_ok());
    let mut checks = Vec::new();
    let mut first = None;
    for (_, address, connected, took) in tried {
        let details = json!({ "address": address });
        let check = match connected {
            Ok(stream) => {
                first.get_or_insert(stream);
                Check::ok(Name::Tcp, format!("{address} answers after {:.1} ms", ms(took)))
            }
            Err(unanswered) => {
                let (code, meaning, fix) = refusal(unanswered.last_said());
                let seen = unanswered.to_string();
                if is_reached {
                    Check::warning(Name::Tcp, code, seen, fix)
                        .means("another address answers, and is taken")
                } else {
                    Check::fault(Name::Tcp, code, seen, fix).means(meaning)
                }
            }
        };
        checks.push(check.took(took).details(details));
    }
    if checks.is_empty() {
        let fix = "give it one in DNS";
        checks.push(Check::fault(Name::Tcp, "no_address", "the name has no address", fix));
    }
    (checks, first)
}

/// What it means that an address gives no connection, and what helps.
fn refusal(said: Option<&io::Error>) -> (&'static str, &'static str, &'static str) {
    match said.map(io::Error::kind) {
        None | Some(io::ErrorKind::TimedOut) => (
            "silent",
            "a firewall swallows what is sent there, or no host is there",
            fix_of(FailureCode::TimedOut),
        ),
        Some(io::ErrorKind::ConnectionRefused) => (
            "refused",
            "the host is there, and nothing listens at this port",
            fix_of(FailureCode::ConnectionRefused),
        ),
        Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => (
            "unreachable",
            "this machine has no route there",
            "connect this machine to a network that has this family of addresses",
        ),
        Some(_) => (
            "failed",
            "the system lets no connection through",
            "look at this machine's own firewall and at its limits",
        ),
    }
}

async fn tunnel(steps: &Steps, proxy: Option<&Proxy>, tcp: &mut TcpStream) -> Check {
    let Some(proxy) = proxy else {
        return Check::ok(Name::Proxy, "none: connections go straight to the rendezvous");
    };
    let began = Instant::now();
    let asked = timeout(Name::Proxy.limit(), steps.tunnel(tcp)).await;
    let took = began.elapsed();
    match asked {
        Ok(Ok(())) => {
            let seen = format!("{proxy} gives a tunnel after {:.1} ms", ms(took));
            let details = json!({ "proxy": proxy.to_string() });
            Check::ok(Name::Proxy, seen).took(took).details(details)
        }
        Ok(Err(error)) => {
            let fix = fix_of(FailureCode::Proxy);
            Check::fault(Name::Proxy, "refused", error.to_string(), fix).took(took)
        }
        Err(_) => {
            let what = format!("{proxy} does not answer to CONNECT");
            Check::silent(Name::Proxy, &what, fix_of(FailureCode::Proxy))
                .means("what listens there may be no HTTP proxy, or does not reach the rendezvous")
        }
    }
}

async fn tls(steps: &Steps, url: &RendezvousUrl, tcp: TcpStream) -> (Check, Option<Stream>) {
    let began = Instant::now();
    let secured = timeout(Name::Tls.limit(), steps.secure(tcp)).await;
    let took = began.elapsed();
    let (stream, certificate) = match secured {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => {
            let fix = fix_of(FailureCode::Tls);
            let check = Check::fault(Name::Tls, "failed", error.to_string(), fix);
            return (check.took(took), None);
        }
        Err(_) => {
            let what = "the server does not answer to a TLS handshake";
            let fix =
                "use the scheme and the port that it speaks, or look at what stands in front of it";
            let check = Check::silent(Name::Tls, what, fix)
                .means("it takes the connection, and says nothing on it: it may not speak TLS, or nobody is behind it");
            return (check, None);
        }
    };
    let check = match certificate {
        Some(certificate) => shown(&certificate, took, SystemTime::now()),
        None if url.is_encrypted() => Check::ok(Name::Tls, format!("spoken after {:.1} ms", ms(took))),
        None => Check::ok(Name::Tls, "not spoken, since the URL is http://").means(
            "whoever is on the way sees who meets whom; links are encrypted from worker to worker all the same",
        ),
    };
    (check.took(took), Some(stream))
}

fn shown(certificate: &Certificate, took: Duration, now: SystemTime) -> Check {
    let Certificate { names, issuer, not_after } = certificate;
    let left = not_after.duration_since(now).unwrap_or_default();
    let days = left.as_secs() / SECONDS_OF_A_DAY;
    let until = Timestamp::try_from(*not_after);
    let until = until.map_or(String::new(), |at| at.strftime("%Y-%m-%d").to_string());
    let names_text = names.join(", ");
    let seen = format!(
        "certificate for {names_text} of {issuer}, good until {until} ({days} days), after {:.1} ms",
        ms(took)
    );
    let until_s = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let details = json!({ "names": names, "issuer": issuer, "not_after": until_s, "days": days });
    let check = if left < RENEW_BEFORE {
        Check::warning(Name::Tls, "certificate_ends", seen, "renew it there")
            .means("it ends soon, and then nobody can connect")
    } else {
        Check::ok(Name::Tls, seen)
    };
    check.details(details)
}

async fn http(steps: &Steps, stream: Stream) -> (Check, Option<Index>) {
    let began = Instant::now();
    let asked = timeout(Name::Http.limit(), steps.ask(stream)).await;
    let took = began.elapsed();
    let index = match asked {
        Ok(Ok(index)) => index,
        Ok(Err(why)) => {
            let fix = "correct the scheme, the host or the port of the URL";
            return (Check::fault(Name::Http, "failed", why, fix).took(took), None);
        }
        Err(_) => {
            let fix =
                "correct the port in the URL, or look at what stands in front of the rendezvous";
            let check = Check::silent(Name::Http, "the server does not answer to GET", fix)
                .means("it takes the connection, and says nothing on it: no HTTP is spoken there, or nobody is behind it");
            return (check, None);
        }
    };
    let status = index.status;
    let details = json!({ "status": status, "software": index.software, "server": index.server });
    let check = match (&index.software, &index.server) {
        (Some(software), _) => {
            let seen = format!("{software}, answers {status} after {:.1} ms", ms(took));
            Check::ok(Name::Http, seen)
        }
        (None, server) => {
            let server = server.as_deref().unwrap_or("a server without a name");
            let seen = format!("{server} answers {status} after {:.1} ms", ms(took));
            let fix =
                "where the next check fails, correct the host, the port or the path of the URL";
            Check::warning(Name::Http, "not_known", seen, fix)
                .means("it does not say that it is a rendezvous; its WebSocket shows whether it is")
        }
    };
    (check.took(took).details(details), Some(index))
}

/// Compares the server's clock with this one's; the answer took so long.
fn clock(date: Option<&str>, took: Duration, now: SystemTime) -> Check {
    let there = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(there) = there.map(|there| there.timestamp()) else {
        return Check::left_out(Name::Clock, "because the server sends no Date");
    };
    let Ok(here) = Timestamp::try_from(now - took / 2) else {
        return Check::left_out(Name::Clock, "because this machine's clock shows no date");
    };
    // The header names whole seconds.
    let ahead = here.duration_since(there).as_secs();
    let details = json!({ "ahead_s": ahead });
    let off = Duration::from_secs(ahead.unsigned_abs());
    let check = if off > CLOCK_OFF {
        let which = if ahead > 0 { "ahead of" } else { "behind" };
        let seen = format!("this machine's clock is {} s {which} the server's", off.as_secs());
        let fix = "set the clock of the one that is wrong (NTP)";
        Check::warning(Name::Clock, "clock_off", seen, fix)
            .means("certificates may be refused here, and logs of both do not fit together")
    } else {
        Check::ok(Name::Clock, format!("within {} s of the server's", off.as_secs().max(1)))
    };
    check.details(details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Status;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn at(offset: i64) -> SystemTime {
        let seconds = 784_111_777_i64 + offset;
        UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs())
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_half_a_minute_is_told_either_way() {
        let status = |offset| clock(Some(DATE), Duration::ZERO, at(offset)).status;
        for (offset, expected) in
            [(0, Status::Ok), (30, Status::Ok), (-30, Status::Ok), (31, Status::Warning)]
        {
            assert_eq!(status(offset), expected, "{offset}");
        }
        assert_eq!(status(-40), Status::Warning);
        let told = clock(Some(DATE), Duration::ZERO, at(-3600)).to_string();
        assert!(told.contains("3600 s behind the server's"), "{told}");
        let slow = clock(Some(DATE), Duration::from_secs(40), at(40));
        assert_eq!(slow.status, Status::Ok, "half of the time is the answer's way");
        for date in [None, Some(""), Some("yesterday")] {
            assert_eq!(clock(date, Duration::ZERO, at(0)).status, Status::NotTried, "{date:?}");
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_while_it_is_still_good() {
        let (names, issuer) = (vec!["a.example".to_owned()], "CN=an authority".to_owned());
        let certificate = Certificate { names, issuer, not_after: at(0) };
        let day = 86_400;
        let status = |days: i64| shown(&certificate, Duration::ZERO, at(-days * day)).status;
        assert_eq!((status(20), status(13)), (Status::Ok, Status::Warning));
        let told = shown(&certificate, Duration::ZERO, at(-20 * day)).to_string();
        assert!(told.contains("a.example of CN=an authority, good until 1994-11-06"), "{told}");
    }
}
