use super::*;
use crate::relay::RelayAccess;

const SESSION: SessionId = SessionId(7);
const NONCE: ProofNonce = ProofNonce([9; 16]);
const UNIX: u64 = 1_800_000_000;

fn key() -> RelayKey {
    RelayKey::new([7; 32])
}

fn cookies() -> ProofKey {
    ProofKey::new([8; 32])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A BIND of one side, from that address.
fn bind(side: usize, from: &str) -> Bind {
    let access = RelayAccess { key: key(), url: None, udp: Vec::new() };
    let tokens = access.tokens(SESSION, Duration::from_secs(UNIX), None).unwrap();
    let cookie = cookies().prove(NONCE, address(from), UNIX + 60);
    Bind::new(NONCE, cookie, SESSION, &tokens[side])
}

#[test]
fn every_message_is_read_as_it_was_written() {
    let bind = bind(0, "192.0.2.1:9");
    let (channel, echo) = (Channel(0x00ab_cdef), bind.echo());
    let ping = Ping { channel, number: 5, proved: 1228, padding: &[0; 7] };
    for message in [
        ToRelay::Data(channel, b"x"),
        ToRelay::Hello(NONCE),
        ToRelay::Bind(bind.clone()),
        ToRelay::Ping(ping),
        ToRelay::Close(channel, echo),
    ] {
        let bytes = message.to_bytes();
        assert!(is_of_relay(&bytes));
        assert_eq!(ToRelay::parse(&bytes), Some(message));
    }
    for message in [
        FromRelay::Data(channel, b"x"),
        FromRelay::Challenge(echo, bind.cookie),
        FromRelay::Bound(channel, echo),
        FromRelay::Pong(ping),
        FromRelay::Unknown(channel),
        FromRelay::Refused(Reason::Quota, echo),
        FromRelay::Closed(channel, echo, Reason::ShuttingDown),
    ] {
        let bytes = message.to_bytes();
        assert!(is_of_relay(&bytes));
        assert_eq!(FromRelay::parse(&bytes), Some(message));
    }
    let newer = [CLOSED, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 200];
    let read = FromRelay::parse(&newer);
    assert_eq!(read, Some(FromRelay::Closed(Channel(1), [1, 2, 3, 4, 5, 6, 7, 8], Reason::Other)));
}

#[test]
fn what_is_cut_or_too_long_is_none() {
    let bind = ToRelay::Bind(bind(0, "192.0.2.1:9")).to_bytes();
    let hello = ToRelay::Hello(NONCE).to_bytes();
    for whole in [bind, hello] {
        for length in 0..whole.len() {
            assert_eq!(ToRelay::parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(ToRelay::parse(&[&whole[..], &[0]].concat()), None);
    }
    for bytes in [&[][..], &[DATA], &[DATA, 0, 0, 1], &[PING, 0, 0, 1, 0], &[0xbf, 0, 0, 0, 1]] {
        assert_eq!((ToRelay::parse(bytes), FromRelay::parse(bytes)), (None, None), "{bytes:?}");
    }
}

#[test]
fn no_answer_is_longer_than_its_question() {
    let bind = bind(0, "192.0.2.1:9");
    let (channel, echo, cookie) = (Channel(1), bind.echo(), bind.cookie);
    let hello = ToRelay::Hello(NONCE).to_bytes().len();
    assert!(FromRelay::Challenge(echo, cookie).to_bytes().len() <= hello);
    let question = ToRelay::Bind(bind).to_bytes().len();
    for answer in [
        FromRelay::Bound(channel, echo),
        FromRelay::Refused(Reason::Full, echo),
        FromRelay::Closed(channel, echo, Reason::Full),
    ] {
        assert!(answer.to_bytes().len() <= question, "{answer:?}");
    }
    let shortest = ToRelay::Data(channel, b"x").to_bytes().len();
    assert!(FromRelay::Unknown(channel).to_bytes().len() <= shortest);
}

#[test]
fn a_bind_says_whose_it_is_and_from_where() {
    for side in [0, 1] {
        assert_eq!(bind(side, "192.0.2.1:9").side(&key(), UNIX), Ok((side, None)));
    }
    let bind = bind(0, "192.0.2.1:9");
    let came_from = |from: &str, at| bind.came_from(address(from), &cookies(), at);
    assert!(came_from("192.0.2.1:9", UNIX) && !came_from("192.0.2.1:10", UNIX));
    assert!(!came_from("192.0.2.1:9", UNIX + 61), "a cookie ends");
    assert!(!bind.came_from(address("192.0.2.1:9"), &ProofKey::new([1; 32]), UNIX));
    let other = RelayKey::new([1; 32]);
    assert_eq!(bind.side(&other, UNIX), Err(RelayTokenRefusal::NotOurs));
    let late = UNIX + 25 * 3600;
    assert_eq!(bind.side(&key(), late), Err(RelayTokenRefusal::Expired { ago_s: 3600 }));
}

#[test]
fn a_bind_by_a_bounded_token_has_its_bound() {
    let token = key().bounded_token(SESSION, 1, UNIX + 3600, 1 << 30).unwrap();
    let cookie = cookies().prove(NONCE, address("192.0.2.1:9"), UNIX + 60);
    let bind = Bind::new(NONCE, cookie, SESSION, &token);
    assert_eq!(bind.side(&key(), UNIX), Ok((1, Some(1 << 30))));
}

#[test]
fn whoever_changes_one_bit_of_a_bind_has_none() {
    let from = address("192.0.2.1:9");
    let bytes = ToRelay::Bind(bind(1, "192.0.2.1:9")).to_bytes();
    for bit in HEADER_BYTES * 8..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Some(ToRelay::Bind(changed)) = ToRelay::parse(&bytes) else { panic!("a bind") };
        let is_good = changed.came_from(from, &cookies(), UNIX) && changed.side(&key(), 0).is_ok();
        assert!(!is_good, "bit {bit}");
    }
}

#[test]
fn the_token_itself_is_in_no_bind() {
    let access = RelayAccess { key: key(), url: None, udp: Vec::new() };
    let [token, _] = access.tokens(SESSION, Duration::from_secs(UNIX), None).unwrap();
    let bytes = ToRelay::Bind(bind(0, "192.0.2.1:9")).to_bytes();
    let secret = &token.bytes()[4..];
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
}

#[test]
fn a_ping_is_as_long_as_the_datagram_that_it_tries() {
    for payload in [PAYLOAD_BYTES_SAFE, PAYLOAD_BYTES_MAX] {
        let padding = vec![0; Ping::padding_for(payload)];
        let ping = Ping { channel: Channel(1), number: 1, proved: 0, padding: &padding };
        assert_eq!(ping.payload_bytes(), payload);
        let mut bytes = ToRelay::Ping(ping).to_bytes();
        assert_eq!(bytes.len(), HEADER_BYTES + payload);
        assert!(answer_in_place(&mut bytes) && !answer_in_place(&mut bytes.clone()));
        assert_eq!(FromRelay::parse(&bytes), Some(FromRelay::Pong(ping)));
    }
}
