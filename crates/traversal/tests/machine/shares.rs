//! Sockets that come and go belong to one part of the machine each.

use holepunch_traversal::{Input, StunServer};
use holepunch_wire::check::IceRole;

use holepunch_wire::WorkerId;
use holepunch_wire::plan::{Aim, Announce, Plan, Search, Strategy};
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{SessionDetails, SessionOffer};

use crate::ms;
use crate::rig::{Rig, credentials};
use crate::world::{address, plan, search};

/// Which of the sessions, and where its peer is.
const SESSION: u8 = 1;
const PEER: &str = "203.0.113.1:5000";

fn offer(session: u8, plan: Plan) -> Box<SessionOffer> {
    let [own, peer] = credentials(session);
    Box::new(SessionOffer {
        peer: WorkerId::new("peer").unwrap(),
        endpoint: Some(address(PEER)),
        details: SessionDetails {
            session: SessionId(u64::from(session)),
            role: IceRole::Controlling,
            credentials: own,
            peer_credentials: peer,
            peer_key: None,
            relay_token: None,
            relay_url: None,
            relay_udp: Vec::new(),
            candidates: Vec::new(),
            address_proof: AddressProof::Stun,
            turn: Vec::new(),
            guest: false,
            plan,
        },
    })
}

/// A machine whose profiler has a socket of its own, with a session.
fn profiling() -> Rig {
    let mut rig = Rig::new(true, true, 1);
    let server = address("192.0.2.1:3478");
    let server = StunServer::at(server.to_string(), server);
    rig.input(Input::Resolved(Ok(vec![server])));
    let question = rig.asked[0];
    rig.answer(question, question.to, false, false);
    rig.input(Input::SessionOffer(offer(SESSION, plan(1, Strategy::Plain, None))));
    rig
}

#[test]
fn a_check_that_comes_to_a_socket_of_the_profiler_makes_no_path() {
    let mut rig = profiling();
    let socket = rig.fresh_socket(0);
    assert_ne!(socket, holepunch_traversal::SocketId::MAIN, "the profiler has one");
    let before = rig.machine.dropped().stray_stun;
    rig.check((SESSION, socket), address(PEER), IceRole::Controlled, 0, false);
    rig.wait(ms(50));
    assert!(rig.asked.iter().all(|it| it.socket != socket || it.session.is_none()));
    assert_eq!(rig.machine.dropped().stray_stun, before + 1);
}

#[test]
fn a_search_for_which_no_socket_is_left_is_accepted_at_once() {
    let mut rig = Rig::new(true, false, 1);
    let wanted = |sockets, fresh| Search {
        sockets,
        fresh,
        probes_max: 10,
        ..search(Aim::Window { first: 1000, last: 1009, centre: 1004 }, Announce::Nothing)
    };
    let searching = |sockets, fresh| plan(1, Strategy::Birthday, Some(wanted(sockets, fresh)));
    rig.input(Input::SessionOffer(offer(SESSION, searching(256, true))));
    // The first has all 256 sockets, and is linked: they stay open for some seconds.
    let check = rig.asked.iter().rev().find(|it| it.session == Some(SESSION)).copied().unwrap();
    rig.answer(check, check.to, false, false);
    rig.accepted.clear();
    let other = SESSION + 1;
    let mut second = offer(other, searching(2, false));
    second.endpoint = Some(address("203.0.113.2:5000"));
    rig.input(Input::SessionOffer(second));
    assert_eq!(rig.accepted, [(SessionId(u64::from(other)), 1)], "with the own socket alone");
}
