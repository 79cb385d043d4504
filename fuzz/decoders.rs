//! Every decoder with what must hold of whatever it makes of any input. The fuzz targets and the
//! replay of their corpus (`crates/wire/tests/corpus.rs`) run the same code.

use std::net::SocketAddr;

use holepunch_wire::candidate::{CANDIDATES_MAX, Candidate};
use holepunch_wire::check::{
    Check, CheckKey, CheckRequest, ParsedCheck, encode_role_conflict, encode_success,
};
use holepunch_wire::credentials::Ufrag;
use holepunch_wire::probe::Probe;
use holepunch_wire::relay::udp::{
    FromRelay, ToRelay, answer_in_place, data_channel, data_header, is_of_relay,
};
use holepunch_wire::relay::{RELAY_FRAME_BYTES_MAX, RelayFrame, datagrams};
use holepunch_wire::signal::{FromServer, FromWorker, WorkerMessage};
use holepunch_wire::stun::proof::ProofKey;
use holepunch_wire::stun::{
    BindingOutcome, BindingRequest, BindingResponse, BindingSuccess, NotAnswered,
};

/// One decoder with its properties; it panics where one does not hold.
pub(crate) type Decoder = fn(&[u8]);

/// All of them, by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 8] = [
    ("signal_from_worker", signal_from_worker),
    ("signal_from_server", signal_from_server),
    ("probe", probe),
    ("stun_request", stun_request),
    ("stun_response", stun_response),
    ("check", check),
    ("relay_frame", relay_frame),
    ("relay_datagram", relay_datagram),
];

/// The password of the messages in the corpus that verify.
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
/// An answer is at most this many times as long as the request: a server is no amplifier.
const AMPLIFICATION_MAX: usize = 5;

/// Runs the decoder of one target.
pub(crate) fn decode(target: &str, input: &[u8]) {
    let decoder = DECODERS.iter().find(|(name, _)| *name == target);
    let (_, decoder) = decoder.expect("a target that is in the table");
    decoder(input);
}

