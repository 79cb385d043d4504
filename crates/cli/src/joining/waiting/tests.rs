use holepunch_wire::reason::EndReason;
use holepunch_wire::session::SessionId;
use holepunch_worker::{Complaint, ErrorCode, FailureCode, FromServer, Signal};

use super::*;

/// An id that is made from a key.
const OF_A_KEY: &str = "0f8fad5b-d9cb-8f69-a165-70867728950e";

fn peer(id: &str) -> WorkerId {
    WorkerId::new(id).unwrap()
}

fn waiting(called: Option<&str>, has_secret: bool) -> Waiting {
    Waiting::new("host.example".to_owned(), Some("tea"), called.map(peer), has_secret, None)
}

fn lines(waiting: &mut Waiting, notice: &Notice, times: usize) -> Vec<String> {
    let heard = (0..times).map(|_| waiting.hear(notice));
    let line = |heard| if let Heard::Line(text) = heard { Some(text) } else { None };
    heard.filter_map(line).collect()
}

fn ended(id: &str, why: LinkError) -> Notice {
    Notice::LinkEnded(peer(id), SessionId(1), why)
}

#[test]
fn attempts_to_reach_the_rendezvous_are_told_more_and_more_seldom() {
    let mut waiting = waiting(None, false);
    let connecting = Notice::Signal(Signal::Connecting("ws://host.example".parse().unwrap()));
    let lost = Notice::Signal(Signal::Disconnected {
        why: "connection refused".to_owned(),
        code: FailureCode::ConnectionRefused,
        is_final: false,
        retry_in: Duration::from_millis(2300),
    });
    assert_eq!(lines(&mut waiting, &connecting, 3), ["connecting to host.example"]);
    let told = lines(&mut waiting, &lost, 100);
    assert_eq!(told.len(), 7, "{told:#?}");
    let start = "no connection to the rendezvous host.example: connection refused";
    assert_eq!(told[0], format!("{start}; next try within 3 s"));
    let again = "still no connection to the rendezvous host.example (try 64); next try within 3 s";
    assert_eq!(told[6], again, "in short");
    let because = "not yet connected to the rendezvous host.example, because connection refused";
    assert_eq!(waiting.trouble(), (Missing::Rendezvous, because.to_owned()));
    let connected = Notice::Signal(Signal::ConnectedV1);
    let room = r#"waiting for the peer in the room "tea""#;
    assert_eq!(lines(&mut waiting, &connected, 1), [room]);
    assert_eq!(waiting.trouble(), (Missing::Peer, "no peer has come".to_owned()));
    assert_eq!(lines(&mut waiting, &lost, 1), told[..1], "from the beginning");
}

#[test]
fn a_rendezvous_that_is_an_address_is_told_once_and_what_was_meant_is_told_until_it_is_reached() {
    let mut waiting = waiting(None, false).doubting(Some("https is meant"));
    waiting.rendezvous = "127.0.0.1:9".to_owned();
    let why = "127.0.0.1:9: Connection refused".to_owned();
    let lost = Notice::Signal(Signal::Disconnected {
        why,
        code: FailureCode::ConnectionRefused,
        is_final: false,
        retry_in: Duration::ZERO,
    });
    let expected = "no connection to the rendezvous 127.0.0.1:9: Connection refused";
    let told = |waiting: &mut Waiting| lines(waiting, &lost, 1)[0].clone();
    assert_eq!(told(&mut waiting), format!("{expected}; https is meant; next try within 1 s"));
    assert!(waiting.trouble().1.ends_with("because Connection refused; https is meant"));
    lines(&mut waiting, &Notice::Signal(Signal::ConnectedV1), 1);
    assert_eq!(told(&mut waiting), format!("{expected}; next try within 1 s"));
    let again = "still no connection to the rendezvous 127.0.0.1:9 (try 2); next try within 1 s";
    assert_eq!(told(&mut waiting), again, "the second time in short");
}

fn by_code(code: Code) -> Waiting {
    Waiting::new("host.example".to_owned(), None, None, true, Some(code))
}

