//! One check of the doctor: what was seen, what it means, and what to do.

use std::fmt;
use std::time::Duration;

use holepunch_worker::{FailureCode, milliseconds};
use serde::Serialize;
use serde_json::Value;

/// What is tried. Where one comes to nothing, those that need it are not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Name {
    Settings,
    Dns,
    Tcp,
    Proxy,
    Tls,
    Http,
    Clock,
    Websocket,
    Stun,
    Nat,
    Ipv6,
    PortMapping,
    Relay,
    Direct,
    OpenFiles,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Clock => "clock",
            Self::Websocket => "websocket",
            Self::Stun => "stun",
            Self::Nat => "nat",
            Self::Ipv6 => "ipv6",
            Self::PortMapping => "port-mapping",
            Self::Relay => "relay",
            Self::Direct => "direct",
            Self::OpenFiles => "open-files",
        }
    }

    /// How long it may take. A person waits for the answer, and what takes longer than this does not work well anyway.
    pub(super) const fn limit(self) -> Duration {
        Duration::from_secs(match self {
            // These look at this machine alone, or at what another check has seen.
            Self::Settings | Self::OpenFiles | Self::Clock | Self::Nat | Self::Ipv6 => 0,
            Self::Dns | Self::Tcp | Self::Proxy | Self::Tls | Self::Http => 5,
            // A worker's own attempt, and a moment in which the rendezvous may still refuse it.
            Self::Websocket | Self::Stun => 6,
            Self::PortMapping => 4,
            Self::Relay | Self::Direct => 7,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a check has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, and something about it is worth knowing.
    Warning,
    /// It does not work.
    Fault,
    /// What it needs does not work.
    NotTried,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
            Self::NotTried => "not tried",
        })
    }
}

/// One line of the result.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    pub(super) check: Name,
    pub(super) status: Status,
    /// What is wrong, as a word for programs; `null` where nothing is.
    code: Option<&'static str>,
    /// What was seen, with its figure; or why it was not tried.
    seen: String,
    /// What that means, where `seen` does not say it.
    meaning: Option<String>,
    /// What to do; of every warning and fault.
    fix: Option<String>,
    /// How long it took.
    took_ms: f64,
    /// Its figures, one by one; `null` where there are none.
    details: Value,
}

impl Check {
    fn new(check: Name, status: Status, code: Option<&'static str>, seen: String) -> Self {
        let (meaning, fix, took_ms, details) = (None, None, 0.0, Value::Null);
        Self { check, status, code, seen, meaning, fix, took_ms, details }
    }

    /// As it should be.
    pub(super) fn ok(check: Name, seen: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, None, seen.into())
    }

    /// It works, but.
    pub(super) fn warning(
        check: Name,
        code: &'static str,
        seen: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let fix = Some(fix.into());
        Self { fix, ..Self::new(check, Status::Warning, Some(code), seen.into()) }
    }

    /// It does not work.
    pub(super) fn fault(
        check: Name,
        code: &'static str,
        seen: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { status: Status::Fault, ..Self::warning(check, code, seen, fix) }
    }

    /// It has come to nothing within its time.
    pub(super) fn silent(check: Name, what: &str, fix: &str) -> Self {
        Self::fault(check, "silent", format!("{what} within {} s", check.limit().as_secs()), fix)
            .took(check.limit())
    }

    /// It needs another one, which has failed.
    pub(super) fn not_tried(check: Name, because: Name) -> Self {
        Self::left_out(check, format!("because {because} failed"))
    }

    /// It was not tried, for this reason.
    pub(super) fn left_out(check: Name, because: impl Into<String>) -> Self {
        Self::new(check, Status::NotTried, None, because.into())
    }

    pub(super) fn means(self, meaning: impl Into<String>) -> Self {
        Self { meaning: Some(meaning.into()), ..self }
    }

    pub(super) fn took(self, took: Duration) -> Self {
        Self { took_ms: milliseconds(took), ..self }
    }

    pub(super) fn details(self, details: Value) -> Self {
        Self { details, ..self }
    }

    /// The line of a check where these stand above: what one of them has said in full is not said again.
    pub(super) fn behind(&self, above: &[Self]) -> String {
        let new = |text: &Option<String>, of: fn(&Self) -> &Option<String>| {
            text.clone()
                .filter(|_| !above.iter().any(|it| it.check == self.check && of(it) == text))
        };
        let mut shown = self.clone();
        shown.meaning = new(&self.meaning, |it| &it.meaning);
        shown.fix = new(&self.fix, |it| &it.fix);
        let is_shorter = shown.meaning != self.meaning || shown.fix != self.fix;
        format!("{shown}{}", if is_shorter { "; as above" } else { "" })
    }

    /// Whether what needs it can be tried.
    pub(super) fn is_usable(&self) -> bool {
        matches!(self.status, Status::Ok | Status::Warning)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}  {:<12}  {}", self.status, self.check, self.seen)?;
        if let Some(meaning) = &self.meaning {
            write!(f, ": {meaning}")?;
        }
        self.fix.as_ref().map_or(Ok(()), |fix| write!(f, "; fix: {fix}"))
    }
}

