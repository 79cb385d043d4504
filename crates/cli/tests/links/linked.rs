//! What a link is good for.

use bytes::Bytes;
use futures_util::FutureExt;
use holepunch_worker::{DatagramError, LinkError, WorkerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::flow::flows_both_ways;
use crate::within;
use crate::world::{World, is_direct, until_both};

#[tokio::test]
async fn two_workers_link_and_know_each_other() {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    for (own, link) in links.iter().enumerate() {
        let peer = &world.peers[1 - own];
        assert_eq!((link.peer(), link.peer_key()), (peer.worker.id(), peer.identity.public_key()));
        assert!(link.is_authenticated(), "the id is made from the key");
        assert_eq!(link.ended(), None);
    }
    assert_ne!(links[0].is_initiator(), links[1].is_initiator());
    assert_eq!(links[0].session(), links[1].session());
    flows_both_ways(&links, 4).await;
}

#[tokio::test]
async fn an_id_of_a_workers_own_choice_is_not_sure() {
    let id = |number: usize| WorkerId::new(&format!("chosen-{number}")).unwrap();
    let mut world = World::with(|number, config| config.worker_id = Some(id(number))).await;
    let links = world.linked().await;
    for (own, link) in links.iter().enumerate() {
        assert_eq!(*link.peer(), id(1 - own));
        assert!(!link.is_authenticated());
    }
}

#[tokio::test]
async fn both_sides_open_streams_and_each_is_its_own() {
    let mut world = World::new().await;
    let links = world.linked().await;
    let echo = |link: holepunch_worker::Link| async move {
        for _ in 0..20 {
            let (mut send, mut recv) = link.accept_bi().await.unwrap();
            let mut said = String::new();
            recv.read_to_string(&mut said).await.unwrap();
            send.write_all(said.to_uppercase().as_bytes()).await.unwrap();
            send.finish().unwrap();
        }
    };
    let ask = |link: holepunch_worker::Link| async move {
        for number in 0..20 {
            let (mut send, mut recv) = link.open_bi().await.unwrap();
            AsyncWriteExt::write_all(&mut send, format!("word {number}").as_bytes()).await.unwrap();
            send.shutdown().await.unwrap();
            let mut answer = String::new();
            recv.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, format!("WORD {number}"));
        }
    };
    let [first, second] = links.clone();
    let all = async {
        tokio::join!(
            echo(first.clone()),
            echo(second.clone()),
            ask(first.clone()),
            ask(second.clone())
        )
    };
    within("all answers", all).await;
}

#[tokio::test]
async fn datagrams_arrive_whole_and_one_that_is_too_long_is_refused() {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    let max = links[0].datagram_bytes_max();
    assert!(max >= 1000, "{max}");
    for length in [0, 1, 100, 1000] {
        let datagram = Bytes::from(vec![7; length]);
        links[0].send_datagram(datagram.clone()).unwrap();
        assert_eq!(within("a datagram", links[1].read_datagram()).await, Ok(datagram));
    }
    let refused = links[0].send_datagram(Bytes::from(vec![0; 70_000]));
    let Err(DatagramError::TooLong { length: 70_000, max }) = refused else {
        panic!("{refused:?}")
    };
    assert!(max >= 1000);
    assert_eq!(links[0].ended(), None);
}

#[tokio::test]
async fn a_link_that_one_side_closes_ends_on_both_with_the_reason() {
    let mut world = World::new().await;
    let links = world.linked().await;
    links[0].close("enough\nfor today");
    let there = within("the end", links[1].closed()).await;
    assert_eq!(there, LinkError::ClosedByPeer(r"enough\u{a}for today".into()));
    assert_eq!(links[0].ended(), Some(LinkError::Closed("enough\nfor today".into())));
    assert_eq!(world.peers[1].until_ended().await, there);
}

#[tokio::test]
async fn a_worker_that_ends_tells_its_peer_directly_and_through_the_relay() {
    for by_relay in [false, true] {
        let mut world = World::new().await;
        let links = if by_relay {
            world.linked_by_the_relay().await
        } else {
            world.linked_directly().await
        };
        let [first, second] = world.peers;
        first.worker.shutdown().await;
        let there = within("the end", links[1].closed()).await;
        assert_eq!(there, LinkError::ClosedByPeer("the worker ends".into()), "{by_relay}");
        drop(second);
    }
}

#[tokio::test]
async fn where_no_relay_may_be_used_the_direct_path_is_enough() {
    let mut world = World::with(|_, config| config.relay = false).await;
    let links = world.linked().await;
    until_both(&links, is_direct).await;
    flows_both_ways(&links, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_take_the_same_connection_where_the_relay_and_the_direct_path_race() {
    let worlds = (0..40).map(|_| async {
        let mut world = World::new().await;
        let links = world.linked().await;
        flows_both_ways(&links, 1).await;
        for (peer, link) in world.peers.iter_mut().zip(&links) {
            assert_eq!(link.ended(), None);
            assert!(peer.links.next().now_or_never().is_none(), "another link");
        }
    });
    futures_util::future::join_all(worlds).await;
}
