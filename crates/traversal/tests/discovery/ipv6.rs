//! Both families: what an answer by IPv6 shows, and what is said where one family is missing.

use holepunch_traversal::NoEndpoint;
use holepunch_wire::nat::{NatProfile, UdpState};

use super::*;

const OWN: &str = "2001:db8::5";
/// Where the own socket is seen if nobody translates.
const OWN_SEEN: &str = "[2001:db8::5]:5000";

fn server_v6(last: u16) -> StunServer {
    let address = SocketAddr::from(([0x2001, 0xdb8, 9, 0, 0, 0, 0, last], 3478));
    StunServer::at(format!("stun{last}.test:3478"), address)
}

/// A machine with these addresses and both sockets, which the rendezvous has welcomed.
fn bench(interfaces: &[&str], named: &[&str]) -> Bench {
    let mut bench = Bench::with(Config::new(WorkerId::new("me").unwrap()));
    bench.input(Input::Surroundings(surroundings(interfaces)));
    bench.input(welcome(named));
    bench.input(Input::Registered);
    bench
}

fn surroundings(interfaces: &[&str]) -> Surroundings {
    Surroundings {
        interfaces: interfaces.iter().map(|ip| ip.parse().unwrap()).collect(),
        main: Some("0.0.0.0:5000".parse().unwrap()),
        main_v6: Some("[::]:5000".parse().unwrap()),
        port_mapped: None,
    }
}

fn with_both(named: &[&str]) -> Bench {
    bench(&["192.168.1.2", OWN], named)
}

fn with_ipv6_alone(named: &[&str]) -> Bench {
    bench(&[OWN], named)
}

fn missing(events: &[Event]) -> Vec<NoEndpoint> {
    let of = |event: &Event| {
        let Event::NoEndpoint(missing) = event else { return None };
        Some(missing.clone())
    };
    events.iter().filter_map(of).collect()
}

fn failures(events: &[Event]) -> Vec<(String, bool)> {
    let of = |event: &Event| {
        let Event::DiscoveryFailed { reason, ipv6, .. } = event else { return None };
        Some((reason.clone(), *ipv6))
    };
    events.iter().filter_map(of).collect()
}

fn told_profile(events: &[Event]) -> Option<NatProfile> {
    events.iter().rev().find_map(|event| {
        let Event::Signal(WorkerV1::NatProfile { profile }) = event else { return None };
        Some(profile.clone())
    })
}

fn told_candidates(events: &[Event]) -> Option<Vec<String>> {
    events.iter().rev().find_map(|event| {
        let Event::Signal(WorkerV1::Candidates { candidates, .. }) = event else { return None };
        Some(candidates.iter().map(|it| it.address().to_string()).collect())
    })
}

fn is_ready(events: &[Event]) -> bool {
    events.contains(&Event::Signal(WorkerV1::Ready))
}

fn sent_to(bench: &Bench, server: &StunServer) -> usize {
    bench.sent.iter().filter(|(_, sent)| sent.to == server.address).count()
}

#[test]
fn on_a_network_of_ipv6_alone_an_answer_shows_that_udp_gets_out_and_a_peer_is_asked_for() {
    let mut bench = with_ipv6_alone(&[]);
    let events = bench.resolved(&[server_v6(1)]);
    assert_eq!(asked_of(&events), [server_v6(1).address.to_string()]);
    assert_eq!(failures(&events), [("no STUN server can be asked by IPv4".to_owned(), true)]);
    assert!(missing(&events).is_empty() && !is_ready(&events), "the answer may come: {events:?}");
    assert_eq!(bench.machine.profile().udp, UdpState::Unknown);
    let events = bench.answer(&server_v6(1), OWN_SEEN);
    let mapped = OWN_SEEN.parse().unwrap();
    let (is_candidate, is_translated) = (true, false);
    let told = Event::MappedV6 { server: server_v6(1), mapped, is_candidate, is_translated };
    assert!(events.contains(&told), "{events:?}");
    assert!(is_ready(&events), "{events:?}");
    let profile = told_profile(&events).unwrap();
    assert_eq!((profile.udp, profile.ipv6), (UdpState::Open, Some(true)));
    let expected = NoEndpoint {
        asked: Vec::new(),
        why: Some("no STUN server can be asked by IPv4".to_owned()),
        ipv6: true,
        has_ipv4: false,
        v1: true,
        candidates: vec![mapped],
    };
    assert_eq!(missing(&events), [expected]);
    bench.pass(Duration::from_secs(300));
    assert_eq!(sent_to(&bench, &server_v6(1)), 1, "there is no mapping to keep alive");
    assert_eq!(bench.machine.profile().udp, UdpState::Open);
}

