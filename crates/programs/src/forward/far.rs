//! The side that is connected to: what the peer asks for, where it may be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holepunch_link::dial::{dial_any, in_turn};
use holepunch_link::{RecvStream, SendStream};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::counts::Sent;
use super::request::{Answer, Failure, asked};
use super::splice::{self, CODE_BUSY, CODE_REFUSED, Turns};
use super::target::{Host, Target};
use super::telling::Asker;
use super::{Carried, DRAIN_WITHIN, Shared};
use crate::messages::{MessageError, framed, write_message};
use crate::sending::{CODE_RESET, Sending};

/// Serves the peer's streams until the link ends.
pub(super) async fn serve(shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = shared.link.accept_bi() => {
                let Ok((mut send, mut recv)) = accepted else { break };
                while tasks.try_join_next().is_some() {}
                match shared.place(tasks.len(), Carried::ForThePeer) {
                    Ok(place) => {
                        let served = connection(Arc::clone(&shared), send, recv);
                        tasks.spawn(async move {
                            served.await;
                            drop(place);
                        });
                    }
                    Err(why) => {
                        shared.counts.busy.one();
                        not_made(&shared, None, &why);
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

async fn connection(shared: Arc<Shared>, send: SendStream, mut recv: RecvStream) {
    let mut send = Sending::new(send);
    let request = match timeout(shared.times.request, asked(&mut recv)).await {
        Ok(Ok(Some(request))) => request,
        // Without a byte there was no connection either.
        Ok(Ok(None)) | Err(_) => return malformed(&shared, &mut send, &mut recv),
        Ok(Err(MessageError::Stream(_))) => {
            splice::give_up(&mut send, &mut recv, CODE_RESET);
            return shared.counts.broken.one();
        }
        Ok(Err(MessageError::TooLong(..) | MessageError::Malformed(_))) => {
            let reason = "expected a request of a target as HOST:PORT".to_owned();
            shared.counts.malformed.one();
            not_made(&shared, None, &reason);
            return refuse(&shared, send, recv, Answer::Refused { reason }).await;
        }
    };
    match open(&shared, &request.target).await {
        Ok(tcp) => {
            shared.counts.served.one();
            tracing::debug!(target = %request.target, "connected for the peer");
            splice_served(&shared, tcp, send, recv).await;
        }
        Err(answer) => {
            let forbidden = matches!(answer, Answer::Refused { .. });
            if forbidden {
                shared.counts.forbidden.one()
            } else {
                shared.counts.failed.one()
            }
            tracing::info!(target = %request.target, ?answer, "not connected for the peer");
            if let Answer::Refused { reason } | Answer::Failed { reason, .. } = &answer {
                not_made(&shared, Some(&request.target), reason);
            }
            refuse(&shared, send, recv, answer).await;
        }
    }
}

fn not_made(shared: &Shared, target: Option<&Target>, reason: &str) {
    shared.listener.tell(Asker::Peer, target, reason);
}

fn malformed(shared: &Shared, send: &mut Sending, recv: &mut RecvStream) {
    shared.counts.malformed.one();
    not_made(shared, None, "it has opened a stream and has not said where to");
    splice::give_up(send, recv, CODE_RESET);
}

/// A peer that does not take the answer does not hold the place for long.
async fn refuse(shared: &Shared, mut send: Sending, mut recv: RecvStream, answer: Answer) {
    recv.stop(CODE_REFUSED);
    let written = timeout(shared.times.request, write_message(&mut *send, &answer)).await;
    if matches!(written, Ok(Ok(()))) {
        let _unless_stopped = send.finish();
    }
}

async fn splice_served(
    shared: &Shared,
    mut tcp: TcpStream,
    mut send: Sending,
    mut recv: RecvStream,
) {
    let (turns, sent) = (Turns::default(), Sent::before(&shared.counts));
    sent.made();
    let outcome = async {
        splice::prepare(&tcp)?;
        let (from_tcp, to_tcp) = tcp.split();
        let answer = framed(&Answer::Connected).map_err(io::Error::other)?;
        let first = (answer, Bytes::new());
        let up = splice::up(from_tcp, &mut send, first, &turns, &sent);
        let down = splice::down(&mut recv, to_tcp, &turns, shared);
        tokio::try_join!(up, down)
    };
    match outcome.await {
        Ok(_) => splice::may_end(&tcp),
        Err(why) => {
            tracing::debug!(%why, "a connection for the peer is broken");
            shared.counts.broken.one();
            splice::give_up(&mut send, &mut recv, CODE_RESET);
        }
    }
}

/// Connects, where that is allowed: to the very addresses that were checked.
async fn open(shared: &Arc<Shared>, target: &Target) -> Result<TcpStream, Answer> {
    if !shared.allow.names(target) {
        let reason = format!("{target} is not allowed by --allow on the side that is connected to");
        return Err(Answer::Refused { reason });
    }
    let addresses = look_up(shared, target).await?;
    let allowed = addresses.into_iter().filter(|ip| shared.allow.leads_to(target, *ip));
    let allowed = in_turn(allowed.map(|ip| SocketAddr::new(ip, target.port)));
    if allowed.is_empty() {
        let reason = format!(
            "the name {target} leads to an address that it may not lead to; --allow on the side that is \
             connected to may name the address itself"
        );
        return Err(Answer::Refused { reason });
    }
    connect(&allowed, shared.times.connect).await
}

async fn look_up(shared: &Arc<Shared>, target: &Target) -> Result<Vec<IpAddr>, Answer> {
    let name = match &target.host {
        Host::Ip(ip) => return Ok(vec![*ip]),
        Host::Name(name) => name.clone(),
    };
    let failed = |failure, reason: String| Answer::Failed { failure, reason };
    let (lookups, port) = (Arc::clone(&shared.lookups), target.port);
    let look_up = async {
        let place = lookups.acquire_owned().await.map_err(io::Error::other)?;
        // A look-up that has begun cannot be called off: it keeps its place until the system has given it up.
        let looking = tokio::spawn(async move {
            let _place = place;
            let found = lookup_host((name, port)).await?;
            Ok::<_, io::Error>(found.map(|address| address.ip().to_canonical()).collect::<Vec<_>>())
        });
        looking.await.map_err(io::Error::other)?
    };
    match timeout(shared.times.lookup, look_up).await {
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
