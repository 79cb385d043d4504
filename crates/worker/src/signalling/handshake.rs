//! The opening handshake of a WebSocket (RFC 6455 §4.1), client side.
//!
//! The library's own insists on one of the sub-protocols that it has asked for, and the RFC does (§4.1,
//! item 6) only forbid the server to choose one that was not asked for. A rendezvous that knows of none
//! is to be used all the same, and in this very connection: it has registered the worker by then.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use holepunch_wire::relay::{RELAY_SCHEME, RELAY_TOKEN_HEADER};
use holepunch_wire::signal::TOKEN_PROTOCOL_PREFIX;
use holepunch_wire::signal::v1::SUBPROTOCOL;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, http};

use super::stream::Stream;
use crate::login::Login;
use crate::reach::Access;
use crate::token::Token;
use crate::url::WebSocketUrl;

/// Longest head of an answer, in bytes, and most headers in it.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 96;
/// What is read at once.
const READ_BYTES: usize = 2048;

/// How a server that speaks TLS complains of what does not: an alert (RFC 8446 §5.1, §6).
const TLS_ALERT: [u8; 2] = [21, 3];

/// What was asked in plain text speaks TLS.
#[derive(Debug, thiserror::Error)]
#[error("the server speaks TLS there; use https:// or wss://")]
pub(crate) struct SpeaksTls;

impl SpeaksTls {
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Opened {
    /// The WebSocket.
    pub socket: WebSocketStream<Stream>,
    /// The other end's address: that of a proxy, where there is one.
    pub server: SocketAddr,
    /// Whether the server has chosen `holepunch.v1`.
    pub is_v1: bool,
}

/// What a WebSocket is asked for with.
#[derive(Debug, Clone, Copy)]
pub enum Asking<'a> {
    /// The baseline: nothing else.
    Baseline,
    /// The sub-protocol `holepunch.v1`.
    V1,
    /// A relay, by the session's token.
    Relay(&'a str),
}

/// How the server is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// Its address, where that needs no look-up.
    pub(crate) known: Option<SocketAddr>,
    /// TCP has so long to connect.
    pub(crate) tcp_within: Duration,
    /// TCP, TLS and the handshake have so long together.
    pub(crate) within: Duration,
}

/// What TCP, TLS and the WebSocket handshake may take together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a WebSocket.
pub(crate) async fn open(
    url: &WebSocketUrl,
    access: &Access,
    way: Way,
    asking: Asking<'_>,
    config: WebSocketConfig,
) -> Result<Opened, Error> {
    let until = Instant::now() + way.within;
    let (tcp, server) = access.tcp(url, way.known, way.tcp_within).await?;
    let key = generate_key();
    let answer = async {
        let mut stream = access.stream(url, tcp).await?;
        let request = request(url, &key, asking, access)?;
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let (head, rest) = read_head(&mut stream).await?;
        Ok::<_, Error>((stream, head, rest))
    };
    let (stream, head, rest) = match timeout_at(until, answer).await {
        Ok(answer) => answer?,
        Err(_) => {
            let why = format!(
                "{server} has not answered within {:?}: it takes the TCP connection, and says nothing on it",
                way.within
            );
            return Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
    };
    access.mute.answered(server);
    let is_v1 = judge(&head, &rest, &key, matches!(asking, Asking::V1))?;
    let socket =
        WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
    Ok(Opened { socket, server, is_v1 })
}

/// Longest body that is read of an answer to [`get`], in bytes.
#[cfg(feature = "steps")]
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Asks for the page at `url` on a connection to its host, and reads the answer: its head, and as much of its body as there is
/// room for.
#[cfg(feature = "steps")]
pub(crate) async fn get(
    stream: &mut Stream,
    url: &WebSocketUrl,
    login: Option<&Login>,
) -> Result<Response<Vec<u8>>, Error> {
    stream.write_all(page_request(url, login).as_bytes()).await?;
    stream.flush().await?;
    let (head, mut body) = read_head(stream).await?;
    let length = head.headers().get(http::header::CONTENT_LENGTH);
    let length: Option<usize> = length.and_then(|text| text.to_str().ok()?.parse().ok());
    let most = length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    // A server that ends the connection without the usual ceremony of TLS has said what it had to say.
    while body.len() < most && stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {}
    body.truncate(most);
    Ok(head.map(|()| body))
}

#[cfg(feature = "steps")]
fn page_request(url: &WebSocketUrl, login: Option<&Login>) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nConnection: close\r\n{}\r\n",
        path_and_query(url),
        url.authority(),
        authorization(login),
    )
}

fn path_and_query(url: &WebSocketUrl) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

fn authorization(login: Option<&Login>) -> String {
    login.map_or(String::new(), |login| format!("Authorization: {}\r\n", login.reveal()))
}

fn request(
    url: &WebSocketUrl,
    key: &str,
    asking: Asking<'_>,
    access: &Access,
) -> io::Result<String> {
    let login = access.login.as_ref();
    // A relay has a token of its own.
    let token = access.token.as_ref().filter(|_| !matches!(asking, Asking::Relay(_)));
    let token = token.map(Token::read).transpose()?;
    let mut protocols: Vec<String> = Vec::new();
    let mut headers = authorization(login);
    if matches!(asking, Asking::V1) {
        protocols.push(SUBPROTOCOL.to_owned());
    }
    match (asking, token) {
        // The header is taken where the server in front of the rendezvous wants a password in it.
        (Asking::Relay(token), _) if login.is_some() => {
            headers += &format!("{RELAY_TOKEN_HEADER}: {token}\r\n");
        }
        (Asking::Relay(token), _) => {
            headers += &format!("Authorization: {RELAY_SCHEME}{token}\r\n");
        }
        (_, Some(token)) if login.is_some() => {
            protocols.push(format!("{TOKEN_PROTOCOL_PREFIX}{token}"));
        }
        (_, Some(token)) => headers += &format!("Authorization: {RELAY_SCHEME}{token}\r\n"),
        (_, None) => {}
    }
    if !protocols.is_empty() {
        headers += &format!("Sec-WebSocket-Protocol: {}\r\n", protocols.join(", "));
    }
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         {headers}\r\n",
        path = path_and_query(url),
        host = url.authority(),
    ))
}

