use std::collections::BTreeSet;
use std::time::Instant;

use holepunch_wire::nat::Allocation;
use holepunch_wire::plan::{Aim, Announce, Search};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::run::{PORTS, Prepared, SearchRun};
use crate::doors::SocketId;

fn run(aim: Aim, sockets: u16) -> SearchRun {
    started(Search {
        sockets,
        fresh: false,
        aim,
        announce: Announce::Nothing,
        probes_max: u16::MAX,
        per_second: u16::MAX,
        except: vec![103],
    })
}

fn started(spec: Search) -> SearchRun {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let now = Instant::now();
    let context = Prepared {
        endpoint: "203.0.113.1:4000".parse().unwrap(),
        allocation: Allocation::Random,
        observed: None,
        stun: None,
        opener: None,
    };
    SearchRun::new(1, spec, context, (now, &mut StdRng::seed_from_u64(1)))
}

#[test]
fn a_plan_is_cut_back_to_the_bounds() {
    let run = run(Aim::Random, u16::MAX);
    assert_eq!(run.spec.sockets, 256);
    assert_eq!(run.spec.probes_max, 2048);
    assert_eq!(run.spec.per_second, 100);
}

#[test]
fn random_ports_are_all_different_and_in_range() {
    let run = run(Aim::Random, 1);
    let ports: BTreeSet<u16> =
        (0..PORTS as usize).map(|n| run.shot(n).unwrap().to.port()).collect();
    assert_eq!(ports.len(), PORTS as usize);
    assert_eq!(ports.first(), Some(&1024));
    assert_eq!(run.shot(PORTS as usize), None);
}

#[test]
fn a_window_is_swept_from_its_centre_by_every_socket() {
    let mut run = run(Aim::Window { first: 100, last: 104, centre: 102 }, 2);
    let now = run.ends_at;
    run.opened(SocketId(9), "0.0.0.0:5".parse().unwrap(), now);
    let shots: Vec<(u32, u16)> =
        (0..).map_while(|n| run.shot(n)).map(|it| (it.socket.0, it.to.port())).collect();
    assert_eq!(shots.len(), 8);
    assert_eq!(shots[..2], [(0, 102), (9, 102)]);
    assert_eq!(shots.iter().map(|(_, port)| port).collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn a_wide_window_is_swept_once_more_where_ports_are_most_likely() {
    let ports = |last, sockets| -> Vec<u16> {
        let run = run(Aim::Window { first: 1000, last, centre: 1500 }, sockets);
        (0..).map_while(|n| run.shot(n)).map(|it| it.to.port()).collect()
    };
    let swept = ports(2000, 1);
    assert_eq!(swept.len(), 1001 + 64);
    assert_eq!(swept[192..256], swept[..64]);
    assert!(swept[..64].iter().all(|port| port.abs_diff(1500) <= 32));
    assert_eq!(swept.iter().collect::<BTreeSet<_>>().len(), 1001, "and none is left out");
    assert_eq!(ports(1191, 1).len(), 192, "a small one is swept once");
    assert_eq!(ports(2000, 2).len(), 1001, "and so is one that several sockets sweep");
}

#[test]
fn a_fresh_socket_that_seeks_is_announced_by_the_port_that_a_server_sees() {
    let spec = Search { fresh: true, announce: Announce::FreshPort, ..run(Aim::Random, 1).spec };
    let mut run = started(spec);
    assert_eq!(run.take_wanted(), 1, "the socket that asks is the one that seeks");
    run.opened(SocketId(9), "0.0.0.0:5".parse().unwrap(), run.ends_at);
    assert_eq!(run.sample.as_ref().and_then(|sample| sample.socket), Some(SocketId(9)));
    assert!(!run.is_prepared(), "its port is not known yet");
    run.context.allocation = Allocation::Sequential { step: 1 };
    run.sampled(7000);
    assert!(run.is_prepared());
    assert_eq!(run.announcement(), [7000]);
    assert_eq!(run.shot(0).map(|it| it.socket), Some(SocketId(9)));
}

#[test]
fn every_socket_aims_at_the_fresh_port_of_a_peer_that_announces_one() {
    let target = |aim, ports: Vec<u16>| {
        let mut run = run(aim, 1);
        run.peer_is_ready(ports);
        run.shot(0).unwrap().to.port()
    };
    assert_eq!(target(Aim::FreshPort, vec![7000]), 7000);
    assert_eq!(target(Aim::FreshPort, vec![]), 4000, "else at its endpoint");
    assert_eq!(target(Aim::FreshPort, vec![0]), 4000);
    assert_eq!(target(Aim::Endpoint, vec![7000]), 4000);
}
