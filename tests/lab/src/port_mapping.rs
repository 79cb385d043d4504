//! The ports that a NAT box has opened, by the kernel's word, and how it may be asked for them.

use std::net::{IpAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::LabError;
use crate::nat::INNER;
use crate::port_service::{INWARD, TABLE};
use crate::tool::{TOOL_WITHIN, run};
use crate::topology::Side;

/// The first octet of the messages that two protocols send to one port (RFC 6887, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// NAT-PMP (RFC 6886).
    NatPmp = 0,
    /// PCP (RFC 6887).
    Pcp = 2,
}

/// A port of the NAT box that leads to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedPort {
    /// The port.
    pub external: u16,
    /// Where it leads.
    pub to: SocketAddrV4,
}

impl Side {
    /// From now on the box does not answer the other of the two protocols.
    ///
    /// # Errors
    /// The rule cannot be loaded.
    pub fn answer_only(&self, version: Version) -> Result<(), LabError> {
        // Octet 8 of the transport is the first after the header of UDP.
        self.nat_box.load_rules(&format!(
            "table inet one_version {{
  chain to_the_service {{
    type filter hook input priority filter
    policy accept
    iifname \"{INNER}\" udp dport 5351 @th,64,8 != {} drop
  }}
}}
",
            version as u8
        ))
    }

    /// The ports that stand open at the moment.
    ///
    /// # Errors
    /// The rules cannot be read, or there is no service that opens ports.
    pub fn opened_ports(&self) -> Result<Vec<OpenedPort>, LabError> {
        let list = ["-nn", "-j", "list", "chain", "inet", TABLE, INWARD];
        let text = run(self.nat_box.inside("nft").args(list), "", TOOL_WITHIN)?;
        parse(&text).ok_or_else(|| LabError::output("nft's list of a chain", &text))
    }

    /// Asks the kernel again and again until no port is open.
    ///
    /// # Errors
    /// One is open after that time; or as [`Self::opened_ports`].
    pub fn no_port_is_open(&self, within: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + within;
        loop {
            let open = self.opened_ports()?;
            if open.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!("open after {within:?}: {open:?}");
                return Err(LabError::NotProven { why, evidence: self.tails() });
            }
        }
    }
}

fn parse(text: &str) -> Option<Vec<OpenedPort>> {
    let json: Value = serde_json::from_str(text).ok()?;
    let objects = json.get("nftables")?.as_array()?;
    objects.iter().filter_map(|object| object.get("rule")).map(opened_port).collect()
}

fn opened_port(rule: &Value) -> Option<OpenedPort> {
    let parts = rule.get("expr")?.as_array()?;
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let external = parts.iter().find_map(|part| {
        let is_port = part.pointer("/match/left/payload/field")?.as_str()? == "dport";
        port(part.pointer("/match/right")?).filter(|_| is_port)
    })?;
    let to = parts.iter().find_map(|part| part.get("dnat"))?;
    let IpAddr::V4(ip) = to.get("addr")?.as_str()?.parse().ok()? else { return None };
    Some(OpenedPort { external, to: SocketAddrV4::new(ip, port(to.get("port")?)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read() {
        let dport = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "th",
            "field": "dport"}}, "right": 43590}}"#;
        let protocol = r#"{"match": {"op": "==", "left": {"payload": {"base": "nh", "offset": 72,
            "len": 8}}, "right": 17}}"#;
        let dnat = r#"{"dnat": {"family": "ip", "addr": "192.168.1.100", "port": 8081}}"#;
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {{"chain": {{"name": "inward"}}}},
            {{"rule": {{"handle": 6, "expr": [{protocol}, {dport}, {dnat}]}}}}]}}"#
        );
        let to = "192.168.1.100:8081".parse().unwrap();
        assert_eq!(parse(&text), Some(vec![OpenedPort { external: 43_590, to }]));
    }

    #[test]
    fn a_chain_without_rules_opens_nothing_and_other_rules_are_not_understood() {
        assert_eq!(parse(r#"{"nftables": [{"chain": {}}]}"#), Some(Vec::new()));
        for text in ["", "{}", r#"{"nftables": [{"rule": {"expr": [{"accept": null}]}}]}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
