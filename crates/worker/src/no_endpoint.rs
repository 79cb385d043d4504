//! No STUN server has told the worker its public endpoint, which is of IPv4: what that means, and what to do.

use std::fmt;
use std::net::SocketAddr;

use holepunch_link::NoEndpoint;

use crate::config::{Config, SettingNames};

/// Servers, and addresses, that are named: the line is to be read to its end.
const SHOWN_MAX: usize = 4;

/// What was asked, what did not answer, what is left, and what to do, in one sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// The STUN servers that have not answered: by IPv4, and by IPv6 where none has.
    pub asked: Vec<String>,
    /// Why the last attempt came to nothing, where one has.
    pub why: Option<String>,
    /// Whether one has answered by IPv6: UDP gets out.
    pub ipv6: bool,
    /// Whether this host has an IPv4 address.
    pub has_ipv4: bool,
    /// The addresses at which peers seek the worker all the same.
    pub candidates: Vec<SocketAddr>,
    /// What can still come of it.
    pub left: Left,
    /// Whether the addresses of the interfaces could be told, and are not.
    pub hides_interfaces: bool,
    /// What the settings are called.
    pub names: SettingNames,
}

/// What a worker without a public endpoint can still have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Direct paths to whom its own addresses lead, and relays.
    AddressesAndRelays,
    /// Those direct paths alone.
    Addresses,
    /// Relays, and direct paths to workers whose address it is told.
    Relays,
    /// Direct paths to workers whose address it is told.
    ItsPeers,
    /// Nothing: a rendezvous of the baseline offers nobody to it.
    Nothing,
}

impl Unseen {
    pub(crate) fn new(missing: NoEndpoint, config: &Config) -> Self {
        let NoEndpoint { asked, why, ipv6, has_ipv4, v1, candidates } = missing;
        let relays = config.relay && config.links;
        let left = match (v1, candidates.is_empty(), relays) {
            (false, _, _) => Left::Nothing,
            (true, false, true) => Left::AddressesAndRelays,
            (true, false, false) => Left::Addresses,
            (true, true, true) => Left::Relays,
            (true, true, false) => Left::ItsPeers,
        };
        let hides_interfaces = !config.host_candidates;
        // What a baseline rendezvous does not pass on is no address to be sought at.
        let candidates = if v1 { candidates } else { Vec::new() };
        let names = config.names;
        Self { asked, why, ipv6, has_ipv4, candidates, left, hides_interfaces, names }
    }

    /// Whether the worker has nothing by which it could be linked on its own account.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self.left, Left::ItsPeers | Left::Nothing)
    }

    /// Whether nothing is in the way: UDP gets out by IPv6, and nobody can be asked by IPv4.
    #[must_use]
    pub fn is_of_ipv6_alone(&self) -> bool {
        self.ipv6 && self.asked.is_empty() && !self.is_stuck()
    }

    /// What is missing, as the beginning of a line.
    #[must_use]
    pub fn title(&self) -> &'static str {
        if self.ipv6 { "no public IPv4 endpoint" } else { "no public UDP endpoint" }
    }

    fn what(&self) -> String {
        match (self.asked.as_slice(), &self.why) {
            ([], _) if self.ipv6 && !self.has_ipv4 => "this host has no IPv4 address".to_owned(),
            ([], None) => "there is no STUN server to ask".to_owned(),
            ([], Some(why)) if self.ipv6 => why.clone(),
            ([], Some(why)) => format!("no STUN server could be asked ({why})"),
            (asked, _) if self.ipv6 => {
                format!("no answer by IPv4 from the STUN server {}", list(asked))
            }
            (asked, _) => format!("no answer from the STUN server {}", list(asked)),
        }
    }

    fn consequence(&self) -> String {
        let addresses = list(&self.candidates);
        let left = match self.left {
            Left::AddressesAndRelays => {
                format!("peers can be linked at {addresses}, and by a relay")
            }
            Left::Addresses => {
                format!("peers can be linked at {addresses} alone, since no relay is used")
            }
            Left::Relays => {
                "this worker has no address that peers could be told: it is linked by a \
                             relay, or to whom it reaches itself"
                    .to_owned()
            }
            Left::ItsPeers => {
                "this worker has no address that peers could be told, and uses no relay: \
                               it is linked to nobody but whom it reaches itself"
                    .to_owned()
            }
            Left::Nothing => {
                "this rendezvous offers no peer to a worker without a public UDP endpoint of IPv4"
                    .to_owned()
            }
        };
        if self.ipv6 { format!("UDP gets out by IPv6, and {left}") } else { left }
    }

    /// What would give the worker an endpoint. A host without IPv4 gets none.
    fn ways_to_an_endpoint(&self) -> Vec<String> {
        let setting = self.names.stun_servers;
        let name_another = format!("name one that can be reached ({setting})");
        match (self.asked.is_empty(), self.ipv6, self.has_ipv4) {
            (true, true, _) => Vec::new(),
            (true, false, true) => vec![name_another],
            // Where there is a NAT64, its DNS64 gives every name an IPv6 address (RFC 6147).
            (true, false, false) => vec![format!(
                "name one by a host name or an IPv6 address, since this host has no IPv4 address \
                 ({setting})"
            )],
            (false, true, _) => {
                vec!["let UDP out to that server by IPv4".to_owned(), name_another]
            }
            (false, false, _) => vec!["let UDP out to that server".to_owned(), name_another],
        }
    }

    fn remedy(&self) -> String {
        let mut all = self.ways_to_an_endpoint();
        let allow_relays = format!("allow relays ({})", self.names.relay);
        match self.left {
            Left::Addresses => all.push(allow_relays),
            Left::ItsPeers => {
                if self.hides_interfaces {
                    let setting = self.names.host_candidates;
                    all.push(format!("tell the addresses of the interfaces ({setting})"));
                }
                all.push(allow_relays);
            }
            Left::Nothing => all.push("use a rendezvous that speaks holepunch.v1".to_owned()),
            Left::AddressesAndRelays | Left::Relays => {}
        }
        all.join(", or ")
    }
}

