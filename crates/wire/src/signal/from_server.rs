//! Messages from the rendezvous to a worker.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_json::value::RawValue;

use super::endpoint::{EndpointError, endpoint};
use super::v1::{self, ErrorCode, ServerV1, SessionOffer};
use super::{MessageError, as_text, kind, object};
use crate::session::SessionId;
use crate::{WorkerId, WorkerIdError};

/// A message as the rendezvous writes it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    /// The answer to a report.
    UdpEndpointAck {
        /// `success` or `error`.
        status: &'static str,
        /// What is wrong, with `error`.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// The answer to an echo request.
    EchoResponse {
        /// The payload as it was written; `None` is sent as `""`.
        #[serde(serialize_with = "payload_or_empty")]
        original_payload: Option<&'a RawValue>,
        /// A text that names the worker.
        processed_by_rendezvous: String,
    },
    /// The answer to `get_my_details`.
    MyDetailsResponse {
        /// The asking worker.
        worker_id: &'a str,
        /// The IP that it registered, or else the one seen on its WebSocket.
        registered_ip: Option<IpAddr>,
        /// The port seen on its WebSocket.
        registered_port: Option<u16>,
        /// The address of its reported UDP endpoint.
        udp_ip: Option<IpAddr>,
        /// The port of its reported UDP endpoint.
        udp_port: Option<u16>,
        /// A sentence.
        message: &'a str,
    },
    /// The other worker of a new pair.
    P2pConnectionOffer {
        /// Its id.
        peer_worker_id: &'a str,
        /// The address of its UDP endpoint.
        peer_udp_ip: IpAddr,
        /// The port of its UDP endpoint.
        peer_udp_port: u16,
    },
}

fn payload_or_empty<S: serde::Serializer>(
    payload: &Option<&RawValue>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match payload {
        Some(payload) => payload.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

impl ServerMessage<'_> {
    /// The answer to an accepted report, or with the reason why it was not accepted.
    #[must_use]
    pub fn ack(refusal: Option<String>) -> Self {
        let status = if refusal.is_none() { "success" } else { "error" };
        Self::UdpEndpointAck { status, detail: refusal }
    }

    /// The message as a text frame.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("invariant: texts and numbers are always valid JSON")
    }
}

/// A peer to link with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The peer's id.
    pub peer: WorkerId,
    /// The peer's public UDP endpoint, as the rendezvous was told.
    pub endpoint: SocketAddr,
}

/// Why an offer cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// `peer_worker_id` is not there.
    #[error("the offer has no peer_worker_id")]
    NoPeer,
    /// `peer_worker_id` is not an id.
    #[error("the offer's peer_worker_id is not valid: {0}")]
    BadPeer(#[from] WorkerIdError),
    /// `peer_udp_ip` or `peer_udp_port` is not there or not valid.
    #[error("the offer's peer_udp_ip and peer_udp_port are not valid: {0}")]
    BadEndpoint(#[from] EndpointError),
}

/// An offer of a session that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BadSessionOffer {
    /// The session, where at least that can be read: it is to be left.
    pub session: Option<SessionId>,
    /// What is wrong.
    pub why: String,
}

/// What the rendezvous says is wrong with something that the worker has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Complaint {
    /// For programs; the baseline tells none.
    pub code: Option<ErrorCode>,
    /// For people.
    pub message: String,
}

/// A message as a worker reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// `udp_endpoint_ack`: accepted, or refused with this detail.
    UdpEndpointAck(Result<(), String>),
    /// `echo_response`: its payload as JSON text.
    EchoResponse(String),
    /// `my_details_response`, as JSON text.
    MyDetails(String),
    /// `p2p_connection_offer`.
    Offer(Result<Offer, OfferError>),
    /// `p2p_connection_offer` with a session, or what is wrong with it.
    SessionOffer(Result<Box<SessionOffer>, BadSessionOffer>),
    /// A message of the sub-protocol `holepunch.v1` that the baseline does not have, or what is wrong
    /// with it.
    V1(Result<Box<ServerV1>, String>),
    /// `error`.
    Error(Complaint),
    /// A type that this program does not know.
    Unknown(String),
}

fields!(
    status,
    detail,
    code,
    message,
    original_payload,
    peer_worker_id,
    peer_udp_ip,
    peer_udp_port,
    session
);

