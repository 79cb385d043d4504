//! The side that is connected to: a socket for each flow, connected to the target, so that nobody else's datagrams go back.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use holepunch_link::RecvStream;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::super::far::allowed;
use super::super::request::{Answer, Failure, FlowRequest, Refusal};
use super::super::station::Way;
use super::super::target::Protocol;
use super::table::{NoFlow, Whose};
use super::{DATAGRAM_BYTES, Flow, READ_PAUSE, Sink, with_buffers};
use crate::messages::write_message;
use crate::sending::Sending;

/// Carries a flow of the peer's, where that may be, until one of the two ends it or it has been idle for too long.
///
/// # Errors
/// What the peer is to be answered, and has not been yet.
pub(in super::super) async fn serve(
    way: &Way,
    FlowRequest { id, target }: &FlowRequest,
    send: &mut Sending,
    recv: &mut RecvStream,
) -> Result<(), Answer> {
    let (carrier, station) = (&way.carrier, &way.carrier.station);
    let refused = |reason: String, code| Answer::Refused { reason, code: Some(code) };
    if !carrier.flows.is_peers(*id) {
        return Err(refused("expected a number of the peer's own".to_owned(), Refusal::Malformed));
    }
    let addresses = allowed(carrier, target, Protocol::Udp).await?;
    let socket = connected(&addresses).await?;
    let flow = Flow::new(carrier, *id, Sink::Target(socket), false);
    carrier.flows.open(&flow, Whose::Peers).map_err(|error| {
        let code = match error {
            NoFlow::Full => Refusal::TooMany,
            NoFlow::Taken => Refusal::Malformed,
        };
        refused(error.to_string(), code)
    })?;
    let closing = Closing(&flow);
    let answer = write_message(&mut **send, &Answer::Connected);
    if matches!(timeout(station.times.request, answer).await, Ok(Ok(()))) {
        station.counts.udp_served.one();
        tokio::select! {
            () = back(&flow) => {}
            () = flow.over.notified() => {}
            // Nothing more is said there: whatever comes is the end.
            _ended = recv.read_chunk(1) => {}
        }
        let _unless_stopped = send.finish();
    }
    drop(closing);
    Ok(())
}

/// Closes a flow, also where its task is dropped.
struct Closing<'a>(&'a Arc<Flow>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// From the target to the peer.
async fn back(flow: &Flow) {
    let Sink::Target(socket) = &flow.sink else { return };
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => flow.send(&buffer[..length]),
            Err(error) => {
                tracing::debug!(%error, "the target of a UDP flow");
                sleep(READ_PAUSE).await;
            }
        }
    }
}

/// A socket for the first address that a way leads to.
async fn connected(addresses: &[SocketAddr]) -> Result<UdpSocket, Answer> {
    let mut last = None;
    for address in addresses {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let connecting = async {
            let socket = with_buffers(UdpSocket::bind(own).await?)?;
            socket.connect(address).await?;
            socket.writable().await?;
            Ok::<_, std::io::Error>(socket)
        };
        match connecting.await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    // Which addresses the name has here does not concern the peer.
    let reason = last.map_or("it has no address".to_owned(), |error| error.to_string());
    Err(Answer::Failed { failure: Failure::Unreachable, reason })
}
