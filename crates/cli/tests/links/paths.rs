//! The way that packets go changes, and streams notice nothing but a pause.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holepunch_worker::{Notice, PathKind};
use tokio::sync::watch;

use crate::flow::{Flowed, MIB, flows, flows_both_ways, flows_counted};
use crate::nat::{Datagram, Fate};
use crate::world::{World, is_direct, is_relay, until_both, until_path};

/// A goal, not a bound: a machine that does other things too takes longer.
const STALL_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_comes_by_the_relay_and_is_upgraded_to_a_direct_path_under_way() {
    let mut world = World::new().await;
    let links = world.linked_by_the_relay().await;
    let counted = watch::Sender::new(0);
    let mut arrived = counted.subscribe();
    let upgrade = async {
        arrived.wait_for(|bytes| *bytes >= 8 * MIB).await.unwrap();
        assert!(links.iter().all(|link| is_relay(&link.path().kind)));
        world.nat.pass_everything();
        until_both(&links, is_direct).await;
    };
    // Whichever takes longer: both are waited for.
    let (_, ()) = tokio::join!(flows_counted(&links, 64, counted), upgrade);
    assert!(links.iter().all(|link| link.ended().is_none()));
    flows_both_ways(&links, 4).await;
}

/// What a cut in the middle of a flow costs.
#[derive(Debug)]
#[expect(dead_code, reason = "some of it is for people to read")]
pub(crate) struct Cut {
    pub(crate) flowed: Flowed,
    pub(crate) to_relay: Duration,
    pub(crate) back: Duration,
}

