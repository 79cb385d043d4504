//! TLS of a server's own: certificate and key come from files, and are read again when these change.

#[cfg(feature = "acme")]
mod acme;
mod counts;
mod files;
mod handshake;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use holepunch_wire::shares::SourceRates;
use rustls::ServerConfig;

#[cfg(feature = "acme")]
pub use acme::AcmeSettings;
pub(crate) use counts::Figures;
use counts::Reload;
pub use counts::TlsCounts;
pub use files::{Expected, TlsError, TlsFiles};
use files::{Loaded, Stamp};
pub(crate) use handshake::secured;

/// Between two looks at the files. Whoever renews a certificate does so days before the old one ends.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What a server speaks TLS with. All clones are one.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// None where the certificate comes from elsewhere.
    files: Option<TlsFiles>,
    #[cfg(feature = "acme")]
    acme: Mutex<Option<acme::Run>>,
    /// What the files were like when they were last read, well or not.
    seen: Mutex<Stamp>,
    current: RwLock<Loaded>,
    /// Who may shake hands.
    rates: Mutex<SourceRates>,
    figures: Figures,
}

impl Shared {
    fn of(seen: Stamp, loaded: Loaded) -> Self {
        Self {
            files: None,
            #[cfg(feature = "acme")]
            acme: Mutex::default(),
            seen: Mutex::new(seen),
            current: RwLock::new(loaded),
            rates: Mutex::new(handshake::rates()),
            figures: Figures::default(),
        }
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, is not what it should be, or the key is not that of the certificate.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = files.stamp();
        let loaded = files.load()?;
        loaded.warn_of_its_time(&files);
        Ok(Self(Arc::new(Shared { files: Some(files), ..Shared::of(seen, loaded) })))
    }

    /// Has a certificate made by an authority, on the server's own port, once it serves.
    ///
    /// # Errors
    /// The library cannot be set up.
    #[cfg(feature = "acme")]
    pub fn acme(settings: &AcmeSettings) -> Result<Self, rustls::Error> {
        let (run, loaded) = acme::begin(settings)?;
        let shared = Shared::of(Stamp::default(), loaded);
        Ok(Self(Arc::new(Shared { acme: Mutex::new(Some(run)), ..shared })))
    }

    /// Reads the files again, for the handshakes to come. Where they are no good, what there was before stays; the log and
    /// the counts tell.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn reload(&self) -> Result<(), TlsError> {
        let shared = &*self.0;
        let Some(files) = &shared.files else { return Ok(()) };
        // Those who read at the same time do so one after the other.
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = files.stamp();
        let certificate = files.certificate.display();
        match files.load() {
            Ok(loaded) => {
                loaded.warn_of_its_time(files);
                tracing::info!(%certificate, ends = loaded.ends.as_deref(), "TLS certificate read again");
                *shared.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                shared.figures.reload(Reload::Done);
                Ok(())
            }
            Err(error) => {
                shared.figures.reload(Reload::Failed);
                tracing::error!(%error, "TLS certificate not read again: the one from before stays");
                Err(error)
            }
        }
    }

    /// How often each has happened.
    #[must_use]
    pub fn counts(&self) -> TlsCounts {
        self.0.figures.counts()
    }

    /// The same as counters.
    pub(crate) fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// When the certificate ends, where that can be read.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).not_after
    }

    /// Reads the files again where they have changed since they were last read; whether they had.
    pub(crate) fn look(&self) -> bool {
        let Some(files) = &self.0.files else { return false };
        let stamp = files.stamp();
        let has_changed = stamp != *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if has_changed {
            // The log has told.
            let _kept = self.reload();
        }
        has_changed
    }

    /// Looks again and again.
    pub(crate) async fn watch(self) {
        #[cfg(feature = "acme")]
        {
            let run = self.0.acme.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(run) = run {
                return acme::drive(run).await;
            }
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tls = self.clone();
            // A file may be on a disk that is far away.
            let _one_that_panics_is_told = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

/// What this server trusts where it is a client itself: the usual authorities, and those of the system.
#[cfg(any(feature = "acme", feature = "otel"))]
pub(crate) fn client_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // An authority may be an organisation's own.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
