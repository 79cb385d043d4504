//! A server that speaks TLS, and clients that do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holepunch_rendezvous::{Tls, TlsFiles};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}

/// What a server speaks TLS with.
pub(crate) fn tls() -> Tls {
    Tls::open(TlsFiles { certificate: fixture("one.pem"), key: fixture("one.key") }).unwrap()
}

fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Shakes hands with a server.
pub(crate) async fn connect(server: SocketAddr) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(server).await.unwrap();
    connector().connect(ServerName::from(server.ip()), tcp).await.unwrap()
}

/// Where clients that speak no TLS reach a server that does.
pub(crate) async fn tunnel(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut tls = connect(server).await;
                let _until_either_ends = tokio::io::copy_bidirectional(&mut plain, &mut tls).await;
            });
        }
    });
    address
}