/// The first of them, and how many more there are.
fn list(all: &[impl fmt::Display]) -> String {
    let mut shown: Vec<String> = all.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if let Some(more) = all.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), self.consequence())?;
        let remedy = self.remedy();
        if remedy.is_empty() { Ok(()) } else { write!(f, "; to change that, {remedy}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("http://rendezvous.example".parse().unwrap())
    }

    fn missing() -> NoEndpoint {
        NoEndpoint {
            asked: vec!["stun.example:3478".to_owned()],
            why: None,
            ipv6: false,
            has_ipv4: true,
            v1: true,
            candidates: vec!["192.168.1.7:8081".parse().unwrap()],
        }
    }

    #[test]
    fn with_addresses_and_relays_it_says_where_peers_can_be_linked() {
        let unseen = Unseen::new(missing(), &config());
        assert!(!unseen.is_stuck());
        assert_eq!(
            unseen.to_string(),
            "no answer from the STUN server stun.example:3478: peers can be linked at \
             192.168.1.7:8081, and by a relay; to change that, let UDP out to that server, or name one \
             that can be reached (`stun_servers`)"
        );
    }

    #[test]
    fn a_long_list_is_cut_short() {
        let candidates = (1..=16).map(|n| ([10, 0, 0, n], 8081).into()).collect();
        let text = Unseen::new(NoEndpoint { candidates, ..missing() }, &config()).to_string();
        assert!(text.contains("10.0.0.4:8081, 12 more, and by a relay"), "{text}");
    }

    #[test]
    fn without_anything_it_says_so_and_names_every_way_out() {
        let hidden = Config { relay: false, host_candidates: false, ..config() };
        let none = NoEndpoint { asked: Vec::new(), candidates: Vec::new(), ..missing() };
        let unseen = Unseen::new(none, &hidden);
        assert!(unseen.is_stuck());
        let text = unseen.to_string();
        assert!(text.starts_with("there is no STUN server to ask: "), "{text}");
        for way in ["`stun_servers`", "`relay`", "`host_candidates`"] {
            assert!(text.contains(way), "{way} in {text}");
        }
        assert!(!text.contains("let UDP out"), "nobody was asked: {text}");
    }

    #[test]
    fn a_rendezvous_of_the_baseline_is_named_as_what_is_in_the_way() {
        let unseen = Unseen::new(NoEndpoint { v1: false, ..missing() }, &config());
        assert!(unseen.is_stuck() && unseen.candidates.is_empty());
        assert!(unseen.to_string().contains("holepunch.v1"), "{unseen}");
        let why = Some("stun.example: no such host".to_owned());
        let unseen = Unseen::new(NoEndpoint { asked: Vec::new(), why, ..missing() }, &config());
        assert!(unseen.to_string().contains("could be asked (stun.example: no such host)"));
    }

    #[test]
    fn on_a_network_of_ipv6_alone_nothing_is_called_blocked_and_nothing_is_to_be_changed() {
        let by_ipv6 = NoEndpoint {
            asked: Vec::new(),
            why: Some("no STUN server can be asked by IPv4".to_owned()),
            ipv6: true,
            has_ipv4: false,
            candidates: vec!["[2001:db8::7]:8081".parse().unwrap()],
            ..missing()
        };
        let unseen = Unseen::new(by_ipv6.clone(), &config());
        assert!(unseen.is_of_ipv6_alone());
        assert_eq!(unseen.title(), "no public IPv4 endpoint");
        assert_eq!(
            unseen.to_string(),
            "this host has no IPv4 address: UDP gets out by IPv6, and peers can be linked at \
             [2001:db8::7]:8081, and by a relay"
        );
        let unseen = Unseen::new(NoEndpoint { v1: false, ..by_ipv6 }, &config());
        assert!(unseen.is_stuck() && !unseen.is_of_ipv6_alone());
        assert!(unseen.to_string().ends_with("use a rendezvous that speaks holepunch.v1"));
    }

    #[test]
    fn an_ipv4_address_where_there_is_none_is_not_called_silent() {
        let why = Some("192.0.2.1:3478: no route by IPv4 to 192.0.2.1".to_owned());
        let literal = NoEndpoint { asked: Vec::new(), why, has_ipv4: false, ..missing() };
        let text = Unseen::new(literal, &config()).to_string();
        assert!(text.contains("could be asked (192.0.2.1:3478: no route by IPv4"), "{text}");
        assert!(text.contains("by a host name or an IPv6 address"), "{text}");
        assert!(!text.contains("let UDP out"), "{text}");
    }

    #[test]
    fn servers_that_are_silent_by_ipv4_alone_are_told_as_such() {
        let text = Unseen::new(NoEndpoint { ipv6: true, ..missing() }, &config()).to_string();
        for part in ["no answer by IPv4 from", "UDP gets out by IPv6", "to that server by IPv4"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
