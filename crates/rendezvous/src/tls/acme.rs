//! A certificate by ACME (RFC 8555): asked for, proved by TLS-ALPN-01 (RFC 8737) on the server's own port, kept in a folder, and renewed
//! when a third of its time is left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use rustls::ServerConfig;
use rustls_acme::caches::DirCache;
use rustls_acme::{AcmeConfig, AcmeState, EventOk};

use super::files::{self, Loaded};

/// The protocol of the challenge (RFC 8737 §6.2).
const CHALLENGE: &[u8] = b"acme-tls/1";

/// Whom to ask for a certificate, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The server's names.
    pub domains: Vec<String>,
    /// Whom the authority may write to, as `mailto:` URLs.
    pub contacts: Vec<String>,
    /// A folder for the account's key and the certificate with its key; made where there is none, its owner's alone.
    pub cache: PathBuf,
    /// The authority.
    pub directory: String,
}

/// What asks, proves and renews.
#[derive(Debug)]
pub(super) struct Run {
    state: AcmeState<io::Error, io::Error>,
    cache: PathBuf,
}

/// Nothing is asked before the run is [driven](drive): until there is a certificate, handshakes fail.
pub(super) fn begin(settings: &AcmeSettings) -> Result<(Run, Loaded), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = Arc::new(super::client_config()?);
    let state = AcmeConfig::new_with_client_config(&settings.domains, client)
        .contact(&settings.contacts)
        .directory(&settings.directory)
        .cache(DirCache::new(settings.cache.clone()))
        .state();
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = files::http_within(builder.with_cert_resolver(state.resolver()))?;
    config.alpn_protocols.push(CHALLENGE.to_vec());
    Ok((Run { state, cache: settings.cache.clone() }, Loaded::of(config)))
}

/// Asks, proves and renews, for ever.
pub(super) async fn drive(mut run: Run) {
    // The library would make it as everybody's to read.
    if let Err(error) = make_folder(&run.cache) {
        tracing::error!(cache = %run.cache.display(), %error, "ACME: the folder cannot be made");
    }
    while let Some(event) = run.state.next().await {
        match event {
            Ok(EventOk::DeployedCachedCert) => tracing::info!("ACME: the certificate was kept"),
            Ok(EventOk::DeployedNewCert) => tracing::info!("ACME: there is a new certificate"),
            Ok(EventOk::CertCacheStore | EventOk::AccountCacheStore) => {}
            Err(error) => tracing::error!(%error, "ACME"),
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
