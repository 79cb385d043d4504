//! The opening handshake of a WebSocket (RFC 6455 §4.1), client side.
//!
//! The library's own insists on one of the sub-protocols that it has asked for, and the RFC does (§4.1,
//! item 6) only forbid the server to choose one that was not asked for. A rendezvous that knows of none
//! is to be used all the same, and in this very connection: it has registered the worker by then.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use holepunch_wire::signal::v1::SUBPROTOCOL;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{ProtocolError, UrlError};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, http};
use url::Url;

use super::stream::{Below, Stream};
use crate::tls::Tls;

/// Longest head of an answer, in bytes, and most headers in it.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 96;
/// What is read at once.
const READ_BYTES: usize = 2048;

/// An open WebSocket.
pub(crate) struct Opened {
    pub(crate) socket: WebSocketStream<Stream>,
    /// The other end's address: that of a proxy, where there is one.
    pub(crate) server: SocketAddr,
    /// Whether the server has chosen `holepunch.v1`.
    pub(super) is_v1: bool,
}

/// What a WebSocket is asked for with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asking<'a> {
    /// The baseline: nothing else.
    Baseline,
    /// The sub-protocol `holepunch.v1`.
    V1,
    /// The `Authorization` header.
    Authorized(&'a str),
}

/// How the server is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// Its address, where that needs no look-up.
    pub(crate) known: Option<SocketAddr>,
    /// TCP has so long to connect.
    pub(crate) tcp_within: Duration,
}

/// Opens a WebSocket.
pub(crate) async fn open(
    url: &Url,
    tls: &Tls,
    way: Way,
    asking: Asking<'_>,
    config: WebSocketConfig,
) -> Result<Opened, Error> {
    let (mut stream, server) = connect(url, tls, way).await?;
    let key = generate_key();
    stream.write_all(request(url, &key, asking).as_bytes()).await?;
    stream.flush().await?;
    let (head, rest) = read_head(&mut stream).await?;
    let is_v1 = judge(&head, &rest, &key, matches!(asking, Asking::V1))?;
    let socket =
        WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
    Ok(Opened { socket, server, is_v1 })
}

async fn connect(url: &Url, tls: &Tls, way: Way) -> Result<(Stream, SocketAddr), Error> {
    let host = url.host_str().ok_or(Error::Url(UrlError::NoHostName))?;
    let port = url.port_or_known_default().ok_or(Error::Url(UrlError::UnsupportedUrlScheme))?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let is_encrypted = url.scheme() == "wss";
    // What TLS needs is made while TCP connects.
    let config = async { if is_encrypted { Some(tls.config().await) } else { None } };
    let tcp = async {
        match way.known {
            Some(known) => TcpStream::connect(known).await,
            None => TcpStream::connect((name, port)).await,
        }
    };
    let (stream, config) = tokio::join!(timeout(way.tcp_within, tcp), config);
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let Some(config) = config else { return Ok((Stream::new(Below::Left(stream)), peer)) };
    let config = config.map_err(|error| Error::Io(io::Error::other(error)))?;
    let server = ServerName::try_from(name.to_owned())
        .map_err(|error| Error::Io(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream = TlsConnector::from(config).connect(server, stream).await?;
    Ok((Stream::new(Below::Right(Box::new(stream))), peer))
}

fn request(url: &Url, key: &str, asking: Asking<'_>) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let query = url.query().map_or(String::new(), |query| format!("?{query}"));
    let asking = match asking {
        Asking::Baseline => String::new(),
        Asking::V1 => format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"),
        Asking::Authorized(by) => format!("Authorization: {by}\r\n"),
    };
    format!(
        "GET {path}{query} HTTP/1.1\r\nHost: {host}{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         {asking}\r\n",
        path = url.path(),
    )
}

/// Reads the head of the answer, and what came with it of the rest.
async fn read_head(stream: &mut Stream) -> Result<(Response<()>, Vec<u8>), Error> {
    let mut read = Vec::with_capacity(READ_BYTES);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(Error::Protocol(ProtocolError::HandshakeIncomplete));
        }
        if let Some((head, length)) = parse_head(&read)? {
            return Ok((head, read.split_off(length)));
        }
        if read.len() > HEAD_BYTES_MAX {
            return Err(Error::AttackAttempt);
        }
    }
}

