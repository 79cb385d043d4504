//! A name and a password, as HTTP sends them (RFC 7617).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use crate::url::WebSocketUrl;

/// What an `Authorization` or `Proxy-Authorization` header says. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login(Arc<str>);

impl Login {
    /// The name and the password of a URL, where it has any.
    pub(crate) fn of(url: &WebSocketUrl) -> Option<Self> {
        if url.username().is_empty() && url.password().is_none() {
            return None;
        }
        let name: Vec<u8> = percent_decode_str(url.username()).collect();
        let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
        Some(Self::new(&name, &password))
    }

    /// From a name and a password.
    pub(crate) fn new(name: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> Self {
        let text = [name.as_ref(), b":", password.as_ref()].concat();
        Self::from_header(&format!("Basic {}", STANDARD.encode(text)))
    }

    /// From a header's value.
    pub(crate) fn from_header(value: &str) -> Self {
        Self(value.into())
    }

    /// The header's value.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_escapes_is_sent_as_it_is_meant() {
        let header = |url: &str| Login::of(&url.parse().unwrap()).map(|it| it.reveal().to_owned());
        let aladdin = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
        assert_eq!(header("wss://Aladdin:open%20sesame@a.example/base"), aladdin);
        assert_eq!(header("wss://a.example"), None);
        let umlaut = format!("Basic {}", STANDARD.encode("ü:p@ss:%"));
        assert_eq!(header("wss://ü:p%40ss%3A%25@a.example"), Some(umlaut));
        let login = Login::of(&"wss://Aladdin:sesame@a.example".parse().unwrap());
        assert!(!format!("{login:?}").contains("QWxh"), "{login:?}");
    }
}
