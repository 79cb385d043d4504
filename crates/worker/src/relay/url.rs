//! Where a relay is that is not the rendezvous' own.

use std::fmt;
use std::str::FromStr;

use holepunch_wire::relay::{RELAY_PATH, RELAY_URL_BYTES_MAX};
use holepunch_wire::session::SessionId;

use crate::url::WebSocketUrl;

/// The URL of a relay, as a rendezvous names it: `http://` or `https://`, a host, perhaps a path. It holds no name, no
/// password and no query, so that whoever asks there tells nothing but a session and its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl(WebSocketUrl);

impl FromStr for RelayUrl {
    /// What is wrong with the text, which is not repeated.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > RELAY_URL_BYTES_MAX {
            return Err("it is too long");
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => "wss",
            "http" => "ws",
            _ => return Err("expected http:// or https:// at first"),
        };
        let url: WebSocketUrl = format!("{scheme}://{rest}").parse()?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not have a name or a password");
        }
        if url.query().is_some() {
            return Err("it must not have a query (?…)");
        }
        Ok(Self(url))
    }
}

impl RelayUrl {
    /// Where the relay of a session is.
    #[must_use]
    pub fn of_session(&self, session: SessionId) -> WebSocketUrl {
        self.0.below(&format!("{RELAY_PATH}{session}"))
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.0.is_encrypted() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.0.authority(), self.0.path().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_an_http_url_and_has_one_form() {
        for (text, form) in [
            ("https://R.example", "https://r.example"),
            ("http://r.example:80/", "http://r.example"),
            ("HTTPS://r.example:8443/base/", "https://r.example:8443/base"),
            ("http://[2001:DB8:0::1]:9", "http://[2001:db8::1]:9"),
        ] {
            let url: RelayUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), form);
            let again: RelayUrl = form.parse().unwrap();
            assert_eq!(again.to_string(), form, "it stays");
        }
        let url: RelayUrl = "https://r.example/base".parse().unwrap();
        let of_session = url.of_session(SessionId(7)).to_string();
        assert_eq!(of_session, "wss://r.example/base/ws/relay/0000000000000007");
    }

    #[test]
    fn a_hostile_url_is_none() {
        let long = format!("https://r.example/{}", "x".repeat(RELAY_URL_BYTES_MAX));
        for text in [
            "",
            "r.example",
            "ws://r.example",
            "file:///etc/passwd",
            "https://",
            "https://a:b@r.example",
            "https://a@r.example",
            "https://r.example/?do=it",
            "https://r.example/#x",
            "https://r.example:0",
            "https://r\r\nHost: a",
            &long,
        ] {
            assert!(text.parse::<RelayUrl>().is_err(), "{text:?}");
        }
        let url: RelayUrl = "http://r.example/x HTTP/1.1\r\nHost: a\r\n".parse().unwrap();
        assert!(!url.of_session(SessionId(7)).path().contains(['\r', '\n', ' ']));
    }
}
