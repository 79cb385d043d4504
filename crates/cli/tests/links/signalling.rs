//! The rendezvous comes and goes; links stay.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use holepunch_link::SessionEvent;
use holepunch_wire::reason::EndReason;
use holepunch_worker::{Event, LinkError, Notice, Signal};

use crate::flow::{flows, flows_both_ways};
use crate::world::{World, is_direct, is_relay, serve, until_both};

/// The link is the first one, and no other has come.
fn is_the_only_one(world: &mut World, links: &[holepunch_worker::Link; 2]) {
    for (peer, link) in world.peers.iter_mut().zip(links) {
        assert_eq!(link.ended(), None);
        assert!(peer.links.next().now_or_never().is_none(), "another link");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_link_goes_on_without_the_rendezvous_and_with_one_that_has_restarted() {
    let mut world = World::new().await;
    let links = world.linked_and_settled().await;
    let server = world.rendezvous.take().unwrap();
    tokio::join!(flows(&links, 32), server.shutdown());
    flows_both_ways(&links, 1).await;
    assert!(links.iter().all(|link| is_direct(&link.path().kind)));
    for peer in &mut world.peers {
        peer.until_registered().await;
    }
    world.rendezvous = Some(serve(world.address));
    for peer in &mut world.peers {
        peer.until_registered().await;
    }
    flows_both_ways(&links, 4).await;
    assert!(links.iter().all(|link| is_direct(&link.path().kind)));
    is_the_only_one(&mut world, &links);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_signalling_connection_does_not_touch_a_direct_link() {
    let mut world = World::new().await;
    let links = world.linked_and_settled().await;
    for round in 0..2 {
        let peer = &mut world.peers[round];
        if round == 0 {
            peer.until_registered().await;
        }
        let cut = async { peer.cables.cut() };
        tokio::join!(flows(&links, 16), cut);
        is_the_only_one(&mut world, &links);
    }
    flows_both_ways(&links, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_through_the_relay_survives_the_loss_of_every_connection_to_the_rendezvous() {
    let mut world = World::new().await;
    let links = world.linked_by_the_relay().await;
    // The rendezvous hears meanwhile that the two talk.
    flows_both_ways(&links, 1).await;
    for round in 0..2 {
        world.peers[round].until_registered().await;
        let cut = async { world.peers[round].cables.cut() };
        tokio::join!(flows(&links, 4), cut);
        world.peers[round].until_registered().await;
        flows_both_ways(&links, 1).await;
        assert!(links.iter().all(|link| is_relay(&link.path().kind)));
    }
    is_the_only_one(&mut world, &links);
}

/// A session's checks go on for 11 s, in which a busy machine carries little: so no more is carried before the direct path is there than it
/// takes until the rendezvous knows the two, and both can open another path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_link_becomes_direct_after_the_loss_of_every_connection_to_the_rendezvous() {
    let mut world = World::new().await;
    let links = world.linked_by_the_relay().await;
    flows(&links, 1).await;
    for round in 0..2 {
        world.peers[round].until_registered().await;
        world.peers[round].cables.cut();
        world.peers[round].until_registered().await;
        flows(&links, 1).await;
    }
    world.nat.pass_everything();
    until_both(&links, is_direct).await;
    is_the_only_one(&mut world, &links);
}

/// The relay is gone at a moment at which one of the two may lack what another path needs: so it is tried more than once.
const LOST_AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_loses_its_relay_at_once_and_for_good_becomes_direct() {
    for _ in 0..LOST_AT_ONCE {
        let mut world = World::new().await;
        let links = world.linked_by_the_relay().await;
        world.peers.iter().for_each(|peer| peer.cables.end());
        world.nat.pass_everything();
        until_both(&links, is_direct).await;
        flows_both_ways(&links, 1).await;
        is_the_only_one(&mut world, &links);
    }
}

/// Two that have been offered each other, and have no route yet.
async fn offered(relay: bool) -> World {
    let mut world = World::with(|_, config| config.relay = relay).await;
    world.nat.lose_everything();
    for peer in &mut world.peers {
        let is =
            |it: &Notice| matches!(it, Notice::Udp(Event::Session(_, _, SessionEvent::Started(_))));
        peer.until("the offer", is).await;
    }
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rendezvous_that_ends_behind_the_offer_does_not_keep_the_two_apart() {
    let mut world = offered(false).await;
    world.rendezvous.take().unwrap().shutdown().await;
    world.nat.pass_everything();
    let links = world.linked_directly().await;
    flows_both_ways(&links, 1).await;
    world.rendezvous = Some(serve(world.address));
    for peer in &mut world.peers {
        peer.until_registered().await;
    }
    flows_both_ways(&links, 1).await;
    is_the_only_one(&mut world, &links);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signalling_connection_that_is_lost_behind_the_offer_does_not_keep_the_two_apart() {
    for lost in 0..2 {
        let mut world = offered(false).await;
        let is = |it: &Notice| matches!(it, Notice::Signal(Signal::Disconnected { .. }));
        world.peers[lost].cables.cut();
        world.peers[lost].until("the loss", is).await;
        world.peers[lost].until_registered().await;
        world.nat.pass_everything();
        let links = world.linked_directly().await;
        flows_both_ways(&links, 1).await;
        is_the_only_one(&mut world, &links);
    }
}

/// Less than a link waits that has lost every route and hears nothing of the rendezvous.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_peer_that_crashes_while_the_link_is_relayed_is_noticed_soon() {
    let mut world = World::new().await;
    let links = world.linked_by_the_relay().await;
    flows_both_ways(&links, 1).await;
    let crashed_at = Instant::now();
    world.peers[1].cables.end();
    let error = world.peers[0].until_ended().await;
    let noticed_after = crashed_at.elapsed();
    assert_eq!(
        error,
        LinkError::SessionEnded(EndReason::NotComeBack, EndReason::NotComeBack.to_string())
    );
    assert!(noticed_after < NOTICED_WITHIN, "{noticed_after:?}");
}
