//! The side that is connected to: what the peer asks for, where it may be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use holepunch_link::dial::{dial_any, in_turn};
use holepunch_link::{RecvStream, SendStream};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::DRAIN_WITHIN;
use super::counts::Sent;
use super::remote;
use super::request::{Answer, Entrance, Failure, Refusal, Request, asked};
use super::splice::{self, CODE_BUSY, CODE_REFUSED, Turns};
use super::station::{Carried, Carrier, Station, Way};
use super::target::{Host, Protocol, Target};
use super::telling::{Asker, ListenRefused};
use super::udp;
use crate::messages::{MessageError, framed, write_message};
use crate::sending::{CODE_RESET, Sending};

/// Serves the peer's streams until the link ends.
pub(super) async fn serve(way: Way) {
    let (carrier, station) = (&way.carrier, &way.carrier.station);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = carrier.link.accept_bi() => {
                let Ok((mut send, mut recv)) = accepted else { break };
                while tasks.try_join_next().is_some() {}
                match station.place(tasks.len(), Carried::ForThePeer(carrier)) {
                    Ok(place) => {
                        let served = connection(way.clone(), send, recv);
                        tasks.spawn(async move {
                            served.await;
                            drop(place);
                        });
                    }
                    Err(why) => {
                        station.counts.busy.one();
                        not_made(station, None, &why);
                        send.reset(CODE_BUSY);
                        recv.stop(CODE_BUSY);
                    }
                }
            }
            Some(_) = tasks.join_next() => {}
        }
    }
    let _in_time =
        timeout(DRAIN_WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
}

async fn connection(way: Way, send: SendStream, mut recv: RecvStream) {
    let station = &way.carrier.station;
    let mut send = Sending::new(send);
    match timeout(station.times.request, asked(&mut recv)).await {
        Ok(Ok(Some(request))) => answer(&way, request, send, recv).await,
        // Without a byte there was no connection either.
        Ok(Ok(None)) | Err(_) => malformed(station, &mut send, &mut recv),
        Ok(Err(MessageError::Stream(_))) => {
            splice::give_up(&mut send, &mut recv, CODE_RESET);
            station.counts.broken.one();
        }
        Ok(Err(MessageError::TooLong(..) | MessageError::Malformed(_))) => {
            let reason = "expected a request of a target as HOST:PORT".to_owned();
            station.counts.malformed.one();
            not_made(station, None, &reason);
            let answer = Answer::Refused { reason, code: Some(Refusal::Malformed) };
            refuse(station, send, recv, answer).await;
        }
    }
}

async fn answer(way: &Way, request: Request, mut send: Sending, mut recv: RecvStream) {
    let (carrier, station) = (&way.carrier, &way.carrier.station);
    let (target, outcome) = match request {
        Request::Connect { target } => {
            let outcome = open(carrier, &target).await;
            (Some(target), outcome)
        }
        Request::Accepted { accepted } => match carrier.asked.target(&station.remotes, accepted) {
            Some(target) => {
                // This side has chosen the target itself.
                let outcome = open_own(carrier, &target).await;
                (Some(target), outcome)
            }
            None => {
                let reason = "it speaks of a listener that it was not asked for".to_owned();
                (None, Err(Answer::Refused { reason, code: Some(Refusal::Malformed) }))
            }
        },
        Request::Listen { listen } => {
            let outcome = remote::serve(way, listen, &mut send, &mut recv).await;
            let Err(answer) = outcome else { return };
            return not_listening(station, listen, answer, send, recv).await;
        }
        Request::Flow { flow } => {
            let outcome = udp::far::serve(way, &flow, &mut send, &mut recv).await;
            let Err(answer) = outcome else { return };
            return not_opened(way, Some(&flow.target), answer, send, recv).await;
        }
    };
    match outcome {
        Ok(tcp) => {
            station.counts.served.one();
            tracing::debug!(
                target = target.as_ref().map(tracing::field::display),
                "connected for the peer"
            );
            splice_served(carrier, tcp, send, recv).await;
        }
        Err(answer) => not_opened(way, target.as_ref(), answer, send, recv).await,
    }
}