impl FromServer {
    /// Reads one text frame.
    ///
    /// # Errors
    /// The text is not a JSON object with a `type`.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        Self::parse_as(text, true)
    }

    /// Reads one text frame of a rendezvous that has not selected `holepunch.v1`: messages and fields
    /// that only the sub-protocol has are unknown there.
    ///
    /// # Errors
    /// The text is not a JSON object with a `type`.
    pub fn parse_baseline(text: &str) -> Result<Self, MessageError> {
        Self::parse_as(text, false)
    }

    fn parse_as(text: &str, is_v1: bool) -> Result<Self, MessageError> {
        let fields: Fields<'_> = object(text)?;
        let kind = kind(fields.kind)?;
        let raw =
            |field: Option<&RawValue>| field.map(RawValue::get).unwrap_or_default().to_owned();
        Ok(match kind.as_str() {
            "udp_endpoint_ack" => match as_text(fields.status).as_deref() {
                Some("success") => Self::UdpEndpointAck(Ok(())),
                _ => Self::UdpEndpointAck(Err(
                    as_text(fields.detail).unwrap_or_else(|| "no detail given".to_owned())
                )),
            },
            "echo_response" => Self::EchoResponse(raw(fields.original_payload)),
            "my_details_response" => Self::MyDetails(text.to_owned()),
            "p2p_connection_offer" if is_v1 && fields.session.is_some() => {
                let session = as_text(fields.session).and_then(|text| text.parse().ok());
                let bad = |why| BadSessionOffer { session, why };
                Self::SessionOffer(session_offer(text).map(Box::new).map_err(bad))
            }
            "p2p_connection_offer" => Self::Offer(fields.offer()),
            "error" => {
                let message = as_text(fields.message).unwrap_or_default();
                let code = fields.code.and_then(|code| serde_json::from_str(code.get()).ok());
                Self::Error(Complaint { code: code.or(ErrorCode::of_older(&message)), message })
            }
            kind if is_v1 && v1::SERVER_KINDS.contains(&kind) => {
                Self::V1(ServerV1::parse(text).map(Box::new))
            }
            _ => Self::Unknown(kind),
        })
    }
}

fn session_offer(text: &str) -> Result<SessionOffer, String> {
    let ServerV1::P2pConnectionOffer { peer_worker_id, peer_udp_ip, peer_udp_port, details } =
        ServerV1::parse(text)?
    else {
        return Err("expected an offer".to_owned());
    };
    let peer = WorkerId::new(&peer_worker_id).map_err(|error| error.to_string())?;
    let endpoint = peer_udp_ip.zip(peer_udp_port);
    let endpoint = endpoint.map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
    Ok(SessionOffer { peer, endpoint, details: *details })
}

impl Fields<'_> {
    fn offer(&self) -> Result<Offer, OfferError> {
        let peer = as_text(self.peer_worker_id).ok_or(OfferError::NoPeer)?;
        let peer = WorkerId::new(&peer)?;
        let endpoint = endpoint(self.peer_udp_ip, self.peer_udp_port)?;
        Ok(Offer { peer, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::RELAY_URL_BYTES_MAX;

    #[test]
    fn an_offer_has_the_four_fields_of_the_baseline() {
        let side = r#"{"ufrag":"evtj","password":"VOkJxbRl1RmTxUk/WvJxBt"}"#;
        let offer = |url: &str| {
            format!(
                r#"{{"type":"p2p_connection_offer","peer_worker_id":"b","session":"00000000000000ab",
                    "role":"controlling","credentials":{side},"peer_credentials":{side},
                    "relay_token":"{}","relay_url":"{url}","plan":{{"number":1,"strategy":"plain"}}}}"#,
                "a5".repeat(16)
            )
        };
        let read = |text: &str| match FromServer::parse(text) {
            Ok(FromServer::SessionOffer(Ok(offer))) => offer.details,
            other => panic!("{other:?}"),
        };
        let details = read(&offer("https://r.example"));
        assert_eq!(details.relay_url.as_deref(), Some("https://r.example"));
        assert!(details.relay_token.is_some());
        let details = read(&offer(&"x".repeat(RELAY_URL_BYTES_MAX + 1)));
        assert_eq!((details.relay_url, details.relay_token), (None, None));
    }

    #[test]
    fn unknown_values_of_details_are_null() {
        let details = ServerMessage::MyDetailsResponse {
            worker_id: "a",
            registered_ip: Some("203.0.113.5".parse().unwrap()),
            registered_port: None,
            udp_ip: None,
            udp_port: None,
            message: "m",
        };
        assert_eq!(
            details.encode(),
            r#"{"type":"my_details_response","worker_id":"a","registered_ip":"203.0.113.5","registered_port":null,"udp_ip":null,"udp_port":null,"message":"m"}"#
        );
    }
}
