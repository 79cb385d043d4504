//! The worker under test, in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use holepunch_link::SessionEvent;
use holepunch_wire::nat::SearchWish;
use holepunch_wire::session::RoomName;
use holepunch_worker::{Config, Event, FromServer, Notice, Signal, Worker};
use serde_json::json;

use super::stun::BindingRequest;
use super::{Peer, Rendezvous, Session, StunServer, within};

/// What the scripted STUN servers say unless a test wants something else; no host has it.
pub(crate) const MAPPED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), 4242);

/// Settings for loopback: free ports, one STUN server, no look-up of the public IP.
pub(crate) fn config(rendezvous: &str, stun: SocketAddr) -> Config {
    Config {
        names: Default::default(),
        baseline_only: false,
        room: RoomName::default(),
        room_fresh: false,
        room_mode: None,
        peer: None,
        callable: false,
        callers: Vec::new(),
        host_candidates: true,
        port_mapping: false,
        search: SearchWish::Usual,
        rendezvous: rendezvous.parse().unwrap(),
        proxy: None,
        token: None,
        worker_id: None,
        listen_ip: Ipv4Addr::LOCALHOST,
        health_port: Some(0),
        stun_servers: vec![stun.to_string().parse().unwrap()],
        stun_retries_max: None,
        stun_retry_delay: None,
        udp_port: 0,
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(25),
        ip_echo_url: None,
        identity: None,
        links: true,
        room_secret: None,
        room_guesses: Default::default(),
        relay: true,
        protocols: Default::default(),
    }
}

/// A link, as its notice tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) peer: String,
    pub(crate) address: SocketAddr,
    pub(crate) after: Duration,
}

/// A running worker, and its notices.
pub(crate) struct Subject {
    worker: Worker,
    /// Every notice taken so far.
    pub(crate) seen: Vec<Notice>,
    markers: u32,
}

impl Subject {
    pub(crate) async fn start(config: Config) -> Self {
        let worker = Worker::start(config).await.unwrap();
        Self { worker, seen: Vec::new(), markers: 0 }
    }

    pub(crate) fn id(&self) -> &str {
        self.worker.id().as_str()
    }

    pub(crate) fn health_address(&self) -> SocketAddr {
        self.worker.health_address().expect("a health server")
    }

    pub(crate) async fn shutdown(self) {
        within("the worker's end", self.worker.shutdown()).await;
    }

    /// Takes notices until `pick` finds what it looks for.
    #[track_caller]
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Notice) -> Option<T>,
    ) -> impl Future<Output = T> {
        within(what, async move {
            loop {
                let notice = self.worker.next_notice().await;
                let notice = notice.expect("the worker has ended");
                let picked = pick(&notice);
                self.seen.push(notice);
                if let Some(picked) = picked {
                    return picked;
                }
            }
        })
    }

    /// Takes notices until one satisfies `wanted`.
    #[track_caller]
    pub(crate) fn until_it(
        &mut self,
        what: &str,
        wanted: impl Fn(&Notice) -> bool,
    ) -> impl Future<Output = Notice> {
        self.until(what, move |notice| wanted(notice).then(|| notice.clone()))
    }

    #[track_caller]
    pub(crate) fn until_linked(&mut self) -> impl Future<Output = Link> {
        self.until("a link", link)
    }

    #[track_caller]
    pub(crate) fn until_disconnected(&mut self) -> impl Future<Output = (String, Duration)> {
        self.until("the end of the connection", |notice| {
            let Notice::Signal(Signal::Disconnected { why, retry_in, .. }) = notice else {
                return None;
            };
            Some((why.clone(), *retry_in))
        })
    }

    /// Waits until the worker has read all that `session` was made to say before.
    pub(crate) async fn catches_up_with(&mut self, session: &mut Session) {
        self.markers += 1;
        let payload = format!("\"marker {}\"", self.markers);
        let text =
            json!({ "type": "echo_response", "original_payload": &payload[1..payload.len() - 1] });
        session.send(text).await;
        let marker = Notice::Signal(Signal::Message(FromServer::EchoResponse(payload)));
        self.until_it("the marker", |notice| *notice == marker).await;
    }

    /// Takes notices until `pick` finds what it looks for among those of sessions.
    #[track_caller]
    pub(crate) fn until_session<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&SessionEvent) -> Option<T>,
    ) -> impl Future<Output = T> {
        self.until(what, move |notice| {
            let Notice::Udp(Event::Session(_, _, event)) = notice else { return None };
            pick(event)
        })
    }

    pub(crate) fn has_linked(&self) -> bool {
        self.seen.iter().any(|notice| link(notice).is_some())
    }

    /// The notices from the UDP port so far.
    pub(crate) fn udp_events(&self) -> impl Iterator<Item = &Event> {
        self.seen.iter().filter_map(|notice| {
            let Notice::Udp(event) = notice else { return None };
            Some(event)
        })
    }
}

fn link(notice: &Notice) -> Option<Link> {
    let Notice::Udp(Event::LinkEstablished { peer, address, after, .. }) = notice else {
        return None;
    };
    Some(Link { peer: peer.to_string(), address: *address, after: *after })
}

/// A worker that is registered and has reported its endpoint, and all that it talks to.
pub(crate) struct Scene {
    pub(crate) rendezvous: Rendezvous,
    pub(crate) stun: StunServer,
    pub(crate) session: Session,
    pub(crate) worker: Subject,
    /// The worker's id.
    pub(crate) id: String,
    /// The request that the STUN server has answered.
    pub(crate) asked: BindingRequest,
    /// The worker's UDP socket, as the STUN server saw it.
    pub(crate) udp: SocketAddr,
}

impl Scene {
    pub(crate) async fn ready() -> Self {
        let rendezvous = Rendezvous::bind();
        let stun = StunServer::bind().await;
        let url = format!("http://{}", rendezvous.address);
        let worker = Subject::start(config(&url, stun.address)).await;
        let mut session = rendezvous.accept().await;
        let asked = stun.request().await;
        stun.answer(asked, MAPPED).await;
        assert_eq!(session.report().await, MAPPED);
        let id = worker.id().to_owned();
        Self { rendezvous, stun, session, worker, id, asked, udp: asked.from }
    }

    /// A worker that is linked with `peer`.
    pub(crate) async fn linked(peer: &Peer) -> Self {
        let mut scene = Self::ready().await;
        scene.session.offer(&peer.id, peer.address).await;
        peer.link_with(&scene.id).await;
        scene.worker.until_linked().await;
        scene
    }
}
