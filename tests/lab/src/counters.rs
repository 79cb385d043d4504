//! What the kernel has counted: UDP packets by source and destination, at three places.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::Value;

use crate::error::LabError;
use crate::namespace::Namespace;

/// Table of nftables that holds the counters.
const TABLE: &str = "counted";
/// Most flows that are told apart at one place; those beyond are not counted.
const FLOWS_MAX: u32 = 4096;
/// Before the kernel's connection tracking and translation, and after them.
const FIRST: &str = "-300";
const LAST: &str = "300";

/// Where packets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// What arrives at the host itself.
    HostIn,
    /// What comes to the NAT box from the public network, before translation and filter.
    BoxIn,
    /// What leaves the NAT box for the public network, after translation.
    BoxOut,
}

/// Packets of one source to one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Source, as written in the packets at that place.
    pub from: SocketAddrV4,
    /// Destination, likewise.
    pub to: SocketAddrV4,
    /// How many.
    pub packets: u64,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}: {}", self.from, self.to, self.packets)
    }
}

impl Place {
    fn set(self) -> &'static str {
        match self {
            Self::HostIn => "host_in",
            Self::BoxIn => "box_in",
            Self::BoxOut => "box_out",
        }
    }
}

/// The rules of a host.
pub(crate) fn host_rules() -> String {
    let chain = chain(Place::HostIn, "input", FIRST, "");
    format!("table ip {TABLE} {{\n{}{chain}}}\n", set(Place::HostIn))
}

/// The rules of a NAT box, whose interface to the public network is `outer`.
pub(crate) fn box_rules(outer: &str) -> String {
    let sets = [Place::BoxIn, Place::BoxOut].map(set).concat();
    let chains = chain(Place::BoxIn, "prerouting", FIRST, &format!("iifname \"{outer}\""))
        + &chain(Place::BoxOut, "postrouting", LAST, &format!("oifname \"{outer}\""));
    format!("table ip {TABLE} {{\n{sets}{chains}}}\n")
}

fn set(place: Place) -> String {
    format!(
        "  set {} {{
    type ipv4_addr . inet_service . ipv4_addr . inet_service
    size {FLOWS_MAX}
    flags dynamic
  }}
",
        place.set()
    )
}

fn chain(place: Place, hook: &str, priority: &str, only: &str) -> String {
    let set = place.set();
    let flow = "ip saddr . udp sport . ip daddr . udp dport";
    format!(
        "  chain count_{set} {{
    type filter hook {hook} priority {priority}
    policy accept
    {only} meta l4proto udp update @{set} {{ {flow} counter }}
  }}
"
    )
}

/// All flows that were counted at one place.
pub(crate) fn flows(namespace: &Namespace, place: Place) -> Result<Vec<Flow>, LabError> {
    let text = namespace.nft_set(TABLE, place.set())?;
    parse(&text).ok_or_else(|| LabError::output("nft's list of a set", &text))
}

fn parse(text: &str) -> Option<Vec<Flow>> {
    let json: Value = serde_json::from_str(text).ok()?;
    let set = json.get("nftables")?.as_array()?.iter().find_map(|object| object.get("set"))?;
    // A set without elements has no such key.
    let Some(elements) = set.get("elem") else { return Some(Vec::new()) };
    elements.as_array()?.iter().map(|element| flow(element.get("elem")?)).collect()
}

fn flow(element: &Value) -> Option<Flow> {
    let key = element.pointer("/val/concat")?;
    let ip = |index: usize| key.get(index)?.as_str()?.parse::<Ipv4Addr>().ok();
    let port = |index: usize| u16::try_from(key.get(index)?.as_u64()?).ok();
    Some(Flow {
        from: SocketAddrV4::new(ip(0)?, port(1)?),
        to: SocketAddrV4::new(ip(2)?, port(3)?),
        packets: element.pointer("/counter/packets")?.as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read() {
        let flow = r#"{"elem": {"val": {"concat": ["198.18.0.1", 3478, "10.0.0.2", 8081]},
            "counter": {"packets": 3, "bytes": 93}}}"#;
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {{"set": {{"name": "x", "elem": [{flow}]}}}}]}}"#
        );
        let expected = Flow {
            from: "198.18.0.1:3478".parse().unwrap(),
            to: "10.0.0.2:8081".parse().unwrap(),
            packets: 3,
        };
        assert_eq!(parse(&text), Some(vec![expected]));
    }

    #[test]
    fn an_empty_set_has_no_flows_and_nonsense_is_not_a_set() {
        assert_eq!(parse(r#"{"nftables": [{"set": {"name": "x"}}]}"#), Some(Vec::new()));
        for text in ["", "{}", r#"{"nftables": []}"#, r#"{"nftables": [{"set": {"elem": [1]}}]}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
