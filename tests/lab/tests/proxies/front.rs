//! What has to hold of a rendezvous behind a proxy.

use std::net::Ipv4Addr;
use std::time::Duration;

use holepunch_lab::logs::Line;
use holepunch_lab::{Lab, NatKind, Program, Session, Workers};
use libtest_mimic::Failed;

use crate::Outcome;
use crate::recipes::{AUTHORITY, AUTHORITY_FILE};

/// The rendezvous below the root, and below a path.
pub(crate) const ROOT: &str = "https://rendezvous.example.com";
pub(crate) const BELOW: &str = "https://example.com/holepunch";
/// A machine that is busy may take its time.
pub(crate) const WITHIN: Duration = Duration::from_secs(90);
const REGISTERED: &str = "registered with the rendezvous";

/// Two hosts between which there is no direct path, and names that lead to the public network.
pub(crate) fn lab() -> Result<Lab, Failed> {
    let mut lab = Lab::build(&[NatKind::Symmetric; 2])?;
    lab.give("hosts", "127.0.0.1 localhost\n198.18.0.1 rendezvous.example.com example.com\n");
    lab.give("authority.pem", AUTHORITY);
    Ok(lab)
}

/// A rendezvous with these words on its command line.
pub(crate) fn session<'lab>(lab: &'lab Lab, words: &[&str]) -> Result<Session<'lab>, Failed> {
    Ok(Session::start_as(lab, Workers::USUAL, words)?)
}

/// A program of a side, which knows the authority and asks `url`.
pub(crate) fn program(
    session: &Session<'_>,
    side: usize,
    url: &str,
    words: &[&str],
) -> Result<Program, Failed> {
    let usual = ["--rendezvous-url", url];
    let arguments = [&words[1..], &usual].concat();
    let variables = [("SSL_CERT_FILE", AUTHORITY_FILE)];
    Ok(session.program_with(side, words[0], &arguments, &variables)?)
}

/// Words for a worker that binds no port of its own choice, so that another one may follow it at once.
pub(crate) const WORKER: [&str; 7] =
    ["worker", "--port", "0", "--internal-udp-port", "0", "--ip-echo-url", "none"];

/// Waits for the first line of a worker about its registration: whether it speaks `holepunch.v1`.
pub(crate) fn registered(worker: &Program) -> Result<bool, Failed> {
    Ok(worker.wait_for("it is registered", WITHIN, |lines| {
        let line = lines.iter().find(|line| line.message().starts_with(REGISTERED))?;
        Some(line.message().contains("holepunch.v1"))
    })?)
}

/// Workers of both generations register by `url` and are paired; a relayed link carries data; and the rendezvous sees whose
/// each connection is.
pub(crate) fn serves(lab: &Lab, session: &Session<'_>, url: &str) -> Outcome {
    pairs_the_baseline(session, url)?;
    relays(session, url)?;
    sees_the_clients(lab, session)
}

fn pairs_the_baseline(session: &Session<'_>, url: &str) -> Outcome {
    let words = [&WORKER[..], &["--baseline"]].concat();
    let workers = [program(session, 0, url, &words)?, program(session, 1, url, &words)?];
    for worker in &workers {
        if registered(worker)? {
            return Err("a worker of the baseline speaks holepunch.v1".into());
        }
        worker.wait_for("an offer", WITHIN, |lines| {
            lines.iter().any(|line| line.message() == "p2p_connection_offer").then_some(())
        })?;
    }
    Ok(())
}

/// Two that prove their keys measure their link, which is a relayed one.
fn relays(session: &Session<'_>, url: &str) -> Outcome {
    let words = ["bench", "--room", "relay", "--seconds", "0.3", "--json", "--now"];
    let sides = [program(session, 0, url, &words)?, program(session, 1, url, &words)?];
    sides.into_iter().try_for_each(measured_by_the_relay)
}

pub(crate) fn measured_by_the_relay(side: Program) -> Outcome {
    let end = side.end(WITHIN)?;
    let report = end.json()?;
    let bytes = |way: &str| report[way]["bytes"].as_u64().unwrap_or(0);
    let holds = report["path"] == "relay of the rendezvous"
        && bytes("to_peer") > 0
        && bytes("from_peer") > 0;
    if holds { Ok(()) } else { Err(format!("not by the relay: {report:#}\n{}", end.tail).into()) }
}

/// Every registration is of one of the hosts, and there are some of each.
fn sees_the_clients(lab: &Lab, session: &Session<'_>) -> Outcome {
    let hosts: Vec<Ipv4Addr> = lab.sides().iter().map(|side| side.public_ip()).collect();
    let of = |line: &Line| line.string("ip").and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    let seen: Vec<_> = session.wait_for_rendezvous("registrations", WITHIN, |lines| {
        let all = lines.iter().filter(|line| line.message() == "worker registered");
        Some(all.map(of).collect())
    })?;
    let holds = seen.iter().all(|ip| ip.is_some_and(|ip| hosts.contains(&ip)))
        && hosts.iter().all(|host| seen.contains(&Some(*host)));
    if holds { Ok(()) } else { Err(format!("seen are {seen:?}, and not {hosts:?}").into()) }
}
