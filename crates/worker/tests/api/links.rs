//! Links that are called, and links that come.

use holepunch_worker::{
    ConnectError, FailureCode, Link, LinkError, Notice, RoomMode, Worker, WorkerId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Rendezvous, within};

/// Two that have called and accepted: a link from each end.
async fn linked(caller: &Worker, called: &Worker) -> [Link; 2] {
    let both = async { tokio::join!(caller.connect(called.id()), called.accept()) };
    let (connected, accepted) = within("a link", both).await;
    [connected.unwrap(), accepted.unwrap()]
}

async fn registered(worker: &mut Worker) {
    let registered = async {
        loop {
            let notice = worker.next_notice().await.expect("the worker has ended");
            if matches!(notice, Notice::Reported(_)) {
                return;
            }
        }
    };
    within("the registration", registered).await;
}

/// Why a link with this worker did not come about.
async fn refused(worker: &mut Worker) -> LinkError {
    let ended = async {
        loop {
            if let Some(Notice::LinkEnded(_, _, error)) = worker.next_notice().await {
                return error;
            }
        }
    };
    within("the end of the link", ended).await
}

#[tokio::test]
async fn a_worker_is_called_by_its_id_and_a_stream_carries_both_ways() {
    let rendezvous = Rendezvous::start();
    let mut called = rendezvous.worker().protocols(["a/2", "a/1"]).start().await.unwrap();
    let caller = rendezvous.worker().protocols(["a/1"]).start().await.unwrap();
    registered(&mut called).await;
    let [near, far] = linked(&caller, &called).await;
    assert_eq!((near.peer(), far.peer()), (called.id(), caller.id()));
    assert_eq!([near.protocol(), far.protocol()], [Some(&b"a/1"[..]); 2]);
    let again = within("an answer", caller.connect(called.id())).await.unwrap_err();
    assert_eq!(again.code(), FailureCode::AlreadyLinked);
    let answering = async {
        let mut stream = far.accept_stream().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        stream.write_all(said.to_uppercase().as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let asking = async {
        let mut stream = near.open_stream().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    };
    let (said, ()) = within("an answer", async { tokio::join!(asking, answering) }).await;
    assert_eq!(said, "HELLO");
    tokio::join!(caller.shutdown(), called.shutdown());
}

#[tokio::test]
async fn two_that_call_each_other_at_once_have_one_link() {
    let rendezvous = Rendezvous::start();
    let mut first = rendezvous.worker().start().await.unwrap();
    let mut second = rendezvous.worker().start().await.unwrap();
    registered(&mut first).await;
    registered(&mut second).await;
    let both = async { tokio::join!(first.connect(second.id()), second.connect(first.id())) };
    let (one, other) = within("both links", both).await;
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.session(), other.session());
    assert_eq!((one.protocol(), other.protocol()), (None, None));
}

#[tokio::test]
async fn in_a_room_of_pairs_the_link_comes_to_both_by_itself() {
    let rendezvous = Rendezvous::start();
    let pair = || rendezvous.worker().room("pair").room_mode(RoomMode::Pair);
    let (mut first, second) = (pair().start().await.unwrap(), pair().start().await.unwrap());
    registered(&mut first).await;
    let both = async { tokio::join!(first.accept(), second.connect(first.id())) };
    let (one, other) = within("both links", both).await;
    assert_eq!(one.unwrap().session(), other.unwrap().session());
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_named() {
    let rendezvous = Rendezvous::start();
    let worker = rendezvous.worker().start().await.unwrap();
    let nobody = WorkerId::new("nobody").unwrap();
    let error = within("an answer", worker.connect(&nobody)).await.unwrap_err();
    assert_eq!(error, ConnectError::NotRegistered(nobody));
    let own = worker.connect(worker.id()).await.unwrap_err();
    assert_eq!(own.code(), FailureCode::OwnId);
}

#[tokio::test]
async fn two_without_a_protocol_in_common_are_told_so_on_both_sides() {
    for (near, far) in [(&["a/1"][..], &["b/1"][..]), (&["a/1"], &[])] {
        let rendezvous = Rendezvous::start();
        let mut called = rendezvous.worker().protocols(far).start().await.unwrap();
        let caller = rendezvous.worker().protocols(near).start().await.unwrap();
        registered(&mut called).await;
        let peer = called.id().clone();
        let (error, other) =
            tokio::join!(within("an answer", caller.connect(&peer)), refused(&mut called));
        let error = error.unwrap_err();
        assert_eq!(error.code(), FailureCode::NoProtocol, "{error}");
        assert!(error.to_string().contains("this side speaks a/1"), "{error}");
        assert_eq!(other.code(), FailureCode::NoProtocol, "{other}");
    }
}

#[tokio::test]
async fn another_room_secret_is_no_link_and_the_caller_hears_why() {
    let rendezvous = Rendezvous::start();
    let mut called = rendezvous.worker().room_secret("one").start().await.unwrap();
    let caller = rendezvous.worker().room_secret("other").start().await.unwrap();
    registered(&mut called).await;
    let error = within("an answer", caller.connect(called.id())).await.unwrap_err();
    assert_eq!(error.code(), FailureCode::WrongSecret, "{error}");
    assert!(!error.to_string().contains("--"), "{error}");
}
