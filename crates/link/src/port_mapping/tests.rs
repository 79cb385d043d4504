use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const LOCAL: NonZeroU16 = NonZeroU16::new(8081).unwrap();
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// What the router has in mind: the address and the port that it opens, and for how many seconds.
type Mind = (Ipv4Addr, u16, u32);
const GOOD: Mind = (OUTSIDE, 40_000, 3600);

/// A router on the loopback network that speaks both protocols of port 5351, and hands on what it is asked.
struct Router {
    route: Route,
    mind: tokio::sync::watch::Sender<Mind>,
    asked: UnboundedReceiver<Vec<u8>>,
    _serving: JoinSet<()>,
}

impl Router {
    /// Each test has one of its own.
    async fn new(last: u8, mind: Mind) -> Self {
        let route = Route { router: Ipv4Addr::new(127, 0, 53, last), own: Ipv4Addr::LOCALHOST };
        let socket = UdpSocket::bind((route.router, 5351)).await.unwrap();
        let (mind, of_router) = tokio::sync::watch::channel(mind);
        let (told, asked) = unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut request = [0; 1100];
            loop {
                let (length, from) = socket.recv_from(&mut request).await.unwrap();
                let answer = answer(&request[..length], *of_router.borrow());
                told.send(request[..length].to_vec()).unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { route, mind, asked, _serving: serving }
    }

    /// The lifetimes that it was asked for since the last time, in seconds.
    fn lifetimes(&mut self) -> Vec<u32> {
        let mut lifetimes = Vec::new();
        while let Ok(request) = self.asked.try_recv() {
            let at = if request[0] == 2 { 4 } else { 8 };
            if request[1] == 1 {
                lifetimes.push(u32::from_be_bytes(request[at..at + 4].try_into().unwrap()));
            }
        }
        lifetimes
    }
}

/// RFC 6886, sections 3.2 and 3.3; RFC 6887, sections 7.2 and 11.1.
fn answer(request: &[u8], (ip, port, lifetime): Mind) -> Vec<u8> {
    let mut answer = request.to_vec();
    answer[1] |= 0x80;
    let [version, opcode] = [request[0], request[1]];
    if version == 2 {
        answer[4..24].fill(0);
        if opcode == 1 {
            let is_deletion = request[4..8] == [0; 4];
            answer[4..8].copy_from_slice(&if is_deletion { 0 } else { lifetime }.to_be_bytes());
            answer[42..44].copy_from_slice(&port.to_be_bytes());
            answer[44..60].copy_from_slice(&ip.to_ipv6_mapped().octets());
        }
    } else if opcode == 0 {
        answer = [[0, 0x80, 0, 0], [0; 4], ip.octets()].concat();
    } else {
        let is_deletion = request[8..12] == [0; 4];
        let (port, lifetime) = if is_deletion { (0, 0) } else { (port, lifetime) };
        let ports = [[request[4], request[5]], port.to_be_bytes()].concat();
        let (head, rest) = ([0, 0x81, 0, 0, 0, 0, 0, 9].to_vec(), lifetime.to_be_bytes().to_vec());
        answer = [head, ports, rest].concat();
    }
    answer
}

/// A request for a port by these services; there is no further router.
fn mapping(services: impl IntoIterator<Item = Service>) -> PortMapping {
    let mut mapping = PortMapping::ask(LOCAL);
    mapping.route = || None;
    mapping.ask_all();
    mapping.spoken.extend(services);
    mapping
}

fn at(ip: Ipv4Addr, port: u16) -> Option<SocketAddr> {
    Some(SocketAddrV4::new(ip, port).into())
}

#[tokio::test(start_paused = true)]
async fn a_port_is_opened_and_renewed_at_half_of_its_life_and_given_back() {
    for (last, service) in [(1, Service::Pcp as fn(Route) -> Service), (2, Service::NatPmp)] {
        let mut router = Router::new(last, (OUTSIDE, 40_000, 100)).await;
        let mut mapping = mapping([service(router.route)]);
        assert_eq!(mapping.changed().await, at(OUTSIDE, 40_000));
        assert_eq!(router.lifetimes(), [3600]);
        let opened = Instant::now();
        router.mind.send((OUTSIDE, 40_001, 100)).unwrap();
        assert_eq!(mapping.changed().await, at(OUTSIDE, 40_001));
        assert_eq!(opened.elapsed().as_secs(), 50);
        assert_eq!(router.lifetimes(), [100]);
        mapping.give_back().await;
        assert_eq!(router.lifetimes(), [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_address_of_the_router_is_told_when_the_interfaces_change() {
    let router = Router::new(3, GOOD).await;
    let mut mapping = mapping([Service::NatPmp(router.route)]);
    assert_eq!(mapping.changed().await, at(OUTSIDE, 40_000));
    let elsewhere = Ipv4Addr::new(198, 51, 100, 1);
    router.mind.send((elsewhere, 40_000, 3600)).unwrap();
    mapping.ask_again();
    assert_eq!(mapping.changed().await, at(elsewhere, 40_000));
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_not_renewed_is_closed_and_routers_are_asked_anew() {
    let router = Router::new(4, GOOD).await;
    let mut mapping = mapping([Service::Pcp(router.route)]);
    assert_eq!(mapping.changed().await, at(OUTSIDE, 40_000));
    drop(router);
    mapping.ask_again();
    assert_eq!(mapping.changed().await, None);
    assert_eq!(mapping.ask_at - Instant::now(), ASK_AGAIN_AFTER);
}

#[tokio::test(start_paused = true)]
async fn the_next_service_has_its_turn_when_the_first_one_is_silent() {
    let silent = Route { router: Ipv4Addr::new(127, 0, 53, 5), own: Ipv4Addr::LOCALHOST };
    let _socket = UdpSocket::bind((silent.router, 5351)).await.unwrap();
    let router = Router::new(6, GOOD).await;
    let mut mapping = mapping([Service::NatPmp(silent), Service::Pcp(router.route)]);
    let asked = Instant::now();
    assert_eq!(mapping.changed().await, at(OUTSIDE, 40_000));
    assert!(asked.elapsed() <= OPENED_WITHIN, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_port_where_nobody_could_come_in_is_given_back() {
    let mut router = Router::new(7, GOOD).await;
    let nowhere =
        [[0; 4], [10, 0, 0, 1], [127, 0, 0, 1], [169, 254, 0, 1], [224, 0, 0, 1], [255; 4]];
    let minds = nowhere.map(|ip| (ip.into(), 40_000, 3600));
    for mind in minds.into_iter().chain([(OUTSIDE, 40_000, 0)]) {
        router.mind.send(mind).unwrap();
        for service in [Service::Pcp(router.route), Service::NatPmp(router.route)] {
            service.open(LOCAL).await.unwrap_err();
            assert_eq!(router.lifetimes(), [3600, 0], "{mind:?}");
        }
    }
    router.mind.send((OUTSIDE, 0, 3600)).unwrap();
    for service in [Service::Pcp(router.route), Service::NatPmp(router.route)] {
        service.open(LOCAL).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_is_renewed_neither_late_nor_without_a_pause() {
    let router = Router::new(8, GOOD).await;
    for (lifetime, renewed_after) in [(u32::MAX, 1800), (3600, 1800), (1200, 600), (1, 4)] {
        router.mind.send((OUTSIDE, 40_000, lifetime)).unwrap();
        let lease = Service::Pcp(router.route).open(LOCAL).await.unwrap();
        assert_eq!(lease.renewed_after, Duration::from_secs(renewed_after), "{lifetime}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_answers_for_the_router() {
    let route = Route { router: Ipv4Addr::new(127, 0, 53, 9), own: Ipv4Addr::LOCALHOST };
    let router = UdpSocket::bind((route.router, 5351)).await.unwrap();
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 53, 10), 5351)).await.unwrap();
    let serving = async {
        let mut request = [0; 100];
        let (length, from) = router.recv_from(&mut request).await.unwrap();
        let forged = answer(&request[..length], (Ipv4Addr::new(198, 51, 100, 1), 1, 3600));
        stranger.send_to(&forged, from).await.unwrap();
        router.send_to(&answer(&request[..length], GOOD), from).await.unwrap();
    };
    let (lease, ()) = tokio::join!(Service::Pcp(route).open(LOCAL), serving);
    assert_eq!(lease.unwrap().external, SocketAddrV4::new(OUTSIDE, 40_000));
}

#[tokio::test(start_paused = true)]
async fn a_router_is_asked_which_protocols_it_speaks() {
    let mut router = Router::new(11, GOOD).await;
    Service::pcp(router.route).await.unwrap();
    Service::nat_pmp(router.route).await.unwrap();
    assert!(router.lifetimes().is_empty(), "no port is opened by that");
    for answer in [&[0, 0x80, 0, 1, 0, 0, 0, 0][..], &[2, 0x80, 0, 0], &[2; 24], &[0; 1100], &[]] {
        let route = Route { router: Ipv4Addr::new(127, 0, 53, 12), own: Ipv4Addr::LOCALHOST };
        let socket = UdpSocket::bind((route.router, 5351)).await.unwrap();
        let serving = async {
            let (_, from) = socket.recv_from(&mut [0; 100]).await.unwrap();
            socket.send_to(answer, from).await.unwrap();
            let (_, from) = socket.recv_from(&mut [0; 100]).await.unwrap();
            socket.send_to(answer, from).await.unwrap();
        };
        let asking = async { (Service::pcp(route).await, Service::nat_pmp(route).await) };
        let ((pcp, nat_pmp), ()) = tokio::join!(asking, serving);
        assert!(pcp.is_err() && nat_pmp.is_err(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_router_answers_is_told_and_the_port_given_back() {
    let mut router = Router::new(13, GOOD).await;
    let within = Duration::from_secs(4);
    let ask = |services: Vec<Result<Service, Failure>>| {
        let mut mapping = mapping([]);
        for service in services {
            mapping.asked.spawn(async { service });
        }
        mapping.answer(within)
    };
    let answer = ask(vec![Err(Failure::Malformed), Ok(Service::NatPmp(router.route))]).await;
    let protocols = vec!["NAT-PMP"];
    let opened = RouterAnswer { protocols: protocols.clone(), external: at(OUTSIDE, 40_000) };
    assert_eq!(answer, opened);
    assert_eq!(router.lifetimes(), [3600, 0]);
    router.mind.send((Ipv4Addr::LOCALHOST, 1, 3600)).unwrap();
    let answer = ask(vec![Ok(Service::NatPmp(router.route))]).await;
    assert_eq!(answer, RouterAnswer { protocols, external: None });
    let asked = Instant::now();
    assert_eq!(ask(vec![Err(Failure::Malformed)]).await, RouterAnswer::default());
    assert_eq!(Instant::now(), asked, "nobody is waited for");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_change_may_stop_and_wait_again() {
    let router = Router::new(14, GOOD).await;
    let mut mapping = mapping([Service::NatPmp(router.route)]);
    let changed = loop {
        tokio::select! {
            biased;
            changed = mapping.changed() => break changed,
            () = tokio::task::yield_now() => {}
        }
    };
    assert_eq!(changed, at(OUTSIDE, 40_000));
}