async fn not_opened(
    way: &Way,
    target: Option<&Target>,
    answer: Answer,
    send: Sending,
    recv: RecvStream,
) {
    let station = &way.carrier.station;
    count(station, &answer);
    tracing::info!(
        target = target.map(tracing::field::display),
        ?answer,
        "not connected for the peer"
    );
    if let Answer::Refused { reason, .. } | Answer::Failed { reason, .. } = &answer {
        not_made(station, target, reason);
    }
    refuse(station, send, recv, answer).await;
}

fn count(station: &Station, answer: &Answer) {
    let forbidden = matches!(answer, Answer::Refused { .. });
    if forbidden { station.counts.forbidden.one() } else { station.counts.failed.one() }
}

async fn not_listening(
    station: &Station,
    Entrance { address, .. }: Entrance,
    answer: Answer,
    send: Sending,
    recv: RecvStream,
) {
    count(station, &answer);
    tracing::info!(%address, ?answer, "not listening for the peer");
    let why = match &answer {
        Answer::Refused { reason, code } => Some((code.unwrap_or(Refusal::Other).word(), reason)),
        Answer::Failed { failure, reason } => Some((failure.word(), reason)),
        Answer::Connected | Answer::Listening { .. } => None,
    };
    if let Some((code, reason)) = why {
        let reason = reason.clone();
        station.listener.listen_refused(ListenRefused { address, code, reason });
    }
    refuse(station, send, recv, answer).await;
}

fn not_made(station: &Station, target: Option<&Target>, reason: &str) {
    station.not_made(Asker::Peer, target, reason);
}

fn malformed(station: &Station, send: &mut Sending, recv: &mut RecvStream) {
    station.counts.malformed.one();
    not_made(station, None, "it has opened a stream and has not said where to");
    splice::give_up(send, recv, CODE_RESET);
}

/// A peer that does not take the answer does not hold the place for long.
async fn refuse(station: &Station, mut send: Sending, mut recv: RecvStream, answer: Answer) {
    recv.stop(CODE_REFUSED);
    let written = timeout(station.times.request, write_message(&mut *send, &answer)).await;
    if matches!(written, Ok(Ok(()))) {
        let _unless_stopped = send.finish();
    }
}

async fn splice_served(
    carrier: &Carrier,
    mut tcp: TcpStream,
    mut send: Sending,
    mut recv: RecvStream,
) {
    let (turns, sent) = (Turns::default(), Sent::before(&carrier.station.counts));
    sent.made();
    let outcome = async {
        splice::prepare(&tcp)?;
        let (from_tcp, to_tcp) = tcp.split();
        let answer = framed(&Answer::Connected).map_err(io::Error::other)?;
        let first = (answer, Bytes::new());
        let up = splice::up(from_tcp, &mut send, first, &turns, &sent);
        let down = splice::down(&mut recv, to_tcp, &turns, carrier);
        tokio::try_join!(up, down)
    };
    match outcome.await {
        Ok(_) => splice::may_end(&tcp),
        Err(why) => {
            tracing::debug!(%why, "a connection for the peer is broken");
            carrier.station.counts.broken.one();
            splice::give_up(&mut send, &mut recv, CODE_RESET);
        }
    }
}

/// Connects, where that is allowed: to the very addresses that were checked.
async fn open(carrier: &Carrier, target: &Target) -> Result<TcpStream, Answer> {
    let station = &carrier.station;
    let addresses = allowed(carrier, target, Protocol::Tcp).await?;
    connect(&addresses, station.times.connect).await
}

/// Connects to what this side has chosen itself.
async fn open_own(carrier: &Carrier, target: &Target) -> Result<TcpStream, Answer> {
    let addresses = look_up(carrier, target).await?;
    let addresses = in_turn(addresses.into_iter().map(|ip| SocketAddr::new(ip, target.port)));
    connect(&addresses, carrier.station.times.connect).await
}

