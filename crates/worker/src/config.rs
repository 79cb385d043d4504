//! What a worker is to be, and the URL of its rendezvous.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use holepunch_link::{Guesses, Identity, Protocols, RoomSecret, ServerName};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::SearchWish;
use holepunch_wire::relay::RELAY_PATH;
use holepunch_wire::session::{RoomMode, RoomName, SessionId};
use holepunch_wire::signal::REGISTER_PATH;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
#[cfg(feature = "ip-echo")]
use reqwest::Url;

use crate::login::Login;
use crate::proxy::Proxy;
use crate::url::{WebSocketUrl, without_brackets};

/// What stays as it is in a path segment (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The port of STUN (RFC 8489 §14.1).
const STUN_PORT: u16 = 3478;
/// Time between two pings on the WebSocket, and for the answer: idle connections are often cut off after
/// a minute.
const PING: Duration = Duration::from_secs(25);

/// What the settings are called where people set them: texts that say what to do name them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingNames {
    /// The worker's id.
    pub worker_id: &'static str,
    /// The worker's key, or its id.
    pub identity: &'static str,
    /// The UDP port.
    pub udp_port: &'static str,
    /// The STUN servers.
    pub stun_servers: &'static str,
    /// How often discovery is repeated.
    pub stun_retries: &'static str,
    /// How relays are allowed again.
    pub relay: &'static str,
    /// How the addresses of the interfaces are told again.
    pub host_candidates: &'static str,
    /// How a rendezvous is told the names in its workers' URLs.
    pub public_host: &'static str,
    /// How a rendezvous is told whose X-Forwarded-Host it may believe.
    pub trusted_proxy: &'static str,
}

impl Default for SettingNames {
    /// As [`Config`] names them.
    fn default() -> Self {
        Self {
            worker_id: "`worker_id`",
            identity: "the same `identity` or `worker_id`",
            udp_port: "`udp_port`",
            stun_servers: "`stun_servers`",
            stun_retries: "`stun_retries_max`",
            relay: "`relay`",
            host_candidates: "`host_candidates`",
            public_host: "its public hosts",
            trusted_proxy: "its trusted proxies",
        }
    }
}

/// What a worker is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the settings are called where people set them.
    pub names: SettingNames,
    /// The rendezvous.
    pub rendezvous: RendezvousUrl,
    /// The proxy through which it is reached.
    pub proxy: Option<Proxy>,
    /// Whether to speak the baseline only, and not to ask for `holepunch.v1`.
    pub baseline_only: bool,
    /// The room in which peers are sought; the default room without one.
    pub room: RoomName,
    /// Whether this worker wants to be the first in the room, and elsewhere if somebody is there: it hears
    /// [`ServerV1::RoomEntered`] or [`ErrorCode::RoomTaken`].
    ///
    /// [`ServerV1::RoomEntered`]: holepunch_wire::signal::v1::ServerV1::RoomEntered
    /// [`ErrorCode::RoomTaken`]: holepunch_wire::signal::v1::ErrorCode::RoomTaken
    pub room_fresh: bool,
    /// The mode of the room, where this worker is its first.
    pub room_mode: Option<RoomMode>,
    /// A worker to call: one in the same room, or one that is `callable`. Nobody else is linked with.
    pub peer: Option<WorkerId>,
    /// Whether whoever knows this worker's id may call it, from whatever room. The rendezvous' listing may show the id to
    /// everybody.
    pub callable: bool,
    /// Those alone that this worker is linked with, by whatever way they come; whoever comes where nobody is named. An id
    /// that was made from a key is safe from everybody.
    pub callers: Vec<WorkerId>,
    /// Whether peers are told the addresses of the own interfaces.
    pub host_candidates: bool,
    /// Whether the router is asked for a port, by UPnP, NAT-PMP or PCP.
    #[cfg(feature = "port-mapping")]
    pub port_mapping: bool,
    /// Which searches the worker takes part in.
    pub search: SearchWish,
    /// The worker's key; a fresh one without it.
    pub identity: Option<Identity>,
    /// Whether links are made of the sessions with peers that have a key too.
    pub links: bool,
    /// What the peers of all links have to know as well.
    pub room_secret: Option<RoomSecret>,
    /// How often all peers together may guess it, as long as the worker lives; without a bound by default.
    pub room_guesses: Guesses,
    /// Whether links may go through the relays that the rendezvous offers.
    pub relay: bool,
    /// The names of what is spoken over the links.
    pub protocols: Protocols,
    /// The worker's id; without one that of its key, and in the baseline a fresh UUID.
    pub worker_id: Option<WorkerId>,
    /// The local address of the health server and the UDP port; unspecified means all of them.
    pub listen_ip: Ipv4Addr,
    /// TCP port of the health server; 0 means any free one, `None` no server.
    #[cfg(feature = "health")]
    pub health_port: Option<u16>,
    /// The STUN servers, all of which are asked.
    pub stun_servers: Vec<ServerName>,
    /// How often discovery is repeated after it failed; for ever without a bound.
    pub stun_retries_max: Option<u32>,
    /// The pause before each repetition; exponential backoff without it.
    pub stun_retry_delay: Option<Duration>,
    /// The UDP port for STUN and peers; 0 means any free one.
    pub udp_port: u16,
    /// Time between two pings on the WebSocket.
    pub ping_interval: Duration,
    /// Time that a ping may stay without an answer before the connection is given up.
    pub ping_timeout: Duration,
    /// The HTTP service that answers with the caller's IP; `None` turns the look-up off.
    #[cfg(feature = "ip-echo")]
    pub ip_echo_url: Option<Url>,
}

impl Config {
    /// What a program that embeds a worker starts from: no health server, no look-up over HTTP, any free
    /// UDP port; the STUN server that a rendezvous has at its own address, beside those that it names.
    #[must_use]
    pub fn new(rendezvous: RendezvousUrl) -> Self {
        let stun = ServerName::new(rendezvous.host(), STUN_PORT);
        Self {
            names: SettingNames::default(),
            rendezvous,
            proxy: None,
            baseline_only: false,
            room: RoomName::default(),
            room_fresh: false,
            room_mode: None,
            peer: None,
            callable: false,
            callers: Vec::new(),
            host_candidates: true,
            #[cfg(feature = "port-mapping")]
            port_mapping: true,
            search: SearchWish::Usual,
            identity: None,
            links: true,
            room_secret: None,
            room_guesses: Guesses::default(),
            relay: true,
            protocols: Protocols::default(),
            worker_id: None,
            listen_ip: Ipv4Addr::UNSPECIFIED,
            #[cfg(feature = "health")]
            health_port: None,
            stun_servers: stun.into_iter().collect(),
            stun_retries_max: None,
            stun_retry_delay: None,
            udp_port: 0,
            ping_interval: PING,
            ping_timeout: PING,
            #[cfg(feature = "ip-echo")]
            ip_echo_url: None,
        }
    }
}

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
