//! What a failed handshake or a close most likely means, and what to do.

use std::io;

use holepunch_link::FailureCode;
use holepunch_link::dial::NameUnknown;
use holepunch_wire::close_code::CLOSE_REASON_BYTES_MAX;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::relay::RELAY_SCHEME;
use holepunch_wire::signal::{REFUSAL_HEADER, REGISTER_PATH};
use holepunch_wire::text::{harmless, start};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::response::Response;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::handshake::SpeaksTls;
use crate::config::SettingNames;
use crate::failure::Told;
use crate::url::WebSocketUrl;

/// What the library makes of a close code that it does not know, among them 1014, which the registry of RFC 6455 §11.7 has
/// since for a gateway whose server does not answer.
const UNKNOWN_CODE_REASON: &str = "Protocol violation";
/// Most characters of a server's own words that are repeated.
const BODY_CHARS_MAX: usize = 120;
/// Likewise where a rendezvous says why it does not let a worker in, and what to do.
const REFUSAL_CHARS_MAX: usize = 500;
/// What servers answer that are asked in plain text where they speak TLS.
const HTTPS_WANTED: [&str; 3] = [
    "plain HTTP request was sent to HTTPS port",
    "speaking plain HTTP to an SSL-enabled server port",
    "Client sent an HTTP request to an HTTPS server",
];

/// Why there is no WebSocket, for programs.
#[expect(clippy::wildcard_enum_match_arm, reason = "the libraries may add errors")]
pub(crate) fn code_of_handshake(error: &Error) -> FailureCode {
    match error {
        Error::Http(response) => match response.status() {
            // As RFC 6750 §3.1 has it: it is not the token that is wrong.
            StatusCode::FORBIDDEN if is_refusal(response) => FailureCode::NotAllowed,
            _ if is_refusal(response) => FailureCode::TokenRefused,
            StatusCode::UNAUTHORIZED => FailureCode::LoginWanted,
            StatusCode::TOO_MANY_REQUESTS => FailureCode::Unavailable,
            status if status.is_server_error() => FailureCode::Unavailable,
            _ => FailureCode::NotARendezvous,
        },
        Error::Tls(_) => FailureCode::Tls,
        Error::Io(error) if SpeaksTls::is(error) => FailureCode::Tls,
        Error::Io(error) if NameUnknown::is(error) => FailureCode::NameUnknown,
        Error::Io(error) => Told::code_of(error).unwrap_or_else(|| match error.kind() {
            io::ErrorKind::ConnectionRefused => FailureCode::ConnectionRefused,
            io::ErrorKind::TimedOut => FailureCode::TimedOut,
            _ => FailureCode::ConnectionLost,
        }),
        Error::ConnectionClosed | Error::AlreadyClosed => FailureCode::ConnectionLost,
        _ => FailureCode::NotARendezvous,
    }
}

/// Why the rendezvous closed the WebSocket, for programs; `reason`: as it has told before.
pub(crate) fn code_of_close(frame: Option<&CloseFrame>, reason: CloseReason) -> FailureCode {
    match frame {
        Some(_) if reason == CloseReason::Replaced => FailureCode::Replaced,
        Some(_) if matches!(reason, CloseReason::RoomNotAllowed | CloseReason::ModeNotAllowed) => {
            FailureCode::NotAllowed
        }
        Some(_) if is_about_token(reason) => FailureCode::TokenRefused,
        Some(frame) if frame.code == CloseCode::Policy => FailureCode::NotAdmitted,
        Some(_) | None => FailureCode::ConnectionLost,
    }
}

/// Whether the worker's token is what it is closed for.
fn is_about_token(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::TokenExpired
            | CloseReason::TokenRevoked
            | CloseReason::RoomNotAllowed
            | CloseReason::ModeNotAllowed
    )
}

