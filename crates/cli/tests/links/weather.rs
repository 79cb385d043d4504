//! Datagrams that are lost, broken, doubled, late and sent again.

use crate::flow::{flows, flows_both_ways};
use crate::nat::{Datagram, Fate};
use crate::world::World;

/// Every so-manieth datagram of either side has a fate of its own.
fn every(n: usize, fate: impl Fn(usize) -> Fate + Send) -> impl FnMut(Datagram<'_>) -> Fate + Send {
    let mut number = 0_usize;
    move |_| {
        number += 1;
        if number.is_multiple_of(n) { fate(number) } else { Fate::Passes }
    }
}

async fn flows_under(rule: impl FnMut(Datagram<'_>) -> Fate + Send + 'static) {
    let mut world = World::new().await;
    world.nat.rule(rule);
    let links = world.linked().await;
    flows(&links, 8).await;
    flows_both_ways(&links, 1).await;
    assert!(links.iter().all(|link| link.ended().is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bit_in_every_twentieth_datagram_changes_nothing() {
    // Another place each time, headers too.
    flows_under(every(20, |number| Fate::Broken(number * 7))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_first_byte_changes_nothing() {
    flows_under(every(15, |_| Fate::Broken(usize::MAX / 2))).await;
    let mut number = 0_usize;
    flows_under(move |datagram| {
        number += 1;
        if number.is_multiple_of(15) {
            Fate::Broken(datagram.payload.len() - 1)
        } else {
            Fate::Passes
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubled_and_late_datagrams_change_nothing() {
    let fate = |number: usize| if number.is_multiple_of(2) { Fate::Twice } else { Fate::Late };
    flows_under(every(3, fate)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_datagram_in_a_hundred_may_be_lost() {
    flows_under(every(100, |_| Fate::Lost)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_may_happen() {
    let fate = |number: usize| match number % 5 {
        0 => Fate::Lost,
        1 => Fate::Broken(number),
        2 => Fate::Twice,
        _ => Fate::Late,
    };
    flows_under(every(7, fate)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_datagrams_that_are_sent_again_change_nothing() {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    let before = links.each_ref().map(|link| link.path_history().len());
    for _ in 0..3 {
        flows_both_ways(&links, 1).await;
        assert!(world.nat.replay().await > 100);
    }
    flows_both_ways(&links, 4).await;
    assert_eq!(links.each_ref().map(|link| link.path_history().len()), before);
    assert!(links.iter().all(|link| link.ended().is_none()));
}