fn signal_from_worker(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match FromWorker::parse(text) {
        Ok(FromWorker::RegisterPublicIp(Some(ip))) => assert_eq!(ip, ip.to_canonical()),
        Ok(FromWorker::UpdateUdpEndpoint(Ok(endpoint))) => assert_canonical(endpoint),
        Ok(FromWorker::V1(Ok(message))) => {
            let again = WorkerMessage::V1(message.clone()).encode();
            let again = FromWorker::parse(&again).expect("a message of ours is well-formed");
            assert!(matches!(again, FromWorker::V1(Ok(again)) if again == message));
        }
        Ok(message) => assert!(!format!("{message:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn signal_from_server(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match FromServer::parse(text) {
        Ok(FromServer::Offer(Ok(offer))) => assert_canonical(offer.endpoint),
        Ok(FromServer::SessionOffer(Ok(offer))) => {
            offer.endpoint.into_iter().for_each(assert_canonical);
            let candidates = &offer.details.candidates;
            assert!(candidates.len() <= CANDIDATES_MAX);
            candidates.iter().map(Candidate::address).for_each(assert_canonical);
        }
        Ok(FromServer::V1(Ok(message))) => {
            let again = FromServer::parse(&message.encode());
            assert_eq!(again, Ok(FromServer::V1(Ok(message))));
        }
        Ok(message) => assert!(!format!("{message:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let baseline = FromServer::parse_baseline(text);
    assert!(!matches!(baseline, Ok(FromServer::V1(_) | FromServer::SessionOffer(_))));
}

fn probe(input: &[u8]) {
    match Probe::parse(input) {
        Ok(Probe::Ping(ping)) => {
            let answer = ping.answer("me");
            assert!(answer.len() <= input.len() + ping.from.len() + 2 + 30);
            assert!(matches!(Probe::parse(&answer), Ok(Probe::Pong(_))));
        }
        Ok(Probe::Pong(pong)) => {
            let number = pong.acknowledged("peer", "me");
            assert!(number.is_none() || input.starts_with(b"P2P_PONG_FROM_peer_TO_me_"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn stun_request(input: &[u8]) {
    let request = match BindingRequest::parse(input) {
        Ok(request) => request,
        Err(NotAnswered::Malformed | NotAnswered::NotARequest) => return,
    };
    let mapped = SocketAddr::from(([203, 0, 113, 5], 4000));
    let key = ProofKey::new([1; 32]);
    let success = BindingSuccess {
        mapped,
        origin: SocketAddr::from(([192, 0, 2, 1], 3478)),
        other: Some(SocketAddr::from(([192, 0, 2, 2], 3479))),
        proof: request.proof_nonce().map(|nonce| key.prove(nonce, mapped, 100)),
    };
    let answer = request.success(&success);
    assert!(answer.len() <= input.len() * AMPLIFICATION_MAX);
    let refusal = request.unknown_attributes(&request.unknown_required(false));
    assert_eq!(refusal.is_none(), request.is_classic());
    let Some(refusal) = refusal else { return };
    assert!(refusal.len() <= input.len() * AMPLIFICATION_MAX);
    let read = BindingResponse::parse(&answer).expect("an answer of ours is well-formed");
    assert_eq!(read.outcome, BindingOutcome::Mapped(mapped));
    assert_eq!((Some(success.origin), success.other), (read.origin, read.other));
    assert_eq!(success.proof, read.proof);
    let read = BindingResponse::parse(&refusal).expect("an answer of ours is well-formed");
    assert_eq!(read.outcome, BindingOutcome::Refused { code: 420 });
}

fn stun_response(input: &[u8]) {
    let Ok(response) = BindingResponse::parse(input) else { return };
    match response.outcome {
        BindingOutcome::Mapped(address) => assert_canonical(address),
        BindingOutcome::Refused { code } => assert!((300..700).contains(&code), "code {code}"),
        BindingOutcome::NoAddress => {}
    }
    response.other.into_iter().chain(response.origin).for_each(assert_canonical);
    if let Some(proof) = response.proof {
        assert_eq!(proof.to_string().parse(), Ok(proof));
    }
}

fn check(input: &[u8]) {
    let Ok(parsed) = ParsedCheck::parse(input) else { return };
    let key = CheckKey::new(PASSWORD);
    assert!(parsed.has_integrity() || !parsed.verify(&key));
    assert!(!(parsed.verify(&key) && parsed.verify(&CheckKey::new("another"))));
    let again = match parsed.check {
        Check::Request { username, priority, role, tie_breaker, use_candidate } => {
            let ufrags = (Ufrag::new(username.receiver()), Ufrag::new(username.sender()));
            let (Ok(remote), Ok(local)) = ufrags else { return };
            let request = CheckRequest {
                transaction: parsed.transaction,
                remote_ufrag: &remote,
                local_ufrag: &local,
                priority,
                role,
                tie_breaker,
                use_candidate,
            };
            request.encode(&key)
        }
        Check::Success { mapped } => {
            assert_canonical(mapped);
            encode_success(parsed.transaction, mapped, &key)
        }
        Check::Error { code: 487 } => encode_role_conflict(parsed.transaction, &key),
        Check::Error { code } => return assert!((300..700).contains(&code), "code {code}"),
        Check::Indication => return,
    };
    let again = ParsedCheck::parse(&again).expect("a check of ours is well-formed");
    assert_eq!((again.transaction, again.check), (parsed.transaction, parsed.check));
    assert!(again.verify(&key));
}

fn assert_canonical(address: SocketAddr) {
    assert_eq!(address.ip(), address.ip().to_canonical());
}

fn relay_frame(input: &[u8]) {
    let mut again = RelayFrame::default();
    let mut is_full = false;
    for datagram in datagrams(input) {
        assert!(!datagram.is_empty());
        is_full = is_full || !again.push(datagram);
    }
    // What is read is a beginning of the frame, as whoever wrote it has put it together.
    assert!(!is_full || input.len() > RELAY_FRAME_BYTES_MAX);
    assert!(is_full || input.starts_with(&again.into_bytes()));
}

/// The relay's datagrams, as the relay reads them and as a worker does.
fn relay_datagram(input: &[u8]) {
    if let Some(message) = ToRelay::parse(input) {
        assert!(is_of_relay(input));
        let bytes = message.to_bytes();
        assert_eq!(ToRelay::parse(&bytes), Some(message.clone()));
        assert!(bytes.len() == input.len());
        if let ToRelay::Ping(ping) = message {
            let mut answer = input.to_vec();
            assert!(answer_in_place(&mut answer));
            assert_eq!(FromRelay::parse(&answer), Some(FromRelay::Pong(ping)));
        }
    }
    if let Some(message) = FromRelay::parse(input) {
        assert!(is_of_relay(input));
        assert_eq!(FromRelay::parse(&message.to_bytes()), Some(message));
    }
    let channel = data_channel(input);
    let is_data = matches!(ToRelay::parse(input), Some(ToRelay::Data(..)));
    assert_eq!(channel.is_some(), is_data);
    assert!(channel.is_none_or(|channel| input.starts_with(&data_header(channel))));
}
