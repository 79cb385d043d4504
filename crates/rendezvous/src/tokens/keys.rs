//! The file with the keys of tokens: a JWK set (RFC 7517 §5), with a list of what is revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};

use super::provider;

/// Longest file: some ten thousand entries of what is revoked.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest id of a key, in bytes: it stands in each token.
const KID_BYTES_MAX: usize = 128;
/// Shortest secret, and the length of an Ed25519 key: as RFC 7518 §3.2 asks for.
const SECRET_BYTES_MIN: usize = 32;
/// What stands before the 32 bytes of a private Ed25519 key in PKCS #8 (RFC 8410 §7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// By which algorithm a key signs; by no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// Ed25519: whoever verifies cannot sign.
    EdDsa,
    /// HMAC-SHA256: whoever verifies can sign.
    Hs256,
}

impl TokenAlgorithm {
    /// As tokens name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    pub(super) fn of_library(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Hs256 => Algorithm::HS256,
        }
    }
}

/// A key of tokens. No log shows it.
#[derive(Clone)]
pub struct TokenKey {
    id: String,
    algorithm: TokenAlgorithm,
    /// The public key, or the secret.
    verifies: Vec<u8>,
    /// The private key, where it is known.
    seed: Option<[u8; 32]>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({:?}, {})", self.id, self.algorithm.as_str())
    }
}

/// All keys of a file.
#[derive(Debug, Clone, Default)]
pub struct TokenKeys {
    keys: BTreeMap<String, Arc<TokenKey>>,
    revoked: BTreeSet<String>,
}

/// Why a file of keys cannot be taken. Nothing of it is repeated: it holds secrets.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeysError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is too long.
    #[error("it is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    /// It is not JSON, or other JSON.
    #[error(
        "expected a JSON object with a list `keys` (a JWK set); it is wrong in line {line}, column {column}"
    )]
    NotAKeySet {
        /// Where.
        line: usize,
        /// Where in it.
        column: usize,
    },
    /// It has no key.
    #[error("it holds no key: expected at least one, as `holepunch token key` makes them")]
    Empty,
    /// One of the keys is none.
    #[error("key {number} ({}): {why}", .id.as_deref().unwrap_or("without a kid"))]
    Key {
        /// Which of them, from 1.
        number: usize,
        /// Its id.
        id: Option<String>,
        /// What is wrong.
        why: &'static str,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
struct SetText {
    keys: Vec<KeyText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct KeyText {
    #[serde(default)]
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
}

impl TokenKey {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate(algorithm: TokenAlgorithm, id: Option<&str>) -> Result<Self, TokenKeysError> {
        let (mut bytes, mut number) = ([0; 32], [0; 8]);
        let random = SystemRandom::new();
        random.fill(&mut bytes).map_err(|_| TokenKeysError::Random)?;
        random.fill(&mut number).map_err(|_| TokenKeysError::Random)?;
        let id = id.map_or_else(|| URL_SAFE_NO_PAD.encode(number), str::to_owned);
        match algorithm {
            TokenAlgorithm::Hs256 => {
                Ok(Self { id, algorithm, verifies: bytes.to_vec(), seed: None })
            }
            TokenAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&bytes);
                let pair = pair.map_err(|_| TokenKeysError::Random)?;
                let verifies = pair.public_key().as_ref().to_vec();
                Ok(Self { id, algorithm, verifies, seed: Some(bytes) })
            }
        }
    }

    /// Its id, the `kid` of its tokens.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// By which algorithm it signs.
    #[must_use]
    pub fn algorithm(&self) -> TokenAlgorithm {
        self.algorithm
    }

    pub(super) fn decoding(&self) -> DecodingKey {
        provider::install();
        match self.algorithm {
            TokenAlgorithm::EdDsa => DecodingKey::from_ed_der(&self.verifies),
            TokenAlgorithm::Hs256 => DecodingKey::from_secret(&self.verifies),
        }
    }

    /// What signs; `None`: only the public key is known.
    pub(super) fn encoding(&self) -> Option<EncodingKey> {
        provider::install();
        match self.algorithm {
            TokenAlgorithm::EdDsa => {
                let der = [&PKCS8_ED25519[..], &self.seed?].concat();
                Some(EncodingKey::from_ed_der(&der))
            }
            TokenAlgorithm::Hs256 => Some(EncodingKey::from_secret(&self.verifies)),
        }
    }

    /// As a JWK set with this key alone; `private`: with what signs. A secret is its own public part.
    #[must_use]
    pub fn to_set(&self, private: bool) -> String {
        let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        let common = KeyText {
            kid: Some(self.id.clone()),
            alg: Some(self.algorithm.as_str().to_owned()),
            usage: Some("sig".to_owned()),
            ..KeyText::default()
        };
        let key = match self.algorithm {
            TokenAlgorithm::EdDsa => KeyText {
                kty: "OKP".to_owned(),
                crv: Some("Ed25519".to_owned()),
                x: text(&self.verifies),
                d: self.seed.filter(|_| private).and_then(|seed| text(&seed)),
                ..common
            },
            TokenAlgorithm::Hs256 => {
                KeyText { kty: "oct".to_owned(), k: text(&self.verifies), ..common }
            }
        };
        let set = SetText { keys: vec![key], revoked: Vec::new() };
        serde_json::to_string_pretty(&set).expect("invariant: texts alone are JSON")
    }

    fn of_text(text: KeyText, is_alone: bool) -> Result<Self, &'static str> {
        let id = match text.kid {
            Some(id) if id.is_empty() || id.len() > KID_BYTES_MAX => {
                return Err("expected a kid of 1 to 128 bytes");
            }
            Some(id) if id.chars().any(char::is_control) => {
                return Err("expected a kid without control characters");
            }
            Some(id) => id,
            None if is_alone => String::new(),
            None => return Err("expected a kid, since there are several keys"),
        };
        if text.usage.is_some_and(|usage| usage != "sig") {
            return Err("expected `use` to be \"sig\"");
        }
        let bytes = |part: Option<String>| URL_SAFE_NO_PAD.decode(part?.trim_end_matches('=')).ok();
        let algorithm = match (text.kty.as_str(), text.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => TokenAlgorithm::EdDsa,
            ("oct", _) => TokenAlgorithm::Hs256,
            _ => return Err("expected an Ed25519 key (kty OKP) or a secret (kty oct)"),
        };
        let is_its = |name: &str| match algorithm {
            TokenAlgorithm::EdDsa => matches!(name, "EdDSA" | "Ed25519"),
            TokenAlgorithm::Hs256 => name == "HS256",
        };
        if text.alg.is_some_and(|name| !is_its(&name)) {
            return Err("expected `alg` to be EdDSA for an Ed25519 key, and HS256 for a secret");
        }
        match algorithm {
            TokenAlgorithm::EdDsa => {
                let public = bytes(text.x).filter(|it| it.len() == SECRET_BYTES_MIN);
                let verifies = public.ok_or("expected 32 bytes as `x`, in base64url")?;
                let seed = text.d.map(|d| bytes(Some(d)).and_then(|it| it.try_into().ok()));
                let seed: Option<[u8; 32]> = match seed {
                    None => None,
                    Some(seed) => Some(seed.ok_or("expected 32 bytes as `d`, in base64url")?),
                };
                if let Some(seed) = &seed
                    && Ed25519KeyPair::from_seed_and_public_key(seed, &verifies).is_err()
                {
                    return Err("`d` is not the private key of `x`");
                }
                Ok(Self { id, algorithm, verifies, seed })
            }
            TokenAlgorithm::Hs256 => {
                let secret = bytes(text.k).filter(|it| it.len() >= SECRET_BYTES_MIN);
                let verifies = secret.ok_or("expected 32 bytes or more as `k`, in base64url")?;
                Ok(Self { id, algorithm, verifies, seed: None })
            }
        }
    }
}

