//! Discovery against STUN servers played by the test, under a virtual clock.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod ipv6;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_traversal::{
    Config, Event, Input, NatMapping, OfferRefusal, SocketId, StunServer, Surroundings, Transmit,
    Traversal,
};
use holepunch_wire::WorkerId;
use holepunch_wire::signal::Offer;
use holepunch_wire::signal::v1::{ServerV1, Welcome, WorkerV1};
use holepunch_wire::stun::{BindingRequest, BindingSuccess};
use rand::SeedableRng;
use rand::rngs::StdRng;

struct Bench {
    machine: Traversal,
    now: Instant,
    /// Everything sent, with the time since the start.
    sent: Vec<(Duration, Transmit)>,
    start: Instant,
}

fn server(last: u8) -> StunServer {
    let address = SocketAddr::from(([192, 0, 2, last], 3478));
    StunServer::at(format!("stun{last}.test:3478"), address)
}

impl Bench {
    fn new(stun_retries_max: Option<u32>, stun_retry_delay: Option<Duration>) -> Self {
        let own_id = WorkerId::new("me").unwrap();
        let config = Config { stun_retries_max, stun_retry_delay, ..Config::new(own_id) };
        Self::with(Config { profile: false, ..config })
    }

    fn with(config: Config) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let machine = Traversal::new(config, StdRng::seed_from_u64(1));
        let mut bench = Self { machine, now, sent: Vec::new(), start: now };
        assert_eq!(bench.events(), [Event::Resolve]);
        bench
    }

    fn events(&mut self) -> Vec<Event> {
        while let Some(transmit) = self.machine.poll_transmit() {
            self.sent.push((self.now - self.start, transmit));
        }
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Event> {
        self.machine.handle_input(input, self.now);
        self.events()
    }

    fn resolved(&mut self, servers: &[StunServer]) -> Vec<Event> {
        self.input(Input::Resolved(Ok(servers.to_vec())))
    }

    /// Lets time pass and gathers what happens.
    fn pass(&mut self, time: Duration) -> Vec<Event> {
        let end = self.now + time;
        let mut events = Vec::new();
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = at;
            self.machine.handle_timeout(at);
            events.extend(self.events());
        }
        self.now = end;
        events
    }

    /// The server answers the last request that it was sent.
    fn answer(&mut self, from: &StunServer, mapped: &str) -> Vec<Event> {
        let asked = self.sent.iter().rev().find(|(_, sent)| sent.to == from.address);
        let request = asked.unwrap().1.payload.clone();
        let origin = from.address;
        let mapped = mapped.parse().unwrap();
        let success = BindingSuccess { mapped, origin, other: None, proof: None };
        let payload = BindingRequest::parse(&request).unwrap().success(&success);
        let is_v6 = from.address.is_ipv6();
        let socket = if is_v6 { SocketId::MAIN_V6 } else { SocketId::MAIN };
        self.input(Input::Datagram { socket, from: from.address, payload: &payload })
    }

    fn times(&self) -> Vec<u128> {
        self.sent.iter().map(|(at, _)| at.as_millis()).collect()
    }
}

