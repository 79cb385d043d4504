//! How QUIC is set up for links.

use std::sync::Arc;
use std::time::Duration;

use holepunch_congestion::BbrConfig;
use holepunch_paths::PATHS_MAX;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::session::SESSIONS_MAX;
use noq::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use noq::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::identity::Identity;
use crate::links::INCOMING_MAX;
use crate::protocol::Protocols;
use crate::tls::{self, PeerVerifier};

/// Streams that a peer may have open at once, each way to open one: a tunnel of a thousand TCP
/// connections needs as many.
const STREAMS_MAX: u32 = 2048;
/// Unread bytes of one stream. A line of 500 Mbit/s and a round trip of 200 ms has 12.5 MB under way, and as much
/// waits behind a packet that was lost until that has come again; of a hundred of them, one is lost a second time. The
/// library ends a connection in which a stream has more than 16,384 gaps, or all have more than 65,536: with packets of
/// 800 bytes, lost at random, this window has fewer.
const STREAM_WINDOW_BYTES: u32 = 48 * 1024 * 1024;
/// Bytes that are written and not acknowledged yet: as many as the peer takes. With fewer, a thousand streams
/// of a slow link would fill it, and the first byte of a further one would not even be queued.
const SEND_WINDOW_BYTES: u64 = 64 * 1024 * 1024;
/// Datagrams that wait to be read, or to be sent.
const DATAGRAM_QUEUE_BYTES: usize = 1024 * 1024;
/// Longest UDP payload that is tried, and that the peer is told to send (RFC 9000 §18.2): what an Ethernet frame holds
/// beside the headers of IPv4 and UDP. Longer ones are dropped before QUIC: thousands of datagrams may wait there.
pub(crate) const PAYLOAD_BYTES_MAX: u16 = 1472;
/// A first guess of the round-trip time: the default of a third of a second would repeat a lost first
/// packet only after a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// What is sent before the first acknowledgement, in bytes: 32 packets, as browsers do. The library paces
/// by what it may send in 10 ms; with the 10 packets of RFC 9002 §7.2 that is one packet at a round trip
/// of 160 ms, and the first stream would leave 13 ms after the handshake's last packet.
const INITIAL_WINDOW_BYTES: u64 = 32 * 1200;
const _: () = assert!(INITIAL_WINDOW_BYTES * 10 / 160 >= 2 * 1200, "two packets at once");

/// First packets of connections that nobody has looked at yet; those of more are dropped, and repeated by honest peers. Each
/// session of a worker may hold four.
const FIRST_PACKETS_MAX: usize = SESSIONS_MAX * INCOMING_MAX;
/// Further bytes of such a connection, and of all of them. A peer that nobody has answered sends its first flight,
/// which is a packet or two, and the same again.
const FIRST_BYTES_MAX: u64 = 8 * 1024;
const FIRST_BYTES_OF_ALL_MAX: u64 = 512 * 1024;

/// What the packets of a link are like, on either side; and what the peer may send before it is read from, in bytes.
pub(crate) fn transport(window_bytes: u32) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(PAYLOAD_BYTES_MAX);
    let mut config = TransportConfig::default();
    // Each path makes its own: what one holds says nothing about another. Cubic, the library's default, takes a packet
    // that is lost for a queue that overflows: with one in a hundred lost, a line of any rate would carry 3 Mbit/s.
    let congestion = BbrConfig { initial_window: INITIAL_WINDOW_BYTES };
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(window_bytes))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_QUEUE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_QUEUE_BYTES)
        .max_concurrent_multipath_paths(PATHS_MAX)
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(congestion))
        // A path that is idle is kept and watched by connectivity checks; a link without any ends by itself.
        .max_idle_timeout(None)
        .mtu_discovery_config(Some(mtu))
        // The library writes the frame of this extension without asking whether there is room, and panics
        // where there is none.
        .ack_frequency_config(None);
    config
}