/// Cuts the direct path in the middle of a flow, and mends it after the end.
pub(crate) async fn cut_in_the_middle(mib: usize) -> Cut {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    let mut left = mib * MIB / 2;
    let cut_at = Arc::<Mutex<Option<Instant>>>::default();
    let cutting = Arc::clone(&cut_at);
    world.nat.rule(move |datagram| {
        left = left.saturating_sub(datagram.payload.len());
        if left > 0 {
            return Fate::Passes;
        }
        cutting.lock().unwrap().get_or_insert_with(Instant::now);
        Fate::Lost
    });
    let gone = async {
        until_both(&links, is_relay).await;
        cut_at.lock().unwrap().unwrap().elapsed()
    };
    let (flowed, to_relay) = tokio::join!(flows(&links, mib), gone);
    world.nat.pass_everything();
    let mended_at = Instant::now();
    until_both(&links, is_direct).await;
    let back = mended_at.elapsed();
    flows_both_ways(&links, 2).await;
    Cut { flowed, to_relay, back }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_cut_under_way_gives_way_to_the_relay_and_comes_back() {
    let cut = cut_in_the_middle(64).await;
    assert!(cut.flowed.stall < STALL_MAX, "{cut:?}");
}

/// More than the connecting side's acknowledgements in a handshake take, and less than its key, signature and
/// Finished, in bytes.
const ACKNOWLEDGEMENT_MAX: usize = 120;

/// Loses what the side that accepts sends once the handshake is through: the connection ids that a further
/// path needs. What the other one sends from then on is lost as well, but for this many datagrams.
fn cut_behind_the_handshake(spared: usize) -> impl FnMut(Datagram<'_>) -> Fate + Send + 'static {
    let mut connecting: Option<usize> = None;
    let (mut is_through, mut is_cut, mut spared) = (false, false, spared);
    move |datagram| {
        let (first, length) = (datagram.payload.first(), datagram.payload.len());
        let is_short = matches!(first, Some(0x40..=0x7f));
        if let [0xc0..=0xcf, 0, 0, 0, 1, ..] = datagram.payload {
            connecting.get_or_insert(datagram.from);
        }
        let of_connecting = connecting == Some(datagram.from);
        // Behind the last flight of the side that connects (RFC 9001 §4.1.1); the other one may send to it
        // before that has come.
        let is_flight = matches!(first, Some(0xe0..=0xef)) && length > ACKNOWLEDGEMENT_MAX;
        is_cut |= is_short && !of_connecting && is_through;
        is_through |= of_connecting && (is_short || is_flight);
        let is_spared = is_cut && of_connecting && spared > 0;
        spared -= usize::from(is_spared);
        if is_cut && !is_spared { Fate::Lost } else { Fate::Passes }
    }
}

/// What it may cost: somebody who waits for a first answer notices more.
const DETOUR_MAX: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_cut_just_behind_the_handshake_gives_way_to_the_relay_and_comes_back()
{
    for spared in [0, 5] {
        let mut world = World::with_late_relay(cut_behind_the_handshake(spared)).await;
        // The link is there for the side that connects; the other one may wait for its first stream.
        let [one, other] = &mut world.peers;
        let is_linked = |it: &Notice| matches!(it, Notice::Linked(..));
        tokio::select! {
            _first = one.until("a link", is_linked) => {}
            _first = other.until("a link", is_linked) => {}
        }
        let linked_at = Instant::now();
        world.peers.iter().for_each(|peer| peer.cables.release());
        let links = world.linked().await;
        until_both(&links, is_relay).await;
        let took = linked_at.elapsed();
        let histories = links.each_ref().map(|link| link.path_events().history());
        let was_direct = histories.iter().any(|history| is_direct(&history[0].path.kind));
        assert!(was_direct && took < DETOUR_MAX, "{took:?}: {histories:?}");
        flows_both_ways(&links, 1).await;
        world.nat.pass_everything();
        until_both(&links, is_direct).await;
        flows_both_ways(&links, 1).await;
        world.nat.lose_everything();
        flows_both_ways(&links, 1).await;
        until_both(&links, is_relay).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_cut_again_and_again_loses_nothing() {
    let mut world = World::new().await;
    let links = world.linked_and_settled().await;
    let moving = async {
        for _ in 0..3 {
            world.nat.lose_everything();
            until_both(&links, is_relay).await;
            world.nat.pass_everything();
            until_both(&links, is_direct).await;
        }
    };
    let flowing = async {
        for _ in 0..3 {
            flows(&links, 16).await;
        }
    };
    tokio::join!(moving, flowing);
    assert!(links.iter().all(|link| link.ended().is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_link_whose_direct_path_is_cut_still_delivers() {
    let mut world = World::new().await;
    let links = world.linked_and_settled().await;
    world.nat.lose_everything();
    flows_both_ways(&links, 1).await;
    until_both(&links, is_relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_lost_one_way_only_is_not_used() {
    for silent in 0..2 {
        let mut world = World::new().await;
        let links = world.linked_and_settled().await;
        world.nat.rule(
            move |datagram| {
                if datagram.from == silent { Fate::Lost } else { Fate::Passes }
            },
        );
        flows_both_ways(&links, 1).await;
        until_both(&links, is_relay).await;
        world.nat.pass_everything();
        until_both(&links, is_direct).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_survives_a_nat_that_gives_one_side_another_port() {
    for moved in 0..2 {
        let mut world = World::new().await;
        let links = world.linked_and_settled().await;
        let counted = watch::Sender::new(0);
        let mut arrived = counted.subscribe();
        let moving = async {
            arrived.wait_for(|bytes| *bytes >= MIB).await.unwrap();
            world.nat.rebind(moved).await;
        };
        tokio::join!(flows_counted(&links, 64, counted), moving);
        until_both(&links, is_direct).await;
        flows_both_ways(&links, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_link_survives_a_nat_that_gives_one_side_another_port() {
    for moved in 0..2 {
        let mut world = World::new().await;
        let links = world.linked_and_settled().await;
        world.nat.rebind(moved).await;
        let remote = world.nat.public(moved);
        let is_there = |kind: &PathKind| *kind == PathKind::Direct { remote };
        until_path(&links[1 - moved], is_there).await;
        flows_both_ways(&links, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_without_a_relay_survives_another_port_too() {
    let mut world = World::with(|_, config| config.relay = false).await;
    let links = world.linked_and_settled().await;
    world.nat.rebind(0).await;
    flows_both_ways(&links, 2).await;
    world.nat.rebind(1).await;
    flows_both_ways(&links, 2).await;
}
