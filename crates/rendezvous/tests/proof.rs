//! Proofs of address over UDP.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::stun::{BINDING_REQUEST, StunClient, message, modern};
use common::{Rendezvous, loopback};
use holepunch_wire::stun::proof::{AddressProof, PROOF_LIFETIME, ProofError, ProofNonce};

const PROOF_NONCE: u16 = 0xc07e;
const ADDRESS_PROOF: u16 = 0xc07f;

fn with_stun() -> Rendezvous {
    Rendezvous::with(|config| config.stun_listen = vec![loopback()])
}

/// The proof that a server gives for a nonce.
async fn proof(rendezvous: &Rendezvous, client: &StunClient, nonce: ProofNonce) -> AddressProof {
    let request = message(BINDING_REQUEST, modern(1), &[(PROOF_NONCE, &nonce.0)]);
    let response = client.ask(rendezvous.server.stun_addresses()[0], &request).await;
    let (expires, mac) = response.value(ADDRESS_PROOF).split_at(8);
    let expires = u64::from_be_bytes(expires.try_into().unwrap());
    AddressProof { expires, mac: mac.try_into().unwrap() }
}

#[tokio::test]
async fn a_proof_from_the_wire_holds_for_the_client_s_own_address_until_it_expires() {
    let (rendezvous, client) = (with_stun(), StunClient::bind().await);
    let nonce = ProofNonce([9; 16]);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let proof = proof(&rendezvous, &client, nonce).await;
    assert!(proof.expires >= before + PROOF_LIFETIME.as_secs());
    let key = rendezvous.server.proof_key();
    let verify = |address, now| key.verify(nonce, address, &proof, now);
    assert_eq!(verify(client.local(), proof.expires), Ok(()));
    let expired = Err(ProofError::Expired { ago_s: 1 });
    assert_eq!(verify(client.local(), proof.expires + 1), expired);
    let elsewhere = StunClient::bind().await.local();
    assert_eq!(verify(elsewhere, before), Err(ProofError::NotOurs));
}

#[tokio::test]
async fn another_server_s_proof_proves_nothing() {
    let (rendezvous, other, client) = (with_stun(), with_stun(), StunClient::bind().await);
    let nonce = ProofNonce([9; 16]);
    let proof = proof(&other, &client, nonce).await;
    let outcome = rendezvous.server.proof_key().verify(nonce, client.local(), &proof, 0);
    assert_eq!(outcome, Err(ProofError::NotOurs));
}

#[tokio::test]
async fn who_asks_for_no_proof_gets_none() {
    let (rendezvous, client) = (with_stun(), StunClient::bind().await);
    let request = message(BINDING_REQUEST, modern(1), &[]);
    let response = client.ask(rendezvous.server.stun_addresses()[0], &request).await;
    assert!(!response.kinds().contains(&ADDRESS_PROOF));
}