#[test]
fn a_side_that_is_alone_with_a_code_is_told_once_what_may_be_wrong() {
    let mut waiting = by_code(Code::OtherSide);
    let connected = Notice::Signal(Signal::ConnectedV1);
    assert_eq!(waiting.is_clear_at(), None);
    waiting.hear(&connected);
    assert!(waiting.is_clear_at().is_some());
    let Heard::Line(told) = waiting.is_clear() else { panic!("nothing is told") };
    for word in ["mistyped", "used up", "expired", "ask for another one"] {
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(waiting.trouble(), (Missing::Peer, "no peer has come".to_owned()));
    waiting.hear(&connected);
    assert_eq!((waiting.is_clear_at(), waiting.is_clear()), (None, Heard::Nothing), "once");
    let mut linked = by_code(Code::OtherSide);
    linked.hear(&connected);
    linked.linked();
    assert_eq!(linked.is_clear_at(), None);
    linked.without_link();
    linked.hear(&connected);
    assert_eq!(linked.is_clear_at(), None, "a code that has brought a link is not mistyped");
    let mut own = by_code(Code::ThisSide { guesses: 0 });
    own.hear(&connected);
    assert_eq!(own.is_clear_at(), None, "the other side is not there yet");
}

#[test]
fn whoever_comes_with_a_code_that_somebody_has_come_with_is_told_that_it_is_taken() {
    let mut waiting = by_code(Code::OtherSide);
    waiting.hear(&Notice::Signal(Signal::ConnectedV1));
    let complaint = Complaint { code: Some(ErrorCode::RoomOccupied), message: String::new() };
    let occupied = Notice::Signal(Signal::Message(FromServer::Error(complaint)));
    assert_eq!(lines(&mut waiting, &occupied, 1).len(), 1);
    assert!(waiting.is_clear_at().is_some());
    let Heard::Line(told) = waiting.is_clear() else { panic!("nothing is told") };
    assert!(told.starts_with("this code is taken"), "{told}");
    assert_eq!(waiting.is_clear(), Heard::Nothing);
}

#[test]
fn wrong_codes_of_strangers_end_no_wait_for_a_peer_that_had_the_right_one() {
    let wrong = || ended("stranger", LinkError::WrongSecret);
    let mut waiting = by_code(Code::ThisSide { guesses: 0 });
    waiting.lost(Duration::from_secs(10));
    for _ in 0..20 {
        assert!(matches!(waiting.hear(&wrong()), Heard::Line(_)));
        assert_eq!(waiting.recount(&wrong()), Ok(()));
    }
    let mut first = by_code(Code::ThisSide { guesses: 0 });
    let heard = [(); 3].map(|()| matches!(first.hear(&wrong()), Heard::Hopeless(_)));
    assert_eq!(heard, [false, false, true], "before the first link three end it");
}

#[test]
fn what_is_waited_for_is_said_as_long_as_the_first_attempt_has_not_ended() {
    let mut waiting = waiting(None, false);
    let still = Some("still waiting for an answer of the rendezvous host.example".to_owned());
    assert_eq!(waiting.unanswered(), still);
    lines(&mut waiting, &Notice::Signal(Signal::ConnectedV1), 1);
    assert_eq!(waiting.unanswered(), None);
}

#[test]
fn each_side_is_told_what_was_expected_what_came_and_what_to_do() {
    let missing = LinkError::SecretMissing("");
    for (has_secret, why, words) in [
        (true, missing.clone(), ["it came without any", "give it the same words"]),
        (false, missing, ["this side has none", "give the same words here"]),
        (true, LinkError::WrongSecret, ["other words", "the same words on both sides"]),
    ] {
        let mut waiting = waiting(None, has_secret);
        let told = lines(&mut waiting, &ended("b", why), 20);
        assert_eq!(told.len(), 3, "{told:#?}");
        assert!(words.iter().all(|word| told[0].contains(word)), "{told:#?}");
        assert!(told[1].contains("again without the same --room-secret"), "in short: {told:#?}");
        assert!(told[0].ends_with("; waiting for others"), "{told:#?}");
        assert!(told[2].contains("(16 times by now)"), "{told:#?}");
    }
}

#[test]
fn a_worker_that_is_not_there_is_told_once_and_is_what_is_waited_for() {
    let mut waiting = waiting(Some("abc"), false);
    // As an older rendezvous says it.
    let error = r#"{"type":"error","message":"worker \"abc\" cannot be called: it is not registered here"}"#;
    let unknown = Notice::Signal(Signal::Message(FromServer::parse(error).unwrap()));
    let told = lines(&mut waiting, &unknown, 50);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("no worker with this id can be called at host.example"));
    assert!(told[0].ends_with("; waiting until it comes"), "{told:#?}");
    waiting.hear(&Notice::Signal(Signal::ConnectedV1));
    waiting.hear(&unknown);
    let (missing, text) = waiting.given_up();
    assert!(text.contains("no worker with this id") && missing == Missing::Link, "{text}");
}

#[test]
fn two_that_a_code_has_brought_together_are_told_nothing_of_flags_that_neither_has_given() {
    let mut waiting = waiting(Some(OF_A_KEY), false).by_keys();
    let complaint = Complaint { code: Some(ErrorCode::NotRegistered), message: String::new() };
    let unknown = Notice::Signal(Signal::Message(FromServer::Error(complaint)));
    let mut told = lines(&mut waiting, &unknown, 1);
    assert!(told[0].contains("needs another code"), "{told:#?}");
    let left = ended(OF_A_KEY, LinkError::SessionEnded(EndReason::PeerLeft, String::new()));
    told.extend(lines(&mut waiting, &left, 1));
    assert!(told.len() == 2 && told.iter().all(|line| !line.contains("--")), "{told:#?}");
}

