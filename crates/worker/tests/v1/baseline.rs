//! A rendezvous that does not select `holepunch.v1`, and a worker that does not ask for it.

use holepunch_worker::{Event, Notice, Signal};

use crate::common::stun::success_with_other;
use crate::common::subject::MAPPED;
use crate::common::{Peer, Session, StunServer, Subject};
use crate::scene::{Scene, V1, prepared, welcome};

/// How often the worker has tried to connect.
fn attempts(worker: &Subject) -> usize {
    let connecting = |notice: &&Notice| matches!(notice, Notice::Signal(Signal::Connecting(_)));
    worker.seen.iter().filter(connecting).count()
}

/// Lets a worker report, be offered a peer, and link with it by PINGs; all that it says is the
/// report.
async fn serves_as_baseline(worker: &mut Subject, session: &mut Session, stun: &StunServer) {
    let asked = stun.request().await;
    let other = "127.0.0.2:9".parse().unwrap();
    stun.send(&success_with_other(asked.id, MAPPED, other), asked.from).await;
    assert_eq!(session.report().await, MAPPED);
    let peer = Peer::bind("peer").await;
    session.offer(&peer.id, peer.address).await;
    peer.link_with(worker.id()).await;
    assert_eq!(worker.until_linked().await.address, peer.address);
    worker.catches_up_with(session).await;
    session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn a_rendezvous_that_selects_nothing_is_served_in_the_same_connection() {
    let (rendezvous, stun, config) = prepared().await;
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    assert_eq!(session.asked.as_deref(), Some(V1), "it was asked");
    serves_as_baseline(&mut worker, &mut session, &stun).await;
    assert_eq!(attempts(&worker), 1);
    assert!(!rendezvous.is_awaited().await, "one connection is enough");
    let connected = Notice::Signal(Signal::Connected);
    assert!(worker.seen.contains(&connected));
    assert!(!worker.seen.contains(&Notice::Signal(Signal::ConnectedV1)));
}

#[tokio::test]
async fn a_worker_that_is_to_speak_the_baseline_asks_for_nothing_else_and_measures_nothing() {
    let (rendezvous, stun, mut config) = prepared().await;
    config.baseline_only = true;
    let mut worker = Subject::start(config).await;
    let mut session = rendezvous.accept().await;
    assert_eq!(session.asked, None);
    serves_as_baseline(&mut worker, &mut session, &stun).await;
    assert_eq!(attempts(&worker), 1);
    let profile = |event: &Event| matches!(event, Event::Profile(_));
    assert!(!worker.udp_events().any(profile));
}

#[tokio::test]
async fn a_subprotocol_that_nobody_asked_for_is_refused_and_the_worker_tries_again() {
    let (rendezvous, stun, mut config) = prepared().await;
    for (baseline_only, chosen) in [(false, "chat"), (true, V1)] {
        config.baseline_only = baseline_only;
        let mut worker = Subject::start(config.clone()).await;
        let _refused = rendezvous.accept_selecting(chosen).await;
        let (why, _) = worker.until_disconnected().await;
        assert!(why.contains("subprotocol"), "{why}");
        let mut session = rendezvous.accept().await;
        stun.answer_next(MAPPED).await;
        assert_eq!(session.report().await, MAPPED);
    }
}

#[tokio::test]
async fn each_connection_is_asked_anew_what_it_speaks() {
    let scene = Scene::ready().await;
    drop(scene.session);
    let mut session = scene.rendezvous.accept().await;
    assert_eq!(session.asked.as_deref(), Some(V1));
    assert_eq!(session.report().await, MAPPED, "no hello, and no candidates");
    session.is_told_nothing_yet().await;
    drop(session);
    let mut session = scene.rendezvous.accept_selecting(V1).await;
    session.send(welcome("token-2")).await;
    session.expect("hello").await;
    let mut said = [session.receive().await, session.receive().await];
    said.sort_by_key(|message| message["type"].to_string());
    assert_eq!(said[0]["type"], "candidates");
    assert_eq!(said[1]["type"], "update_udp_endpoint");
}