/// Why there is no WebSocket, in words.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors")]
pub(crate) fn on_handshake(error: &Error, url: &WebSocketUrl) -> String {
    match error {
        Error::Http(response) => on_response(response, url),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            let may_want_tls = if !url.is_encrypted() {
                "it may expect TLS there (https://), or something in between lets no WebSocket through"
            } else {
                "something in between may let no WebSocket through"
            };
            format!("the server ended the connection without an answer: {may_want_tls}")
        }
        Error::Protocol(ProtocolError::HttparseError(_)) => {
            format!("what answers there speaks no HTTP ({error}): is the port right?")
        }
        // What the system says, without the library's name for that.
        Error::Io(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// What a worker has registered with on a WebSocket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registered<'a> {
    /// Why it is closed.
    pub(crate) reason: CloseReason,
    /// The host that it has signed.
    pub(crate) host: &'a str,
    pub(crate) names: SettingNames,
}

/// Why the rendezvous closed a WebSocket, in words; what to do about it, where a worker has `registered` on it.
pub(crate) fn on_close(frame: Option<&CloseFrame>, registered: Option<Registered<'_>>) -> String {
    let Some(frame) = frame else { return "the rendezvous closed the connection".to_owned() };
    if frame.code == CloseCode::Protocol && frame.reason == UNKNOWN_CODE_REASON {
        return "the connection was closed with a code that is not known here, such as 1014, which a proxy sends when the \
                rendezvous behind it does not answer"
            .to_owned();
    }
    let said = harmless(&frame.reason, CLOSE_REASON_BYTES_MAX);
    let hint = registered.map_or(String::new(), |registered| hint_on_close(frame, registered));
    format!("the rendezvous closed the connection ({} {said}){hint}", u16::from(frame.code))
}

fn hint_on_close(frame: &CloseFrame, Registered { reason, host, names }: Registered<'_>) -> String {
    if reason == CloseReason::Replaced {
        format!(": another worker or program runs with this id ({})", names.identity)
    } else if reason == CloseReason::NotProved {
        format!(
            ": this worker has signed the host of its URL, {host:?}; a proxy in front of the rendezvous has to pass the \
             Host header on (nginx: proxy_set_header Host $host), or the rendezvous to be told the name ({}), \
             or to trust the proxy's X-Forwarded-Host ({})",
            names.public_host, names.trusted_proxy
        )
    } else if is_about_token(reason) {
        format!(" ({})", names.token)
    } else if frame.code == CloseCode::Policy {
        format!(
            ": it does not take this worker under this id ({}), and trying again soon does not help",
            names.worker_id
        )
    } else {
        String::new()
    }
}

fn on_response(response: &Response<Option<Vec<u8>>>, url: &WebSocketUrl) -> String {
    let status = response.status();
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let said = body.split_whitespace().collect::<Vec<_>>().join(" ");
    if is_refusal(response) {
        let said = harmless(&said, REFUSAL_CHARS_MAX);
        return format!("the rendezvous does not let this worker in ({said})");
    }
    let said = harmless(&said, BODY_CHARS_MAX);
    let hint = match status {
        StatusCode::OK => {
            ": that is no rendezvous, or it is this worker's own health server".to_owned()
        }
        StatusCode::NOT_FOUND if url.path().contains(REGISTER_PATH) => {
            format!(
                ": that is no rendezvous, or its URL has another path ({REGISTER_PATH}… is appended to it)"
            )
        }
        // A relay's own word for a token that has expired.
        StatusCode::UNAUTHORIZED if wants_a_token(response) => format!(": {said}"),
        StatusCode::UNAUTHORIZED if url.username().is_empty() => {
            ": a server in front of it wants a name and a password; write them into the URL, as \
             https://name:password@host"
                .to_owned()
        }
        StatusCode::UNAUTHORIZED => {
            ": a server in front of it does not take the name and the password in the URL"
                .to_owned()
        }
        // As nginx, Apache and Go's server say it.
        StatusCode::BAD_REQUEST if HTTPS_WANTED.iter().any(|said| body.contains(said)) => {
            ": the server speaks TLS there; use https:// or wss://".to_owned()
        }
        _ if status.is_redirection() => {
            let to = response.headers().get("location").and_then(|to| to.to_str().ok());
            let to = start(to.unwrap_or("nowhere"), BODY_CHARS_MAX);
            format!(": a redirect to {to:?}; use that URL itself")
        }
        _ if said.is_empty() => String::new(),
        _ => format!(": {said}"),
    };
    format!("the server answered the handshake with {status}{hint}")
}

/// Whether it is the rendezvous itself that does not take this worker, or its token.
fn is_refusal(response: &Response<Option<Vec<u8>>>) -> bool {
    let status = response.status();
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && response.headers().contains_key(REFUSAL_HEADER)
}

/// Whether what is missing is a bearer's token (RFC 6750 §3), and no password.
fn wants_a_token(response: &Response<Option<Vec<u8>>>) -> bool {
    let asked = response.headers().get("www-authenticate").and_then(|asked| asked.to_str().ok());
    asked.is_some_and(|asked| asked.starts_with(RELAY_SCHEME))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: SettingNames = SettingNames {
        worker_id: "--own-id",
        identity: "--own-id",
        udp_port: "",
        stun_servers: "",
        stun_retries: "",
        relay: "",
        host_candidates: "",
        token: "--own-token",
        public_host: "--own-hosts",
        trusted_proxy: "--own-proxies",
    };
    const REGISTERED: Option<Registered<'_>> = of(CloseReason::Unknown);

    const fn of(reason: CloseReason) -> Option<Registered<'static>> {
        Some(Registered { reason, host: "a.example", names: NAMES })
    }

    fn hint(status: u16, body: &str) -> String {
        let response = Response::builder().status(status).body(Some(body.into())).unwrap();
        let url = "ws://a.example/ws/register/x".parse().unwrap();
        on_handshake(&Error::Http(Box::new(response)), &url)
    }

    #[test]
    fn a_session_that_is_replaced_says_who_is_to_blame() {
        let frame = CloseFrame { code: 1000.into(), reason: "bye".into() };
        let told = |reason| on_close(Some(&frame), of(reason));
        assert!(told(CloseReason::Replaced).contains("(--own-id)"));
        assert!(told(CloseReason::Unknown).ends_with("(1000 bye)"));
        let code = |reason| code_of_close(Some(&frame), reason);
        assert_eq!(code(CloseReason::Replaced), FailureCode::Replaced);
        assert_eq!(code(CloseReason::Unknown), FailureCode::ConnectionLost);
    }

    #[test]
    fn a_refusal_is_told_in_the_server_s_words() {
        let reason = "this id is bound to another key".into();
        let frame = CloseFrame { code: CloseCode::Policy, reason };
        let told = on_close(Some(&frame), REGISTERED);
        assert!(told.contains("(1008 this id is bound to another key): "), "{told}");
        assert!(told.ends_with("trying again soon does not help"), "{told}");
        let of_a_relay = on_close(Some(&frame), None);
        assert!(of_a_relay.ends_with("bound to another key)"), "no id is in its way: {of_a_relay}");
    }

    #[test]
    fn a_signature_that_is_not_taken_names_the_host_that_was_signed_and_blames_no_id() {
        let reason =
            "the signature does not prove the key: it must be over host \"backend\", …".into();
        let frame = CloseFrame { code: CloseCode::Policy, reason };
        let told = on_close(Some(&frame), of(CloseReason::NotProved));
        for part in [
            "\"backend\"",
            "\"a.example\"",
            "proxy_set_header Host",
            "--own-hosts",
            "--own-proxies",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("this id"), "{told}");
    }

    #[test]
    fn a_close_code_that_the_library_does_not_know_is_not_told_as_a_violation() {
        use std::io::Cursor;
        use tokio_tungstenite::tungstenite::Message;
        use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

        let told = |code: u16| {
            let [high, low] = code.to_be_bytes();
            let bytes = Cursor::new(vec![0x88, 3, high, low, b'x']);
            let read = WebSocket::from_raw_socket(bytes, Role::Client, None).read().unwrap();
            let Message::Close(frame) = read else { panic!("{read:?}") };
            on_close(frame.as_ref(), REGISTERED)
        };
        assert!(told(1014).contains("1014") && !told(1014).contains("violation"));
        assert_eq!(told(1002), "the rendezvous closed the connection (1002 x)");
    }

    #[test]
    fn tls_is_missed_only_where_it_was_not_spoken() {
        let ended = Error::Protocol(ProtocolError::HandshakeIncomplete);
        for (url, may_want_tls) in [("ws://a.example", true), ("wss://a.example", false)] {
            let told = on_handshake(&ended, &url.parse().unwrap());
            assert_eq!(told.contains("TLS"), may_want_tls, "{told}");
            assert!(told.contains("lets no WebSocket") || told.contains("let no WebSocket"));
        }
    }

    #[test]
    fn a_rendezvous_that_does_not_let_a_worker_in_says_why_in_one_sentence() {
        let refused = |status: u16| {
            let response = Response::builder().status(status);
            let response = response.header("Holepunch-Refusal", "token_expired");
            let body = "token_expired: the token expired 300 s ago".as_bytes().to_vec();
            Error::Http(Box::new(response.body(Some(body)).unwrap()))
        };
        for (status, code) in [(401, FailureCode::TokenRefused), (403, FailureCode::NotAllowed)] {
            let error = refused(status);
            assert_eq!(code_of_handshake(&error), code);
            let told = on_handshake(&error, &"ws://a.example/ws/register/x".parse().unwrap());
            let expected = "the rendezvous does not let this worker in (token_expired: the token expired 300 s ago)";
            assert_eq!(told, expected);
        }
        assert_eq!(code_of_handshake(&refused(500)), FailureCode::Unavailable);
        let frame = CloseFrame { code: CloseCode::Policy, reason: "it has expired".into() };
        let told = on_close(Some(&frame), of(CloseReason::TokenExpired));
        assert!(told.ends_with("(1008 it has expired) (--own-token)"), "{told}");
        let code = |reason| code_of_close(Some(&frame), reason);
        assert_eq!(code(CloseReason::TokenRevoked), FailureCode::TokenRefused);
        assert_eq!(code(CloseReason::ModeNotAllowed), FailureCode::NotAllowed);
        assert_eq!(code(CloseReason::OtherKey), FailureCode::NotAdmitted);
    }

    #[test]
    fn a_status_is_explained() {
        assert!(hint(200, "OK").contains("health server"));
        assert!(hint(404, "").contains("/ws/register/"));
        let no_relay = Response::builder().status(404).body(Some(b"no such session".to_vec()));
        let no_relay = Error::Http(Box::new(no_relay.unwrap()));
        let told = on_handshake(&no_relay, &"ws://a.example/ws/relay/1".parse().unwrap());
        assert!(told.ends_with("404 Not Found: no such session"), "{told}");
        assert!(
            hint(503, "as many workers as it takes\n").ends_with("as many workers as it takes")
        );
        assert!(hint(301, "").contains("redirect"));
        let far = Response::builder().status(302).header("location", "A".repeat(15_000));
        let far = Error::Http(Box::new(far.body(None).unwrap()));
        assert!(on_handshake(&far, &"ws://a.example".parse().unwrap()).len() < 300);
        assert!(hint(401, "").contains("https://name:password@host"));
        let expired =
            Response::builder().status(401).header("www-authenticate", "Bearer error=\"x\"");
        let expired = Error::Http(Box::new(expired.body(Some(b"it expired".to_vec())).unwrap()));
        let told = on_handshake(&expired, &"ws://a.example/ws/relay/1".parse().unwrap());
        assert!(told.ends_with("401 Unauthorized: it expired"), "{told}");
        let nginx = "<h1>400 Bad Request</h1> The plain HTTP request was sent to HTTPS port";
        assert!(hint(400, nginx).contains("use https://"));
        assert!(hint(500, "").ends_with("500 Internal Server Error"));
    }
}
