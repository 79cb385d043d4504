//! Workers that no STUN server has seen: they are paired without an endpoint, and what is planned for them.

use holepunch_wire::plan::Strategy;

use crate::table::Table;

/// It has asked for a peer, and this is the only address that it can be told by.
fn asks(table: &mut Table, number: u64, kind: &str, ip: &str) {
    table.say(
        number,
        &format!(
            r#"{{"type":"candidates","generation":1,"candidates":[
            {{"kind":"{kind}","ip":"{ip}","port":4000,"priority":1}}]}}"#
        ),
    );
    table.say(number, r#"{"type":"nat_profile","profile":{"udp":"blocked"}}"#);
    table.say(number, r#"{"type":"ready"}"#);
}

/// What is planned for two, each with its only candidate.
fn planned(first: (&str, &str), second: (&str, &str)) -> Strategy {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    asks(&mut table, 1, first.0, first.1);
    asks(&mut table, 2, second.0, second.1);
    for (number, peer) in [(1, second), (2, first)] {
        let offers = table.offers(number);
        let [offer] = offers.as_slice() else { panic!("{offers:?}") };
        assert_eq!(offer.endpoint, None);
        let told: Vec<String> =
            offer.details.candidates.iter().map(|it| it.address().to_string()).collect();
        assert_eq!(told, [format!("{}:4000", peer.1)]);
    }
    table.offers(1)[0].details.plan.strategy
}

#[test]
fn a_port_that_the_router_of_one_has_opened_is_a_way_if_it_is_at_its_own_address() {
    let host = ("host", "192.168.1.7");
    assert_eq!(planned(host, host), Strategy::Relay, "203.0.113.1 and .2 are two networks");
    assert_eq!(planned(host, ("port_mapped", "203.0.113.2")), Strategy::Plain);
    assert_eq!(planned(("port_mapped", "203.0.113.1"), host), Strategy::Plain);
    assert_eq!(planned(host, ("port_mapped", "198.51.100.9")), Strategy::Relay);
}

#[test]
fn checks_in_vain_come_to_the_relay_and_an_endpoint_that_appears_to_another_plan() {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    asks(&mut table, 1, "host", "192.168.1.7");
    asks(&mut table, 2, "port_mapped", "203.0.113.2");
    let session = table.offers(1)[0].details.session;
    table.state(1, session, "failed", "plain", 1);
    assert_eq!(table.plans(1), [(2, Strategy::Relay)]);
    for number in [1, 2] {
        table.profile(number, "endpoint_independent", r#"{"kind":"preserving"}"#);
    }
    assert_eq!(table.plans(1).last(), Some(&(3, Strategy::Plain)));
}
