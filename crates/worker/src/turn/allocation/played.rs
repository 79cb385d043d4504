//! A TURN server played by hand, for the tests and for the fuzz target.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Instant;

use holepunch_wire::turn::TurnServer;
use turn_client_proto::types::attribute::{Lifetime, XorRelayedAddress};
use turn_client_proto::types::stun::attribute::{ErrorCode, Nonce, Realm};
use turn_client_proto::types::stun::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageIntegrityCredentials, MessageWrite,
    MessageWriteExt, MessageWriteVec,
};

use super::Allocation;

const REALM: &str = "north";
/// The library renews an address a minute before its end.
pub(super) const LIFETIME_S: u32 = 600;
/// With which key an answer is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    No,
    Rightly,
    Wrongly,
}

pub(super) fn allocation(now: Instant) -> Allocation {
    let [local, remote] = ["127.0.0.1:1", "127.0.0.1:3478"].map(|text| text.parse().unwrap());
    let [url, username, credential] = ["turn:a", "1:b", "c"].map(str::to_owned);
    let server = TurnServer { url, username, credential };
    Allocation::new(local, remote, &server, now)
}

fn finished(mut answer: MessageWriteVec, signed: Signed) -> Vec<u8> {
    let password = match signed {
        Signed::No => return answer.finish(),
        Signed::Rightly => "c",
        Signed::Wrongly => "d",
    };
    let [name, password, realm] = ["1:b", password, REALM].map(str::to_owned);
    let key = LongTermKeyCredentials::new(name, password, realm);
    let key = MessageIntegrityCredentials::from(key);
    answer.add_message_integrity(&key, IntegrityAlgorithm::Sha1).unwrap();
    answer.finish()
}

/// The server's answer with this error, which has realm and nonce where it asks for those.
pub(super) fn error(request: &[u8], code: u16, signed: Signed) -> Vec<u8> {
    let request = Message::from_bytes(request).unwrap();
    let mut answer = Message::builder_error(&request, MessageWriteVec::new());
    answer.add_attribute(&ErrorCode::builder(code).build().unwrap()).unwrap();
    if [ErrorCode::UNAUTHORIZED, ErrorCode::STALE_NONCE].contains(&code) {
        answer.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        answer.add_attribute(&Nonce::new(&format!("nonce {code}")).unwrap()).unwrap();
    }
    finished(answer, signed)
}

/// The address that was asked for.
pub(super) fn success(request: &[u8], signed: Signed) -> Vec<u8> {
    let request = Message::from_bytes(request).unwrap();
    let mut answer = Message::builder_success(&request, MessageWriteVec::new());
    let relayed = "192.0.2.1:5".parse().unwrap();
    let relayed = XorRelayedAddress::new(relayed, request.transaction_id());
    answer.add_attribute(&relayed).unwrap();
    answer.add_attribute(&Lifetime::new(LIFETIME_S)).unwrap();
    finished(answer, signed)
}

/// The answer to a request that asks for nothing but consent.
pub(super) fn empty_success(request: &[u8], signed: Signed) -> Vec<u8> {
    let request = Message::from_bytes(request).unwrap();
    finished(Message::builder_success(&request, MessageWriteVec::new()), signed)
}
