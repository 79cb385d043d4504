use holepunch_link::{FailureCode, LinkError, testing};
use tokio::time::{Duration, timeout};

use super::*;

fn refused() -> RendezvousError {
    RendezvousError::new(FailureCode::ConnectionRefused, "refused")
}

fn id(text: &str) -> WorkerId {
    WorkerId::new(text).unwrap()
}

/// What a call that is made now comes to at once.
async fn at_once<T>(call: impl Future<Output = T>) -> Option<T> {
    timeout(Duration::ZERO, call).await.ok()
}

#[tokio::test]
async fn each_failure_before_the_registration_is_told_once_and_none_after_it() {
    let handover = Handover::default();
    assert!(at_once(handover.accept()).await.is_none());
    handover.disconnected(refused());
    assert_eq!(at_once(handover.accept()).await.unwrap().unwrap_err(), refused().into());
    assert!(at_once(handover.accept()).await.is_none(), "it waits for the next attempt");
    let peer = id("b");
    let calling = async { handover.connect(&peer).await.unwrap_err() };
    let failing = async { handover.disconnected(refused()) };
    assert_eq!(tokio::join!(calling, failing).0, ConnectError::Rendezvous(refused()));
    handover.registered(true);
    handover.disconnected(refused());
    assert!(at_once(handover.accept()).await.is_none(), "it comes back by itself");
    handover.disconnected(RendezvousError::new(FailureCode::NotAdmitted, "no"));
    let error = at_once(handover.accept()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), FailureCode::NotAdmitted);
}

#[tokio::test]
async fn a_link_goes_to_whoever_calls_its_peer_and_else_to_whoever_accepts() {
    let (handover, (a, b, _sockets)) = (Handover::default(), testing::pair().await);
    let (peer, session) = (a.peer().clone(), a.session());
    let (called, ()) = tokio::join!(handover.connect(&peer), async {
        assert!(at_once(handover.accept()).await.is_none());
        assert_eq!(handover.calling(), std::slice::from_ref(&peer));
        handover.linked(a).unwrap();
        assert!(at_once(handover.accept()).await.is_none(), "it is for the one who calls");
    });
    assert_eq!(called.unwrap().peer(), &peer);
    assert_eq!(handover.calling(), [] as [WorkerId; 0]);
    let again = handover.connect(&peer).await.unwrap_err();
    assert_eq!(again, ConnectError::AlreadyLinked(peer.clone()));
    assert!(handover.ended(session) && !handover.ended(session));
    assert!(at_once(handover.connect(&peer)).await.is_none(), "it is called anew");
    handover.linked(b).unwrap();
    assert_ne!(handover.accept().await.unwrap().peer(), &peer);
}

#[tokio::test]
async fn a_link_that_came_before_the_call_is_taken_and_a_dropped_call_loses_none() {
    let (handover, (a, _b, _sockets)) = (Handover::default(), testing::pair().await);
    let peer = a.peer().clone();
    assert!(at_once(handover.connect(&peer)).await.is_none());
    handover.linked(a).unwrap();
    assert_eq!(handover.connect(&peer).await.unwrap().peer(), &peer);
}

#[tokio::test]
async fn a_call_fails_with_its_session_and_with_the_third_refusal() {
    let (handover, peer) = (Handover::default(), id("b"));
    let failing = async {
        handover.call_failed(&id("c"), LinkError::WrongSecret.into());
        handover.call_failed(&peer, LinkError::WrongSecret.into());
    };
    let (called, ()) = tokio::join!(handover.connect(&peer), failing);
    assert_eq!(called.unwrap_err().code(), FailureCode::WrongSecret);
    let (called, ()) = tokio::join!(handover.connect(&peer), async {
        for _ in 1..REFUSALS_MAX {
            handover.call_refused(&peer, "not now");
        }
        assert_eq!(handover.calling(), std::slice::from_ref(&peer));
        handover.call_refused(&peer, "never");
    });
    let why = "never".to_owned();
    assert_eq!(called.unwrap_err(), ConnectError::NotCallable { peer, why });
}

#[tokio::test]
async fn links_that_nobody_takes_and_calls_are_bounded() {
    let (handover, (a, b, _sockets)) = (Handover::default(), testing::pair().await);
    for _ in 0..LINKS_MAX {
        handover.linked(a.clone()).unwrap();
    }
    assert!(handover.linked(b.clone()).is_err());
    handover.give_up();
    assert!(handover.linked(b).is_err(), "nobody takes it");
    let peers: Vec<WorkerId> = (0..CALLS_MAX).map(|number| id(&number.to_string())).collect();
    let mut calls: Vec<_> = peers.iter().map(|peer| Box::pin(handover.connect(peer))).collect();
    for call in &mut calls {
        assert!(at_once(call).await.is_none());
    }
    let (first, more) = (id("0"), id("more"));
    let error = handover.connect(&first).await.unwrap_err();
    assert_eq!(error.code(), FailureCode::AlreadyCalling);
    let error = handover.connect(&more).await.unwrap_err();
    assert_eq!(error.code(), FailureCode::TooManyCalls);
}

#[tokio::test]
async fn the_end_of_the_worker_ends_all_that_waits() {
    let (handover, peer) = (Handover::default(), id("b"));
    let (called, accepted, next, ()) =
        tokio::join!(handover.connect(&peer), handover.accept(), handover.next(), async {
            handover.end()
        });
    assert_eq!(called.unwrap_err(), ConnectError::WorkerEnded);
    assert_eq!(accepted.unwrap_err(), AcceptError::WorkerEnded);
    assert!(next.is_none());
}
