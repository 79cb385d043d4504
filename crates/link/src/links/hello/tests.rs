//! Two real connections over loopback, and what each side makes of the other.

use std::time::Duration;

use super::*;
use crate::testing::{Ends, connected};

const SESSION: SessionId = SessionId(7);
const NO_PROOF: &str = "what should begin the proof of the room's secret does not";

type Outcome = Result<(), LinkError>;

fn terms(words: Option<&str>) -> Terms {
    Terms::new(SESSION, words.map(RoomSecret::new), Guesses::default())
}

/// The only connection of a session.
async fn connect(connection: &noq::Connection, terms: &Terms) -> Outcome {
    super::connect(connection, terms, &turn()).await.map(drop)
}

/// What the side that connects, and the one that accepts, come to.
async fn outcome(words: [Option<&str>; 2]) -> [Outcome; 2] {
    let Ends { connections: [first, second], sockets, .. } = connected().await;
    let [connecting, accepting] = words.map(terms);
    let outcome = tokio::join!(connect(&first, &connecting), accept(&second, &accepting));
    drop(sockets);
    outcome.into()
}

/// What the side that accepts makes of these bytes. All of the stream where `ends`.
async fn accepted(bytes: &[u8], ends: bool) -> Outcome {
    let Ends { connections: [peer, own], sockets: _sockets, .. } = connected().await;
    let (mut send, _recv) = peer.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    if ends {
        send.finish().unwrap();
    }
    accept(&own, &terms(Some("a b"))).await
}

/// What the side that connects makes of these bytes as the answer.
async fn answered(bytes: &[u8]) -> Outcome {
    let Ends { connections: [own, peer], sockets: _sockets, .. } = connected().await;
    let terms = terms(Some("a b"));
    let answer = async {
        let (mut send, recv) = peer.accept_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        (send, recv)
    };
    tokio::join!(connect(&own, &terms), answer).0
}

fn first_message(role: Role, words: &str) -> Vec<u8> {
    Proof::begin(&RoomSecret::new(words), role).1
}

fn hello(more: &[u8]) -> Vec<u8> {
    [&[VERSION, HAS_SECRET][..], more].concat()
}

/// Whether it is an error of the protocol, rather than a wrong guess.
fn is_protocol(outcome: &Outcome) -> bool {
    matches!(outcome, Err(LinkError::Protocol(_)))
}