#[test]
fn silence_by_both_families_alone_means_that_udp_does_not_get_out() {
    let mut bench = with_both(&[]);
    bench.resolved(&[server(1), server_v6(2)]);
    let events = bench.pass(Duration::from_millis(3500));
    assert_eq!(bench.machine.profile().udp, UdpState::Blocked);
    assert_eq!(told_profile(&events).map(|told| told.ipv6), Some(Some(false)));
    let [said] = &missing(&events)[..] else { panic!("{events:?}") };
    assert_eq!(said.asked, ["stun1.test:3478", "stun2.test:3478"]);
    assert!(!said.ipv6 && said.has_ipv4 && is_ready(&events));
}

#[test]
fn a_name_that_is_silent_by_both_families_is_told_once() {
    let mut bench = with_both(&[]);
    bench.resolved(&[server(1), StunServer { name: server(1).name, ..server_v6(1) }]);
    let events = bench.pass(Duration::from_millis(3500));
    assert_eq!(missing(&events)[0].asked, ["stun1.test:3478"]);
}

#[test]
fn an_answer_by_ipv6_while_ipv4_is_silent_is_an_answer() {
    let mut bench = with_both(&[]);
    bench.resolved(&[server(1), server_v6(1)]);
    bench.answer(&server_v6(1), OWN_SEEN);
    assert_eq!(bench.machine.profile().udp, UdpState::Open);
    let events = bench.pass(Duration::from_secs(100));
    assert_eq!(bench.machine.profile().udp, UdpState::Open);
    let said = missing(&events);
    let asked: Vec<String> = vec![server(1).name];
    assert!(!said.is_empty() && said.iter().all(|it| it.ipv6 && it.asked == asked), "{said:?}");
    assert!(failures(&events).iter().all(|(_, ipv6)| *ipv6), "{events:?}");
    let again = bench.sent.iter().filter(|(_, sent)| sent.to == server_v6(1).address).count();
    assert_eq!(again, 1);
}

#[test]
fn an_answer_by_ipv4_while_ipv6_is_silent_is_one_too_and_says_that_there_is_no_ipv6() {
    let mut bench = with_both(&[]);
    bench.resolved(&[server(1), server_v6(1)]);
    bench.answer(&server(1), "203.0.113.9:4000");
    let events = bench.pass(Duration::from_secs(20));
    assert_eq!(missing(&events), []);
    assert_eq!(sent_to(&bench, &server_v6(1)), 3);
    let profile = bench.machine.profile();
    assert_eq!((profile.udp, profile.ipv6), (UdpState::Open, Some(false)));
}

#[test]
fn one_server_of_several_that_answers_by_ipv6_is_enough() {
    let mut bench = with_ipv6_alone(&[]);
    bench.resolved(&[server_v6(1), server_v6(2)]);
    bench.pass(Duration::from_millis(1500));
    bench.answer(&server_v6(2), OWN_SEEN);
    bench.pass(Duration::from_secs(60));
    let profile = bench.machine.profile();
    assert_eq!((profile.udp, profile.ipv6), (UdpState::Open, Some(true)));
}

#[test]
fn the_loopback_is_the_own_host_and_no_translation() {
    let mut bench = with_both(&[]);
    bench.resolved(&[server_v6(1)]);
    let events = bench.answer(&server_v6(1), "[::1]:5000");
    let of = |event: &Event| {
        if let Event::MappedV6 { is_translated, .. } = event { Some(*is_translated) } else { None }
    };
    assert_eq!(events.iter().find_map(of), Some(false), "{events:?}");
}