fn mapped_of(events: &[Event]) -> Vec<(String, Option<SocketAddr>, bool, NatMapping)> {
    let of = |event: &Event| {
        let Event::Mapped { mapped, replaces, is_endpoint, nat, .. } = event else { return None };
        Some((mapped.to_string(), *replaces, *is_endpoint, *nat))
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn a_silent_server_is_asked_by_the_schedule_of_rfc_8489_and_then_anew() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    let events = bench.pass(Duration::from_millis(39_500));
    assert_eq!(bench.times(), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert!(events.iter().any(|event| matches!(event, Event::StunSilent(..))));
    let Some(Event::DiscoveryFailed { attempt: 1, retry_in: Some(delay), .. }) = events.last()
    else {
        panic!("{events:?}")
    };
    assert!(*delay <= Duration::from_secs(1));
    assert_eq!(bench.pass(Duration::from_secs(1)), [Event::Resolve]);
}

#[test]
fn a_silent_address_of_a_server_is_followed_by_the_next_ones_and_the_one_that_answers_is_kept() {
    let mut bench = Bench::new(None, None);
    let at = |last: u8| server(last).address;
    let others = vec![(at(2), Some("10.0.0.2:9".parse().unwrap())), (at(3), None)];
    let several = StunServer { others, ..server(1) };
    let told = "stun1.test:3478 (192.0.2.1:3478, 192.0.2.2:3478, 192.0.2.3:3478)";
    assert_eq!(several.in_full(), told);
    bench.resolved(&[several]);
    bench.pass(Duration::from_millis(1499));
    let sent = |bench: &Bench| -> Vec<(u128, SocketAddr)> {
        bench.sent.iter().map(|(when, sent)| (when.as_millis(), sent.to)).collect()
    };
    assert_eq!(sent(&bench), [(0, at(1)), (500, at(2)), (500, at(1))]);
    bench.pass(Duration::from_millis(1));
    assert_eq!(sent(&bench)[3..], [(1500, at(2)), (1500, at(3)), (1500, at(1))]);
    let events = bench.answer(&server(2), "198.51.100.1:4000");
    let Some(Event::Mapped { server: by, .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!((by.address, by.local), (at(2), Some("10.0.0.2:9".parse().unwrap())));
    let before = bench.sent.len();
    bench.pass(Duration::from_secs(11));
    assert!(bench.sent.len() > before, "it is asked again");
    assert!(bench.sent[before..].iter().all(|(_, sent)| sent.to == at(2)), "there alone");
}

#[test]
fn a_server_that_the_rendezvous_names_and_that_sees_the_own_socket_shows_that_nothing_is_translated()
 {
    for (own, at) in [("127.0.0.1", "127.0.0.2:3478"), ("10.0.0.7", "10.0.0.1:3478")] {
        let mut bench = Bench::new(None, None);
        bench.input(Input::Surroundings(Surroundings {
            interfaces: vec!["10.0.0.7".parse().unwrap()],
            main: Some("0.0.0.0:5000".parse().unwrap()),
            ..Surroundings::default()
        }));
        bench.input(Input::Registered);
        bench.input(welcome(&[at]));
        bench.resolved(&[server(1)]);
        let named = StunServer::at(at.to_owned(), at.parse().unwrap());
        for (port, nat) in [(5000, NatMapping::None), (5001, NatMapping::Unknown)] {
            let events = bench.answer(&named, &format!("{own}:{port}"));
            assert_eq!(mapped_of(&events).first().map(|told| told.3), Some(nat), "{events:?}");
            bench.pass(Duration::from_secs(11));
        }
    }
}

#[test]
fn the_users_bounds_on_retries_hold_and_a_new_registration_starts_again() {
    let mut bench = Bench::new(Some(2), Some(Duration::from_secs(3)));
    let mut failures = Vec::new();
    for _ in 0..10 {
        for event in bench.input(Input::Resolved(Err("no such host".to_owned()))) {
            if let Event::DiscoveryFailed { attempt, retry_in, .. } = event {
                failures.push((attempt, retry_in));
            }
        }
        bench.pass(Duration::from_secs(3));
    }
    let pause = Some(Duration::from_secs(3));
    assert_eq!(failures, [(1, pause), (2, pause), (3, None)]);
    assert!(bench.machine.poll_timeout().is_none(), "given up");
    let again = bench.input(Input::Registered);
    assert!(matches!(again[..], [Event::Resolve, Event::NoEndpoint(_)]), "{again:?}");
}

#[test]
fn the_first_answer_is_the_endpoint_and_all_answers_tell_the_mapping() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1), server(2)]);
    assert_eq!(bench.sent.len(), 2, "both are asked at once");
    bench.input(Input::Registered);
    let first = bench.answer(&server(2), "203.0.113.9:4000");
    assert_eq!(
        mapped_of(&first),
        [("203.0.113.9:4000".to_owned(), None, true, NatMapping::Unknown)]
    );
    assert_eq!(first.last(), Some(&Event::Report("203.0.113.9:4000".parse().unwrap())));
    let second = bench.answer(&server(1), "203.0.113.9:4001");
    assert_eq!(mapped_of(&second)[0].3, NatMapping::EndpointDependent);
    assert!(second.contains(&Event::RoundComplete(NatMapping::EndpointDependent)));
    assert!(!second.iter().any(|event| matches!(event, Event::Report(_))));
}

fn welcome(stun: &[&str]) -> Input<'static> {
    let welcome = Welcome {
        server: String::new(),
        observed_ip: [203, 0, 113, 9].into(),
        observed_port: Some(1),
        stun: stun.iter().map(|address| address.parse().unwrap()).collect(),
        turn: Vec::new(),
        proof_nonce: String::new(),
        challenge: String::new(),
        resume: String::new(),
        sessions_max: 1,
        calls_from_anywhere: false,
    };
    Input::V1(Box::new(ServerV1::Welcome(welcome)))
}

