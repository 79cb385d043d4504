//! Certificate and key, as they stand in files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest file that is read, in bytes: a chain has some 10 KB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The one protocol that is spoken over TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";
/// Tickets of a client that has shaken hands: it resumes with one, and gets another one then.
const TICKETS: usize = 1;

/// The two files, in PEM. They may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that lead to an authority.
    pub certificate: PathBuf,
    /// The key of the first one.
    pub key: PathBuf,
}

/// Why certificate and key are no good.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// That file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} has no {expected} in PEM (-----BEGIN {expected}-----)", path.display())]
    NotPem {
        /// That file.
        path: PathBuf,
        /// What is expected there.
        expected: Expected,
    },
    /// The key has a pass phrase.
    #[error(
        "the key in {} is encrypted: nobody is there to type its pass phrase; take it off (openssl pkey -in OLD -out NEW)", path.display()
    )]
    Encrypted {
        /// The file of the key.
        path: PathBuf,
    },
    /// The key is not that of the certificate.
    #[error("the key in {} is not that of the first certificate in {}", key.display(), certificate.display())]
    OtherKey {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The library cannot use them.
    #[error("cannot use the certificate in {} with the key in {}: {source}", certificate.display(), key.display())]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What the library says.
        source: rustls::Error,
    },
}

/// What a file should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A certificate.
    Certificate,
    /// A private key.
    Key,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "CERTIFICATE",
            Self::Key => "PRIVATE KEY",
        })
    }
}

/// What tells one state of the two files from the next.
pub(super) type Stamp = [Option<(SystemTime, u64, u64)>; 2];

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    not_before: Option<SystemTime>,
    pub(super) not_after: Option<SystemTime>,
    /// The end of its time, for people.
    pub(super) ends: Option<String>,
}

impl TlsFiles {
    /// What the files are like, without reading them.
    pub(super) fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let metadata = path.metadata().ok()?;
            #[cfg(unix)]
            let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
            #[cfg(not(unix))]
            let inode = 0;
            Some((metadata.modified().ok()?, metadata.len(), inode))
        })
    }

    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let chain = self.chain()?;
        let key = self.private_key()?;
        let first = X509Certificate::from_der(&chain[0]).ok().map(|(_, it)| it.validity().clone());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
            let (certificate, key) = (self.certificate.clone(), self.key.clone());
            if error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                TlsError::OtherKey { certificate, key }
            } else {
                TlsError::Unusable { certificate, key, source: error }
            }
        })?;
        let config = self.config(certified, provider)?;
        let moment =
            |timestamp: i64| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).ok()?));
        Ok(Loaded {
            config: Arc::new(config),
            not_before: first.as_ref().and_then(|it| moment(it.not_before.timestamp())),
            not_after: first.as_ref().and_then(|it| moment(it.not_after.timestamp())),
            ends: first.map(|it| it.not_after.to_string()),
        })
    }

    fn config(
        &self,
        certified: CertifiedKey,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<ServerConfig, TlsError> {
        let unusable = |source| TlsError::Unusable {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        let config = builder.with_no_client_auth().with_cert_resolver(resolver);
        http_within(config).map_err(unusable)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = read(&self.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| TlsError::NotPem {
            path: self.certificate.clone(),
            expected: Expected::Certificate,
        })
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = read(&self.key)?;
        let path = self.key.clone();
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            // `BEGIN ENCRYPTED PRIVATE KEY`, or a header of RFC 1421 below `BEGIN RSA PRIVATE KEY`.
            if pem.windows(b"ENCRYPTED".len()).any(|it| it == b"ENCRYPTED") {
                TlsError::Encrypted { path }
            } else {
                TlsError::NotPem { path, expected: Expected::Key }
            }
        })
    }
}

/// A server of HTTP for thousands.
pub(super) fn http_within(mut config: ServerConfig) -> Result<ServerConfig, rustls::Error> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    // What resumes a session is with its client: nothing of thousands is kept here.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

impl Loaded {
    /// What has no certificate yet.
    #[cfg(feature = "acme")]
    pub(super) fn of(config: ServerConfig) -> Self {
        Self { config: Arc::new(config), not_before: None, not_after: None, ends: None }
    }

    /// A certificate whose time is over, or has not begun, is served all the same: the clock may be wrong, and some clients
    /// have an eye on the key alone.
    pub(super) fn warn_of_its_time(&self, files: &TlsFiles) {
        let (now, certificate) = (SystemTime::now(), files.certificate.display());
        let ends = self.ends.as_deref();
        if self.not_after.is_some_and(|at| at < now) {
            tracing::warn!(%certificate, ends, "the TLS certificate has expired: clients refuse it");
        }
        if self.not_before.is_some_and(|at| at > now) {
            tracing::warn!(%certificate, ends, "the TLS certificate is not valid yet: clients refuse it");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it is longer than {FILE_BYTES_MAX} bytes");
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    Ok(bytes)
}
