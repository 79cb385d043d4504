//! Rooms, sessions, plans.

use std::net::SocketAddr;
use std::time::Duration;

use holepunch_matchmaker::{Closing, Event, Protocol};
use holepunch_wire::check::IceRole;
use holepunch_wire::nat::NatClass;
use holepunch_wire::plan::Strategy;
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::FromServer;
use holepunch_wire::signal::v1::ServerV1;
use holepunch_wire::stun::proof::{ProofKey, ProofNonce};

use crate::table::{Table, UNIX_S, key};

#[test]
fn two_that_speak_v1_are_offered_a_session_with_crossed_credentials() {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    table.say(
        1,
        r#"{"type":"candidates","generation":1,"candidates":[{"kind":"host","ip":"10.0.0.1","port":1,"priority":9}]}"#,
    );
    table.report(1);
    table.report(2);
    let (first, second) = (&table.offers(1)[0], &table.offers(2)[0]);
    assert_eq!((first.peer.as_str(), second.peer.as_str()), ("w2", "w1"));
    assert_eq!(first.details.session, second.details.session);
    assert_eq!(first.details.credentials, second.details.peer_credentials);
    assert_eq!(first.details.peer_credentials, second.details.credentials);
    assert_ne!(first.details.credentials, second.details.credentials);
    assert_eq!(first.details.role, IceRole::Controlled, "the one that waited longer");
    assert_eq!(second.details.role, IceRole::Controlling);
    assert_eq!(second.details.candidates[0].address(), "10.0.0.1:1".parse().unwrap());
    assert_eq!(first.details.address_proof, AddressProof::Signalling);
    assert_eq!(first.endpoint, Some("203.0.113.2:4000".parse().unwrap()));
}

