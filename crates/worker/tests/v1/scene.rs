//! A worker that has been welcomed, and all that it talks to.

use std::net::SocketAddr;

use holepunch_link::{PathInfo, SessionEvent};
use holepunch_worker::Config;
use serde_json::{Value, json};

use crate::agent::offer_without_endpoint;
use crate::common::subject::{MAPPED, config};
use crate::common::{Rendezvous, Session, StunServer, Subject};

/// The sub-protocol.
pub(crate) const V1: &str = "holepunch.v1";

/// The token of every first welcome.
pub(crate) const TOKEN: &str = "token-1";

/// Sessions with numbers from here on only show that the worker has caught up.
const MARKERS_FROM: u64 = 1 << 32;

/// A welcome that asks for no proof of address.
pub(crate) fn welcome(resume: &str) -> Value {
    json!({
        "type": "welcome",
        "server": "scripted/1",
        "observed_ip": "127.0.0.1",
        "observed_port": 40001,
        "stun": [],
        "challenge": "00ff",
        "resume": resume,
        "sessions_max": 64,
    })
}

/// What the tests of `holepunch.v1` read of a session.
impl Session {
    /// The next message, which must be of this type.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: &str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let message = self.receive().await;
            assert_eq!(message["type"], kind, "{message} (called at {caller})");
            message
        }
    }

    /// The messages up to the next of this type, which comes last.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut said = Vec::new();
        loop {
            said.push(self.receive().await);
            if said.last().is_some_and(|message| message["type"] == kind) {
                return said;
            }
        }
    }
}

/// A worker in `holepunch.v1` that has reported its endpoint.
pub(crate) struct Scene {
    pub(crate) rendezvous: Rendezvous,
    /// It answers no more, and keeps its port.
    _stun: StunServer,
    pub(crate) session: Session,
    pub(crate) worker: Subject,
    /// The worker's UDP socket.
    pub(crate) udp: SocketAddr,
    markers: u64,
}

/// Settings for a worker, and what it talks to.
pub(crate) async fn prepared() -> (Rendezvous, StunServer, Config) {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let config = config(&format!("http://{}", rendezvous.address), stun.address);
    (rendezvous, stun, config)
}

impl Scene {
    pub(crate) async fn ready() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let (rendezvous, stun, mut config) = prepared().await;
        change(&mut config);
        let worker = Subject::start(config).await;
        let mut session = rendezvous.accept_selecting(V1).await;
        session.send(welcome(TOKEN)).await;
        session.expect("hello").await;
        let asked = stun.request().await;
        stun.answer(asked, MAPPED).await;
        let said = session.until("update_udp_endpoint").await;
        let before = said.iter().rev().skip(1);
        assert!(
            before
                .into_iter()
                .all(|it| ["candidates", "call"].iter().any(|kind| it["type"] == *kind))
        );
        session.send(json!({ "type": "udp_endpoint_ack", "status": "success" })).await;
        Self { rendezvous, _stun: stun, session, worker, udp: asked.from, markers: MARKERS_FROM }
    }

    /// Waits until the worker has dealt with all that it was told before: it says so by refusing an
    /// offer of itself. What it has said until then.
    pub(crate) async fn said(&mut self) -> Vec<Value> {
        self.markers += 1;
        said(&mut self.session, self.worker.id(), self.markers).await
    }

    /// Waits for the link of the session.
    #[track_caller]
    pub(crate) fn until_linked(&mut self) -> impl Future<Output = PathInfo> {
        self.worker.until_session("a link", |event| {
            let SessionEvent::Linked(path) = event else { return None };
            Some(*path)
        })
    }

    /// Loses the connection, and welcomes the worker in the next one; its hello.
    pub(crate) async fn reconnected(mut self, token: &str) -> (Self, Value) {
        drop(self.session);
        self.session = self.rendezvous.accept_selecting(V1).await;
        self.session.send(welcome(token)).await;
        let hello = self.session.expect("hello").await;
        (self, hello)
    }
}

/// The same for a worker that is no scene's; `marker` must be another one each time.
pub(crate) async fn said(session: &mut Session, worker: &str, marker: u64) -> Vec<Value> {
    let mut offer = offer_without_endpoint(marker, "controlled");
    offer["peer_worker_id"] = json!(worker);
    let number = offer["session"].clone();
    session.send(offer).await;
    let mut said = Vec::new();
    loop {
        let message = session.receive().await;
        if message["type"] == "leave" && message["session"] == number {
            return said;
        }
        said.push(message);
    }
}

/// A hello without its proof of the key, which has to be there.
pub(crate) fn without_proof(mut hello: Value) -> Value {
    let fields = hello.as_object_mut().expect("a message");
    for (field, digits) in [("key", 64), ("signature", 128)] {
        let value = fields.remove(field).expect(field);
        assert_eq!(value.as_str().map(str::len), Some(digits), "{field}: {value}");
    }
    hello
}
