//! What one address may have of what all share.

use std::net::IpAddr;
use std::time::Duration;

use holepunch_matchmaker::{ConnectionId, Input, NotAdmitted, Observed, Protocol};
use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;

use crate::table::Table;

const REFUSED: (u16, &str) = (1013, "too many workers from this address");

fn named(id: &str) -> WorkerId {
    WorkerId::new(id).unwrap()
}

impl Table {
    /// The connection `number` of the worker `w<number>`, from 203.0.113.`host`.
    fn connect_from(&mut self, number: u64, host: u64, protocol: Protocol) {
        self.connect_id((number, host), named(&format!("w{number}")), protocol, "");
    }

    /// The connection `number` of the worker `w<number>`, from `ip`.
    fn connect_at(&mut self, number: u64, ip: IpAddr) {
        self.input(Input::Connected {
            connection: ConnectionId(number),
            worker: named(&format!("w{number}")),
            observed: Observed { ip, port: None },
            protocol: Protocol::Baseline,
            room: None,
            challenge: String::new(),
            permit: Default::default(),
        });
    }
}

#[test]
fn one_address_has_its_share_of_workers_and_others_get_in() {
    let mut table = Table::for_workers_of_an_address(3);
    (1..=4).for_each(|number| table.connect_from(number, 1, Protocol::Baseline));
    assert_eq!(table.closes, [(4, REFUSED)].into());
    table.connect_from(5, 2, Protocol::V1);
    assert_eq!(table.machine.workers().count(), 4);
    let from = |host: u8| table.machine.admits(&named("w9"), [203, 0, 113, host].into());
    assert_eq!((from(1), from(2)), (Err(NotAdmitted::ShareOfAddress(3)), Ok(())));
    table.close(1);
    table.connect_from(6, 1, Protocol::V1);
    assert_eq!(table.closes.len(), 1, "a place that was given back");
}

#[test]
fn a_worker_of_a_full_address_connects_anew_and_takes_nobody_s_place_elsewhere() {
    let mut table = Table::for_workers_of_an_address(2);
    (1..=2).for_each(|number| table.connect_from(number, 1, Protocol::V1));
    table.connect_from(3, 2, Protocol::V1);
    table.connect_id((4, 1), named("w1"), Protocol::V1, "");
    assert_eq!(table.closes[&1].0, 1000);
    table.connect_id((5, 1), named("w3"), Protocol::V1, "");
    assert_eq!(table.closes.get(&5), Some(&REFUSED), "that one is of another address");
    assert_eq!(table.machine.workers().count(), 3);
}

#[test]
fn those_that_have_a_key_to_prove_yet_count_and_give_their_place_back() {
    let mut table = Table::for_workers_of_an_address(2);
    for number in 1..=2 {
        let key = PublicKey::from_bytes([u8::try_from(number).unwrap(); 32]);
        table.connect_id((number, 1), key.worker_id(), Protocol::V1, "");
    }
    table.connect_from(3, 1, Protocol::Baseline);
    assert_eq!(table.closes, [(3, REFUSED)].into());
    table.pass(Duration::from_secs(11));
    (4..=6).for_each(|number| table.connect_from(number, 1, Protocol::Baseline));
    assert_eq!(table.closes.get(&6), Some(&REFUSED));
    assert_eq!(table.machine.workers().count(), 2);
}

#[test]
fn this_machine_has_no_share() {
    let table = Table::for_workers_of_an_address(0);
    let from = |ip: [u8; 4]| table.machine.admits(&named("w1"), ip.into()).is_ok();
    assert!(from([127, 0, 0, 1]) && !from([203, 0, 113, 1]));
}

/// A home has a /56, which is 256 networks, each with an address's share.
#[test]
fn all_networks_of_an_ipv6_site_have_two_shares_together() {
    let mut table = Table::for_workers_of_an_address(3);
    let network = |number: u16| IpAddr::from([0x2001, 0xdb8, 7, number, 0, 0, 0, 1]);
    for number in 1..=8_u16 {
        table.connect_at(number.into(), network(number));
    }
    let refused = (1013, "too many workers from this IPv6 site (/48)");
    assert_eq!(table.closes, [(7, refused), (8, refused)].into());
    let admits = |id: &str, ip: IpAddr| table.machine.admits(&named(id), ip);
    assert_eq!(admits("w9", network(9)), Err(NotAdmitted::ShareOfSite(6)));
    assert_eq!(admits("w1", network(9)), Ok(()), "it takes its own place, from another network");
    assert_eq!(admits("w9", [0x2001, 0xdb8, 8, 1, 0, 0, 0, 1].into()), Ok(()));
    table.close(1);
    for number in 10..=11 {
        table.connect_at(number, network(2));
    }
    assert_eq!(table.closes.get(&10), None, "a place that was given back");
    assert_eq!(table.closes.get(&11), Some(&refused));
}