#[test]
fn a_nat64_lets_udp_out_and_shows_no_address_that_peers_are_told() {
    let mut bench = with_ipv6_alone(&[]);
    bench.resolved(&[server_v6(1)]);
    let events = bench.answer(&server_v6(1), "203.0.113.9:4000");
    let mapped = "203.0.113.9:4000".parse().unwrap();
    let (is_candidate, is_translated) = (false, true);
    let told = Event::MappedV6 { server: server_v6(1), mapped, is_candidate, is_translated };
    assert!(events.contains(&told), "{events:?}");
    assert_eq!(bench.machine.profile().udp, UdpState::Open);
    assert!(missing(&events)[0].ipv6 && is_ready(&events));
    assert_eq!(told_candidates(&events), None, "those of the interfaces were told before");
    assert!(!events.iter().any(|event| matches!(event, Event::Report(_))));
}

#[test]
fn a_literal_ipv4_address_without_a_route_is_the_reason_and_not_called_silent() {
    let mut bench = with_ipv6_alone(&[]);
    let why = "192.0.2.1:3478: no route by IPv4 to 192.0.2.1";
    let events = bench.input(Input::Resolved(Err(why.to_owned())));
    let [said] = &missing(&events)[..] else { panic!("{events:?}") };
    assert!(said.asked.is_empty() && !said.has_ipv4 && !said.ipv6);
    assert_eq!(said.why.as_deref(), Some(why));
}

#[test]
fn whom_the_rendezvous_names_by_ipv4_is_not_asked_without_an_ipv4_address() {
    let mut bench = with_ipv6_alone(&["192.0.2.2:3478"]);
    let events = bench.resolved(&[server_v6(1)]);
    assert_eq!(asked_of(&events), [server_v6(1).address.to_string()]);
    // It has one from now on.
    bench.input(Input::Surroundings(surroundings(&["192.168.1.2", OWN])));
    let events = bench.resolved(&[server_v6(1)]);
    assert_eq!(asked_of(&events), ["192.0.2.2:3478"]);
}

#[test]
fn a_rendezvous_of_the_baseline_is_told_no_endpoint_of_ipv6() {
    let mut bench = Bench::with(Config::new(WorkerId::new("me").unwrap()));
    bench.input(Input::Surroundings(surroundings(&[OWN])));
    bench.input(Input::Registered);
    let mut events = bench.resolved(&[server_v6(1)]);
    events.extend(bench.answer(&server_v6(1), OWN_SEEN));
    // One attempt says little: a welcome might have come, and a server with it.
    events.extend(bench.pass(Duration::from_secs(1)));
    events.extend(bench.resolved(&[server_v6(1)]));
    events.extend(bench.pass(Duration::from_secs(60)));
    let said = missing(&events);
    assert!(said.len() == 1 && said[0].ipv6 && !said[0].v1, "{said:?}");
    let is_word = |event: &Event| matches!(event, Event::Report(_) | Event::Signal(_));
    assert!(!events.iter().any(is_word), "{events:?}");
}

#[test]
fn a_translated_address_is_kept_alive_and_the_others_are_asked_when_its_server_is_gone() {
    let mut bench = with_both(&[]);
    bench.resolved(&[server(1), server_v6(1), server_v6(2)]);
    bench.answer(&server(1), "203.0.113.9:4000");
    let events = bench.answer(&server_v6(1), "[2001:db8:7::1]:6000");
    assert!(told_candidates(&events).unwrap().contains(&"[2001:db8:7::1]:6000".to_owned()));
    bench.answer(&server_v6(2), "[2001:db8:7::1]:6000");
    bench.pass(Duration::from_millis(8999));
    assert_eq!(sent_to(&bench, &server_v6(1)), 1);
    let events = bench.pass(Duration::from_millis(1001));
    assert!(sent_to(&bench, &server_v6(1)) > 1 && told_candidates(&events).is_none());
    let events = bench.answer(&server_v6(1), "[2001:db8:7::1]:6001");
    assert!(told_candidates(&events).unwrap().contains(&"[2001:db8:7::1]:6001".to_owned()));
    assert_eq!(sent_to(&bench, &server_v6(2)), 1);
    bench.pass(Duration::from_millis(13_500));
    assert!(sent_to(&bench, &server_v6(2)) > 1, "the other one's answer is missing");
    let events = bench.answer(&server_v6(2), "[2001:db8:7::1]:6002");
    assert!(told_candidates(&events).unwrap().contains(&"[2001:db8:7::1]:6002".to_owned()));
    assert_eq!(bench.machine.profile().ipv6, Some(true));
}