#[test]
fn a_peer_that_was_there_and_has_not_come_back_is_gone() {
    let mut waiting = waiting(None, false);
    waiting.hear(&Notice::Signal(Signal::ConnectedV1));
    assert_eq!(waiting.given_up().1, "given up, since there is no link: no peer has come");
    waiting.lost(Duration::from_secs(10));
    let gone = "the peer is gone, and has not come back within 10 s; run both commands again to go on from here (a \
                code is a new one then)";
    assert_eq!(waiting.given_up(), (Missing::Peer, gone.to_owned()));
    let why = "connection refused".to_owned();
    let retry_in = Duration::from_secs(1);
    let code = FailureCode::ConnectionRefused;
    waiting.hear(&Notice::Signal(Signal::Disconnected { why, code, is_final: false, retry_in }));
    let (missing, text) = waiting.given_up();
    assert!(text.contains("10 s: no longer connected to the rendezvous host.example, because"));
    assert_eq!(missing, Missing::Rendezvous);
    waiting.linked();
    assert!(waiting.given_up().1.starts_with("given up"));
}

#[test]
fn a_rendezvous_that_is_not_reached_is_the_reason_whatever_else_is_missing() {
    let mut waiting = waiting(None, false);
    let connecting = Notice::Signal(Signal::Connecting("ws://host.example".parse().unwrap()));
    waiting.hear(&connecting);
    let (missing, text) = waiting.given_up();
    assert_eq!(missing.code(), "no_rendezvous");
    let silent = "not yet connected to the rendezvous host.example, which has not answered";
    assert!(text.contains(silent), "{text}");
    waiting.hear(&Notice::UdpUnavailable("the port is taken".to_owned(), Duration::ZERO));
    assert!(waiting.given_up().1.contains(silent), "{}", waiting.given_up().1);
    waiting.hear(&Notice::Signal(Signal::ConnectedV1));
    let (missing, text) = waiting.given_up();
    assert!(missing == Missing::Link && text.ends_with("the port is taken"), "{text}");
    waiting.hear(&Notice::UdpBound(([127, 0, 0, 1], 1).into()));
    assert_eq!(waiting.given_up().0.code(), "no_peer");
}

#[test]
fn a_peer_that_is_called_and_has_another_secret_is_given_up_and_a_stranger_is_not() {
    let mut waiting = waiting(Some(OF_A_KEY), true);
    for stranger in 0..10 {
        let heard = waiting.hear(&ended("stranger", LinkError::WrongSecret));
        assert!(!matches!(heard, Heard::Hopeless(_)), "{stranger}");
    }
    let heard = [(); 3].map(|()| waiting.hear(&ended(OF_A_KEY, LinkError::WrongSecret)));
    let is_hopeless = heard.each_ref().map(|heard| matches!(heard, Heard::Hopeless(_)));
    assert_eq!(is_hopeless, [false, false, true], "{heard:?}");
}

#[test]
fn whoever_has_taken_the_id_of_own_choice_that_is_called_makes_nobody_give_up() {
    for why in [LinkError::WrongSecret, LinkError::SecretMissing("")] {
        let mut waiting = waiting(Some("grandmother"), true);
        let told = lines(&mut waiting, &ended("grandmother", why), 20);
        assert_eq!(told.len(), 3, "{told:#?}");
        let says = |line: &String| line.ends_with("somebody else may have taken it");
        assert!(told.iter().all(says), "{told:#?}");
        let heard = waiting.hear(&ended("grandmother", LinkError::WrongSecret));
        assert_eq!(heard, Heard::Nothing);
    }
}

#[test]
fn an_older_rendezvous_brings_no_calls_from_elsewhere_and_both_sides_say_what_to_do() {
    let welcomed = |calls: bool| {
        let welcome = format!(
            r#"{{"type":"welcome","observed_ip":"192.0.2.1","calls_from_anywhere":{calls}}}"#
        );
        Notice::Signal(Signal::Message(FromServer::parse(&welcome).unwrap()))
    };
    let complaint = Complaint { code: Some(ErrorCode::NotRegistered), message: String::new() };
    let unknown = Notice::Signal(Signal::Message(FromServer::Error(complaint)));
    for (calls, here, there) in
        [(true, "--accept", None), (false, "--room", Some("--room calls-1"))]
    {
        let mut caller = waiting(Some("abc"), false);
        caller.hear(&welcomed(calls));
        assert!(lines(&mut caller, &unknown, 1)[0].contains(here));
        let room = RoomName::new("calls-1").unwrap();
        let mut called = waiting(None, false).for_calls(&room);
        let told = lines(&mut called, &welcomed(calls), 1);
        assert_eq!(
            told.first().map(|line| line.ends_with(there.unwrap_or_default())),
            there.map(|_| true)
        );
    }
}

#[test]
fn a_called_peer_that_leaves_before_the_link_is_told_and_anybody_else_is_not() {
    let mut waiting = waiting(Some("abc"), false);
    let left = || LinkError::SessionEnded(EndReason::PeerLeft, String::new());
    let told = lines(&mut waiting, &ended("abc", left()), 20);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].contains("before there was a link") && told[0].ends_with("; trying again"));
    assert!(lines(&mut waiting, &ended("b", left()), 20).is_empty());
}
