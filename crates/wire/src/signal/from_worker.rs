//! Messages from a worker to the rendezvous.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_json::value::RawValue;

use super::endpoint::{EndpointError, endpoint};
use super::v1::{self, WorkerV1};
use super::{MessageError, any_value, as_text, kind, object};

/// A message as a worker writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkerMessage {
    /// The public IP that an HTTP echo service saw.
    RegisterPublicIp {
        /// That address.
        ip: IpAddr,
    },
    /// The public UDP endpoint that STUN saw: asks to be paired.
    UpdateUdpEndpoint {
        /// Its address.
        udp_ip: IpAddr,
        /// Its port.
        udp_port: u16,
    },
    /// Asks for the payload back.
    EchoRequest {
        /// Any text.
        payload: String,
    },
    /// Asks what the rendezvous knows of the sender.
    GetMyDetails,
    /// A message of the sub-protocol `holepunch.v1`.
    #[serde(untagged)]
    V1(WorkerV1),
}

impl WorkerMessage {
    /// The report of a UDP endpoint.
    #[must_use]
    pub fn report(endpoint: SocketAddr) -> Self {
        Self::UpdateUdpEndpoint { udp_ip: endpoint.ip().to_canonical(), udp_port: endpoint.port() }
    }

    /// The message as a text frame.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("invariant: texts and numbers are always valid JSON")
    }
}

/// A message as the rendezvous reads it.
#[derive(Debug)]
pub enum FromWorker<'a> {
    /// `register_public_ip`; `None` where `ip` is not there or not an IP address.
    RegisterPublicIp(Option<IpAddr>),
    /// `update_udp_endpoint`.
    UpdateUdpEndpoint(Result<SocketAddr, EndpointError>),
    /// `echo_request` with its payload as it was written; `None` where there is none.
    EchoRequest(Option<&'a RawValue>),
    /// `get_my_details`.
    GetMyDetails,
    /// A message of the sub-protocol `holepunch.v1`, or what is wrong with it.
    V1(Result<WorkerV1, String>),
    /// A type that this program does not know.
    Unknown(String),
}

fields!(
    ip,
    udp_ip,
    udp_port,
    #[serde(default, deserialize_with = "any_value")]
    payload
);

impl<'a> FromWorker<'a> {
    /// Reads one text frame.
    ///
    /// # Errors
    /// The text is not a JSON object with a `type`. Whatever is wrong with the other fields is part
    /// of the value, since it is answered or logged by the message's own rules.
    pub fn parse(text: &'a str) -> Result<Self, MessageError> {
        let fields: Fields<'a> = object(text)?;
        let kind = kind(fields.kind)?;
        Ok(match kind.as_str() {
            "register_public_ip" => {
                let ip = as_text(fields.ip).and_then(|text| text.parse::<IpAddr>().ok());
                Self::RegisterPublicIp(ip.map(|ip| ip.to_canonical()))
            }
            "update_udp_endpoint" => {
                Self::UpdateUdpEndpoint(endpoint(fields.udp_ip, fields.udp_port))
            }
            "echo_request" => Self::EchoRequest(fields.payload),
            "get_my_details" => Self::GetMyDetails,
            kind if v1::WORKER_KINDS.contains(&kind) => Self::V1(WorkerV1::parse(text)),
            _ => Self::Unknown(kind),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_worker_writes_is_what_the_rendezvous_reads() {
        let endpoint: SocketAddr = "203.0.113.5:4000".parse().unwrap();
        let text = WorkerMessage::report(endpoint).encode();
        assert_eq!(
            text,
            r#"{"type":"update_udp_endpoint","udp_ip":"203.0.113.5","udp_port":4000}"#
        );
        let Ok(FromWorker::UpdateUdpEndpoint(read)) = FromWorker::parse(&text) else {
            panic!("not a report")
        };
        assert_eq!(read, Ok(endpoint));
        assert_eq!(WorkerMessage::GetMyDetails.encode(), r#"{"type":"get_my_details"}"#);
    }

    #[test]
    fn an_echo_payload_is_kept_letter_by_letter() {
        for payload in
            ["null", "1.50", "\"ü\\n\"", "[1, {\"a\":  2}]", "123456789012345678901234567890"]
        {
            let text = format!(r#"{{"payload":{payload},"type":"echo_request"}}"#);
            let Ok(FromWorker::EchoRequest(Some(read))) = FromWorker::parse(&text) else {
                panic!("{payload}")
            };
            assert_eq!(read.get(), payload);
        }
        assert!(matches!(
            FromWorker::parse(r#"{"type":"echo_request"}"#),
            Ok(FromWorker::EchoRequest(None))
        ));
    }

    #[test]
    fn what_is_not_a_message_says_why() {
        for text in ["", "{", "nonsense", "{\"type\":\"a\"} x", "{\"type\":1,\"type\":2}"] {
            assert!(matches!(FromWorker::parse(text), Err(MessageError::NotJson(_))), "{text}");
        }
        for text in ["[]", "[\"echo_request\"]", "1", "null", "\"text\"", " true "] {
            assert!(matches!(FromWorker::parse(text), Err(MessageError::NotAnObject)), "{text}");
        }
        for text in ["{}", "{\"type\":null}", "{\"type\":5}", "{\"kind\":\"a\"}"] {
            assert!(matches!(FromWorker::parse(text), Err(MessageError::NoType)), "{text}");
        }
        let unknown = FromWorker::parse(r#" {"type":"later","x":1}"#);
        assert!(matches!(unknown, Ok(FromWorker::Unknown(kind)) if kind == "later"));
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = format!(
            r#"{{"type":"echo_request","payload":{}{}}}"#,
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        assert!(matches!(FromWorker::parse(&deep), Ok(FromWorker::EchoRequest(Some(_)))));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _outcome = FromWorker::parse(&text);
            let _outcome = FromWorker::parse(&format!("{{\"type\":{text}}}"));
        }
    }
}
