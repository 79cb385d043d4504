//! TLS for the connections to the rendezvous and for the IP look-up, and what its failures mean.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use holepunch_link::FailureCode;
use rustls::{CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};

use crate::failure::Told;

/// How the certificates of an authority of one's own are named.
const OWN_AUTHORITY: &str = "the file of its authority's certificate (PEM) in SSL_CERT_FILE, or a folder \
                             of such files in SSL_CERT_DIR";
const SECONDS_OF_A_DAY: u64 = 86_400;

/// The configuration, made when it is needed first: reading the system's authorities takes as long as
/// half a round trip, and a rendezvous without TLS needs none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls(Arc<OnceLock<Made>>);

#[derive(Debug, Clone)]
struct Made {
    config: Result<Arc<ClientConfig>, rustls::Error>,
    /// What is wrong with the files that name authorities.
    trouble: Option<String>,
}

impl Tls {
    /// The configuration.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let cell = Arc::clone(&self.0);
        let made = tokio::task::spawn_blocking(move || cell.get_or_init(make).config.clone()).await;
        made.unwrap_or_else(|error| Err(rustls::Error::General(error.to_string())))
    }

    /// A failure of a handshake, in words.
    pub(crate) fn in_words(&self, error: io::Error) -> io::Error {
        if let Some(tls) = of(&error) {
            let trouble = self.0.get().and_then(|made| made.trouble.as_deref());
            let text = words(tls, trouble);
            return Told::io(FailureCode::Tls, error.kind(), text);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let text = "the server ended the connection within the TLS handshake: perhaps it does not speak \
                        TLS there (then use http:// or ws://), or something in between lets no TLS through";
            return Told::io(FailureCode::Tls, error.kind(), text);
        }
        error
    }
}

/// A client configuration that trusts the usual authorities and those of the system (an
/// organisation's own authority, say). A container without certificates of its own still works.
///
/// # Errors
/// The TLS library does not support its own default versions.
#[cfg(feature = "health")]
pub(crate) fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    make().config
}

fn make() -> Made {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let (file, dirs) = (set("SSL_CERT_FILE"), set("SSL_CERT_DIR"));
    let dirs =
        dirs.iter().flat_map(std::env::split_paths).filter(|dir| !dir.as_os_str().is_empty());
    let mut named: Vec<(&str, CertificateResult)> =
        dirs.map(|dir| ("SSL_CERT_DIR", load_certs_from_paths(None, Some(&dir)))).collect();
    if let Some(file) = &file {
        named.push(("SSL_CERT_FILE", load_certs_from_paths(Some(Path::new(file)), None)));
    }
    let mut trouble = None;
    if named.is_empty() {
        // What is wrong with the system's own is nobody's fault, and most often of no account.
        roots.add_parsable_certificates(load_native_certs().certs);
    }
    for (name, found) in named {
        trouble = add(&mut roots, name, found).or(trouble);
    }
    if let Some(trouble) = &trouble {
        tracing::warn!("{trouble}");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    Made { config, trouble }
}

/// Trusts what the variable `name` has led to; what is wrong with that.
fn add(roots: &mut RootCertStore, name: &str, found: CertificateResult) -> Option<String> {
    let error = found.errors.first().map(ToString::to_string);
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    match error {
        Some(error) => Some(format!("{name} cannot be used as it should: {error}")),
        None if usable == 0 => Some(format!("{name} names no certificate in PEM format")),
        None => None,
    }
}

/// The TLS library's error among the causes of another one.
pub(crate) fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What an IO error holds is not its source: the source of that is.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// What a failure of a handshake means, and what to do about it.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors")]
pub(crate) fn words(error: &rustls::Error, trouble: Option<&str>) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => certificate(why, trouble),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS there; use http:// or ws://".to_owned()
        }
        _ => format!("TLS: {error}"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors")]
fn certificate(why: &CertificateError, trouble: Option<&str>) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            let trouble = trouble.map_or(String::new(), |trouble| format!(" ({trouble})"));
            format!(
                "the server's certificate is of an authority that is not known here{trouble}: where that is \
                 right, as with an organisation's own, name {OWN_AUTHORITY}"
            )
        }
        CertificateError::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / SECONDS_OF_A_DAY;
            format!(
                "the server's certificate expired {days} days ago: renew it there, or set this machine's clock"
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let days = not_before.as_secs().saturating_sub(time.as_secs()) / SECONDS_OF_A_DAY;
            format!(
                "the server's certificate is not valid for another {days} days: is this machine's clock right?"
            )
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names =
                if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!(
                "the server's certificate is not for {}, but for {names}: use a name in the URL for which it is, \
                 or have one made for this name (subjectAltName)",
                expected.to_str()
            )
        }
        // The library behind the library names it so.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            format!(
                "the server shows the certificate of an authority as its own (CA:TRUE, as `openssl req -x509` makes \
             it): give it one that is made with basicConstraints=CA:FALSE, and here name {OWN_AUTHORITY}"
            )
        }
        _ => format!("the server's certificate is not accepted: {why}"),
    }
}

/// `DnsName("a.example")` as a person writes it.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

#[cfg(test)]
mod tests;