#[test]
fn a_baseline_worker_sees_the_baseline_only() {
    let mut table = Table::new();
    table.connect(1, Protocol::Baseline, "");
    table.v1(&[2], "");
    table.report(1);
    table.profile(2, "endpoint_independent", r#"{"kind":"preserving"}"#);
    table.report(2);
    for message in table.messages(1) {
        let baseline =
            matches!(message, FromServer::UdpEndpointAck(Ok(())) | FromServer::Offer(Ok(_)));
        assert!(baseline, "{message:?}");
    }
    assert_eq!(table.frames[&1].len(), 2);
    let keys = r#"{"type":"p2p_connection_offer","peer_worker_id":"w2","peer_udp_ip":"203.0.113.2","peer_udp_port":4000}"#;
    assert_eq!(table.frames[&1][1], keys);
}

#[test]
fn a_worker_without_an_endpoint_is_paired_with_v1_workers_only() {
    let mut table = Table::new();
    table.connect(1, Protocol::Baseline, "");
    table.v1(&[2, 3], "");
    table.report(1);
    table.say(2, r#"{"type":"ready"}"#);
    assert!(table.offers(2).is_empty(), "not with the baseline worker that waits");
    table.say(3, r#"{"type":"ready"}"#);
    assert_eq!(table.offers(2)[0].endpoint, None);
    assert_eq!(table.offers(3)[0].peer.as_str(), "w2");
}

#[test]
fn rooms_keep_workers_apart() {
    let mut table = Table::new();
    table.v1(&[1], "red");
    table.v1(&[2, 3], "");
    table.report(1);
    table.report(2);
    assert!(table.offers(1).is_empty() && table.offers(2).is_empty());
    table.say(3, r#"{"type":"hello","room":"red"}"#);
    table.report(3);
    assert_eq!(table.offers(1)[0].peer.as_str(), "w3");
}

#[test]
fn a_room_that_is_to_be_fresh_is_nobody_else_s() {
    let mut table = Table::new();
    let said = |table: &Table, number: u64| -> Vec<String> {
        let frames = table.frames[&number].iter().filter(|frame| !frame.contains("welcome"));
        frames.filter(|frame| frame.contains("room")).cloned().collect()
    };
    table.v1(&[1, 2, 3], "");
    let fresh = r#"{"type":"hello","room":"7","fresh":true}"#;
    table.say(1, fresh);
    table.report(1);
    assert_eq!(said(&table, 1), [r#"{"type":"room_entered"}"#]);
    table.say(1, fresh);
    assert_eq!(said(&table, 1).len(), 2, "it is still the only one there");
    table.say(2, fresh);
    table.report(2);
    let taken =
        r#"{"type":"error","code":"room_taken","message":"somebody is in this room already"}"#;
    assert_eq!(said(&table, 2), [taken]);
    assert!(table.offers(1).is_empty() && table.offers(2).is_empty(), "the two do not meet");
    table.say(3, r#"{"type":"hello","room":"7"}"#);
    table.report(3);
    assert_eq!(table.offers(1)[0].peer.as_str(), "w3", "who does not want it fresh is the guest");
}

#[test]
fn who_is_shown_out_of_a_room_meets_nobody_in_the_one_without_a_name() {
    let mut table = Table::new();
    table.v1(&[1, 2, 3, 4], "");
    table.report(1);
    table.say(2, r#"{"type":"hello","room":"7"}"#);
    table.say(3, r#"{"type":"hello","room":"7","fresh":true}"#);
    table.report(3);
    assert!(table.offers(1).is_empty() && table.offers(3).is_empty());
    table.say(3, r#"{"type":"call","peer":"w1"}"#);
    assert!(table.offers(3).is_empty());
    // What it names next, it gets.
    table.say(3, r#"{"type":"hello","room":""}"#);
    table.report(3);
    assert_eq!(table.offers(1).len(), 1);
}

#[test]
fn who_comes_back_to_a_room_that_has_become_somebody_else_s_does_not_meet_its_owner() {
    let mut table = Table::new();
    table.v1(&[1, 2, 3], "");
    // 2 has had it before, and 1 got it meanwhile.
    table.say(1, r#"{"type":"hello","room":"7","fresh":true}"#);
    table.report(1);
    table.say(2, r#"{"type":"hello","room":"7","own":true}"#);
    assert!(table.frames[&2].iter().any(|it| it.contains("room_taken")));
    // A guest is no owner.
    table.say(3, r#"{"type":"hello","room":"8"}"#);
    table.report(3);
    table.say(2, r#"{"type":"hello","room":"8","own":true}"#);
    table.report(2);
    assert_eq!(table.offers(3)[0].peer.as_str(), "w2");
    assert!(table.offers(1).is_empty());
}

#[test]
fn two_that_want_a_room_fresh_at_once_do_not_meet() {
    let mut table = Table::new();
    // As by `?room=` in the URL: both are there before they say what they want.
    table.v1(&[1, 2], "7");
    for number in [1, 2] {
        table.say(number, r#"{"type":"hello","fresh":true}"#);
        table.report(number);
    }
    let has = |number: u64, what: &str| table.frames[&number].iter().any(|it| it.contains(what));
    assert!(has(1, "room_taken") && has(2, "room_entered"), "whoever asks last has it for itself");
    assert!(table.offers(1).is_empty() && table.offers(2).is_empty());
}

#[test]
fn a_third_in_a_room_of_two_is_told_once() {
    let mut table = Table::new();
    table.v1(&[1, 2, 3], "tea");
    for number in [1, 2, 3, 3] {
        table.report(number);
    }
    let told = |number: u64| {
        table.frames[&number].iter().filter(|frame| frame.contains("room_occupied")).count()
    };
    assert_eq!([1, 2, 3].map(told), [0, 0, 1]);
}

#[test]
fn a_mesh_offers_everyone_to_everyone_and_a_call_one_to_one() {
    let mut table = Table::new();
    table.v1(&[1, 2, 3], "m");
    for number in 1..=3 {
        table.say(number, r#"{"type":"hello","mode":"mesh"}"#);
        table.report(number);
    }
    assert!((1..=3).all(|number| table.offers(number).len() == 2));
    table.v1(&[4, 5], "c");
    for number in 4..=5 {
        table.say(number, r#"{"type":"hello","mode":"call"}"#);
        table.report(number);
    }
    assert!(table.offers(4).is_empty());
    for nobody in ["w4", "w1", "nobody", ""] {
        table.say(4, &format!(r#"{{"type":"call","peer":"{nobody}"}}"#));
    }
    let errors = table.messages(4);
    assert_eq!(errors.iter().filter(|it| matches!(it, FromServer::Error(_))).count(), 4);
    table.say(4, r#"{"type":"call","peer":"w5"}"#);
    assert_eq!(table.offers(5)[0].peer.as_str(), "w4");
}

#[test]
fn a_better_profile_makes_a_better_plan_and_acceptances_are_passed_on() {
    let (mut table, session) = Table::pair();
    table.profile(1, "endpoint_independent", r#"{"kind":"preserving"}"#);
    assert!(table.plans(1).is_empty(), "the other side is not known yet");
    table.profile(
        2,
        "address_and_port_dependent",
        r#"{"kind":"block","lowest":2050,"highest":2070,"size":64}"#,
    );
    assert_eq!(table.plans(1), [(2, Strategy::Sweep)]);
    assert_eq!(table.plans(2), [(2, Strategy::Sweep)]);
    let accept = |number: u32| {
        format!(r#"{{"type":"plan_accepted","session":"{session}","number":{number},"ports":[7]}}"#)
    };
    table.say(1, &accept(1));
    table.say(1, &accept(2));
    let accepted: Vec<ServerV1> = table
        .v1_messages(2)
        .into_iter()
        .filter(|it| matches!(it, ServerV1::PeerAccepted { .. }))
        .collect();
    assert_eq!(accepted, [ServerV1::PeerAccepted { session, number: 2, ports: vec![7] }]);
}

#[test]
fn what_an_early_packet_does_is_worth_another_plan_of_the_same_search() {
    for remaps in [true, false] {
        let (mut table, _) = Table::pair();
        let preserving = r#"{"kind":"preserving"}"#;
        table.profile(1, "endpoint_independent", preserving);
        table.profile(2, "address_and_port_dependent", r#"{"kind":"random"}"#);
        let known = format!(r#","remaps_after_inbound":{remaps}"#);
        table.profile_with(1, "endpoint_independent", preserving, &known);
        // What is no news changes nothing.
        table.profile_with(1, "endpoint_independent", preserving, &known);
        assert_eq!(table.plans(2), [(2, Strategy::Birthday), (3, Strategy::Birthday)], "{remaps}");
    }
}

#[test]
fn a_strategy_that_failed_gives_way_to_the_next_and_at_last_to_the_relay() {
    let (mut table, session) = Table::pair();
    table.profile(1, "endpoint_independent", r#"{"kind":"preserving"}"#);
    table.profile(
        2,
        "address_and_port_dependent",
        r#"{"kind":"block","lowest":2050,"highest":2070,"size":64}"#,
    );
    table.accept(session, 2);
    table.state(1, session, "failed", "sweep", 2);
    // What the other side says of the same plan changes nothing more.
    table.state(2, session, "failed", "sweep", 2);
    table.accept(session, 3);
    table.state(2, session, "failed", "birthday", 3);
    assert_eq!(
        table.plans(1),
        [(2, Strategy::Sweep), (3, Strategy::Birthday), (4, Strategy::Relay)]
    );
}

#[test]
fn a_test_for_reuse_that_comes_to_nothing_is_not_the_end() {
    let (mut table, session) = Table::pair();
    for number in [1, 2] {
        let block = r#"{"kind":"block","lowest":2050,"highest":2111,"size":74}"#;
        table.profile(number, "address_and_port_dependent", block);
    }
    assert_eq!(table.plans(1), [(2, Strategy::TestReuse)]);
    table.state(1, session, "failed", "test_reuse", 2);
    table.accept(session, 3);
    table.state(2, session, "failed", "sweep", 3);
    let all = [(2, Strategy::TestReuse), (3, Strategy::Sweep), (4, Strategy::Relay)];
    assert_eq!(table.plans(1), all);
}

#[test]
fn a_search_that_could_not_be_made_is_planned_once_more() {
    let (mut table, session) = Table::pair();
    table.profile(1, "endpoint_independent", r#"{"kind":"preserving"}"#);
    table.profile(2, "address_and_port_dependent", r#"{"kind":"random"}"#);
    table.state(1, session, "failed", "birthday", 2);
    table.state(2, session, "failed", "birthday", 3);
    let all = [(2, Strategy::Birthday), (3, Strategy::Birthday), (4, Strategy::Relay)];
    assert_eq!(table.plans(1), all);
    assert!(table.last_reason(1).contains("could not be made"), "{}", table.last_reason(1));
}

#[test]
fn openers_that_were_in_vain_are_followed_by_others_that_go_another_distance() {
    let (mut table, session) = Table::pair();
    for number in [1, 2] {
        let remaps = r#","remaps_after_inbound":true"#;
        table.profile_with(number, "endpoint_independent", r#"{"kind":"preserving"}"#, remaps);
    }
    for plan in 2..6 {
        table.accept(session, plan);
        table.state(1, session, "failed", "preserved", plan);
    }
    let preserved = |number| (number, Strategy::Preserved);
    let all = [preserved(2), preserved(3), preserved(4), preserved(5), (6, Strategy::Relay)];
    assert_eq!(table.plans(1), all);
}

#[test]
fn what_strangers_report_of_a_network_is_not_remembered() {
    let strangers = |proven: bool| {
        let (mut table, session) = Table::pair();
        if !proven {
            // Of the same networks, but of addresses that nobody vouches for.
            for (number, port) in [(1, 7), (2, 8)] {
                let ip = format!("203.0.113.{}", 100 + number);
                table.say(
                    number,
                    &format!(
                        r#"{{"type":"update_udp_endpoint","udp_ip":"{ip}","udp_port":{port}}}"#
                    ),
                );
            }
        }
        table.profile(1, "endpoint_independent", r#"{"kind":"preserving"}"#);
        table.profile(2, "address_and_port_dependent", r#"{"kind":"random"}"#);
        let number = table.plans(1).last().map_or(1, |(number, _)| *number);
        table.accept(session, number);
        table.state(1, session, "failed", "birthday", number);
        table.v1(&[3, 4], "other");
        table.report(3);
        table.profile(3, "endpoint_independent", r#"{"kind":"preserving"}"#);
        table.profile(4, "address_and_port_dependent", r#"{"kind":"random"}"#);
        table.report(4);
        table.offers(4)[0].details.plan.strategy
    };
    assert_eq!(strangers(true), Strategy::Relay, "it has just failed there");
    assert_eq!(strangers(false), Strategy::Birthday);
}

#[test]
fn candidates_are_vouched_for_by_what_is_proved_of_their_own_address() {
    let (mut table, _) = Table::pair();
    let says = |ip: &str, generation: u32| {
        format!(
            r#"{{"type":"candidates","generation":{generation},"candidates":[
            {{"kind":"server_reflexive","ip":"{ip}","port":9,"priority":1}}]}}"#
        )
    };
    table.say(1, &says("203.0.113.1", 1));
    table.say(1, &says("198.51.100.66", 2));
    let told: Vec<AddressProof> = table
        .v1_messages(2)
        .into_iter()
        .filter_map(|it| match it {
            ServerV1::PeerCandidates { address_proof, .. } => Some(address_proof),
            _ => None,
        })
        .collect();
    assert_eq!(told, [AddressProof::Signalling, AddressProof::None]);
}

#[test]
fn a_session_is_taken_up_again_and_again_and_lives_on() {
    let (mut table, session) = Table::pair();
    table.state(1, session, "direct", "plain", 1);
    let mut connection = 1;
    for next in [101, 102, 103] {
        let token = table.welcome(connection).resume;
        table.close(connection);
        table.connect_as(next, 1, Protocol::V1, "");
        table.say(next, &format!(r#"{{"type":"hello","resume":"{token}"}}"#));
        table.pass(Duration::from_secs(40));
        connection = next;
    }
    table.say(2, r#"{"type":"candidates","generation":1,"candidates":[]}"#);
    let told = |it: &ServerV1| matches!(it, ServerV1::PeerCandidates { .. });
    assert!(table.v1_messages(connection).iter().any(told));
    assert!(!table.events.iter().any(|it| matches!(it, Event::SessionEnded(..))));
}

#[test]
fn two_that_have_just_parted_are_not_called_together_again_at_once() {
    let mut table = Table::new();
    table.v1(&[1, 2], "c");
    for _ in 0..20 {
        table.say(1, r#"{"type":"call","peer":"w2"}"#);
        if let Some(offer) = table.offers(1).last() {
            let session = offer.details.session;
            table.say(1, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
        }
        table.pass(Duration::from_millis(100));
    }
    assert_eq!(table.offers(2).len(), 1);
    table.pass(Duration::from_secs(6));
    table.say(1, r#"{"type":"call","peer":"w2"}"#);
    assert_eq!(table.offers(2).len(), 2);
}

#[test]
fn a_search_that_a_worker_does_not_make_is_no_failed_one() {
    let (mut table, session) = Table::pair();
    table.profile(1, "endpoint_independent", r#"{"kind":"preserving"}"#);
    table.profile(2, "address_and_port_dependent", r#"{"kind":"random"}"#);
    table.state(1, session, "declined", "birthday", 2);
    table.state(2, session, "declined", "birthday", 2);
    assert_eq!(table.plans(1), [(2, Strategy::Birthday), (3, Strategy::Relay)]);
    table.say(1, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    // Between the same two networks it is planned again.
    table.pass(Duration::from_secs(6));
    table.say(1, r#"{"type":"ready"}"#);
    assert_eq!(table.offers(1).last().unwrap().details.plan.strategy, Strategy::Birthday);
}

#[test]
fn a_search_that_was_declined_is_planned_again_when_the_worker_may_make_it() {
    let (mut table, session) = Table::pair();
    table.profile(1, "endpoint_independent", r#"{"kind":"preserving"}"#);
    table.profile(2, "address_and_port_dependent", r#"{"kind":"random"}"#);
    table.state(1, session, "checking", "birthday", 2);
    assert_eq!(table.plans(1), [(2, Strategy::Birthday)], "it is under way");
    table.state(1, session, "declined", "birthday", 2);
    // Both try again at the same moment; one of them is enough.
    table.state(1, session, "checking", "relay", 3);
    table.state(2, session, "checking", "relay", 3);
    let plans = [(2, Strategy::Birthday), (3, Strategy::Relay), (4, Strategy::Birthday)];
    assert_eq!((table.plans(1), table.plans(2)), (plans.to_vec(), plans.to_vec()));
    for round in 0..50 {
        table.state(1, session, "declined", "birthday", 4 + 2 * round);
        table.state(1, session, "checking", "relay", 5 + 2 * round);
    }
    assert!(table.plans(1).len() < 32, "a session has no more plans for it");
}

#[test]
fn the_plans_of_a_session_come_to_an_end() {
    let (mut table, session) = Table::pair();
    for round in 0..50 {
        for mapping in ["endpoint_independent", "address_and_port_dependent"] {
            table.profile(1, mapping, r#"{"kind":"random"}"#);
            table.profile(2, mapping, r#"{"kind":"preserving"}"#);
        }
        table.state(1, session, "failed", "plain", round);
    }
    let told = table.plans(1).len();
    assert!((2..32).contains(&told), "{told} plans");
}

#[test]
fn a_port_that_a_router_has_opened_is_worth_another_plan_if_it_is_the_workers_own() {
    let (mut table, session) = Table::pair();
    for number in [1, 2] {
        table.profile(number, "address_and_port_dependent", r#"{"kind":"random"}"#);
    }
    assert_eq!(table.plans(1), [(2, Strategy::Relay)]);
    let mapped = |generation: u32, ip: &str| {
        format!(
            r#"{{"type":"candidates","generation":{generation},"candidates":[
            {{"kind":"port_mapped","ip":"{ip}","port":4000,"priority":1}}]}}"#
        )
    };
    table.say(1, &mapped(1, "203.0.113.77"));
    assert_eq!(table.plans(1).len(), 1, "of another address: a router behind another NAT");
    table.say(1, &mapped(2, "203.0.113.1"));
    assert_eq!(table.plans(2), [(2, Strategy::Relay), (3, Strategy::Plain)]);
    table.state(2, session, "failed", "plain", 3);
    assert_eq!(table.plans(2).last(), Some(&(4, Strategy::Relay)));
}

#[test]
fn where_ipv6_does_not_work_the_search_that_ipv4_needs_is_made() {
    let (mut table, session) = Table::pair();
    for (number, mapping, kind) in
        [(1, "endpoint_independent", "preserving"), (2, "address_and_port_dependent", "random")]
    {
        table.profile_with(number, mapping, &format!(r#"{{"kind":"{kind}"}}"#), r#","ipv6":true"#);
    }
    assert_eq!(table.plans(1), []);
    table.state(1, session, "failed", "plain", 1);
    assert_eq!(table.plans(1), [(2, Strategy::Birthday)]);
}

#[test]
fn plain_checks_that_failed_are_not_planned_again() {
    let (mut table, session) = Table::pair();
    table.state(1, session, "failed", "plain", 1);
    table.state(2, session, "failed", "plain", 1);
    assert_eq!(table.plans(1), [(2, Strategy::Relay)]);
    assert_eq!(table.plans(2), [(2, Strategy::Relay)]);
}

#[test]
fn candidates_are_passed_on_once_and_in_order() {
    let (mut table, _) = Table::pair();
    for generation in [3, 2, 3, 4] {
        table.say(
            1,
            &format!(r#"{{"type":"candidates","generation":{generation},"candidates":[]}}"#),
        );
    }
    let told: Vec<u32> = table
        .v1_messages(2)
        .into_iter()
        .filter_map(|it| match it {
            ServerV1::PeerCandidates { generation, .. } => Some(generation),
            _ => None,
        })
        .collect();
    assert_eq!(told, [3, 4]);
}

#[test]
fn whoever_is_left_waits_in_its_old_place() {
    let (mut table, session) = Table::pair();
    table.say(2, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    assert_eq!((table.ended(1), table.ended(2)), (1, 0));
    table.v1(&[3, 4], "");
    table.report(3);
    assert_eq!(table.offers(3)[0].peer.as_str(), "w1");
}

#[test]
fn the_same_two_wait_for_others_before_they_are_matched_again() {
    let (mut table, session) = Table::pair();
    table.say(2, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    table.report(2);
    assert_eq!(table.offers(2).len(), 1, "not at once");
    table.pass(Duration::from_secs(6));
    assert_eq!(table.offers(2).len(), 2, "nobody else has come");
}

/// It may have left it at the moment at which its connection was lost, or never heard of it.
#[test]
fn a_worker_takes_up_no_session_that_it_does_not_name_and_the_peer_is_told_at_once() {
    let (mut table, session) = Table::pair();
    let token = table.welcome(1).resume;
    table.state(1, session, "direct", "plain", 1);
    table.close(1);
    table.connect_as(9, 1, Protocol::V1, "");
    table.say(9, &format!(r#"{{"type":"hello","resume":"{token}","sessions":[]}}"#));
    assert_eq!((table.ended(2), table.ended(9)), (1, 0));
    table.report_from(9, 1);
    table.pass(Duration::from_secs(6));
    assert_eq!(table.offers(9).len(), 1, "the two want a peer both");
}

#[test]
fn a_worker_that_loses_two_connections_takes_up_its_sessions_with_the_token_of_either() {
    for of in [1, 8] {
        let (mut table, session) = Table::pair();
        let first = table.welcome(1).resume;
        table.close(1);
        table.connect_as(8, 1, Protocol::V1, "");
        table.say(8, &format!(r#"{{"type":"hello","resume":"{first}","sessions":["{session}"]}}"#));
        table.close(8);
        let token = table.welcome(of).resume;
        table.connect_as(9, 1, Protocol::V1, "");
        table.say(9, &format!(r#"{{"type":"hello","resume":"{token}","sessions":["{session}"]}}"#));
        table.pass(Duration::from_secs(60));
        assert_eq!((table.ended(2), table.ended(9)), (0, 0));
    }
}

#[test]
fn a_direct_session_outlives_its_connection_and_is_taken_up_again() {
    let (mut table, session) = Table::pair();
    let token = table.welcome(1).resume;
    table.state(1, session, "direct", "plain", 1);
    table.close(1);
    assert_eq!(table.ended(2), 0);
    table.connect(1001, Protocol::V1, "");
    table.close(1001);
    table.connect_as(9, 1, Protocol::V1, "");
    table.say(9, r#"{"type":"hello","resume":"guess"}"#);
    table.say(2, r#"{"type":"candidates","generation":1,"candidates":[]}"#);
    let told = |table: &Table| {
        let is = |it: &ServerV1| matches!(it, ServerV1::PeerCandidates { .. });
        table.v1_messages(9).iter().filter(|it| is(it)).count()
    };
    assert_eq!(told(&table), 0, "a guess resumes nothing");
    table.say(9, &format!(r#"{{"type":"hello","resume":"{token}"}}"#));
    table.say(2, r#"{"type":"candidates","generation":2,"candidates":[]}"#);
    assert_eq!(told(&table), 1);
    table.pass(Duration::from_secs(120));
    assert_eq!((table.ended(2), table.ended(9)), (0, 0));
}

#[test]
fn a_relayed_session_outlives_its_connection_and_is_taken_up_again() {
    let (mut table, session) = Table::pair();
    let token = table.welcome(1).resume;
    table.state(1, session, "relayed", "plain", 1);
    table.close(1);
    table.pass(Duration::from_secs(29));
    assert_eq!(table.ended(2), 0);
    table.connect_as(9, 1, Protocol::V1, "");
    table.say(9, &format!(r#"{{"type":"hello","resume":"{token}"}}"#));
    table.say(2, r#"{"type":"candidates","generation":1,"candidates":[]}"#);
    let told = |it: &ServerV1| matches!(it, ServerV1::PeerCandidates { .. });
    assert!(table.v1_messages(9).iter().any(told));
    table.pass(Duration::from_secs(120));
    assert_eq!((table.ended(2), table.ended(9)), (0, 0));
}

#[test]
fn a_relayed_session_whose_worker_does_not_come_back_ends_and_the_other_one_is_told() {
    let (mut table, session) = Table::pair();
    table.state(2, session, "relayed", "plain", 1);
    table.close(1);
    table.pass(Duration::from_secs(29));
    assert_eq!(table.ended(2), 0);
    table.pass(Duration::from_secs(2));
    assert_eq!(table.ended(2), 1);
    table.v1(&[3], "");
    table.report(3);
    assert_eq!(table.offers(3)[0].peer.as_str(), "w2", "it waits in its old place");
}

#[test]
fn a_session_without_a_path_ends_with_a_worker_that_leaves_or_was_never_offered_it() {
    for closing in [Closing::Goodbye, Closing::OfferUnsent] {
        let (mut table, _) = Table::pair();
        table.close_as(1, closing);
        assert_eq!(table.ended(2), 1, "{closing:?}");
    }
}

#[test]
fn a_session_without_a_path_waits_a_little_for_a_worker_that_is_lost() {
    let (mut table, _) = Table::pair();
    table.close(1);
    table.pass(Duration::from_millis(4900));
    assert_eq!(table.ended(2), 0);
    table.pass(Duration::from_millis(200));
    assert_eq!(table.ended(2), 1);
}

#[test]
fn a_session_without_a_path_is_taken_up_by_the_worker_that_comes_back() {
    let (mut table, session) = Table::pair();
    let token = table.welcome(1).resume;
    table.close(1);
    table.pass(Duration::from_secs(4));
    table.connect_as(9, 1, Protocol::V1, "");
    table.say(9, &format!(r#"{{"type":"hello","resume":"{token}"}}"#));
    table.pass(Duration::from_secs(60));
    assert_eq!((table.ended(2), table.ended(9)), (0, 0));
    table.say(9, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    assert_eq!(table.ended(2), 1);
}

#[test]
fn a_direct_path_that_comes_about_meanwhile_gives_a_lost_worker_more_time() {
    let (mut table, session) = Table::pair();
    table.close(1);
    table.pass(Duration::from_secs(4));
    table.state(2, session, "direct", "plain", 1);
    table.pass(Duration::from_secs(25));
    let token = table.welcome(1).resume;
    table.connect_as(9, 1, Protocol::V1, "");
    table.say(9, &format!(r#"{{"type":"hello","resume":"{token}"}}"#));
    table.pass(Duration::from_secs(60));
    assert!(!table.events.iter().any(|it| matches!(it, Event::SessionEnded(..))));
}

#[test]
fn a_worker_that_comes_and_goes_leaves_no_more_sessions_waiting_than_it_may_have() {
    let mut table = Table::new();
    let all: Vec<u64> = (1..=81).collect();
    table.v1(&all, "");
    let mut own = 1;
    for peers in [2..=41, 42..=81] {
        for peer in peers {
            table.say(own, &format!(r#"{{"type":"call","peer":"w{peer}"}}"#));
            let session = table.offers(peer)[0].details.session;
            table.state(peer, session, "direct", "plain", 1);
        }
        table.close(own);
        own = 1001;
        table.connect_as(own, 1, Protocol::V1, "");
        table.say(own, r#"{"type":"hello"}"#);
    }
    let ended = |it: &&Event| matches!(it, Event::SessionEnded(..));
    assert_eq!(table.events.iter().filter(ended).count(), 80 - 64);
}

#[test]
fn a_worker_that_begins_anew_ends_what_it_does_not_take_up() {
    let (mut table, _) = Table::pair();
    table.close(1);
    table.connect_as(9, 1, Protocol::V1, "");
    assert_eq!(table.ended(2), 0);
    table.say(9, r#"{"type":"hello"}"#);
    assert_eq!(table.ended(2), 1);
}

/// A relayed session whose first worker loses both its connections, the relay's first or last.
fn crashed(relay_first: bool) -> (Table, SessionId) {
    let (mut table, session) = Table::pair();
    for end in [0, 1] {
        table.relay(session, end, true);
        table.state(u64::try_from(end).unwrap() + 1, session, "relayed", "plain", 1);
    }
    if relay_first {
        table.relay(session, 0, false);
    }
    table.close(1);
    if !relay_first {
        table.relay(session, 0, false);
    }
    (table, session)
}

#[test]
fn a_relayed_session_of_a_worker_that_has_crashed_ends_soon() {
    for relay_first in [true, false] {
        let (mut table, _) = crashed(relay_first);
        table.pass(Duration::from_millis(4900));
        assert_eq!(table.ended(2), 0);
        table.pass(Duration::from_millis(200));
        assert_eq!(table.ended(2), 1);
    }
}

#[test]
fn a_worker_that_is_at_the_relay_again_has_more_time() {
    let (mut table, session) = crashed(true);
    table.pass(Duration::from_secs(2));
    table.relay(session, 0, true);
    table.pass(Duration::from_secs(27));
    assert_eq!(table.ended(2), 0);
    table.pass(Duration::from_secs(2));
    assert_eq!(table.ended(2), 1);
}

#[test]
fn a_worker_whose_relay_ended_long_before_its_signalling_has_another_way() {
    let (mut table, session) = Table::pair();
    table.state(2, session, "relayed", "plain", 1);
    table.relay(session, 0, true);
    table.relay(session, 0, false);
    table.pass(Duration::from_secs(60));
    table.close(1);
    table.pass(Duration::from_secs(29));
    assert_eq!(table.ended(2), 0);
}

#[test]
fn a_direct_session_does_not_need_the_relay_unless_its_path_is_in_doubt() {
    for (is_suspect, ended) in [(false, 0), (true, 1)] {
        let (mut table, session) = Table::pair();
        for number in [1, 2] {
            table.state(number, session, "direct", "plain", 1);
        }
        table.relay(session, 0, true);
        table.relay(session, 0, false);
        table.close(1);
        if is_suspect {
            table.state(2, session, "repairing", "plain", 1);
        }
        table.pass(Duration::from_secs(6));
        assert_eq!(table.ended(2), ended);
    }
}

#[test]
fn a_proof_of_address_is_checked() {
    let endpoint: SocketAddr = "198.51.100.9:4000".parse().unwrap();
    let proof_in = |expires: u64, address: SocketAddr, forged: bool| {
        let mut table = Table::new();
        table.v1(&[1, 2], "");
        let nonce: ProofNonce = table.welcome(1).proof_nonce.parse().unwrap();
        let key = if forged { ProofKey::new([8; 32]) } else { key() };
        let proof = key.prove(nonce, address, expires);
        let (ip, port) = (address.ip(), address.port());
        table.say(
            1,
            &format!(
                r#"{{"type":"address_proof","udp_ip":"{ip}","udp_port":{port},"proof":"{proof}"}}"#
            ),
        );
        table.say(1, r#"{"type":"update_udp_endpoint","udp_ip":"198.51.100.9","udp_port":4000}"#);
        table.report(2);
        table.offers(2)[0].details.address_proof
    };
    assert_eq!(proof_in(UNIX_S + 60, endpoint, false), AddressProof::Stun);
    assert_eq!(proof_in(UNIX_S - 1, endpoint, false), AddressProof::None, "expired");
    assert_eq!(proof_in(UNIX_S + 60, endpoint, true), AddressProof::None, "forged");
    let elsewhere = "198.51.100.8:4000".parse().unwrap();
    assert_eq!(proof_in(UNIX_S + 60, elsewhere, false), AddressProof::None, "of another address");
}

/// Docker's userland proxy puts its own address in the place of everybody's.
#[test]
fn a_private_address_that_the_own_stun_server_has_seen_is_not_blamed_on_a_setting() {
    let mut table = Table::new();
    table.v1(&[1], "");
    let address: SocketAddr = "172.17.0.1:4000".parse().unwrap();
    let nonce: ProofNonce = table.welcome(1).proof_nonce.parse().unwrap();
    let proof = key().prove(nonce, address, UNIX_S + 60);
    let at = format!(r#""udp_ip":"{}","udp_port":{}"#, address.ip(), address.port());
    let report = format!(r#"{{"type":"update_udp_endpoint",{at}}}"#);
    table.say(1, &report);
    assert!(table.frames[&1].last().unwrap().contains("--allow-private"));
    table.say(1, &format!(r#"{{"type":"address_proof",{at},"proof":"{proof}"}}"#));
    table.say(1, &report);
    let told = table.frames[&1].last().unwrap();
    assert!(told.contains("own STUN server") && !told.contains("--allow-private"), "{told}");
}

#[test]
fn a_flood_of_messages_is_ignored() {
    let (mut table, _) = Table::pair();
    let before = table.frames[&2].len();
    for generation in 10..2000 {
        table.say(
            1,
            &format!(r#"{{"type":"candidates","generation":{generation},"candidates":[]}}"#),
        );
    }
    assert!(table.frames[&2].len() - before <= 60);
}

#[test]
fn refused_reports_are_counted_so_that_a_log_may_leave_them_out() {
    let mut table = Table::new();
    table.v1(&[1, 2], "");
    for number in [1, 1, 2] {
        table.say(number, r#"{"type":"update_udp_endpoint","udp_ip":"0.0.0.0","udp_port":1}"#);
    }
    let before = |it: &Event| match it {
        Event::ReportRefused(worker, _, _, before) => Some((worker.as_str().to_owned(), *before)),
        _ => None,
    };
    let all: Vec<(String, u32)> = table.events.iter().filter_map(before).collect();
    assert_eq!(all, [("w1".into(), 0), ("w1".into(), 1), ("w2".into(), 0)]);
}

#[test]
fn nothing_is_left_of_those_who_have_gone() {
    let mut table = Table::new();
    for number in 1..=40 {
        table.connect(number, Protocol::V1, if number % 2 == 0 { "m" } else { "" });
        if number % 2 == 0 {
            table.say(number, r#"{"type":"hello","mode":"mesh"}"#);
        }
        table.report(number);
    }
    let direct: Vec<(u64, SessionId)> = (1..=40)
        .flat_map(|it| table.offers(it).into_iter().map(move |o| (it, o.details.session)))
        .collect();
    for (number, session) in direct {
        table.state(number, session, "direct", "plain", 1);
    }
    for number in 1..=40 {
        table.close(number);
    }
    table.frames.clear();
    table.pass(Duration::from_secs(60));
    assert_eq!(table.machine.workers().count(), 0);
    assert_eq!(table.machine.ready().count(), 0);
    assert_eq!(table.machine.poll_timeout(), None, "nothing is waited for");
    let started = table.events.iter().filter(|it| matches!(it, Event::SessionStarted(..))).count();
    let ended = table.events.iter().filter(|it| matches!(it, Event::SessionEnded(..))).count();
    assert!(started > 100 && started == ended, "{started} {ended}");
}

#[test]
fn an_event_tells_the_room_the_session_the_classes_and_all_that_a_report_says() {
    let mut table = Table::new();
    table.v1(&[1, 2], "tea");
    table.say(1, r#"{"type":"nat_profile","profile":{"mapping":"endpoint_independent"}}"#);
    let hard = r#"{"mapping":"address_dependent","allocation":{"kind":"random"}}"#;
    table.say(2, &format!(r#"{{"type":"nat_profile","profile":{hard}}}"#));
    table.report(1);
    table.report(2);
    let session = table.offers(1)[0].details.session;
    table.say(
        1,
        &format!(
            r#"{{"type":"link_state","session":"{session}","state":"direct","strategy":"plain","number":1,
            "reason":"r","rtt_ms":20,"elapsed_ms":300,"probes":7}}"#
        ),
    );
    table.say(2, &format!(r#"{{"type":"leave","session":"{session}"}}"#));
    let of_session = table.told.iter().filter(|told| told.session.is_some());
    let of_session: Vec<_> = of_session.collect();
    let codes: Vec<_> = of_session.iter().map(|told| told.event.code()).collect();
    assert_eq!(codes[0].0, "session_started");
    assert_eq!(codes[1..], [("link_state", Some("direct")), ("session_ended", Some("peer_left"))]);
    for told in &of_session {
        assert_eq!(told.room.as_ref().unwrap().name.as_str(), "tea");
        assert_eq!(told.session, Some((session, [NatClass::Easy, NatClass::HardRandom])));
    }
    let Event::LinkState(_, report) = &of_session[1].event else { panic!("{of_session:?}") };
    assert_eq!((report.rtt_ms, report.elapsed_ms, report.probes), (Some(20), 300, 7));
}