/// The head and its length; `None` where it is not complete yet.
fn parse_head(read: &[u8]) -> Result<Option<(Response<()>, usize)>, Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let not_http = |error| Error::Protocol(ProtocolError::HttparseError(error));
    let httparse::Status::Complete(length) = parsed.parse(read).map_err(not_http)? else {
        return Ok(None);
    };
    let mut head = Response::new(());
    let status = http::StatusCode::from_u16(parsed.code.unwrap_or_default());
    *head.status_mut() = status.map_err(|error| Error::HttpFormat(error.into()))?;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (name, value) = (
            name.map_err(|error| Error::HttpFormat(error.into()))?,
            value.map_err(|error| Error::HttpFormat(error.into()))?,
        );
        head.headers_mut().append(name, value);
    }
    Ok(Some((head, length)))
}

/// Whether the answer opens a WebSocket (RFC 6455 §4.1), and with which sub-protocol.
fn judge(head: &Response<()>, rest: &[u8], key: &str, ask_v1: bool) -> Result<bool, Error> {
    if head.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let mut response = Response::new(Some(rest.to_vec()));
        *response.status_mut() = head.status();
        *response.headers_mut() = head.headers().clone();
        return Err(Error::Http(Box::new(response)));
    }
    let headers = head.headers();
    if !names(headers, "upgrade", "websocket") {
        return Err(Error::Protocol(ProtocolError::MissingUpgradeWebSocketHeader));
    }
    if !names(headers, "connection", "upgrade") {
        return Err(Error::Protocol(ProtocolError::MissingConnectionUpgradeHeader));
    }
    let accepted = headers.get("sec-websocket-accept");
    if accepted.is_none_or(|accepted| accepted != derive_accept_key(key.as_bytes()).as_str()) {
        return Err(Error::Protocol(ProtocolError::SecWebSocketAcceptKeyMismatch));
    }
    match headers.get("sec-websocket-protocol") {
        None => Ok(false),
        Some(chosen) if ask_v1 && chosen == SUBPROTOCOL => Ok(true),
        Some(_) => {
            use tokio_tungstenite::tungstenite::error::SubProtocolError::InvalidSubProtocol;
            Err(Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(InvalidSubProtocol)))
        }
    }
}

/// Whether a header's list of words holds `word`.
fn names(headers: &HeaderMap, header: &str, word: &str) -> bool {
    headers.get_all(header).iter().any(|value| {
        let words = value.to_str().unwrap_or_default().split(',');
        words.map(str::trim).any(|other| other.eq_ignore_ascii_case(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const HEAD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    fn judged(text: &str, ask_v1: bool) -> Result<bool, String> {
        let (head, length) = parse_head(text.as_bytes()).unwrap().expect("a complete head");
        assert_eq!(length, text.len());
        judge(&head, b"said", KEY, ask_v1).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_may_choose_the_subprotocol_or_none_but_no_other() {
        assert_eq!(judged(&format!("{HEAD}\r\n"), true), Ok(false));
        let chosen = format!("{HEAD}Sec-WebSocket-Protocol: holepunch.v1\r\n\r\n");
        assert_eq!(judged(&chosen, true), Ok(true));
        assert!(judged(&chosen, false).is_err(), "it was not asked for");
        assert!(judged(&format!("{HEAD}Sec-WebSocket-Protocol: x\r\n\r\n"), true).is_err());
    }

    #[test]
    fn what_is_no_opened_websocket_is_refused() {
        let wrong = HEAD.replace("s3pP", "xxxx");
        assert!(judged(&format!("{wrong}\r\n"), true).unwrap_err().contains("Accept"));
        assert!(judged("HTTP/1.1 404 Not Found\r\n\r\n", true).unwrap_err().contains("404"));
        for lost in ["Upgrade: websocket\r\n", "Connection: keep-alive, Upgrade\r\n"] {
            assert!(judged(&format!("{}\r\n", HEAD.replace(lost, "")), true).is_err());
        }
        assert!(parse_head(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 101").unwrap().is_none());
    }

    #[test]
    fn the_request_is_what_the_rfc_asks_for() {
        let url: Url = "ws://a.example:8080/ws/register/x?room=r".parse().unwrap();
        let text = request(&url, KEY, Asking::V1);
        assert!(text.starts_with("GET /ws/register/x?room=r HTTP/1.1\r\nHost: a.example:8080\r\n"));
        assert!(text.contains("\r\nSec-WebSocket-Protocol: holepunch.v1\r\n\r\n"));
        assert!(!request(&url, KEY, Asking::Baseline).contains("Protocol"));
        let relay = request(&url, KEY, Asking::Authorized("Bearer x"));
        assert!(relay.contains("\r\nAuthorization: Bearer x\r\n\r\n"));
        let v6: Url = "ws://[::1]:9/".parse().unwrap();
        assert!(request(&v6, KEY, Asking::Baseline).contains("\r\nHost: [::1]:9\r\n"));
    }
}
