//! Clients of a server that has its certificate made.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The extension with the proof (RFC 8737 §3), and the protocol in which it is shown.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";
const CHALLENGE: &[u8] = b"acme-tls/1";

/// Takes a certificate that is nobody's, and has this proof.
#[derive(Debug)]
struct Proof(Vec<u8>);

impl ServerCertVerifier for Proof {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
        let mut extensions = certificate.extensions().iter();
        let shown = extensions.find(|it| it.oid.to_id_string() == ACME_IDENTIFIER);
        let is_shown = shown.is_some_and(|it| it.critical && it.value.ends_with(&self.0));
        let refused = || rustls::Error::General("no proof".to_owned());
        is_shown.then(ServerCertVerified::assertion).ok_or_else(refused)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

async fn connect(
    server: SocketAddr,
    name: &'static str,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server).await?;
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().unwrap()
}

/// Whether a server shows this proof to who asks for it.
pub(crate) async fn proves(server: SocketAddr, name: &'static str, proof: Vec<u8>) -> bool {
    let builder = builder().dangerous().with_custom_certificate_verifier(Arc::new(Proof(proof)));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![CHALLENGE.to_vec()];
    let connected = connect(server, name, config).await;
    connected.is_ok_and(|it| it.get_ref().1.alpn_protocol() == Some(CHALLENGE))
}

/// Shakes hands with a server whose certificate is to be of this authority.
pub(crate) async fn trusting(
    server: SocketAddr,
    name: &'static str,
    root: CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let config = builder().with_root_certificates(roots).with_no_client_auth();
    connect(server, name, config).await
}