/// Reads the head of the answer, and what came with it of the rest.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(Response<()>, Vec<u8>), Error> {
    let mut read = Vec::with_capacity(READ_BYTES);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(Error::Protocol(ProtocolError::HandshakeIncomplete));
        }
        if read.starts_with(&TLS_ALERT) {
            return Err(Error::Io(io::Error::new(io::ErrorKind::InvalidData, SpeaksTls)));
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

    fn access(login: Option<&str>, token: Option<&str>) -> Access {
        let url = format!("wss://{}a.example", login.unwrap_or_default()).parse().unwrap();
        Access::new(&url, None, token.map(|token| Token::new(token).unwrap()))
    }

    #[test]
    fn a_token_goes_to_the_rendezvous_beside_the_password_for_a_server_in_front_of_it() {
        let url: WebSocketUrl = "wss://a.example/ws/register/x".parse().unwrap();
        let asked =
            |login, asking| request(&url, KEY, asking, &access(login, Some("a.b.c"))).unwrap();
        for asking in [Asking::Baseline, Asking::V1] {
            let text = asked(None, asking);
            assert!(text.contains("\r\nAuthorization: Bearer a.b.c\r\n"), "{text}");
            let text = asked(Some("u:p@"), asking);
            assert!(text.contains("\r\nAuthorization: Basic "), "{text}");
            let listed = text.lines().filter(|line| line.starts_with("Sec-WebSocket-Protocol: "));
            let listed: Vec<_> = listed.collect();
            assert!(listed.len() == 1 && listed[0].ends_with("holepunch.token.a.b.c"), "{text}");
            assert_eq!(listed[0].contains("holepunch.v1, "), matches!(asking, Asking::V1));
        }
        for login in [None, Some("u:p@")] {
            assert!(!asked(login, Asking::Relay("x")).contains("a.b.c"), "a relay has its own");
        }
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
        let url: WebSocketUrl = "ws://a.example:8080/ws/register/x?room=r".parse().unwrap();
        let none = access(None, None);
        let asked = |url: &WebSocketUrl, asking| request(url, KEY, asking, &none).unwrap();
        let text = asked(&url, Asking::V1);
        assert!(text.starts_with("GET /ws/register/x?room=r HTTP/1.1\r\nHost: a.example:8080\r\n"));
        assert!(text.contains("\r\nSec-WebSocket-Protocol: holepunch.v1\r\n\r\n"));
        assert!(!asked(&url, Asking::Baseline).contains("Protocol"));
        let relay = asked(&url, Asking::Relay("x"));
        assert!(relay.contains("\r\nAuthorization: Bearer x\r\n\r\n"));
        let v6: WebSocketUrl = "ws://[::1]:9/".parse().unwrap();
        assert!(asked(&v6, Asking::Baseline).contains("\r\nHost: [::1]:9\r\n"));
        #[cfg(feature = "steps")]
        assert!(page_request(&url, None).starts_with("GET /ws/register/x?room=r HTTP/1.1\r\n"));
    }

    #[test]
    fn the_password_of_a_url_goes_with_every_request_beside_a_relay_s_token() {
        let url: WebSocketUrl = "wss://a.example/base/ws/relay/1".parse().unwrap();
        let access = access(Some("Aladdin:open%20sesame@"), None);
        let basic = "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
        for asking in [Asking::Baseline, Asking::V1, Asking::Relay("x")] {
            let text = request(&url, KEY, asking, &access).unwrap();
            assert!(text.contains(basic) && text.matches("Authorization").count() == 1, "{text}");
            let has_token = text.contains("\r\nHolepunch-Relay-Token: x\r\n");
            assert_eq!(has_token, matches!(asking, Asking::Relay(_)), "{text}");
        }
    }

    #[tokio::test]
    async fn who_takes_a_connection_and_says_nothing_is_named_and_is_no_one_to_begin_with() {
        use std::time::Duration;

        use crate::rendezvous_url::RendezvousUrl;
        use tokio::net::TcpListener;

        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let rendezvous: RendezvousUrl = format!("ws://{address}").parse().unwrap();
        let access = Access::new(&rendezvous, None, None);
        let url: WebSocketUrl = format!("ws://{address}/").parse().unwrap();
        let (tcp_within, within) = (Duration::from_secs(40), Duration::from_millis(300));
        let way = Way { known: None, tcp_within, within };
        let opening = |way| open(&url, &access, way, Asking::Baseline, WebSocketConfig::default());
        let Err(Error::Io(error)) = opening(way).await else { panic!("it is not open") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let told = format!("{address} has not answered within");
        assert!(error.to_string().contains(&told), "{error}");
        let other = SocketAddr::from(([127, 0, 0, 9], 9));
        assert_eq!(access.mute.last(vec![address, other]), [other, address]);
        let way = Way { within: tcp_within, ..way };
        let answering = async {
            let (_first, (mut second, _)) =
                (silent.accept().await.unwrap(), silent.accept().await.unwrap());
            second.write_all(b"HTTP/1.1 503 Full\r\n\r\n").await.unwrap();
            second
        };
        let (opened, _open) = tokio::join!(opening(way), answering);
        assert!(matches!(opened, Err(Error::Http(_))));
        assert_eq!(access.mute.last(vec![address, other]), [address, other], "it has answered");
    }
}
