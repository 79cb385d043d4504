//! Keys in a file, and tokens: such as the program makes, and such as nobody should.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holepunch_rendezvous::Auth;
use holepunch_rendezvous::tokens::{Claims, TokenAlgorithm, TokenKey};
use ring::hmac;
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

use crate::common::Rendezvous;

/// A file with keys, for as long as this value is there.
pub(crate) struct KeyFile {
    pub(crate) path: PathBuf,
}

impl KeyFile {
    pub(crate) fn new(keys: &[&TokenKey]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("holepunch-keys-{}-{number}.json", std::process::id());
        let file = Self { path: std::env::temp_dir().join(name) };
        file.write(keys, &[]);
        file
    }

    /// With these keys, and what is revoked.
    pub(crate) fn write(&self, keys: &[&TokenKey], revoked: &[&str]) {
        let keys: Vec<Value> = keys.iter().map(|key| jwk(key, false)).collect();
        let set = json!({ "keys": keys, "revoked": revoked });
        std::fs::write(&self.path, set.to_string()).unwrap();
    }

    pub(crate) fn rendezvous(&self) -> Rendezvous {
        Rendezvous::with(|config| config.auth = Auth::Token { keys: self.path.clone() })
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _there_is_none = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn key(id: &str) -> TokenKey {
    TokenKey::generate(TokenAlgorithm::EdDsa, Some(id)).unwrap()
}

pub(crate) fn secret(id: &str) -> TokenKey {
    TokenKey::generate(TokenAlgorithm::Hs256, Some(id)).unwrap()
}

fn jwk(key: &TokenKey, private: bool) -> Value {
    let set: Value = serde_json::from_str(&key.to_set(private)).unwrap();
    set["keys"][0].clone()
}

/// A part of a key's JWK, as bytes.
pub(crate) fn part(key: &TokenKey, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk(key, true)[name].as_str().unwrap()).unwrap()
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token that is good for an hour.
pub(crate) fn token(key: &TokenKey, change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = Claims { exp: now() + 3600, ..Claims::default() };
    change(&mut claims);
    claims.sign(key).unwrap()
}

/// The same of a tenant.
pub(crate) fn of(key: &TokenKey, tenant: &str) -> String {
    token(key, |claims| claims.tenant = Some(tenant.to_owned()))
}

/// Any header and any claims, signed in whichever way.
pub(crate) fn signed(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What a key pair signs, whatever that says.
pub(crate) fn by(key: &TokenKey) -> impl Fn(&[u8]) -> Vec<u8> {
    let (seed, public) = (part(key, "d"), part(key, "x"));
    let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).unwrap();
    move |message| pair.sign(message).as_ref().to_vec()
}

/// What these bytes sign as a secret.
pub(crate) fn by_secret(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}
