//! `--store`: which server, and how it is spoken to.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Where the store is.
///
/// `redis://[user:password@]host[:port][/database]`, `rediss://…` by TLS; `redis+sentinel://host[:port][,host[:port]]…/service`;
/// `redis+cluster://host[:port][,host[:port]]…`; `rediss+…` of both by TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    pub(crate) kind: Kind,
    /// What the library takes, of each node.
    pub(crate) nodes: Vec<String>,
    shown: String,
}

/// How the master is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is at this address.
    One,
    /// Sentinels know it, as this service.
    Sentinel { service: String, user: Option<String>, password: Option<String>, tls: bool },
    /// The nodes of a cluster know who has which slot.
    Cluster,
}

/// Why a URL is none of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Not a URL, or of another scheme.
    #[error(
        "expected memory, redis://HOST, rediss://HOST, redis+sentinel://HOST,HOST/SERVICE or redis+cluster://HOST,HOST"
    )]
    Form,
    /// Sentinels have several services.
    #[error(
        "expected the name of the service behind the sentinels: redis+sentinel://HOST,HOST/SERVICE"
    )]
    NoService,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(StoreUrlError::Form)?;
        let (plain, kind) =
            scheme.split_once('+').map_or((scheme, ""), |(plain, kind)| (plain, kind));
        if !matches!(plain, "redis" | "rediss") {
            return Err(StoreUrlError::Form);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or(("", authority), |(it, hosts)| (it, hosts));
        let tls = plain == "rediss";
        let login_at = if login.is_empty() { String::new() } else { format!("{login}@") };
        let node = |host: &str, with: &str, path: &str| {
            let url = format!("{plain}://{with}{host}/{path}");
            let is_good =
                Url::parse(&url).is_ok_and(|url| url.host_str().is_some_and(|it| !it.is_empty()));
            is_good.then_some(url).ok_or(StoreUrlError::Form)
        };
        let hosts = hosts.split(',');
        let (kind, nodes) = match kind {
            "" => (Kind::One, vec![node(authority_host(&mut hosts.clone())?, &login_at, path)?]),
            "cluster" => (
                Kind::Cluster,
                hosts.map(|host| node(host, &login_at, "")).collect::<Result<_, _>>()?,
            ),
            "sentinel" if path.is_empty() => return Err(StoreUrlError::NoService),
            "sentinel" => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
                let kind = Kind::Sentinel {
                    service: path.to_owned(),
                    user: some(user),
                    password: some(password),
                    tls,
                };
                (kind, hosts.map(|host| node(host, "", "")).collect::<Result<_, _>>()?)
            }
            _ => return Err(StoreUrlError::Form),
        };
        let shown = text.replacen(&login_at, "", usize::from(!login_at.is_empty()));
        Ok(Self { kind, nodes, shown })
    }
}

/// The one host that there may be.
fn authority_host<'a>(hosts: &mut impl Iterator<Item = &'a str>) -> Result<&'a str, StoreUrlError> {
    let first = hosts.next().ok_or(StoreUrlError::Form)?;
    if hosts.next().is_some() { Err(StoreUrlError::Form) } else { Ok(first) }
}

/// Without its login.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<StoreUrl, StoreUrlError> {
        text.parse()
    }

    #[test]
    fn urls_of_each_kind_are_taken() {
        assert_eq!(of("redis://h").unwrap().nodes, ["redis://h/"]);
        assert_eq!(of("rediss://u:p@h:7/2").unwrap().nodes, ["rediss://u:p@h:7/2"]);
        let sentinel = of("redis+sentinel://u:p@a:26379,b/main").unwrap();
        assert_eq!(sentinel.nodes, ["redis://a:26379/", "redis://b/"]);
        let (user, password) = (Some("u".to_owned()), Some("p".to_owned()));
        let kind = Kind::Sentinel { service: "main".to_owned(), user, password, tls: false };
        assert_eq!(sentinel.kind, kind);
        let cluster = of("rediss+cluster://:p@a,b:1").unwrap();
        assert_eq!(
            (cluster.kind, cluster.nodes),
            (Kind::Cluster, vec!["rediss://:p@a/".into(), "rediss://:p@b:1/".into()])
        );
    }

    #[test]
    fn what_is_no_store_is_refused_and_passwords_are_not_shown() {
        for wrong in
            ["", "redis", "http://h", "redis://", "redis://a,b", "redis+x://h", "redis://:0:0/"]
        {
            assert_eq!(of(wrong).unwrap_err(), StoreUrlError::Form, "{wrong}");
        }
        assert_eq!(of("redis+sentinel://h").unwrap_err(), StoreUrlError::NoService);
        let url = of("redis://u:secret@h/1").unwrap();
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            ("redis://h/1".into(), "redis://h/1".into())
        );
    }
}
