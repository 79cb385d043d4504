//! An authority that speaks as much of ACME (RFC 8555) as one certificate needs, and proves by TLS-ALPN-01 (RFC 8737).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PublicKeyData};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::client;

/// The name that a certificate is asked for.
pub(crate) const DOMAIN: &str = "rendezvous.example";
const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

pub(crate) struct Authority {
    base: String,
    issuer: rcgen::Certificate,
    issuer_key: KeyPair,
    /// Where the name leads.
    pub(crate) server: OnceLock<SocketAddr>,
    pub(crate) order: Mutex<Order>,
}

/// How far the order is.
#[derive(Default)]
pub(crate) struct Order {
    /// How many there have been.
    pub(crate) count: usize,
    thumbprint: String,
    is_proved: bool,
    chain: Option<String>,
}

/// The key for which a certificate is asked: one of ECDSA by P-256.
struct Asked(Vec<u8>);

impl PublicKeyData for Asked {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}

impl Authority {
    /// One that answers, with a certificate of the tests' own authority.
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let issuer_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = params.self_signed(&issuer_key).unwrap();
        let (server, order) = (OnceLock::new(), Mutex::default());
        let authority = Arc::new(Self { base, issuer, issuer_key, server, order });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&authority));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_file(fixture("one.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(fixture("one.key")).unwrap();
        let config = config.with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    let tls = TokioIo::new(acceptor.accept(tcp).await.unwrap());
                    let service = TowerToHyperService::new(router);
                    let http = hyper::server::conn::http1::Builder::new();
                    let _until_it_ends = http.serve_connection(tls, service).await;
                });
            }
        });
        authority
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/directory", self.base)
    }

    /// What those trust who trust it.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// What the server has to show that it has the name: the digest of token and account (RFC 8737 §3).
    fn proof(&self) -> Vec<u8> {
        let text = format!("{TOKEN}.{}", self.order.lock().unwrap().thumbprint);
        digest(&SHA256, text.as_bytes()).as_ref().to_vec()
    }

    /// A certificate for the key of a request (RFC 8555 §7.4), which has to name what was proved.
    fn issue(&self, request: &[u8]) -> String {
        let (_, request) = X509CertificationRequest::from_der(request).unwrap();
        let names = format!("{:?}", request.requested_extensions().unwrap().collect::<Vec<_>>());
        assert!(names.contains(DOMAIN), "{names}");
        let key = request.certification_request_info.subject_pki.subject_public_key.data;
        let params = CertificateParams::new(vec![DOMAIN.to_owned()]).unwrap();
        let key = Asked(key.to_vec());
        let issued = params.signed_by(&key, &self.issuer, &self.issuer_key).unwrap();
        format!("{}{}", issued.pem(), self.issuer.pem())
    }

    fn order(&self) -> Value {
        let (base, order) = (&self.base, self.order.lock().unwrap());
        let status = match &order.chain {
            Some(_) => "valid",
            None if order.is_proved => "ready",
            None => "pending",
        };
        json!({ "status": status, "authorizations": [format!("{base}/authorization")],
                "finalize": format!("{base}/finalize"), "certificate": format!("{base}/certificate") })
    }
}

/// What a member of a signed request says. The library signs well, or nobody's authority would take it.
fn member(body: &str, name: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    let member = BASE64_URL_SAFE_NO_PAD.decode(body[name].as_str().unwrap()).unwrap();
    serde_json::from_slice(&member).unwrap_or_default()
}

async fn answer(State(authority): State<Arc<Authority>>, uri: Uri, body: String) -> Response {
    let (base, path) = (&authority.base, uri.path());
    let mut answer = match path {
        "/directory" => {
            let at = |path: &str| format!("{base}/{path}");
            json!({ "newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("order") })
        }
        "/account" => {
            let key = member(&body, "protected")["jwk"].take();
            // In this order (RFC 7638 §3.2).
            let thumb = format!(
                r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#,
                key["crv"], key["kty"], key["x"], key["y"]
            );
            let thumb = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, thumb.as_bytes()));
            authority.order.lock().unwrap().thumbprint = thumb;
            json!({ "status": "valid" })
        }
        "/order" => {
            assert_eq!(
                member(&body, "payload")["identifiers"],
                json!([{ "type": "dns", "value": DOMAIN }])
            );
            authority.order.lock().unwrap().count += 1;
            authority.order()
        }
        "/authorization" => {
            let is_proved = authority.order.lock().unwrap().is_proved;
            let challenge = json!({ "type": "tls-alpn-01", "url": format!("{base}/challenge"), "token": TOKEN });
            json!({ "status": if is_proved { "valid" } else { "pending" },
                    "identifier": { "type": "dns", "value": DOMAIN }, "challenges": [challenge] })
        }
        "/challenge" => {
            let server = *authority.server.get().unwrap();
            let is_proved = client::proves(server, DOMAIN, authority.proof()).await;
            authority.order.lock().unwrap().is_proved = is_proved;
            json!({})
        }
        "/finalize" => {
            let request = member(&body, "payload")["csr"].take();
            let request = BASE64_URL_SAFE_NO_PAD.decode(request.as_str().unwrap()).unwrap();
            authority.order.lock().unwrap().chain = Some(authority.issue(&request));
            authority.order()
        }
        _ if path.starts_with("/order/") => authority.order(),
        "/certificate" | "/nonce" => Value::Null,
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    .to_string();
    if path == "/certificate" {
        answer = authority.order.lock().unwrap().chain.clone().unwrap();
    } else if path == "/nonce" {
        // It is asked for by HEAD, and the library waits for as many bytes as the answer says.
        answer.clear();
    }
    let mut response = answer.into_response();
    let location = HeaderValue::from_str(&format!("{base}{path}/1")).unwrap();
    response.headers_mut().insert("location", location);
    response.headers_mut().insert("replay-nonce", HeaderValue::from_static("once"));
    response
}
