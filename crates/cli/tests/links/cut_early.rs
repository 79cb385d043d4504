//! The direct path is cut so early that the two have not told each other what another path needs.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use holepunch_worker::Notice;

use crate::flow::flows_both_ways;
use crate::nat::{Datagram, Fate};
use crate::packets::{Packet, packets};
use crate::world::{World, is_direct, is_relay, until_both};

/// More than the connecting side's acknowledgements in a handshake take, and less than its key, signature and
/// Finished, in bytes.
const ACKNOWLEDGEMENT_MAX: usize = 120;
/// Connection ids for further paths fill a packet that is longer than others just behind the handshake, and
/// shorter than one that looks how long packets may be.
const IDS_BYTES: RangeInclusive<usize> = 600..=1200;

/// What has been seen of a handshake, on the way.
#[derive(Debug, Default)]
struct Handshake {
    connecting: Option<usize>,
    /// The last flight of the side that connects has passed (RFC 9001 §4.1.1); the other one may send to it
    /// before that has come.
    is_through: bool,
}

impl Handshake {
    /// Whether a datagram is of the side that connects, and the packets of it that are of a connection.
    fn see(&mut self, datagram: &Datagram<'_>) -> (bool, Vec<usize>) {
        let packets = packets(datagram.payload);
        if packets.iter().any(|packet| matches!(packet, Packet::Initial(_))) {
            self.connecting.get_or_insert(datagram.from);
        }
        let of_connecting = self.connecting == Some(datagram.from);
        let mut short = Vec::new();
        let was_through = self.is_through;
        for packet in packets {
            match packet {
                Packet::Short(length) => {
                    self.is_through |= of_connecting;
                    short.extend(was_through.then_some(length));
                }
                Packet::Handshake(length) => {
                    self.is_through |= of_connecting && length > ACKNOWLEDGEMENT_MAX;
                }
                Packet::Initial(_) | Packet::OtherLong(_) => {}
            }
        }
        (of_connecting, short)
    }
}

/// Loses what the side that accepts sends once the handshake is through: the connection ids that a further
/// path needs. What the other one sends from then on is lost as well, but for this many datagrams.
fn cut_behind_the_handshake(spared: usize) -> impl FnMut(Datagram<'_>) -> Fate + Send + 'static {
    let (mut handshake, mut is_cut, mut spared) = (Handshake::default(), false, spared);
    move |datagram| {
        let (of_connecting, short) = handshake.see(&datagram);
        is_cut |= !short.is_empty() && !of_connecting;
        let is_spared = is_cut && of_connecting && spared > 0;
        spared -= usize::from(is_spared);
        if is_cut && !is_spared { Fate::Lost } else { Fate::Passes }
    }
}

/// Loses what the side that connects sends behind its last flight, and everything once the other one has
/// given out its connection ids: one side can open a further path, and the other cannot answer on it.
fn cut_one_way_behind_the_handshake() -> impl FnMut(Datagram<'_>) -> Fate + Send + 'static {
    let (mut handshake, mut has_told) = (Handshake::default(), false);
    move |datagram| {
        let was_through = handshake.is_through;
        let (of_connecting, short) = handshake.see(&datagram);
        let is_lost = has_told || was_through && of_connecting;
        has_told |= !of_connecting && short.iter().any(|length| IDS_BYTES.contains(length));
        if is_lost { Fate::Lost } else { Fate::Passes }
    }
}

/// Loses the last flight of the side that connects, and everything from then on: one side is through with
/// the handshake, and the other is not.
fn cut_at_the_last_flight() -> impl FnMut(Datagram<'_>) -> Fate + Send + 'static {
    let mut handshake = Handshake::default();
    move |datagram| {
        handshake.see(&datagram);
        if handshake.is_through { Fate::Lost } else { Fate::Passes }
    }
}

/// What it may cost: somebody who waits for a first answer notices more.
const DETOUR_MAX: Duration = Duration::from_secs(1);

async fn gives_way_to_the_relay_and_comes_back(
    rule: impl FnMut(Datagram<'_>) -> Fate + Send + 'static,
) {
    let mut world = World::with_late_relay(rule).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_cut_just_behind_the_handshake_gives_way_to_the_relay_and_comes_back()
{
    for spared in [0, 5] {
        gives_way_to_the_relay_and_comes_back(cut_behind_the_handshake(spared)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_cut_before_both_can_open_another_gives_way_to_the_relay() {
    gives_way_to_the_relay_and_comes_back(cut_one_way_behind_the_handshake()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_path_that_is_cut_at_the_last_flight_of_the_handshake_gives_way_to_the_relay() {
    gives_way_to_the_relay_and_comes_back(cut_at_the_last_flight()).await;
}
