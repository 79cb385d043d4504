//! The side that listens: a flow for each program that sends something.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::ask::ask;
use super::super::request::{Answer, FlowRequest, REASON_CHARACTERS_MAX, Request};
use super::super::station::{Station, Way};
use super::super::target::Target;
use super::super::telling::Asker;
use super::table::Whose;
use super::{DATAGRAM_BYTES, Flow, READ_PAUSE, Sink};
use holepunch_wire::text::harmless;

/// Takes datagrams for as long as it runs, whether there is a link or not.
pub(in super::super) async fn listen(station: Arc<Station>, socket: UdpSocket, target: Target) {
    let socket = Arc::new(socket);
    let (mut programs, mut tasks) = (BTreeMap::<SocketAddr, Arc<Flow>>::new(), JoinSet::new());
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot take a datagram");
                sleep(READ_PAUSE).await;
                continue;
            }
        };
        let datagram = &buffer[..length];
        if let Some(flow) = programs.get(&from).filter(|flow| !flow.is_over()) {
            flow.send(datagram);
            continue;
        }
        programs.retain(|_, flow| !flow.is_over());
        while tasks.try_join_next().is_some() {}
        match open(&station, &socket, from) {
            Ok((way, flow)) => {
                flow.send(datagram);
                programs.insert(from, Arc::clone(&flow));
                tasks.spawn(run(way, flow, target.clone()));
            }
            Err(NotOpened { reason, code }) => {
                station.counts.udp_dropped.one();
                station.not_made_because(Asker::ThisSide, Some(&target), &reason, code);
            }
        }
    }
}

/// Why no flow was opened.
struct NotOpened {
    reason: String,
    code: Option<&'static str>,
}

fn open(
    station: &Station,
    socket: &Arc<UdpSocket>,
    from: SocketAddr,
) -> Result<(Way, Arc<Flow>), NotOpened> {
    let Some(way) = station.way_now() else {
        let missing = station.missing();
        let reason = format!("there is no link for UDP: {}", missing.text);
        return Err(NotOpened { reason, code: Some(missing.code) });
    };
    let carrier = &way.carrier;
    if !carrier.peer_has_udp() {
        let reason = "the peer's version cannot carry UDP; update it there".to_owned();
        return Err(NotOpened { reason, code: Some("peer_too_old") });
    }
    let sink = Sink::Program(Arc::clone(socket), from);
    let flow = Flow::new(carrier, carrier.flows.next_id(), sink, true);
    let opened = carrier.flows.open(&flow, Whose::Own);
    opened.map_err(|error| NotOpened { reason: error.to_string(), code: None })?;
    Ok((way, flow))
}

/// A flow, from its request to its end.
async fn run(way: Way, flow: Arc<Flow>, target: Target) {
    let station = &way.carrier.station;
    if let Err(reason) = keep(&way, &flow, &target).await
        && way.carrier.link.ended().is_none()
    {
        station.counts.refused_by_peer.one();
        let reason = harmless(&reason, REASON_CHARACTERS_MAX);
        station.not_made(Asker::ThisSide, Some(&target), &reason);
    }
    flow.close();
}

async fn keep(way: &Way, flow: &Flow, target: &Target) -> Result<(), String> {
    let carrier = &way.carrier;
    let request = Request::Flow { flow: FlowRequest { id: flow.id, target: target.clone() } };
    let (answer, mut send, mut recv) = ask(carrier, &request).await?;
    match answer {
        Answer::Connected => {}
        Answer::Refused { reason, .. } | Answer::Failed { reason, .. } => return Err(reason),
        Answer::Listening { .. } => return Err("the peer's answer is none to this".to_owned()),
    }
    carrier.station.counts.udp_opened.one();
    flow.opened();
    tokio::select! {
        () = flow.over.notified() => {}
        // Nothing more is said there: whatever comes is the end.
        _ended = recv.read_chunk(1) => {}
    }
    let _unless_stopped = send.finish();
    Ok(())
}
