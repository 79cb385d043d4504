//! Ports that routers open: by each protocol, again after a worker was killed, and by none.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::counters::Place;
use holepunch_lab::logs::Line;
use holepunch_lab::{
    Lab, LabError, NatKind, OpenedPort, PortService, Session, Version, Workers, availability,
    multicall, proof, trial,
};
use libtest_mimic::{Arguments, Failed};

use NatKind::{PortPreserving, Symmetric, SymmetricWith};

/// A router is asked by all protocols at the same time, for a second.
const ASKED_WITHIN: Duration = Duration::from_secs(30);
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// The port that workers bind.
const WORKER_PORT: u16 = 8081;
const ASKING: Workers = Workers { port_mapping: true, ..Workers::USUAL };
/// They say as well why they got no port.
const TELLING: Workers = Workers { log: "info,holepunch_link::port_mapping=debug", ..ASKING };
/// A worker that waited for its router would be late each time; a machine that is busy makes one late
/// now and then.
const RUNS_MAX: u32 = 5;

type Outcome = Result<(), Failed>;

/// A protocol by which a router is asked for ports.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    service: PortService,
    /// The only one of the versions that the router answers, where two share a port.
    version: Option<Version>,
    /// What the router says when it is asked so.
    asked: &'static str,
}

const WAYS: [Way; 3] = [
    Way {
        name: "upnp",
        service: PortService::Upnp,
        version: None,
        asked: "WANIPConnection:2#AddAnyPortMapping",
    },
    Way {
        name: "nat_pmp",
        service: PortService::Pcp,
        version: Some(Version::NatPmp),
        asked: "NAT-PMP port mapping request",
    },
    Way {
        name: "pcp",
        service: PortService::Pcp,
        version: Some(Version::Pcp),
        asked: "PCP MAP: added mapping",
    },
];

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let with_service = || PortService::check().and_then(|()| availability::check());
    let opened = WAYS.map(|way| {
        let name = format!("a_peer_comes_through_a_port_opened_by_{}", way.name);
        trial(&name, with_service, move || comes_through(way))
    });
    let again = WAYS.map(|way| {
        let name = format!("a_router_that_speaks_{}_opens_a_port_again_after_a_kill", way.name);
        trial(&name, with_service, move || opens_again(way))
    });
    let none = [
        trial("without_a_service_the_pair_is_left_to_a_relay", availability::check, relayed),
        trial("a_router_that_opens_no_port_delays_nothing", availability::check, undelayed),
    ];
    let trials = opened.into_iter().chain(again).chain(none).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

impl Way {
    /// The router that is asked, and a peer that gets in nowhere else.
    fn lab(self) -> Result<Lab, LabError> {
        let lab = Lab::build(&[SymmetricWith(self.service), Symmetric])?;
        if let Some(version) = self.version {
            lab.side(0).answer_only(version)?;
        }
        Ok(lab)
    }
}

/// The worker says which port it got, the kernel has just that one open, the peer links to it, and the
/// kernel has counted the packets. When the worker ends, the port is closed.
fn comes_through(way: Way) -> Outcome {
    let lab = way.lab()?;
    let mut session = Session::start(&lab, ASKING)?;
    session.start_worker()?;
    session.start_worker()?;
    let linked = session.linked(ASKED_WITHIN)?;
    proof::direct(&lab, &linked)?;
    let router = lab.side(0);
    let said = opened(&session)?;
    require(said.ip() == &router.public_ip(), || format!("{said} is not of the router"))?;
    is_open(&lab, said)?;
    let reached = linked.established[1].address;
    require(reached == said, || format!("opened is {said}, but the link is to {reached}"))?;
    let kind = find(&session.lines(1), "link established", "kind").unwrap_or_default();
    require(kind == "PortMapped", || format!("the peer takes it for {kind}"))?;
    router.service_says(way.asked, CLOSED_WITHIN)?;
    session.end_worker(0)?;
    Ok(router.no_port_is_open(CLOSED_WITHIN)?)
}

/// One that was killed leaves its port open. The next one on the host gets a port all the same.
fn opens_again(way: Way) -> Outcome {
    let lab = way.lab()?;
    let mut session = Session::start(&lab, ASKING)?;
    session.start_worker()?;
    let left = opened(&session)?;
    session.replace_worker(0)?;
    is_open(&lab, left)?;
    let said = opened(&session)?;
    is_open(&lab, said)
}

/// The same pair, and nobody answers: a verdict on both sides, also after the router was asked in vain,
/// and no packet got through.
fn relayed() -> Outcome {
    let lab = Lab::build(&[Symmetric, Symmetric])?;
    let mut session = Session::start(&lab, TELLING)?;
    session.start_worker()?;
    session.start_worker()?;
    for worker in [0, 1] {
        for what in [is_verdict, asked_in_vain] {
            session.wait_for(worker, "a verdict, and no port", ASKED_WITHIN, |lines| {
                lines.iter().any(what).then_some(())
            })?;
        }
    }
    for (own, peer) in [(0, 1), (1, 0)] {
        let public: Ipv4Addr = lab.side(peer).public_ip();
        let flows = lab.side(own).flows(Place::HostIn)?;
        let through = flows.iter().find(|flow| *flow.from.ip() == public);
        require(through.is_none(), || format!("got through: {through:?}"))?;
        let is_linked = session.lines(own).iter().any(is_link);
        require(!is_linked, || format!("worker {own} is linked\n{}", session.tails()))?;
    }
    Ok(())
}

/// The router does not answer, which takes a second to find out. Both workers are linked before that.
fn undelayed() -> Outcome {
    let mut late = String::new();
    for _ in 0..RUNS_MAX {
        let lab = Lab::build(&[PortPreserving, PortPreserving])?;
        let mut session = Session::start(&lab, TELLING)?;
        session.start_worker()?;
        session.start_worker()?;
        let linked = session.linked(ASKED_WITHIN)?;
        proof::direct(&lab, &linked)?;
        let mut in_time = true;
        for worker in [0, 1] {
            in_time &= session.wait_for(worker, "no port", ASKED_WITHIN, |lines| {
                let [link, vain] = [is_link, asked_in_vain].map(|what| lines.iter().position(what));
                Some(link? < vain?)
            })?;
        }
        if in_time {
            return Ok(());
        }
        late = session.tails();
    }
    Err(format!("linked only after the router was asked, {RUNS_MAX} times\n{late}").into())
}

fn is_link(line: &Line) -> bool {
    line.message() == "link established"
}

fn is_verdict(line: &Line) -> bool {
    line.message() == "no direct path is to be expected"
}

/// By all protocols.
fn asked_in_vain(line: &Line) -> bool {
    line.message() == "the router opens no port"
}

/// The port that worker 0 says it got.
fn opened(session: &Session<'_>) -> Result<SocketAddrV4, LabError> {
    session.wait_for(0, "a port", ASKED_WITHIN, |lines| {
        find(lines, "port that the router has opened", "external")?.parse().ok()
    })
}

/// A field of the first line with that message.
fn find(lines: &[Line], message: &str, field: &str) -> Option<String> {
    let line = lines.iter().find(|line| line.message() == message)?;
    line.string(field).map(str::to_owned)
}

/// Whether the kernel leads what comes there to the worker.
fn is_open(lab: &Lab, said: SocketAddrV4) -> Outcome {
    let to = SocketAddrV4::new(lab.side(0).host_ip(), WORKER_PORT);
    let open = lab.side(0).opened_ports()?;
    let expected = OpenedPort { external: said.port(), to };
    require(open.contains(&expected), || format!("expected {expected:?}, open are {open:?}"))
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why().into()) }
}