fn asked_of(events: &[Event]) -> Vec<String> {
    let of = |event: &Event| {
        let Event::StunAsked(server) = event else { return None };
        Some(server.address.to_string())
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn servers_that_the_rendezvous_names_are_asked_too_one_of_each_host_and_two_at_most() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    bench.input(Input::Registered);
    let named = ["192.0.2.1:9", "192.0.2.2:3478", "192.0.2.2:3479", "[2001:db8::1]:3478"];
    let asked = asked_of(&bench.input(welcome(&named)));
    assert_eq!(
        asked,
        ["192.0.2.1:9", "192.0.2.2:3478"],
        "nobody has answered at the other port yet"
    );
    assert_eq!(asked_of(&bench.input(welcome(&named))), [""; 0], "they are asked already");
    let flood: Vec<String> = (3..200).map(|last| format!("192.0.2.{last}:3478")).collect();
    let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
    assert_eq!(asked_of(&bench.input(welcome(&flood))), ["192.0.2.3:3478", "192.0.2.4:3478"]);
    bench.answer(&server(1), "203.0.113.9:4000");
    let events = bench.answer(&server(2), "203.0.113.9:4001");
    assert_eq!(mapped_of(&events)[0].3, NatMapping::EndpointDependent);
}

#[test]
fn another_port_of_a_host_that_has_answered_is_not_asked() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    bench.input(Input::Registered);
    bench.answer(&server(1), "203.0.113.9:4000");
    assert_eq!(asked_of(&bench.input(welcome(&["192.0.2.1:9"]))), [""; 0]);
}

#[test]
fn servers_that_the_rendezvous_names_do_where_no_other_is_found() {
    let mut bench = Bench::new(None, None);
    bench.input(Input::Registered);
    let events = bench.input(Input::Resolved(Err("no such name".to_owned())));
    assert!(matches!(events[..], [Event::DiscoveryFailed { .. }]));
    let named = welcome(&["192.0.2.2:3478"]);
    assert!(bench.input(named).contains(&Event::Resolve), "at once");
    let events = bench.input(Input::Resolved(Err("no such name".to_owned())));
    assert_eq!(asked_of(&events), ["192.0.2.2:3478"]);
    let events = bench.answer(&server(2), "203.0.113.9:4000");
    assert_eq!(events.last(), Some(&Event::Report("203.0.113.9:4000".parse().unwrap())));
}

#[test]
fn the_mapping_is_refreshed_every_nine_to_ten_seconds_and_a_change_is_reported() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    bench.input(Input::Registered);
    bench.answer(&server(1), "203.0.113.9:4000");
    for _ in 0..20 {
        let before = bench.sent.len();
        assert_eq!(bench.pass(Duration::from_secs(9) - Duration::from_millis(1)), []);
        assert_eq!(bench.sent.len(), before);
        bench.pass(Duration::from_millis(1001));
        assert!(bench.sent.len() > before);
        assert_eq!(bench.answer(&server(1), "203.0.113.9:4000"), [], "the same is no news");
    }
    bench.pass(Duration::from_secs(10));
    let events = bench.answer(&server(1), "203.0.113.9:5000");
    let before = Some("203.0.113.9:4000".parse().unwrap());
    assert_eq!(mapped_of(&events)[0].1, before);
    assert!(events.contains(&Event::Report("203.0.113.9:5000".parse().unwrap())));
}

#[test]
fn a_server_that_stops_answering_makes_all_be_asked_anew() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    bench.input(Input::Registered);
    bench.answer(&server(1), "203.0.113.9:4000");
    let events = bench.pass(Duration::from_secs(18));
    assert_eq!(events, [Event::MappingUnconfirmed(server(1)), Event::Resolve]);
    bench.resolved(&[server(2)]);
    let events = bench.answer(&server(2), "203.0.113.9:4000");
    assert_eq!(mapped_of(&events).len(), 1);
    assert!(!events.iter().any(|event| matches!(event, Event::Report(_))), "nothing new to say");
}

