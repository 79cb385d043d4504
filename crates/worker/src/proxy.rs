//! The HTTP proxy through which a worker reaches its rendezvous: which one the environment names, and the
//! tunnel through it (RFC 9110 §9.3.6).

use std::fmt;
use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::{Response, StatusCode};

use crate::login::Login;
use crate::signalling::handshake::{SpeaksTls, read_head};
use crate::url::without_brackets;

#[cfg(feature = "proxy")]
mod environment;

#[cfg(feature = "proxy")]
pub use environment::ProxyError;

/// An HTTP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    login: Option<Login>,
    /// The environment variable that names it, where one does.
    variable: Option<&'static str>,
}

impl Proxy {
    /// The proxy at a host and a TCP port, to which HTTP is spoken.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: without_brackets(host).to_owned(), port, login: None, variable: None }
    }

    /// The same, with the name and the password that it asks for.
    #[must_use]
    pub fn with_login(self, name: &str, password: &str) -> Self {
        Self { login: Some(Login::new(name, password)), ..self }
    }

    /// Its host and port, as an address is written.
    pub(crate) fn authority(&self) -> String {
        let is_ipv6 = self.host.contains(':');
        let (open, close) = if is_ipv6 { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }

    /// Asks the proxy, to which `stream` leads, for a connection to `authority`, a host and a port.
    pub(crate) async fn tunnel(&self, stream: &mut TcpStream, authority: &str) -> io::Result<()> {
        let login = self
            .login
            .as_ref()
            .map_or(String::new(), |login| format!("Proxy-Authorization: {}\r\n", login.reveal()));
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (head, rest) = read_head(stream).await.map_err(|error| {
            let speaks_tls = matches!(&error, Error::Io(error) if SpeaksTls::is(error));
            io::Error::other(if speaks_tls {
                format!(
                    "{self} speaks TLS, and only proxies at http:// are supported: name the port at which it takes \
                     plain HTTP, or the rendezvous in NO_PROXY to reach it without a proxy"
                )
            } else {
                format!("{self} does not answer as an HTTP proxy: {error}")
            })
        })?;
        if !head.status().is_success() {
            return Err(io::Error::other(self.refusal(&head, authority)));
        }
        // The rendezvous speaks second, in TLS and without it.
        if rest.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{self} has said more than an answer to CONNECT")))
        }
    }

    fn refusal(&self, head: &Response<()>, authority: &str) -> String {
        let status = head.status();
        let hint = match status {
            // 401 is what tinyproxy says.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
                self.login_wanted(head)
            }
            StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => format!(
                "it does not let connections to {authority} through (many proxies do to port 443 alone)"
            ),
            _ if status.is_server_error() => format!("it does not reach {authority}"),
            _ => format!("it was asked for a connection to {authority}"),
        };
        format!("{self} answered with {status}: {hint}")
    }

    fn login_wanted(&self, head: &Response<()>) -> String {
        let offered = head.headers().get_all("proxy-authenticate").iter();
        let offered: Vec<&str> =
            offered.filter_map(|value| value.to_str().ok()?.split([' ', ',']).next()).collect();
        let has_basic = offered.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
        let named = self.variable.unwrap_or("this worker's settings");
        if !has_basic && !offered.is_empty() {
            let offered = holepunch_wire::text::harmless(&offered.join(", "), 60);
            return format!(
                "it takes {offered} alone, and Basic is what is spoken here; a proxy on this machine that \
                 logs in there, such as cntlm or px, helps"
            );
        }
        if self.login.is_some() {
            return format!("it does not take the name and the password in {named}");
        }
        format!(
            "it wants a name and a password; write them into {named}, as \
             http://name:password@{}",
            self.authority()
        )
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", self.authority())?;
        self.variable.map_or(Ok(()), |variable| write!(f, " ({variable})"))
    }
}
