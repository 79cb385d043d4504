//! What one address may have of what all share.

use std::time::Duration;

use holepunch_matchmaker::{NotAdmitted, Protocol};
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