#[test]
fn answers_that_nobody_asked_for_are_counted_and_dropped() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    let request = bench.sent[0].1.payload.clone();
    let success = BindingSuccess {
        mapped: "203.0.113.9:4000".parse().unwrap(),
        origin: server(1).address,
        other: None,
        proof: None,
    };
    let payload = BindingRequest::parse(&request).unwrap().success(&success);
    let elsewhere = server(9).address;
    assert_eq!(
        bench.input(Input::Datagram { socket: SocketId::MAIN, from: elsewhere, payload: &payload }),
        []
    );
    let mut forged = payload.clone();
    forged[19] ^= 1;
    assert_eq!(
        bench.input(Input::Datagram {
            socket: SocketId::MAIN,
            from: server(1).address,
            payload: &forged
        }),
        []
    );
    assert_eq!(bench.machine.dropped().stray_stun, 2);
    bench.input(Input::Datagram { socket: SocketId::MAIN, from: elsewhere, payload: b"hello" });
    bench.input(Input::Datagram {
        socket: SocketId::MAIN,
        from: elsewhere,
        payload: b"P2P_PING_FROM_\xff",
    });
    assert_eq!((bench.machine.dropped().unknown, bench.machine.dropped().malformed_probe), (1, 1));
}

#[test]
fn a_mapped_address_that_is_no_hosts_is_not_believed() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    bench.input(Input::Registered);
    let events = bench.answer(&server(1), "224.0.0.1:4000");
    assert!(matches!(events[0], Event::StunRefused(_, None)), "{events:?}");
    assert!(matches!(events[1], Event::DiscoveryFailed { attempt: 1, .. }), "{events:?}");
}

#[test]
fn an_offer_that_no_endpoint_is_there_for_is_refused_with_what_stands_in_the_way() {
    let mut bench = Bench::new(None, None);
    bench.input(Input::Resolved(Err("the name stun.example cannot be looked up".to_owned())));
    bench.input(Input::Registered);
    let offer = Offer { peer: WorkerId::new("b").unwrap(), endpoint: server(9).address };
    let events = bench.input(Input::Offer(offer));
    let Some(Event::OfferIgnored(refusal)) = events.last() else { panic!("{events:?}") };
    let expected = "this worker's own UDP endpoint is not known yet: the name stun.example cannot be looked up";
    assert_eq!(refusal.to_string(), expected);
}

#[test]
fn an_offer_before_the_endpoint_is_known_leaves_nothing_due() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    bench.input(Input::Registered);
    let offer = Offer { peer: WorkerId::new("b").unwrap(), endpoint: server(9).address };
    let events = bench.input(Input::Offer(offer));
    let [Event::OfferIgnored(OfferRefusal::NotReady { why: None })] = &events[..] else {
        panic!("{events:?}");
    };
    bench.input(Input::BadOffer("no peer".to_owned()));
    let (at, _) = bench.machine.poll_timeout().unwrap();
    assert!(at > bench.now, "the machine must not ask to be called at once, again and again");
    let events = bench.answer(&server(1), "203.0.113.9:4000");
    assert!(matches!(events.last(), Some(Event::RoundComplete(_) | Event::Report(_))));
}

#[test]
fn a_flood_of_offers_cannot_make_a_worker_spray_pings() {
    let mut bench = Bench::new(None, None);
    bench.resolved(&[server(1)]);
    bench.answer(&server(1), "203.0.113.9:4000");
    let before = bench.sent.len();
    for port in 1..=1000 {
        let peer = WorkerId::new("victim").unwrap();
        let endpoint = SocketAddr::from(([198, 51, 100, 1], port));
        bench.input(Input::Offer(Offer { peer, endpoint }));
    }
    assert_eq!(bench.sent.len() - before, 10);
}

#[test]
fn a_host_of_many_interfaces_tells_its_endpoint_and_the_likeliest_addresses() {
    let mut bench = Bench::new(None, None);
    bench.input(Input::Surroundings(Surroundings {
        interfaces: (1..=30).map(|network| [10, 0, network, 1].into()).collect(),
        main: Some("0.0.0.0:5000".parse().unwrap()),
        ..Surroundings::default()
    }));
    bench.input(Input::Registered);
    bench.input(welcome(&["192.0.2.2:3478"]));
    bench.resolved(&[server(1)]);
    let mut events = bench.answer(&server(1), "203.0.113.9:4000");
    events.extend(bench.pass(Duration::from_secs(2)));
    let told = events.iter().rev().find_map(|event| {
        let Event::Signal(WorkerV1::Candidates { candidates, .. }) = event else { return None };
        Some(candidates)
    });
    let told: Vec<String> = told.unwrap().iter().map(|it| it.address().to_string()).collect();
    assert_eq!(told.first().unwrap(), "10.0.1.1:5000");
    assert_eq!(told.last().unwrap(), "203.0.113.9:4000", "{told:?}");
    assert!(told.len() > 10, "{told:?}");
}
