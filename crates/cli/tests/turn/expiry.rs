//! Credentials that end: before they are used, and while an address on a TURN server is in use.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use holepunch_rendezvous::RelayLimits;
use holepunch_wire::session::RoomMode;
use holepunch_wire::turn::TurnAccess;
use holepunch_worker::{Link, PathKind};
use tokio::time::sleep;

use crate::coturn::Coturn;
use crate::{Pair, SECRET, access, exchange, logs, next, pair, rendezvous_with, within, worker_in};

/// Access to a server, for so many seconds at a time.
fn short_lived(server: SocketAddr, lifetime_s: u64) -> TurnAccess {
    TurnAccess { lifetime_s, ..access(server, SECRET) }
}

/// Waits until credentials that were given out by now have ended, by any clock that counts whole seconds.
async fn until_expired(lifetime_s: u64) {
    sleep(Duration::from_secs(lifetime_s + 1)).await;
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn is_by_turn(link: &Link) -> bool {
    link.path().kind == PathKind::Turn
}

#[tokio::test]
async fn credentials_that_have_expired_are_refused_which_is_told_and_the_link_goes_by_the_relay() {
    const LIFETIME_S: u64 = 1;
    let logs = logs::Logs::start();
    let address = Coturn::free_address();
    let server = rendezvous_with(short_lived(address, LIFETIME_S), Some(RelayLimits::default()));
    // The TURN server is not there before the credentials have ended.
    let pair = pair(&server).await;
    until_expired(LIFETIME_S).await;
    let Some(_coturn) = Coturn::start_at(address, SECRET, &[]).await else { return };
    let told =
        |text: &str| text.matches("the TURN server refuses the credentials: 401").count() == 2;
    within("both are told", logs.until(told)).await;
    assert_eq!(logs.text().matches("they have expired").count(), 2, "{}", logs.text());
    assert_eq!(pair.kinds(), [PathKind::Relay, PathKind::Relay]);
    exchange(&pair.links).await;
    pair.end().await;
    assert!(!logs.text().contains("ERROR"), "{}", logs.text());
}

#[tokio::test]
async fn an_address_in_use_is_renewed_with_the_credentials_that_it_was_made_with_after_their_end() {
    const LIFETIME_S: u64 = 2;
    let logs = logs::Logs::start();
    let address = Coturn::free_address();
    // The worker renews it when half of that is over.
    let short = ["--max-allocate-lifetime=20"];
    let Some(coturn) = Coturn::start_at(address, SECRET, &short).await else { return };
    let server = rendezvous_with(short_lived(address, LIFETIME_S), None);
    let pair = pair(&server).await;
    assert!(pair.links.iter().all(is_by_turn));
    for until in within("both are renewed", coturn.said(" refreshed,", 2)).await {
        assert!(until < unix_s(), "the credentials were good until {until}");
    }
    exchange(&pair.links).await;
    assert!(pair.links.iter().all(is_by_turn));
    assert!(!logs.text().contains("no relay by TURN"), "{}", logs.text());
    pair.end().await;
}

#[tokio::test]
async fn an_address_that_is_lost_is_asked_for_anew_with_what_a_later_offer_has_told() {
    const LIFETIME_S: u64 = 10;
    let logs = logs::Logs::start();
    let address = Coturn::free_address();
    let Some(coturn) = Coturn::start_at(address, SECRET, &[]).await else { return };
    let server = rendezvous_with(short_lived(address, LIFETIME_S), None);
    let (first, first_links) = worker_in(&server, RoomMode::Mesh, None).await;
    let (second, second_links) = worker_in(&server, RoomMode::Mesh, None).await;
    let mut all_links = [first_links, second_links];
    let links = next(&mut all_links).await;
    let pair = Pair { workers: [first, second], links };
    assert!(pair.links.iter().all(is_by_turn));
    until_expired(LIFETIME_S).await;
    // It is offered to both, and the offers have credentials that are good.
    let renewed_at = unix_s();
    let (third, mut third_links) = worker_in(&server, RoomMode::Mesh, None).await;
    within("a link with the third", third_links.next()).await.unwrap();
    // All addresses end with the server, which shows in what is sent to it.
    coturn.kill().await;
    let lost = |text: &str| text.matches("the TURN server cannot be reached").count() >= 2;
    for link in &pair.links {
        link.send_datagram(Bytes::from_static(b"to nobody")).unwrap();
    }
    within("the loss is told", logs.until(lost)).await;
    let coturn = Coturn::start_at(address, SECRET, &[]).await.unwrap();
    for until in within("new addresses", coturn.said(" new,", 2)).await {
        // The rendezvous rounds its time down.
        assert!(until + 1 >= renewed_at + LIFETIME_S, "good until {until}, told at {renewed_at}");
    }
    exchange(&pair.links).await;
    assert!(pair.links.iter().all(is_by_turn));
    assert!(!logs.text().contains("refuses the credentials"), "{}", logs.text());
    pair.end().await;
    third.shutdown().await;
}

#[tokio::test]
async fn where_no_later_ones_are_known_the_loss_is_told_and_the_next_offer_makes_another_link() {
    const LIFETIME_S: u64 = 1;
    let logs = logs::Logs::start();
    let address = Coturn::free_address();
    let Some(coturn) = Coturn::start_at(address, SECRET, &[]).await else { return };
    let server = rendezvous_with(short_lived(address, LIFETIME_S), None);
    let (first, first_links) = worker_in(&server, RoomMode::Call, None).await;
    let (second, second_links) = worker_in(&server, RoomMode::Call, Some(&first)).await;
    let mut all_links = [first_links, second_links];
    let links = next(&mut all_links).await;
    until_expired(LIFETIME_S).await;
    coturn.kill().await;
    for link in &links {
        link.send_datagram(Bytes::from_static(b"to nobody")).unwrap();
    }
    let lost = |text: &str| text.matches("the TURN server cannot be reached").count() >= 2;
    within("the loss is told", logs.until(lost)).await;
    let _coturn = Coturn::start_at(address, SECRET, &[]).await.unwrap();
    let refused = |text: &str| text.matches("they have expired").count() == 2;
    within("the refusal is told", logs.until(refused)).await;
    for link in &links {
        within("the end of the link", link.closed()).await;
    }
    let pair = Pair { workers: [first, second], links: next(&mut all_links).await };
    exchange(&pair.links).await;
    assert!(pair.links.iter().all(is_by_turn));
    pair.end().await;
}