/// The addresses that a target of the peer's may be reached at.
pub(super) async fn allowed(
    carrier: &Carrier,
    target: &Target,
    protocol: Protocol,
) -> Result<Vec<SocketAddr>, Answer> {
    let allow = &carrier.station.allow;
    if !allow.names(target, protocol) {
        let how = match protocol {
            Protocol::Tcp => "",
            Protocol::Udp => "/udp",
        };
        let reason =
            format!("{target}{how} is not allowed by --allow on the side that is connected to");
        return Err(Answer::Refused { reason, code: Some(Refusal::NotAllowed) });
    }
    let addresses = look_up(carrier, target).await?;
    let allowed = addresses.into_iter().filter(|ip| allow.leads_to(target, protocol, *ip));
    let allowed = in_turn(allowed.map(|ip| SocketAddr::new(ip, target.port)));
    if allowed.is_empty() {
        let reason = format!(
            "the name {target} leads to an address that it may not lead to; --allow on the side that is \
             connected to may name the address itself"
        );
        return Err(Answer::Refused { reason, code: Some(Refusal::NotAllowed) });
    }
    Ok(allowed)
}

async fn look_up(carrier: &Carrier, target: &Target) -> Result<Vec<IpAddr>, Answer> {
    let name = match &target.host {
        Host::Ip(ip) => return Ok(vec![*ip]),
        Host::Name(name) => name.clone(),
    };
    let failed = |failure, reason: String| Answer::Failed { failure, reason };
    let port = target.port;
    let look_up = async {
        let place = carrier.look_up().await.ok_or_else(|| io::Error::other("no look-ups"))?;
        // A look-up that has begun cannot be called off: it keeps its place until the system has given it up.
        let looking = tokio::spawn(async move {
            let _place = place;
            let found = lookup_host((name, port)).await?;
            Ok::<_, io::Error>(found.map(|address| address.ip().to_canonical()).collect::<Vec<_>>())
        });
        looking.await.map_err(io::Error::other)?
    };
    match timeout(carrier.station.times.lookup, look_up).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) => {
            Err(failed(Failure::Unknown, format!("the name {} is not known there", target.host)))
        }
        Err(_) => {
            let reason = format!("the name {} was not looked up in time", target.host);
            Err(failed(Failure::TimedOut, reason))
        }
    }
}

/// Connects to whichever address answers first.
async fn connect(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, Answer> {
    let unanswered = match dial_any(addresses, within).await {
        Ok(tcp) => return Ok(tcp),
        Err(unanswered) => unanswered,
    };
    let last = unanswered.last_said();
    let failure = match last.map(io::Error::kind) {
        None => Failure::TimedOut,
        Some(io::ErrorKind::ConnectionRefused) => Failure::Refused,
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            Failure::Unreachable
        }
        Some(_) => Failure::Other,
    };
    // Which addresses the name has here does not concern the peer.
    let reason = last.map_or("nothing answers there in time".to_owned(), ToString::to_string);
    Err(Answer::Failed { failure, reason })
}

#[cfg(test)]
mod tests {
    use holepunch_link::testing::Swallowing;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn an_address_that_swallows_packets_does_not_keep_the_next_one_waiting() {
        const WITHIN: Duration = Duration::from_secs(60);
        let silent = Swallowing::new().await;
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [silent.address, good.local_addr().unwrap()];
        let began = Instant::now();
        let tcp = connect(&addresses, WITHIN).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), addresses[1]);
        assert!(began.elapsed() < WITHIN / 4, "{:?}", began.elapsed());
        let Err(Answer::Failed { failure, reason }) =
            connect(&[silent.address], Duration::from_millis(100)).await
        else {
            panic!("a connection to what swallows packets");
        };
        assert_eq!(
            (failure, reason.as_str()),
            (Failure::TimedOut, "nothing answers there in time")
        );
    }
}
