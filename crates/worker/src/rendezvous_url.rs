//! The URL of a rendezvous.

use std::fmt;
use std::str::FromStr;

use holepunch_wire::WorkerId;
use holepunch_wire::relay::RELAY_PATH;
use holepunch_wire::session::{RoomName, SessionId};
use holepunch_wire::signal::REGISTER_PATH;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::login::Login;
use crate::url::{WebSocketUrl, without_brackets};

/// What stays as it is in a path segment (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a rendezvous is: `ws://` or `wss://`, a host, perhaps a path, without a final slash.
#[derive(Clone, PartialEq, Eq)]
pub struct RendezvousUrl {
    url: WebSocketUrl,
    scheme_was_missing: bool,
}

/// Why a text can never be the URL of a rendezvous.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The text is empty.
    #[error("the URL of the rendezvous is empty: expected one such as https://host.example")]
    Empty,
    /// The scheme is none of the four.
    #[error("the scheme is {0:?}: expected https, http, wss or ws, as in https://host.example")]
    Scheme(String),
    /// The rest is not a URL.
    #[error("{text:?} is not a URL: {why}")]
    Malformed {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl FromStr for RendezvousUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let malformed =
            |why: &str| UrlError::Malformed { text: without_login(text), why: why.to_owned() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        if scheme.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed("expected a host, such as localhost:8080"));
        }
        if scheme.is_empty() && rest.contains(":/") {
            return Err(malformed("expected :// behind the scheme, as in https://host.example"));
        }
        let websocket = match scheme.to_ascii_lowercase().as_str() {
            "https" | "wss" => "wss",
            "http" | "ws" | "" => "ws",
            _ if is_scheme(scheme) => return Err(UrlError::Scheme(scheme.to_owned())),
            _ => return Err(malformed("expected a scheme at first, as in https://host.example")),
        };
        let url = format!("{websocket}://{rest}").parse().map_err(malformed)?;
        Ok(Self { url, scheme_was_missing: scheme.is_empty() })
    }
}

/// A text that should be a URL, without what stands before its host: that may be a password.
fn without_login(text: &str) -> String {
    let Some((before, rest)) = text.rsplit_once('@') else { return text.to_owned() };
    match before.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        Some((scheme, _)) => format!("{scheme}://…@{rest}"),
        None => format!("…@{rest}"),
    }
}

/// Whether a scheme may be called so (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

impl RendezvousUrl {
    /// Whether the text had no scheme, so that `ws://` was taken.
    #[must_use]
    pub fn scheme_was_missing(&self) -> bool {
        self.scheme_was_missing
    }

    /// Where `worker` registers to meet others in `room`.
    #[must_use]
    pub fn register_in(&self, worker: &WorkerId, room: &RoomName) -> WebSocketUrl {
        let url = self.register(worker);
        if room.is_default() { url } else { url.asking("room", room.as_str()) }
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.is_encrypted()
    }

    /// The name and the password that the URL holds.
    pub(crate) fn login(&self) -> Option<Login> {
        Login::of(&self.url)
    }

    /// The name that a registration is signed for: that of the host, without port and brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        without_brackets(self.url.host())
    }

    /// The port, that of the scheme where the URL names none.
    #[cfg(feature = "proxy")]
    pub(crate) fn port(&self) -> u16 {
        self.url.port_or_default()
    }

    /// The host, with the port where the URL names one: as a person knows the rendezvous.
    #[must_use]
    pub fn authority(&self) -> String {
        self.url.authority()
    }

    /// As it is told to somebody else: with `http` or `https`, and without name and password.
    #[must_use]
    pub fn public(&self) -> String {
        let scheme = if self.is_encrypted() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.url.path().trim_end_matches('/'))
    }

    /// Where the relay of a session is.
    #[must_use]
    pub fn relay(&self, session: SessionId) -> WebSocketUrl {
        self.url.below(&format!("{RELAY_PATH}{session}"))
    }

    /// Where `worker` registers. Without a password: a WebSocket's URL has no place for one (RFC 6455
    /// §3), and this URL is logged.
    #[must_use]
    pub fn register(&self, worker: &WorkerId) -> WebSocketUrl {
        let segment = utf8_percent_encode(worker.as_str(), SEGMENT);
        self.url.below(&format!("{REGISTER_PATH}{segment}"))
    }

    /// What it is, for whoever asks by HTTP.
    #[cfg(feature = "steps")]
    pub(crate) fn index(&self) -> WebSocketUrl {
        self.url.below("/")
    }
}

impl fmt::Debug for RendezvousUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RendezvousUrl({self})")
    }
}

