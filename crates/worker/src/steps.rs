//! The steps to a rendezvous, one by one: for a program that tells which of them fails. Each is the one that a worker's
//! own connection takes.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holepunch_link::dial::{Unanswered, dial_any};
use holepunch_wire::text::harmless;
use serde::Deserialize;
use tokio::net::TcpStream;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::proxy::Proxy;
use crate::reach::Access;
use crate::rendezvous_url::RendezvousUrl;
use crate::signalling::stream::Stream;
use crate::signalling::{handshake, hint};
use crate::url::WebSocketUrl;

/// Names of a certificate that are told.
const NAMES_MAX: usize = 8;
/// Most characters of a server's own words that are told.
const SAID_CHARS_MAX: usize = 80;

/// How a rendezvous is reached, in steps.
#[derive(Debug, Clone)]
pub struct Steps {
    access: Access,
    index: WebSocketUrl,
}

/// What a server's certificate says of itself; it has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The hosts that it is for, the first eight.
    pub names: Vec<String>,
    /// The authority that has signed it.
    pub issuer: String,
    /// Until when it is good.
    pub not_after: SystemTime,
}

/// What the server answers when it is asked what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The status of HTTP.
    pub status: u16,
    /// The software of a rendezvous that tells it, as `holepunch/0.1.0`; `None` of other servers.
    pub software: Option<String>,
    /// Its header `Server`.
    pub server: Option<String>,
    /// Its header `Date`, as it stands there (RFC 9110 §5.6.7).
    pub date: Option<String>,
}

/// What a rendezvous says of itself.
#[derive(Debug, Deserialize)]
struct Told {
    server: String,
}

impl Steps {
    /// To this rendezvous, through `proxy` where there is one.
    #[must_use]
    pub fn new(rendezvous: &RendezvousUrl, proxy: Option<Proxy>) -> Self {
        Self { access: Access::new(rendezvous, proxy, None), index: rendezvous.index() }
    }

    /// The host and the port to which TCP connects: those of the proxy, where there is one.
    #[must_use]
    pub fn first(&self) -> (&str, u16) {
        self.access.first(&self.index)
    }

    /// TCP to one address.
    ///
    /// # Errors
    /// It does not answer within this time, or refuses.
    pub async fn tcp(&self, to: SocketAddr, within: Duration) -> Result<TcpStream, Unanswered> {
        dial_any(&[to], within).await
    }

    /// The proxy's tunnel to the rendezvous, on a connection to the proxy. Without a proxy nothing is asked.
    ///
    /// # Errors
    /// What the proxy has answered, and what it means, in words.
    pub async fn tunnel(&self, tcp: &mut TcpStream) -> io::Result<()> {
        self.access.tunnel(&self.index, tcp).await
    }

    /// TLS with the rendezvous, where its URL asks for it, and the certificate.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn secure(&self, tcp: TcpStream) -> io::Result<(Stream, Option<Certificate>)> {
        let stream = self.access.secure(&self.index, tcp).await?;
        let certificate = stream.certificate().and_then(|shown| Certificate::read(shown));
        Ok((stream, certificate))
    }

    /// Asks by HTTP what the server is. Whether it is a rendezvous, its WebSocket alone shows.
    ///
    /// # Errors
    /// In words, why there is no answer of HTTP.
    pub async fn ask(&self, mut stream: Stream) -> Result<Index, String> {
        let answer = handshake::get(&mut stream, &self.index, self.access.login.as_ref()).await;
        let answer = answer.map_err(|error| hint::on_handshake(&error, &self.index))?;
        let header = |name| {
            let text = answer.headers().get(name)?.to_str().ok()?;
            Some(harmless(text, SAID_CHARS_MAX))
        };
        let told = software(answer.body());
        Ok(Index {
            status: answer.status().as_u16(),
            software: told.map(|text| harmless(&text, SAID_CHARS_MAX)),
            server: header("server"),
            date: header("date"),
        })
    }
}

/// What an index says; something in between may have cut it into chunks.
fn software(body: &[u8]) -> Option<String> {
    let from = body.iter().position(|byte| *byte == b'{')?;
    let to = body.iter().rposition(|byte| *byte == b'}')?;
    let told: Told = serde_json::from_slice(body.get(from..=to)?).ok()?;
    Some(told.server)
}

impl Certificate {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self {
            names: names.filter_map(name).take(NAMES_MAX).collect(),
            issuer: certificate.issuer().to_string(),
            not_after: UNIX_EPOCH + Duration::from_secs(not_after),
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "servers have two kinds of names")]
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_certificate_tells_its_names_its_authority_and_its_end() {
        let pem = CertificateDer::from_pem_slice(include_bytes!("tls/good.pem")).unwrap();
        let certificate = Certificate::read(&pem).unwrap();
        assert_eq!(certificate.names, ["a.example", "b.example"]);
        assert!(certificate.issuer.starts_with("CN="), "{}", certificate.issuer);
        assert!(certificate.not_after > SystemTime::now());
        assert_eq!(Certificate::read(b"no certificate"), None);
    }

    #[test]
    fn a_rendezvous_is_known_by_its_index_alone() {
        let told = Some("holepunch/1.0".to_owned());
        let json = r#"{"message":"x","server":"holepunch/1.0"}"#;
        assert_eq!(software(json.as_bytes()), told);
        let in_chunks = format!("2c\r\n{json}\r\n0\r\n\r\n");
        assert_eq!(software(in_chunks.as_bytes()), told);
        for other in ["OK", "", "}{", "{}", "{\"server\":1}", "<html>{}</html>"] {
            assert_eq!(software(other.as_bytes()), None, "{other}");
        }
    }
}
