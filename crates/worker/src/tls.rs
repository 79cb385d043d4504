//! TLS for the signalling connection and the IP look-up.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

/// The configuration, made when it is needed first: reading the system's authorities takes as long as
/// half a round trip, and a rendezvous without TLS needs none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls(Arc<OnceLock<Result<Arc<ClientConfig>, rustls::Error>>>);

impl Tls {
    /// The configuration.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let cell = Arc::clone(&self.0);
        let made =
            tokio::task::spawn_blocking(move || cell.get_or_init(client_config).clone()).await;
        made.unwrap_or_else(|error| Err(rustls::Error::General(error.to_string())))
    }
}

/// A client configuration that trusts the usual authorities and those of the system (an
/// organisation's own authority, say). A container without certificates of its own still works.
///
/// # Errors
/// The TLS library does not support its own default versions.
pub fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
