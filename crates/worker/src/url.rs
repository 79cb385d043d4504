//! The URL of a WebSocket (RFC 6455 §3), and the name and the password that one of a rendezvous may hold.
//!
//! Only these two schemes are spoken here, so that the general parser, which brings the tables of Unicode along, is not
//! needed. Those are for host names beyond ASCII alone: the feature `idna`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What cannot stand in a query as it is (RFC 3986 §3.4).
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');
/// What cannot stand in a path (RFC 3986 §3.3).
const PATH: &AsciiSet = &QUERY.add(b'?').add(b'`').add(b'{').add(b'}');
/// What cannot stand in a name or a password (RFC 3986 §3.2.1).
const USER_INFO: &AsciiSet = &PATH
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'=')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'|');

const HOST: &str =
    "expected a host name or an IP address, as in https://host.example or http://192.0.2.1:8080";
const PORT: &str =
    "expected a port from 1 to 65535 behind the host, or none, as in https://host.example:8443";
const IN_BRACKETS: &str = "expected an IPv6 address in brackets, as in http://[2001:db8::1]:8080";

/// A `ws://` or `wss://` URL. Neither form of text shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct WebSocketUrl {
    is_encrypted: bool,
    username: String,
    password: Option<String>,
    /// As it stands in the URL: an IPv6 address in brackets.
    host: String,
    /// Where it is not that of the scheme.
    port: Option<u16>,
    /// Begins with a slash.
    path: String,
    query: Option<String>,
}

impl FromStr for WebSocketUrl {
    /// What is wrong with the text, which is not repeated.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or("expected ws:// or wss:// at first")?;
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "wss" => true,
            "ws" => false,
            _ => return Err("expected ws:// or wss:// at first"),
        };
        if rest.contains('#') {
            return Err("expected no fragment: leave out # and what follows");
        }
        let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = match behind.split_once('?') {
            Some((path, query)) => (path, Some(utf8_percent_encode(query, QUERY).to_string())),
            None => (behind, None),
        };
        let (login, host_and_port) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = match login.split_once(':') {
            Some((username, password)) => (username, Some(user_info(password))),
            None => (login, None),
        };
        let (host, port) = host_and_port_of(host_and_port)?;
        Ok(Self {
            is_encrypted,
            username: user_info(username),
            password,
            host,
            port: port.filter(|port| *port != default_port(is_encrypted)),
            path: rooted(path),
            query,
        })
    }
}

fn user_info(text: &str) -> String {
    utf8_percent_encode(text, USER_INFO).to_string()
}

fn rooted(path: &str) -> String {
    let path = utf8_percent_encode(path, PATH);
    format!("/{}", path.to_string().trim_start_matches('/'))
}

fn default_port(is_encrypted: bool) -> u16 {
    if is_encrypted { 443 } else { 80 }
}

/// The host as it stands in a URL, and the port.
fn host_and_port_of(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(IN_BRACKETS)?;
        let address: Ipv6Addr = address.parse().map_err(|_| IN_BRACKETS)?;
        let port = match port.strip_prefix(':') {
            None if !port.is_empty() => return Err(PORT),
            port => port.unwrap_or_default(),
        };
        (format!("[{address}]"), port)
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Err(IN_BRACKETS);
    } else {
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        (host_name(host)?, port)
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        "" => None,
        port => Some(port.parse().ok().filter(|_| is_port).ok_or(PORT)?),
    };
    if port == Some(0) { Err(PORT) } else { Ok((host, port)) }
}

fn host_name(text: &str) -> Result<String, &'static str> {
    let name = if text.is_ascii() { text.to_ascii_lowercase() } else { international(text)? };
    let is_of_a_name =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() {
        return Err("expected a host behind the scheme, as in https://host.example");
    }
    if !name.bytes().all(is_of_a_name) {
        return Err(HOST);
    }
    Ok(name)
}

/// A name beyond ASCII as it is looked up (RFC 5891).
#[cfg(feature = "idna")]
fn international(name: &str) -> Result<String, &'static str> {
    idna::domain_to_ascii(name).map_err(|_| HOST)
}

#[cfg(not(feature = "idna"))]
fn international(_: &str) -> Result<String, &'static str> {
    Err("a host name beyond ASCII is expected in its ASCII form (xn--…) here")
}

/// A URL's host as everything but a URL has it: an IPv6 address stands in brackets there (RFC 3986 §3.2.2).
pub(crate) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

impl WebSocketUrl {
    /// `ws` or `wss`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_encrypted { "wss" } else { "ws" }
    }

    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The name before the host, as the URL escapes it; empty where there is none.
    pub(crate) fn username(&self) -> &str {
        &self.username
    }

    /// The password before the host, as the URL escapes it.
    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The host as it stands in the URL: an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where it is not that of the scheme.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port, that of the scheme where the URL names none.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(default_port(self.is_encrypted))
    }

    /// The host, and the port where it is not that of the scheme.
    pub(crate) fn authority(&self) -> String {
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        format!("{}{port}", self.host)
    }

    /// The path, from its first slash on.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The same without a password, with `path` behind its own one.
    pub(crate) fn below(&self, path: &str) -> Self {
        let path = rooted(&format!("{}{path}", self.path.trim_end_matches('/')));
        Self { password: None, path, ..self.clone() }
    }

    /// The same with one more pair in its query, as HTML forms write it.
    pub(crate) fn asking(mut self, name: &str, value: &str) -> Self {
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let before = self.query.take().map_or(String::new(), |query| format!("{query}&"));
        self.query = Some(format!("{before}{name}={value}"));
        self
    }
}

impl fmt::Display for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.username.is_empty() { "" } else { "@" };
        write!(f, "{}://{}{at}{}{}", self.scheme(), self.username, self.authority(), self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

impl fmt::Debug for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> WebSocketUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_has_one_form() {
        for (text, form) in [
            ("ws://a.example", "ws://a.example/"),
            ("WSS://A.Example:443/B", "wss://a.example/B"),
            ("wss://a.example:80?x=1", "wss://a.example:80/?x=1"),
            ("ws://[2001:DB8:0::1]:9/", "ws://[2001:db8::1]:9/"),
            ("ws://a.example:/x y/ü?q r", "ws://a.example/x%20y/%C3%BC?q%20r"),
            ("ws://u\u{1b}x:secret@a.example//x", "ws://u%1Bx@a.example/x"),
        ] {
            assert_eq!(parsed(text).to_string(), form);
            assert_eq!(parsed(form).to_string(), form, "it stays");
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for text in [
            "a.example",
            "http://a.example",
            "ws://",
            "ws://:80",
            "ws://a b/",
            "ws://h:65536",
            "ws://h:+1",
            "ws://h:0",
            "ws://h:1:2",
            "ws://[::1",
            "ws://[::1]x",
            "ws://[a]/",
            "ws://h/#x",
            "ws://h%41/",
            "ws://h\n/",
        ] {
            assert!(text.parse::<WebSocketUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_query_is_added_to_the_one_that_there_is() {
        let below =
            parsed("wss://u:secret@a.example/base/?k=v").below("/x").asking("room", "a & b");
        assert_eq!(below.to_string(), "wss://u@a.example/base/x?k=v&room=a+%26+b");
        assert_eq!(below.password(), None);
    }

    #[cfg(feature = "idna")]
    #[test]
    fn a_name_beyond_ascii_is_looked_up_in_its_ascii_form() {
        assert_eq!(parsed("wss://Bücher.example/").host(), "xn--bcher-kva.example");
    }
}
