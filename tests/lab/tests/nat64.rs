//! A worker in a network without IPv4, whose DNS64 and NAT64 (RFC 6147, RFC 6146) lead to a rendezvous that has nothing
//! else, and one in a home.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::nat64::synthesized;
use holepunch_lab::{
    Lab, NatKind, Program, Server, Session, Workers, availability, multicall, trial,
};
use libtest_mimic::{Arguments, Failed};

/// Where the rendezvous is beside its usual address: NAT64 leads to no address that is reserved, as those of 198.18.0.0/15
/// are (RFC 6052 §3.1).
const RENDEZVOUS: Ipv4Addr = Ipv4Addr::new(192, 0, 9, 1);
const URL: &str = "http://rendezvous.example.com:8080";
const WITHIN: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let needs = || {
        Server::check("tayga", "no tayga here (Debian: apt-get install tayga)")?;
        availability::check()
    };
    let name = "a_worker_without_ipv4_registers_and_links";
    libtest_mimic::run(&Arguments::from_args(), vec![trial(name, needs, links)]).exit_code()
}

fn links() -> Result<(), Failed> {
    let mut lab = Lab::build(&[NatKind::Nat64, NatKind::PortPreserving])?;
    lab.add_public_address(RENDEZVOUS)?;
    let shown = synthesized(RENDEZVOUS);
    lab.give("hosts", &format!("::1 localhost\n{shown} rendezvous.example.com\n"));
    let session = Session::start_as(&lab, Workers::USUAL, &["--listen", "0.0.0.0:8080"])?;
    let bench = ["--room", "nat64", "--seconds", "0.3", "--json", "--now"];
    let by = |side, url| -> Result<Program, Failed> {
        let words = [&bench[..], &["--rendezvous-url", url]].concat();
        Ok(session.program(side, "bench", &words)?)
    };
    let sides = [by(0, URL)?, by(1, "http://198.18.0.1:8080")?];
    let host = lab.side(0).public_ip().to_string();
    session.wait_for_rendezvous("the registration by NAT64", WITHIN, |lines| {
        let mut registered = lines.iter().filter(|line| line.message() == "worker registered");
        registered.any(|line| line.string("ip") == Some(&host)).then_some(())
    })?;
    for side in sides {
        let end = side.end(WITHIN)?;
        let report = end.json()?;
        let bytes = |way: &str| report[way]["bytes"].as_u64().unwrap_or(0);
        if report["path"] != "relay of the rendezvous"
            || bytes("to_peer") == 0
            || bytes("from_peer") == 0
        {
            return Err(format!("not linked by the relay: {report:#}\n{}", end.tail).into());
        }
    }
    Ok(())
}
