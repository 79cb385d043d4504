//! TLS 1.3 with raw public keys (RFC 7250): each side shows the one key that the other expects.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use holepunch_wire::identity::{KEY_BYTES, PublicKey};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::identity::Identity;
use crate::protocol::Protocols;

/// The application protocol (RFC 7301): both sides of a link speak it or there is none.
pub const ALPN: &[u8] = b"holepunch/1";
/// What stands before an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Accepts one key, and remembers another that was shown instead.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    pub(crate) expected: PublicKey,
    provider: Arc<CryptoProvider>,
    shown: Mutex<Option<PublicKey>>,
}

impl PeerVerifier {
    fn new(expected: PublicKey, provider: &Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self { expected, provider: Arc::clone(provider), shown: Mutex::default() })
    }

    /// The key that the peer has shown, where it was not the expected one.
    pub(crate) fn wrong_key(&self) -> Option<PublicKey> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let key = shown.as_ref().strip_prefix(&SPKI_PREFIX);
        let key = key.and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok());
        let Some(key) = key.map(PublicKey::from_bytes) else {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        };
        // Whoever expects such a key has not read it from a text, where it is refused.
        if key.proves_nothing() {
            return Err(Error::InvalidCertificate(CertificateError::BadSignature));
        }
        if key == self.expected {
            return Ok(());
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }
}

/// What both sides ask of a signature.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("a link is TLS 1.3".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    signatures!();
}

/// One for all links: its lists are half a kibibyte.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

fn certified(identity: &Identity) -> Arc<CertifiedKey> {
    let key = identity.public_key();
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(key.as_bytes());
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], identity.signing_key()))
}

/// TLS for the side that connects.
pub(crate) fn client(
    identity: &Identity,
    expected: PublicKey,
    protocols: &Protocols,
) -> Result<(ClientConfig, Arc<PeerVerifier>), Error> {
    let provider = provider();
    let verifier = PeerVerifier::new(expected, &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(
            identity,
        ))));
    config.alpn_protocols = protocols.alpn();
    config.enable_sni = false;
    // No session outlives its link: a ticket would only be a trace.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((config, verifier))
}

/// TLS for the side that accepts.
pub(crate) fn server(
    identity: &Identity,
    expected: PublicKey,
    protocols: &Protocols,
) -> Result<(ServerConfig, Arc<PeerVerifier>), Error> {
    let provider = provider();
    let verifier = PeerVerifier::new(expected, &provider);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(identity))));
    config.alpn_protocols = protocols.alpn();
    config.send_tls13_tickets = 0;
    // A link is never resumed, and the cache for that would be the largest part of its memory.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok((config, verifier))
}
