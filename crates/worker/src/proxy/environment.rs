//! Which proxy the environment names.

use std::net::IpAddr;

use hyper_util::client::proxy::matcher::Matcher;
use tokio_tungstenite::tungstenite::http::Uri;

use super::Proxy;
use crate::login::Login;
use crate::rendezvous_url::RendezvousUrl;
use crate::url::without_brackets;

/// The port of a proxy where none is named: that of its scheme.
const DEFAULT_PORT: u16 = 80;

/// Why what the environment names can never be used as a proxy. What it says is not repeated: a password may be
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The text is not a URL.
    #[error(
        "the environment variable {0} is not the URL of a proxy, such as http://proxy.example:3128 \
         (special characters of a password are written as in every URL, @ as %40)"
    )]
    Malformed(&'static str),
    /// A kind of proxy that is not spoken.
    #[error(
        "the environment variable {0} names a proxy of the kind {1}://, and http:// alone is supported; name \
         an HTTP proxy there, or the rendezvous in NO_PROXY to reach it without one"
    )]
    Scheme(&'static str, String),
}

impl Proxy {
    /// The proxy for `rendezvous`, as `variable` reads the environment: `HTTPS_PROXY` for `wss://`, `HTTP_PROXY` for `ws://`,
    /// else `ALL_PROXY`, in small letters first, as other programs do; none where `NO_PROXY` names the host, alone or with
    /// the port, or that is this machine.
    ///
    /// # Errors
    /// There is one that is not supported.
    pub fn for_rendezvous(
        rendezvous: &RendezvousUrl,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ProxyError> {
        let set = |name: &&str| variable(name).filter(|text| !text.trim().is_empty());
        let names: &[&'static str] = if rendezvous.is_encrypted() {
            &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        } else if set(&"REQUEST_METHOD").is_some() {
            // Whoever asks a CGI program sets HTTP_PROXY, by a header `Proxy`: https://httpoxy.org.
            &["http_proxy", "all_proxy", "ALL_PROXY"]
        } else {
            &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
        };
        let named = names.iter().find_map(|name| Some((*name, set(name)?)));
        let Some((variable, text)) = named.filter(|_| !is_this_machine(rendezvous.host())) else {
            return Ok(None);
        };
        let no = ["no_proxy", "NO_PROXY"].iter().find_map(set).unwrap_or_default();
        let target = Uri::builder().scheme("http").authority(rendezvous.authority());
        let target = target.path_and_query("/").build();
        let target = target.map_err(|_| ProxyError::Malformed(variable))?;
        let any = Matcher::builder()
            .all("http://any.example")
            .no(entries_for(&no, rendezvous.port()))
            .build();
        if any.intercept(&target).is_none() {
            return Ok(None);
        }
        let found = Matcher::builder().all(text.trim()).build().intercept(&target);
        let found = found.ok_or(ProxyError::Malformed(variable))?;
        let uri = found.uri();
        let scheme = uri.scheme_str().unwrap_or("http");
        if scheme != "http" {
            return Err(ProxyError::Scheme(variable, scheme.to_owned()));
        }
        let host = without_brackets(uri.host().unwrap_or_default());
        let login = found.basic_auth().and_then(|value| value.to_str().ok());
        Ok(Some(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(DEFAULT_PORT),
            login: login.map(Login::from_header),
            variable: Some(variable),
        }))
    }
}

/// Whether a host is this machine, which no proxy reaches.
fn is_this_machine(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().map(|ip| ip.to_canonical());
    ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
        || name == "localhost"
        || name.ends_with(".localhost")
}

/// The entries of `NO_PROXY` that count for `port`, as the library reads them. People write spaces between them, `*.` before
/// a suffix, brackets around an IPv6 address, and a port, as Go's programs and Python's read it.
fn entries_for(no: &str, port: u16) -> String {
    let entries = no.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    let entries = entries.filter_map(|entry| {
        let (host, only) = host_and_port(entry);
        let host = host.strip_prefix('*').filter(|it| it.starts_with('.')).unwrap_or(host);
        (only.is_none_or(|only| only == port) && !host.is_empty()).then_some(host)
    });
    entries.collect::<Vec<_>>().join(",")
}

/// An entry's host without brackets, and its port where it has one.
fn host_and_port(entry: &str) -> (&str, Option<u16>) {
    let bracketed = entry.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed.or_else(|| entry.split_once(':')) {
        Some((host, "")) => return (host, None),
        Some((host, rest)) if bracketed.is_some() => (host, rest.strip_prefix(':')),
        // More than one colon without brackets: an IPv6 address or network alone.
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        Some(_) | None => return (entry, None),
    };
    // What has no port there is a name that no host has.
    port.and_then(|port| port.parse().ok()).map_or((entry, None), |port| (host, Some(port)))
}

#[cfg(test)]
mod tests;