impl fmt::Display for RendezvousUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.to_string().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(text: &str) -> String {
        let url: RendezvousUrl = text.parse().unwrap();
        url.register(&WorkerId::new("id-1").unwrap()).to_string()
    }

    #[test]
    fn every_scheme_becomes_the_one_of_a_websocket() {
        let table = [
            ("https://a.example", "wss://a.example/ws/register/id-1"),
            ("http://a.example:8080", "ws://a.example:8080/ws/register/id-1"),
            ("wss://a.example/", "wss://a.example/ws/register/id-1"),
            ("ws://a.example/base/", "ws://a.example/base/ws/register/id-1"),
            ("HTTPS://A.example", "wss://a.example/ws/register/id-1"),
            ("a.example:8080", "ws://a.example:8080/ws/register/id-1"),
            ("localhost:8080/", "ws://localhost:8080/ws/register/id-1"),
            ("http://[::1]:9", "ws://[::1]:9/ws/register/id-1"),
        ];
        for (text, expected) in table {
            assert_eq!(register(text), expected, "{text}");
        }
    }

    #[test]
    fn a_relay_is_beside_the_registration() {
        let url: RendezvousUrl = "https://user:secret@a.example/base/".parse().unwrap();
        let relay = url.relay(SessionId(0xab)).to_string();
        assert_eq!(relay, "wss://user@a.example/base/ws/relay/00000000000000ab");
    }

    #[test]
    fn an_ipv6_address_has_brackets_in_a_url_alone() {
        let url: RendezvousUrl = "ws://[2001:db8::1]:80/".parse().unwrap();
        assert_eq!((url.host(), url.authority().as_str()), ("2001:db8::1", "[2001:db8::1]"));
        assert_eq!(without_brackets("a.example"), "a.example");
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: RendezvousUrl = "https://user:secret@a.example/base/".parse().unwrap();
        assert!(!format!("{url} {url:?}").contains("secret"), "{url:?}");
        assert!(url.login().is_some());
        for text in [
            "https://user:secret@a b/",
            "user:secret@h:99999",
            "ws://u:secret@h/#x",
            "x://u:secret@h",
            "u:secret@h://x",
            "u:secret@h/://x@y:0",
        ] {
            let error = text.parse::<RendezvousUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_room_is_part_of_the_query() {
        let url: RendezvousUrl = "ws://a.example".parse().unwrap();
        let id = WorkerId::new("a").unwrap();
        let room = RoomName::new("büro & co").unwrap();
        let registered = url.register_in(&id, &room);
        assert_eq!(registered.query(), Some("room=b%C3%BCro+%26+co"));
        assert_eq!(url.register_in(&id, &RoomName::default()), url.register(&id));
    }

    #[test]
    fn only_a_missing_scheme_is_worth_a_warning() {
        assert!("a.example".parse::<RendezvousUrl>().unwrap().scheme_was_missing());
        assert!(!"ws://a.example".parse::<RendezvousUrl>().unwrap().scheme_was_missing());
    }

    #[test]
    fn what_somebody_else_is_told_has_no_password() {
        for (text, public) in [
            ("wss://u:secret@a.example:8443/base/", "https://a.example:8443/base"),
            ("ws://[::1]:9", "http://[::1]:9"),
            ("https://a.example", "https://a.example"),
        ] {
            let url: RendezvousUrl = text.parse().unwrap();
            assert_eq!(url.public(), public);
            let again: RendezvousUrl = public.parse().unwrap();
            assert_eq!(again.public(), public);
        }
    }

    #[test]
    fn an_id_is_one_path_segment_whatever_it_holds() {
        let url: RendezvousUrl = "ws://a.example".parse().unwrap();
        let id = WorkerId::new("a/b?c ü").unwrap();
        assert_eq!(url.register(&id).path(), "/ws/register/a%2Fb%3Fc%20%C3%BC");
    }

    #[test]
    fn a_url_that_can_never_work_is_refused() {
        for text in [
            "",
            "  ",
            "ftp://a.example",
            "http://",
            "ws://:80",
            "http://a b/",
            "ws://h:99999",
            "ws://h:0",
            "https:/h",
            "8080",
            "ws://h/#x",
            "http:///",
            "example.com:99999",
            "https://example.com:port/path",
            "https://user:password@",
            "https://user@:8080",
            "http://2001:db8::1",
            "http://[::1",
            "http://[::1]8080",
            "a b://h",
        ] {
            let error = text.parse::<RendezvousUrl>().unwrap_err().to_string();
            assert!(error.contains("expected "), "{text:?}: {error}");
            let shows = text.trim().is_empty() || text.contains('@') || error.contains(text);
            let of_scheme = text.starts_with("ftp") && error.contains("\"ftp\"");
            assert!(shows || of_scheme, "what came: {text:?}: {error}");
        }
    }
}