/// What holds for every link of a socket.
pub(crate) fn endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    // The first byte tells QUIC from STUN (RFC 9443).
    config.grease_quic_bit(false);
    let advertised = config.max_udp_payload_size(PAYLOAD_BYTES_MAX);
    advertised.expect("invariant: no less than QUIC needs").clone()
}

pub(crate) fn client(
    identity: &Identity,
    peer: PublicKey,
    protocols: &Protocols,
    window_bytes: u32,
) -> Result<(noq::ClientConfig, Arc<PeerVerifier>), String> {
    let (tls, verifier) =
        tls::client(identity, peer, protocols).map_err(|error| error.to_string())?;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| error.to_string())?;
    let mut config = noq::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport(window_bytes)));
    Ok((config, verifier))
}

pub(crate) fn server(
    identity: &Identity,
    peer: PublicKey,
    protocols: &Protocols,
    window_bytes: u32,
) -> Result<(noq::ServerConfig, Arc<PeerVerifier>), String> {
    let (tls, verifier) =
        tls::server(identity, peer, protocols).map_err(|error| error.to_string())?;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| error.to_string())?;
    let mut config = noq::ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport(window_bytes)))
        .max_incoming(FIRST_PACKETS_MAX)
        .incoming_buffer_size(FIRST_BYTES_MAX)
        .incoming_buffer_size_total(FIRST_BYTES_OF_ALL_MAX);
    Ok((config, verifier))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::NonZeroUsize;
    use std::time::Instant;

    use bytes::BytesMut;
    use noq_proto::{DatagramEvent, Endpoint, FourTuple};

    use super::*;
    use crate::machine;

    #[test]
    fn first_packets_are_kept_in_small_number() {
        let ends = machine::ends(Arc::new(transport(0))).unwrap();
        let endpoint = Arc::new(ends.endpoint);
        let mut near = Endpoint::new(Arc::clone(&endpoint), None, true);
        let mut far = Endpoint::new(endpoint, Some(Arc::new(ends.server)), true);
        let (now, at) = (Instant::now(), SocketAddr::from(([192, 0, 2, 1], 1)));
        let arrive = |packet: &[u8], far: &mut Endpoint| {
            let event =
                far.handle(now, FourTuple::new(at, None), None, packet.into(), &mut Vec::new());
            match event {
                Some(DatagramEvent::NewConnection(incoming)) => Some(incoming),
                Some(_) => panic!("an answer to a packet that is in order"),
                None => None,
            }
        };
        let mut first_packet = || {
            let mut packet = Vec::new();
            let (_, mut connection) =
                near.connect(now, ends.client.clone(), at, "holepunch").unwrap();
            let transmit = connection.poll_transmit(now, NonZeroUsize::MIN, &mut packet);
            assert_eq!(transmit.unwrap().size, packet.len());
            BytesMut::from(&packet[..])
        };
        let packets: Vec<_> = (0..2 * FIRST_PACKETS_MAX).map(|_| first_packet()).collect();
        let mut kept: Vec<_> =
            packets.iter().filter_map(|packet| arrive(packet, &mut far)).collect();
        assert_eq!(kept.len(), FIRST_PACKETS_MAX);
        for packet in packets.iter().cycle().take(100 * FIRST_PACKETS_MAX) {
            kept.extend(arrive(packet, &mut far));
            assert!(far.incoming_buffer_bytes() <= FIRST_BYTES_OF_ALL_MAX);
        }
        assert_eq!(kept.len(), FIRST_PACKETS_MAX);
        // One that has been looked at makes room.
        far.ignore(kept.remove(0));
        kept.extend(arrive(&packets[0], &mut far));
        assert_eq!(kept.len(), FIRST_PACKETS_MAX);
        for incoming in kept {
            far.ignore(incoming);
        }
        assert_eq!(far.incoming_buffer_bytes(), 0);
    }
}
