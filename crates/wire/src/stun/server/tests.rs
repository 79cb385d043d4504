use proptest::prelude::*;

use super::*;
use crate::stun::proof::ProofKey;
use crate::stun::{
    BindingOutcome, BindingResponse, RequestOptions, TransactionId, binding_request,
    binding_request_with,
};

const CLIENT: &str = "203.0.113.5:4000";

fn success(other: Option<&str>) -> BindingSuccess {
    BindingSuccess {
        mapped: CLIENT.parse().unwrap(),
        origin: "192.0.2.1:3478".parse().unwrap(),
        other: other.map(|other| other.parse().unwrap()),
        proof: None,
    }
}

/// A request with one attribute of `kind` and `value`.
fn request_with(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut request = binding_request(TransactionId::from(5));
    request.extend_from_slice(&kind.to_be_bytes());
    request.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    request.extend_from_slice(value);
    let length = u16::try_from(request.len() - 20).unwrap();
    request[2..4].copy_from_slice(&length.to_be_bytes());
    request
}

#[test]
fn a_response_carries_both_forms_of_the_address_and_nothing_needless() {
    let request = binding_request(TransactionId::from(5));
    let response = BindingRequest::parse(&request).unwrap().success(&success(None));
    let read = BindingResponse::parse(&response).unwrap();
    assert_eq!(read.outcome, BindingOutcome::Mapped(CLIENT.parse().unwrap()));
    let message = Message::from_bytes(&response).unwrap();
    let kinds: Vec<u16> = message.iter_attributes().map(|(_, a)| a.get_type().value()).collect();
    assert_eq!(kinds, [0x0020, 0x0001, 0x8022]);
    assert_eq!(response.len(), 20 + 12 + 12 + 16);
}

#[test]
fn fingerprint_comes_only_when_asked_with_it() {
    let kind = stun_types::message::MessageType::from_class_method(MessageClass::Request, BINDING);
    let mut request = Message::builder(kind, 5u128.into(), MessageWriteVec::new());
    request.add_fingerprint().unwrap();
    let request = request.finish();
    let response = BindingRequest::parse(&request).unwrap().success(&success(None));
    let message = Message::from_bytes(&response).expect("a right FINGERPRINT");
    assert!(message.has_attribute(Fingerprint::TYPE));
}

#[test]
fn a_second_address_is_told() {
    let request = binding_request(TransactionId::from(5));
    let parsed = BindingRequest::parse(&request).unwrap();
    let response = parsed.success(&success(Some("192.0.2.2:3479")));
    let message = Message::from_bytes(&response).unwrap();
    let kinds: Vec<u16> = message.iter_attributes().map(|(_, a)| a.get_type().value()).collect();
    assert_eq!(kinds, [0x0020, 0x0001, 0x802b, 0x802c, 0x8022]);
}

#[test]
fn what_a_client_asks_for_is_what_the_server_reads_and_answers() {
    let nonce = ProofNonce([7; 16]);
    let change = ChangeRequest { ip: true, port: false };
    let options =
        RequestOptions { change, nonce: Some(nonce), fingerprint: true, response_port: Some(4711) };
    let request = binding_request_with(TransactionId::from(5), &options);
    assert_eq!(request.len(), request.capacity());
    let parsed = BindingRequest::parse(&request).unwrap();
    assert_eq!((parsed.change(), parsed.proof_nonce()), (change, Some(nonce)));
    assert!(parsed.unknown_required(true).is_empty());
    let (key, mapped) = (ProofKey::new([1; 32]), CLIENT.parse().unwrap());
    let proof = Some(key.prove(nonce, mapped, 100));
    let success = BindingSuccess { proof, ..success(Some("192.0.2.2:3479")) };
    let read = BindingResponse::parse(&parsed.success(&success)).unwrap();
    assert_eq!(read.outcome, BindingOutcome::Mapped(mapped));
    assert_eq!((read.origin, read.other), (Some(success.origin), success.other));
    assert_eq!(read.proof, proof);
}

#[test]
fn a_nonce_of_another_length_asks_for_nothing() {
    for value in [&[][..], &[7; 12], &[7; 20]] {
        let request = request_with(0xc07e, value);
        assert_eq!(BindingRequest::parse(&request).unwrap().proof_nonce(), None);
    }
}

#[test]
fn change_request_is_read_and_refused_where_it_is_not_served() {
    let request = request_with(0x0003, &[0, 0, 0, 6]);
    let parsed = BindingRequest::parse(&request).unwrap();
    assert_eq!(parsed.change(), ChangeRequest { ip: true, port: true });
    assert!(parsed.unknown_required(true).is_empty());
    assert_eq!(parsed.unknown_required(false), [0x0003]);
}

