//! Hosts of IPv6: what workers learn of themselves, what they say of it, and their link.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::ipv6::{Families, Ipv6Lab, NOBODY};
use holepunch_lab::logs::Line;
use holepunch_lab::{Program, availability, multicall, trial};
use libtest_mimic::{Arguments, Failed};

/// A machine that is busy may take its time.
const WITHIN: Duration = Duration::from_secs(60);
/// STUN servers that stay silent count as such after 3.5 s.
const SILENT_WITHIN: Duration = Duration::from_secs(30);

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let check = availability::check;
    let trials = vec![
        trial("two_workers_of_ipv6_alone_are_linked_directly", check, ipv6_alone),
        trial("bench_goes_directly_by_ipv6_alone", check, bench),
        trial("with_ipv4_dead_udp_gets_out_all_the_same", check, ipv4_is_dead),
        trial("an_ipv4_address_is_out_of_reach_by_ipv6_alone", check, literal_ipv4),
        trial("an_ipv6_address_is_out_of_reach_by_ipv4_alone", check, literal_ipv6),
        trial("nat_shows_what_ipv6_gave", check, nat_by_ipv6),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One is told its STUN server by name, one by address.
fn ipv6_alone() -> Outcome {
    let lab = Ipv6Lab::build(Families::Ipv6)?;
    let stun = [Ipv6Lab::stun_by_name(), Ipv6Lab::stun().to_string()];
    let workers = [lab.worker(0, &stun[0])?, lab.worker(1, &stun[1])?];
    for (own, worker) in (0..).zip(&workers) {
        let seen = worker.wait_for("its address", WITHIN, find("STUN result by IPv6"))?;
        expect(&seen, "mapped", &at(own))?;
        expect(&seen, "nat_type", "no translation")?;
        let linked = worker.wait_for("a link", WITHIN, find("link established"))?;
        expect(&linked, "address", &at(1 - own))?;
        let lines = worker.lines();
        let complaint = lines.iter().find(|line| is_complaint(line));
        require(complaint.is_none(), || format!("a complaint: {complaint:?}"))?;
        let said = find("no public IPv4 endpoint")(&lines).ok_or("nothing said of IPv4")?;
        let is_true = said.text().contains("this host has no IPv4 address");
        require(is_true && said.text().contains(&at(own)), || said.text().to_owned())?;
    }
    Ok(())
}

fn bench() -> Outcome {
    let lab = Ipv6Lab::build(Families::Ipv6)?;
    let stun = Ipv6Lab::stun().to_string();
    for side in [lab.bench(0, &stun)?, lab.bench(1, &stun)?] {
        let end = side.end(WITHIN)?;
        let report = end.json()?;
        let bytes = |way: &str| report[way]["bytes"].as_u64().unwrap_or(0);
        let holds = report["direct"] == true && bytes("to_peer") > 0 && bytes("from_peer") > 0;
        require(holds, || format!("{report:#}\n{}", end.tail))?;
    }
    Ok(())
}

/// The hosts have both families, and the STUN server of IPv4 does not answer.
fn ipv4_is_dead() -> Outcome {
    let lab = Ipv6Lab::build(Families::Ipv4Dead)?;
    let stun = format!("{NOBODY}:3478,{}", Ipv6Lab::stun());
    let workers = [lab.worker(0, &stun)?, lab.worker(1, &stun)?];
    for (own, worker) in (0..).zip(&workers) {
        let linked = worker.wait_for("a link", WITHIN, find("link established"))?;
        expect(&linked, "address", &at(1 - own))?;
        let profile = worker.wait_for("a profile", SILENT_WITHIN, find("NAT profile"))?;
        expect(&profile, "udp", "Open")?;
        let said = find("no public IPv4 endpoint")(&worker.lines()).ok_or("nothing said")?;
        for part in [&format!("no answer by IPv4 from the STUN server {NOBODY}:3478"), "by IPv6"] {
            require(said.text().contains(part), || said.text().to_owned())?;
        }
        let is_false = |line: &Line| line.text().contains("no public UDP endpoint");
        require(!worker.lines().iter().any(is_false), || "UDP gets out".to_owned())?;
    }
    Ok(())
}

fn literal_ipv4() -> Outcome {
    let lab = Ipv6Lab::build(Families::Ipv6)?;
    let stun = format!("{NOBODY}:3478");
    let report = failed(lab.nat(&stun)?)?;
    require(report.contains(&format!("{stun}: no route by IPv4 to {NOBODY}")), || report.clone())
}

fn literal_ipv6() -> Outcome {
    let lab = Ipv6Lab::build(Families::Ipv4)?;
    let stun = Ipv6Lab::stun();
    let report = failed(lab.nat(&stun.to_string())?)?;
    let expected = format!("{stun}: no route by IPv6 to {}", stun.ip());
    require(report.contains(&expected), || report.clone())
}

fn nat_by_ipv6() -> Outcome {
    let lab = Ipv6Lab::build(Families::Ipv4Dead)?;
    let stun = format!("{NOBODY}:3478,{}", Ipv6Lab::stun());
    let report = lab.nat(&stun)?.end(WITHIN)?.json()?;
    let ipv6 = &report["ipv6"];
    let address = ipv6["address"].as_str().unwrap_or_default();
    let is_told = ipv6["answered"] == true
        && address.starts_with(&format!("[{}]:", Ipv6Lab::host_ip(0)))
        && ipv6["translated"] == false
        && report["profile"]["udp"] == "open"
        && report["servers"][0]["mapped"].is_null()
        && report["servers"][1]["mapped"] == address;
    require(is_told, || format!("{report:#}"))
}

/// What a command that fails has printed.
fn failed(program: Program) -> Result<String, Failed> {
    let end = program.end(WITHIN)?;
    require(end.code == Some(1), || format!("{end:?}"))?;
    Ok(end.out)
}

/// Where host `index` is seen.
fn at(index: u8) -> String {
    format!("[{}]:8081", Ipv6Lab::host_ip(index))
}

/// All that would make somebody look for a fault.
fn is_complaint(line: &Line) -> bool {
    matches!(line.string("severity"), Some("WARNING" | "ERROR"))
}

/// Finds the first line whose message begins so.
fn find(start: &str) -> impl Fn(&[Line]) -> Option<Line> {
    move |lines| lines.iter().find(|line| line.message().starts_with(start)).cloned()
}

fn expect(line: &Line, field: &str, value: &str) -> Outcome {
    require(line.string(field) == Some(value), || format!("{field}: {}", line.text()))
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why().into()) }
}
