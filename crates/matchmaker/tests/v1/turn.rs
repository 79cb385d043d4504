//! TURN: credentials, and the relayed addresses that two workers tell each other.

use std::time::Duration;

use holepunch_matchmaker::Input;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::ServerV1;
use holepunch_wire::turn::{CREDENTIAL_LIFETIME_S, TurnAccess, TurnSecret};

use crate::table::{Table, UNIX_S};

const ADDRESS: &str = "192.0.2.9:50000";

fn access() -> TurnAccess {
    let urls = vec!["turn:turn.example:3478".parse().unwrap()];
    TurnAccess::new(urls, TurnSecret::new("north"))
}

fn tell(table: &mut Table, number: u64, session: SessionId, address: &str) {
    let text = format!(r#"{{"type":"turn_address","session":"{session}","address":"{address}"}}"#);
    table.say(number, &text);
}

fn told(table: &Table, number: u64) -> Vec<String> {
    let address = |message| match message {
        ServerV1::PeerTurnAddress { address, .. } => Some(address.to_string()),
        _ => None,
    };
    table.v1_messages(number).into_iter().filter_map(address).collect()
}

#[test]
fn a_welcome_opens_the_turn_servers_for_a_day() {
    let mut table = Table::with_turn(access());
    table.v1(&[1, 2], "");
    let [first, second] = [1, 2].map(|number| table.welcome(number).turn);
    let [server] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!(server.url, "turn:turn.example:3478");
    let until = server.username.split(':').next().unwrap();
    assert_eq!(until, (UNIX_S + CREDENTIAL_LIFETIME_S).to_string());
    assert_eq!(server.credential, access().secret.credential(&server.username));
    assert_ne!(first[0].username, second[0].username, "each worker has its own");
    let mut without = Table::new();
    without.v1(&[1], "");
    assert!(without.welcome(1).turn.is_empty());
}

/// A machine may start before anything has told it the time.
#[test]
fn credentials_end_by_the_wall_clock_also_after_it_was_set() {
    let mut table = Table::with_turn(access());
    let set = UNIX_S + 1_000_000;
    table.input(Input::WallClock { unix: Duration::from_secs(set) });
    table.pass(Duration::from_secs(10));
    table.v1(&[1], "");
    let until = (set + 10 + CREDENTIAL_LIFETIME_S).to_string();
    assert_eq!(table.welcome(1).turn[0].username.split(':').next(), Some(until.as_str()));
}

#[test]
fn an_offer_renews_credentials_that_have_lived_half_their_life_once_and_no_others() {
    let mut table = Table::with_turn(access());
    table.v1(&[1], "");
    table.pass(Duration::from_secs(CREDENTIAL_LIFETIME_S / 2));
    table.v1(&[2], "");
    table.report(1);
    table.report(2);
    assert!(table.offers(2)[0].details.turn.is_empty(), "its welcome was just before");
    let offer = &table.offers(1)[0].details;
    let (welcomed, renewed) = (table.welcome(1).turn, &offer.turn);
    let until = |username: &str| username.split(':').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(
        until(&renewed[0].username),
        until(&welcomed[0].username) + CREDENTIAL_LIFETIME_S / 2
    );
    table.say(1, &format!(r#"{{"type":"leave","session":"{}"}}"#, offer.session));
    table.pass(Duration::from_secs(10));
    table.report(1);
    let offers = table.offers(1);
    assert!(offers.len() == 2 && offers[1].details.turn.is_empty(), "{offers:?}");
}

#[test]
fn a_relayed_address_goes_to_the_peer_alone_and_only_if_it_is_one() {
    let (mut table, session) = Table::pair();
    table.v1(&[3], "");
    tell(&mut table, 1, session, ADDRESS);
    tell(&mut table, 3, session, "192.0.2.10:1");
    for bad in ["0.0.0.0:1", "192.0.2.9:0", "255.255.255.255:1", "224.0.0.1:1"] {
        tell(&mut table, 2, session, bad);
    }
    assert_eq!(told(&table, 2), [ADDRESS]);
    assert!(told(&table, 1).is_empty() && told(&table, 3).is_empty());
}