#[test]
fn an_unknown_required_attribute_is_named_in_a_420() {
    let request = request_with(0x7abc, &[1, 2, 3, 4]);
    let parsed = BindingRequest::parse(&request).unwrap();
    let unknown = parsed.unknown_required(true);
    assert_eq!(unknown, [0x7abc]);
    let response = parsed.unknown_attributes(&unknown).unwrap();
    let read = BindingResponse::parse(&response).unwrap();
    assert_eq!(read.outcome, BindingOutcome::Refused { code: 420 });
    let optional = request_with(0x8abc, &[1, 2, 3, 4]);
    assert!(BindingRequest::parse(&optional).unwrap().unknown_required(true).is_empty());
}

#[test]
fn a_classic_request_gets_a_classic_answer_with_its_whole_id() {
    let mut request = vec![0, 1, 0, 8];
    request.extend_from_slice(b"0123456789abcdef");
    request.extend_from_slice(&[0, 3, 0, 4, 0, 0, 0, 6]);
    let parsed = BindingRequest::parse(&request).unwrap();
    assert!(parsed.is_classic());
    assert_eq!(parsed.change(), ChangeRequest::default());
    let response = parsed.success(&success(None));
    assert_eq!(response[..4], [1, 1, 0, 36]);
    assert_eq!(&response[4..20], b"0123456789abcdef");
    assert_eq!(response[20..32], [0, 1, 0, 8, 0, 1, 0x0f, 0xa0, 203, 0, 113, 5]);
    assert_eq!(response[32..34], [0, 4]);
    assert_eq!(response[44..46], [0, 5]);
}

/// The lengths by which it is reckoned what an answer in somebody else's name is worth.
#[test]
fn the_shortest_answer_is_the_mapped_address_alone() {
    for (client, length) in [(CLIENT, 32), ("[2001:db8::5]:4000", 44)] {
        let client = client.parse().unwrap();
        let nonce = Some(ProofNonce([7; 16]));
        for (fingerprint, nonce, further) in [(false, None, 0), (true, nonce, 8)] {
            let options = RequestOptions { nonce, fingerprint, ..RequestOptions::default() };
            let request = binding_request_with(TransactionId::from(5), &options);
            let response = BindingRequest::parse(&request).unwrap().success_alone(client);
            assert_eq!(response.len(), length + further);
            let read = BindingResponse::parse(&response).unwrap();
            assert_eq!(read.outcome, BindingOutcome::Mapped(client));
            assert_eq!((read.origin, read.other, read.proof), (None, None, None));
        }
    }
    let mut classic = vec![0, 1, 0, 0];
    classic.extend_from_slice(b"0123456789abcdef");
    let parsed = BindingRequest::parse(&classic).unwrap();
    let response = parsed.success_alone(CLIENT.parse().unwrap());
    assert_eq!((response.len(), &response[..4]), (32, &[1, 1, 0, 12][..]));
    assert_eq!(response[20..], [0, 1, 0, 8, 0, 1, 0x0f, 0xa0, 203, 0, 113, 5]);
}

#[test]
fn what_is_not_a_binding_request_gets_no_answer() {
    let mut response = binding_request(TransactionId::from(5));
    response[0] = 1;
    assert_eq!(BindingRequest::parse(&response).err(), Some(NotAnswered::NotARequest));
    let mut indication = binding_request(TransactionId::from(5));
    indication[1] = 0x11;
    assert_eq!(BindingRequest::parse(&indication).err(), Some(NotAnswered::NotARequest));
    let mut long = binding_request(TransactionId::from(5));
    long.push(0);
    assert_eq!(BindingRequest::parse(&long).err(), Some(NotAnswered::Malformed));
    assert_eq!(BindingRequest::parse(b"P2P_PING_FROM_x").err(), Some(NotAnswered::Malformed));
    assert_eq!(BindingRequest::parse(&[]).err(), Some(NotAnswered::Malformed));
}

proptest! {
    #[test]
    fn no_request_panics_and_no_answer_is_more_than_five_times_its_question(
        kind in any::<u16>(), value in proptest::collection::vec(any::<u8>(), 0..100), classic: bool,
    ) {
        let mut request = request_with(kind, &value);
        if classic {
            request[4] = 0;
        }
        if let Ok(parsed) = BindingRequest::parse(&request) {
            let unknown = parsed.unknown_required(false);
            let success = parsed.success(&success(Some("192.0.2.2:3479")));
            let answer = parsed.unknown_attributes(&unknown).unwrap_or_default();
            prop_assert!(success.len().max(answer.len()) <= request.len() * 5);
        }
    }
}

#[test]
fn an_answer_may_be_asked_for_at_another_port_of_the_same_address() {
    let options = RequestOptions { response_port: Some(4711), ..RequestOptions::default() };
    let datagram = binding_request_with(TransactionId::from(1), &options);
    let request = BindingRequest::parse(&datagram).unwrap();
    assert_eq!(request.response_port(), Some(4711));
    assert!(request.unknown_required(false).is_empty());
    let none = binding_request_with(TransactionId::from(1), &RequestOptions::default());
    assert_eq!(BindingRequest::parse(&none).unwrap().response_port(), None);
}