impl TokenKeys {
    /// Those of a file's text.
    ///
    /// # Errors
    /// It is no JWK set of keys that are taken here.
    pub fn of_text(text: &[u8]) -> Result<Self, TokenKeysError> {
        let set: SetText = serde_json::from_slice(text).map_err(|error| {
            TokenKeysError::NotAKeySet { line: error.line(), column: error.column() }
        })?;
        let (mut keys, is_alone) = (BTreeMap::new(), set.keys.len() == 1);
        for (number, text) in (1..).zip(set.keys) {
            let id = text.kid.as_deref().map(|id| holepunch_wire::text::harmless(id, 40));
            let wrong = |why| TokenKeysError::Key { number, id: id.clone(), why };
            let key = TokenKey::of_text(text, is_alone).map_err(wrong)?;
            if keys.insert(key.id.clone(), Arc::new(key)).is_some() {
                return Err(wrong("another key has the same kid"));
            }
        }
        if keys.is_empty() {
            return Err(TokenKeysError::Empty);
        }
        Ok(Self { keys, revoked: set.revoked.into_iter().collect() })
    }

    /// Those of a file.
    ///
    /// # Errors
    /// It cannot be read, or is no JWK set of keys that are taken here.
    pub fn of_file(path: &Path) -> Result<Self, TokenKeysError> {
        Self::of_text(&read(path)?)
    }

    /// The key that a token names, or the only one where it names none.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&Arc<TokenKey>> {
        match id {
            Some(id) => self.keys.get(id),
            None if self.keys.len() == 1 => self.keys.values().next(),
            None => None,
        }
    }

    /// The one that signs, where there is one alone that can.
    #[must_use]
    pub fn signing(&self, id: Option<&str>) -> Option<&TokenKey> {
        let signs = |key: &&Arc<TokenKey>| key.encoding().is_some();
        let is_named = |key: &&Arc<TokenKey>| id.is_none_or(|id| key.id == id);
        let mut all = self.keys.values().filter(signs).filter(is_named);
        all.next().filter(|_| all.next().is_none()).map(AsRef::as_ref)
    }

    /// Whether there is still this very key.
    pub(super) fn has(&self, key: &TokenKey) -> bool {
        let is_it = |known: &Arc<TokenKey>| {
            (known.algorithm, &known.verifies) == (key.algorithm, &key.verifies)
        };
        self.keys.get(&key.id).is_some_and(is_it)
    }

    pub(super) fn is_revoked(&self, name: &str) -> bool {
        self.revoked.contains(name)
    }

    /// Whether one of them signs, though its public part would do. A secret has none.
    pub(super) fn has_private(&self) -> bool {
        self.keys.values().any(|key| key.seed.is_some())
    }

    /// How many keys there are, and how many names are revoked.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.keys.len(), self.revoked.len())
    }
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TokenKeysError> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(TokenKeysError::TooLong);
    }
    Ok(text)
}