#[test]
fn another_network_is_asked_about_anew() {
    let mut bench = with_ipv6_alone(&[]);
    bench.resolved(&[server_v6(1)]);
    bench.answer(&server_v6(1), OWN_SEEN);
    let events = bench.input(Input::Surroundings(surroundings(&["2001:db8:1::5"])));
    assert_eq!(bench.machine.profile().udp, UdpState::Unknown, "{events:?}");
    assert_eq!(sent_to(&bench, &server_v6(1)), 2);
    bench.answer(&server_v6(1), "[2001:db8:1::5]:5000");
    assert_eq!(bench.machine.profile().udp, UdpState::Open);
}

#[test]
fn without_a_socket_of_ipv6_nobody_is_asked_by_it() {
    let mut bench = Bench::new(None, None);
    let events = bench.resolved(&[server(1), server_v6(1)]);
    assert_eq!(asked_of(&events), [server(1).address.to_string()]);
    assert_eq!(sent_to(&bench, &server_v6(1)), 0);
}

/// As the rendezvous names servers, and none is configured.
fn with_named() -> (Bench, SocketAddr) {
    let mut bench = Bench::new(None, None);
    bench.input(Input::Surroundings(Surroundings {
        interfaces: vec!["192.168.1.2".parse().unwrap(), "2a00:1450::5".parse().unwrap()],
        main: Some("0.0.0.0:5000".parse().unwrap()),
        main_v6: Some("[::]:5000".parse().unwrap()),
        port_mapped: None,
    }));
    assert_eq!(bench.machine.profile().ipv6, Some(true), "as far as the interfaces tell");
    bench.input(welcome(&["192.0.2.2:3478", "[2a00:1450::9]:3478", "[2a00:1450::a]:3478"]));
    (bench, "[2a00:1450::9]:3478".parse().unwrap())
}

#[test]
fn the_ipv6_address_that_a_server_sees_is_a_candidate() {
    let (mut bench, server) = with_named();
    let (_, sent) = bench.sent.iter().find(|(_, sent)| sent.to == server).unwrap();
    assert_eq!(sent.socket, SocketId::MAIN_V6);
    let mapped: SocketAddr = "[2a00:1450::77]:6000".parse().unwrap();
    let success = BindingSuccess { mapped, origin: server, other: None, proof: None };
    let payload = BindingRequest::parse(&sent.payload).unwrap().success(&success);
    let stranger = "[2a00:1450::66]:3478".parse().unwrap();
    for (socket, from) in [(SocketId::MAIN_V6, stranger), (SocketId::MAIN, server)] {
        bench.input(Input::Datagram { socket, from, payload: &payload });
    }
    let is_told = |events: &[Event]| {
        events.iter().any(|event| {
            let Event::Signal(WorkerV1::Candidates { candidates, .. }) = event else {
                return false;
            };
            candidates.iter().any(|it| it.address() == mapped)
        })
    };
    assert!(!is_told(&bench.pass(Duration::from_millis(1))));
    let answer = Input::Datagram { socket: SocketId::MAIN_V6, from: server, payload: &payload };
    assert!(is_told(&bench.input(answer)));
    bench.pass(Duration::from_millis(8900));
    assert_eq!(bench.sent.iter().filter(|(_, sent)| sent.to == server).count(), 1);
    assert_eq!(bench.machine.profile().ipv6, Some(true));
}

#[test]
fn ipv6_that_no_server_answers_by_is_none() {
    let (mut bench, server) = with_named();
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.sent.iter().filter(|(_, sent)| sent.to == server).count(), 3);
    assert_eq!(bench.machine.profile().ipv6, Some(false));
}