#[tokio::test]
async fn the_same_secret_or_none_at_all_makes_a_link() {
    assert_eq!(outcome([Some("a b"), Some(" A B")]).await, [Ok(()), Ok(())]);
    assert_eq!(outcome([None, None]).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn a_wrong_secret_is_known_to_both() {
    let wrong = [Err(LinkError::WrongSecret), Err(LinkError::WrongSecret)];
    assert_eq!(outcome([Some("a b"), Some("a c")]).await, wrong);
}

#[tokio::test]
async fn a_secret_that_the_accepting_side_lacks_is_missed_by_both() {
    let missing = [Err(REFUSED_HERE), Err(REFUSED_THERE)];
    assert_eq!(outcome([Some("a b"), None]).await, missing);
}

#[tokio::test]
async fn a_secret_that_the_connecting_side_lacks_ends_the_link_that_it_has() {
    let Ends { connections: [first, second], sockets: _sockets, .. } = connected().await;
    assert_eq!(connect(&first, &terms(None)).await, Ok(()));
    assert_eq!(accept(&second, &terms(Some("a b"))).await, Err(REFUSED_HERE));
    assert_eq!(LinkError::from_connection(&first.closed().await), REFUSED_THERE);
}

#[tokio::test]
async fn another_session_is_a_wrong_secret() {
    let Ends { connections: [first, second], sockets: _sockets, .. } = connected().await;
    let other = Terms::new(SessionId(8), Some(RoomSecret::new("a b")), Guesses::default());
    let own = terms(Some("a b"));
    let (first, second) = tokio::join!(connect(&first, &own), accept(&second, &other));
    assert_eq!([first, second], [Err(LinkError::WrongSecret), Err(LinkError::WrongSecret)]);
}

async fn pass_on(mut from: noq::RecvStream, mut to: noq::SendStream) {
    let mut bytes = [0; 256];
    while let Ok(Some(length)) = from.read(&mut bytes).await {
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
    let _unless_closed = to.finish();
}

#[tokio::test]
async fn who_stands_between_two_connections_and_passes_all_on_is_seen_by_both() {
    let Ends { connections: [first, near], sockets: _first, .. } = connected().await;
    let Ends { connections: [far, second], sockets: _second, .. } = connected().await;
    let middle = async {
        let (to_first, from_first) = near.accept_bi().await.unwrap();
        let (to_second, from_second) = far.open_bi().await.unwrap();
        let closed = async {
            if let noq::ConnectionError::ApplicationClosed(close) = near.closed().await {
                far.close(close.error_code, &close.reason);
            }
        };
        tokio::join!(pass_on(from_first, to_second), pass_on(from_second, to_first), closed);
        std::future::pending().await
    };
    let own = [(); 2].map(|()| terms(Some("a b")));
    let outcomes = tokio::select! {
        outcomes = async { tokio::join!(connect(&first, &own[0]), accept(&second, &own[1])) } => outcomes,
        () = middle => panic!("it stays"),
    };
    assert_eq!(outcomes, (Err(LinkError::WrongSecret), Err(LinkError::WrongSecret)));
}

#[tokio::test]
async fn a_proof_that_comes_back_is_a_wrong_secret() {
    let Ends { connections: [peer, own], sockets: _sockets, .. } = connected().await;
    let reflect = async {
        let (mut send, mut recv) = peer.open_bi().await.unwrap();
        let message = first_message(Role::Connecting, "a b");
        send.write_all(&hello(&message)).await.unwrap();
        let mut answer = [0; MESSAGE_BYTES + PROOF_BYTES];
        recv.read_exact(&mut answer).await.unwrap();
        send.write_all(&answer[MESSAGE_BYTES..]).await.unwrap();
        send.finish().unwrap();
        peer.closed().await
    };
    let own_terms = terms(Some("a b"));
    let (outcome, closed) = tokio::join!(accept(&own, &own_terms), reflect);
    assert_eq!(outcome, Err(LinkError::WrongSecret));
    assert_eq!(LinkError::from_connection(&closed), LinkError::WrongSecret);
}

#[tokio::test]
async fn a_first_message_that_comes_back_is_refused() {
    let own = first_message(Role::Connecting, "a b");
    let outcome = answered(&[&own, &[0; PROOF_BYTES][..]].concat()).await;
    assert_eq!(outcome, Err(protocol(NO_PROOF)));
    let accepting = first_message(Role::Accepting, "a b");
    assert_eq!(accepted(&hello(&accepting), false).await, Err(protocol(NO_PROOF)));
}

#[tokio::test]
async fn what_is_too_short_too_long_or_garbage_is_refused_by_the_accepting_side() {
    let message = first_message(Role::Connecting, "a b");
    for short in [&[][..], &[VERSION], &hello(&[]), &hello(&message[..MESSAGE_BYTES - 1])] {
        assert_eq!(accepted(short, true).await, Err(protocol("the first stream ended early")));
    }
    let outcome = accepted(&hello(&[&message, &[0; PROOF_BYTES - 1][..]].concat()), true).await;
    assert_eq!(outcome, Err(protocol("the first stream ended early")));
    let long = hello(&[&message, &[0; PROOF_BYTES + 1][..]].concat());
    for ends in [true, false] {
        let outcome = accepted(&long, ends).await;
        assert_eq!(outcome, Err(protocol("the first stream goes on after the proof")));
    }
    assert!(is_protocol(&accepted(&[0xff; 4096], true).await));

    assert_eq!(accepted(&hello(&[0xff; 4096]), true).await, Err(protocol(NO_PROOF)));
    assert!(is_protocol(&accepted(&[VERSION + 1, HAS_SECRET], true).await));
}

#[tokio::test]
async fn what_is_too_short_too_long_or_garbage_is_refused_by_the_connecting_side() {
    let message = first_message(Role::Accepting, "a b");
    for short in [&[][..], &message[..MESSAGE_BYTES - 1], &message] {
        assert_eq!(answered(short).await, Err(protocol("the first stream ended early")));
    }
    let long = [&message, &[0; PROOF_BYTES + 1][..]].concat();
    assert_eq!(answered(&long).await, Err(protocol("the first stream goes on after the proof")));
    assert_eq!(answered(&[0xff; 4096]).await, Err(protocol(NO_PROOF)));
    let guess = [&message, &[0; PROOF_BYTES][..]].concat();
    assert_eq!(answered(&guess).await, Err(LinkError::WrongSecret));
}

/// The route of one may be cut in the middle of the proof, and the turn would be its own until that has timed out.
#[tokio::test]
async fn a_connection_whose_peer_is_silent_holds_up_no_other() {
    let Ends { connections: [cut, silent], sockets: _first, .. } = connected().await;
    let Ends { connections: [own, peer], sockets: _second, .. } = connected().await;
    let ([own_terms, peer_terms], turn) = ([(); 2].map(|()| terms(Some("a b"))), turn());
    let held_up = super::connect(&cut, &own_terms, &turn);
    tokio::pin!(held_up);
    let begun = async {
        let (send, mut recv) = silent.accept_bi().await.unwrap();
        recv.read_exact(&mut [0; 2 + MESSAGE_BYTES]).await.unwrap();
        (send, recv)
    };
    let _open = tokio::select! {
        open = begun => open,
        outcome = &mut held_up => panic!("nobody has answered: {outcome:?}"),
    };
    let connected = async { super::connect(&own, &own_terms, &turn).await.map(drop) };
    let both = async { tokio::join!(connected, accept(&peer, &peer_terms)) };
    tokio::select! {
        outcome = both => assert_eq!(outcome, (Ok(()), Ok(()))),
        outcome = &mut held_up => panic!("nobody has answered: {outcome:?}"),
    }
    assert_eq!(turn.available_permits(), 0, "one alone is the link");
}

/// Time stands still until everybody waits: what goes through the kernel has to have arrived.
async fn settle_and_pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::pause();
}

#[tokio::test]
async fn silence_ends_in_time() {
    let Ends { connections: [first, second], sockets: _sockets, .. } = connected().await;
    settle_and_pause().await;
    let began = tokio::time::Instant::now();
    let terms = terms(Some("a b"));
    assert!(is_protocol(&accept(&second, &terms).await));
    assert!(is_protocol(&connect(&first, &terms).await));
    let took = began.elapsed();
    assert!(took >= 2 * WITHIN && took < 3 * WITHIN, "{took:?}");
}

#[tokio::test]
async fn a_peer_that_goes_silent_after_it_has_seen_the_proof_ends_in_time() {
    let Ends { connections: [peer, own], sockets: _sockets, .. } = connected().await;
    let (mut send, mut recv) = peer.open_bi().await.unwrap();
    send.write_all(&hello(&first_message(Role::Connecting, "a b"))).await.unwrap();
    let own_terms = terms(Some("a b"));
    let silent = async {
        let mut answer = [0; MESSAGE_BYTES + PROOF_BYTES];
        recv.read_exact(&mut answer).await.unwrap();
        settle_and_pause().await;
    };
    let (outcome, ()) = tokio::join!(accept(&own, &own_terms), silent);
    assert_eq!(outcome, Err(protocol("nothing came on the first stream")));
}

#[tokio::test]
async fn a_peer_that_goes_away_with_each_proof_has_few_guesses() {
    let own_terms = terms(Some("a b"));
    assert!(!own_terms.was_guessed());
    for guess in 0..=SESSION_GUESSES_MAX {
        let Ends { connections: [peer, own], sockets: _sockets, .. } = connected().await;
        let (mut send, mut recv) = peer.open_bi().await.unwrap();
        send.write_all(&hello(&first_message(Role::Connecting, "a guess"))).await.unwrap();
        let look = async {
            let mut answer = [0; MESSAGE_BYTES + PROOF_BYTES];
            let seen = recv.read_exact(&mut answer).await.is_ok();
            peer.close(0_u32.into(), b"");
            seen
        };
        let (outcome, seen) = tokio::join!(accept(&own, &own_terms), look);
        assert_eq!(seen, guess < SESSION_GUESSES_MAX, "{guess}");
        let is_final = outcome == Err(LinkError::WrongSecret);
        assert_eq!(is_final, guess == SESSION_GUESSES_MAX, "{guess}: {outcome:?}");
        assert!(own_terms.was_guessed(), "whoever goes away without a word has made a guess, too");
    }
}

#[tokio::test]
async fn all_sessions_have_a_bounded_number_of_guesses_together() {
    let all = Guesses::new(Some(2));
    let terms =
        |number, words| Terms::new(SessionId(number), Some(RoomSecret::new(words)), all.clone());
    // Its peer knows the words, and costs nothing.
    let Ends { connections: [first, second], sockets: _sockets, .. } = connected().await;
    let (own, peer) = (
        terms(1, "a b"),
        Terms::new(SessionId(1), Some(RoomSecret::new("a b")), Guesses::default()),
    );
    let both = tokio::join!(connect(&first, &peer), accept(&second, &own));
    assert_eq!(both, (Ok(()), Ok(())));
    own.was_right();
    let own: Vec<Terms> = (2..5).map(|number| terms(number, "a b")).collect();
    assert_eq!(own.iter().map(Terms::allow_guess).collect::<Vec<_>>(), [true, true, false]);
}

#[tokio::test]
async fn whoever_knows_the_words_and_closes_at_once_has_made_no_guess() {
    for _ in 0..12 {
        let Ends { connections: [first, second], sockets: _sockets, .. } = connected().await;
        let [connecting, accepting] = [(); 2].map(|()| terms(Some("a b")));
        let leaving = async {
            let last_word = super::connect(&first, &connecting, &turn()).await.unwrap();
            last_word.close(&first, &"no folder".into());
        };
        let (outcome, ()) = tokio::join!(accept(&second, &accepting), leaving);
        assert_eq!(outcome, Err(LinkError::ClosedByPeer("no folder".into())));
        assert!(!accepting.was_guessed());
    }
}

#[tokio::test]
async fn whoever_closes_with_what_is_no_proof_has_made_a_guess() {
    for reason in [&[0; PROOF_BYTES][..], b"short", b""] {
        let Ends { connections: [peer, own], sockets: _sockets, .. } = connected().await;
        let looking = async {
            let (mut send, mut recv) = peer.open_bi().await.unwrap();
            let message = first_message(Role::Connecting, "a b");
            send.write_all(&hello(&message)).await.unwrap();
            recv.read_exact(&mut [0; MESSAGE_BYTES + PROOF_BYTES]).await.unwrap();
            peer.close(CloseCode::Proved.into(), reason);
        };
        let own_terms = terms(Some("a b"));
        let (outcome, ()) = tokio::join!(accept(&own, &own_terms), looking);
        assert!(matches!(outcome, Err(LinkError::ClosedByPeer(_))), "{outcome:?}");
        assert!(own_terms.was_guessed());
    }
}