/// What helps where there is no connection to the rendezvous.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are of links")]
pub(super) fn fix_of(code: FailureCode) -> &'static str {
    match code {
        FailureCode::NameUnknown => {
            "look at the spelling of the host in the URL, and at this machine's DNS servers"
        }
        FailureCode::ConnectionRefused => {
            "start the rendezvous there, or correct the port in the URL"
        }
        FailureCode::TimedOut => {
            "let TCP to this port through; where connections leave by a proxy, set HTTPS_PROXY"
        }
        FailureCode::Proxy => {
            "correct the variable that names the proxy, its name and password among it, or name the rendezvous in NO_PROXY"
        }
        FailureCode::Tls => {
            "correct the scheme, the host or the port of the URL, or the certificate there; an authority of one's own is \
             named in SSL_CERT_FILE"
        }
        FailureCode::NotARendezvous => {
            "correct the host, the port and the path of the URL: it ends where /ws/register/ begins"
        }
        FailureCode::LoginWanted => {
            "write the name and the password into the URL: https://name:password@host"
        }
        FailureCode::TokenRefused => {
            "get a token from whoever runs the rendezvous, and set it in HOLEPUNCH_TOKEN, or remember it: holepunch login URL --token-file FILE"
        }
        FailureCode::NotAllowed => {
            "have programs in rooms that the token allows (--room), with ids that it allows; this check itself needs one that allows all"
        }
        FailureCode::NotAdmitted => {
            "let a proxy in front of the rendezvous pass the Host header on, or tell the rendezvous its name (--public-host)"
        }
        FailureCode::Unavailable => {
            "look at the rendezvous, and at the server in front of it (docs/operating.md), or try again later"
        }
        FailureCode::ConnectionLost => {
            "let WebSockets through (docs/operating.md), and look at the log of the rendezvous"
        }
        _ => "look at the log of the rendezvous, and try again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_was_seen_what_it_means_and_the_fix() {
        let check = Check::fault(Name::Tcp, "refused", "127.0.0.1:1 refuses", "start it")
            .means("nothing listens there");
        let line =
            "fault      tcp           127.0.0.1:1 refuses: nothing listens there; fix: start it";
        assert_eq!(check.to_string(), line);
        let again = check.behind(std::slice::from_ref(&check));
        assert_eq!(again, "fault      tcp           127.0.0.1:1 refuses; as above");
        assert_eq!(check.behind(&[]), line);
        let line = "not tried  port-mapping  because tcp failed";
        assert_eq!(Check::not_tried(Name::PortMapping, Name::Tcp).to_string(), line);
    }

    #[test]
    fn programs_read_the_names_that_people_read() {
        for name in [Name::Websocket, Name::PortMapping, Name::OpenFiles, Name::Ipv6] {
            assert_eq!(serde_json::to_value(name).unwrap(), name.to_string());
        }
        assert_eq!(serde_json::to_value(Status::NotTried).unwrap(), "not-tried");
    }
}
