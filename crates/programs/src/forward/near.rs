//! The side that listens: connections of programs here, carried to the peer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::CONNECTIONS_MAX;
use super::counts::Sent;
use super::request::{Answer, REASON_CHARACTERS_MAX, Request, answered};
use super::socks;
use super::splice::{self, Broken, CODE_BUSY, Turns};
use super::station::{Carried, Carrier, Missing, Station, Way};
use super::target::Target;
use super::telling::Asker;
use crate::messages::framed;
use crate::sending::{CODE_RESET, Sending};
use holepunch_wire::text::harmless;

/// After a connection could not be taken (no file descriptors, say), time for others to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is listened for.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Connections to this target.
    To(Target),
    /// Connections that say by SOCKS where to.
    Socks,
    /// Connections for a peer that has asked for this listener, by its number.
    ForPeer {
        /// To the peer.
        way: Way,
        /// The number.
        number: u32,
    },
}

/// Listens on an address. As many connections as are carried at once may wait to be taken, if the system
/// lets them: the usual queue of 128 overflows when a browser's or a load's worth come together, and the
/// system then resets some.
///
/// # Errors
/// The address is taken, or not one of this machine.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As tokio's own: elsewhere it would let another program take the port over.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX))
}

/// Takes connections for as long as it runs, whether there is a link or not. Those beyond the limit are reset at once: in
/// the system's queue they would wait without a word.
pub(super) async fn listen(station: Arc<Station>, listener: TcpListener, kind: Kind) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, from)) => {
                    while tasks.try_join_next().is_some() {}
                    let whose = match &kind {
                        Kind::ForPeer { way, .. } => Carried::OfThePeersListener(&way.carrier),
                        Kind::To(_) | Kind::Socks => Carried::OfAListener,
                    };
                    match station.place(tasks.len(), whose) {
                        Ok(place) => {
                            let carried = connection(Arc::clone(&station), tcp, from, kind.clone());
                            tasks.spawn(async move {
                                carried.await;
                                drop(place);
                            });
                        }
                        Err(why) => turn_away(&station, &tcp, &kind, &why),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    station.not_made(Asker::ThisSide, None, &format!("it cannot be taken: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

fn turn_away(station: &Station, tcp: &TcpStream, kind: &Kind, why: &str) {
    station.counts.turned_away.one();
    let target = match kind {
        Kind::To(target) => Some(target),
        Kind::Socks | Kind::ForPeer { .. } => None,
    };
    station.not_made(Asker::ThisSide, target, why);
    // A reset: an end would look like that of a service which has nothing to say.
    let _best_effort = tcp.set_zero_linger();
}

/// What a connection asks the peer for, and by which way.
struct Question {
    request: Request,
    /// Where it leads, where this side knows.
    target: Option<Target>,
    /// What follows the request at once.
    first: Bytes,
    is_socks: bool,
}

impl Question {
    fn to(target: Target, first: Bytes, is_socks: bool) -> Self {
        Self {
            request: Request::Connect { target: target.clone() },
            target: Some(target),
            first,
            is_socks,
        }
    }
}

async fn connection(station: Arc<Station>, mut tcp: TcpStream, from: SocketAddr, kind: Kind) {
    let refused = |reason: &str| station.not_made(Asker::ThisSide, None, reason);
    let question = match &kind {
        Kind::To(target) => Question::to(target.clone(), Bytes::new(), false),
        Kind::ForPeer { number, .. } => {
            let request = Request::Accepted { accepted: *number };
            Question { request, target: None, first: Bytes::new(), is_socks: false }
        }
        Kind::Socks => match timeout(station.times.request, greet(&mut tcp)).await {
            Ok(Ok((target, first))) => Question::to(target, first, true),
            Ok(Err(error)) => {
                tracing::info!(%from, %error, "not a SOCKS client that is served");
                return refused(&format!("a SOCKS client: {error}"));
            }
            Err(_) => {
                tracing::info!(%from, "a SOCKS client said nothing in time");
                return refused("a SOCKS client said nothing in time");
            }
        },
    };
    let way = match kind {
        Kind::ForPeer { way, .. } => Ok(way),
        Kind::To(_) | Kind::Socks => station.way().await,
    };
    match way {
        Ok(way) => carry_whole(&way, &mut tcp, question).await,
        Err(missing) => without_link(&station, &mut tcp, &question, &missing).await,
    }
}

/// There is no link: the client gets a reset, or the reply of SOCKS.
async fn without_link(
    station: &Station,
    tcp: &mut TcpStream,
    question: &Question,
    Missing { code, text }: &Missing,
) {
    station.counts.without_link.one();
    let reason = format!("there is no link: {text}");
    station.not_made_because(Asker::ThisSide, question.target.as_ref(), &reason, Some(code));
    if question.is_socks {
        let _unless_gone = tcp.write_all(&socks::reply(socks::UNREACHABLE)).await;
    } else {
        let _best_effort = tcp.set_zero_linger();
    }
}

async fn carry_whole(way: &Way, tcp: &mut TcpStream, question: Question) {
    let (target, is_socks) = (question.target.clone(), question.is_socks);
    let station = &way.carrier.station;
    let shown = || target.as_ref().map(tracing::field::display);
    match carry(&way.carrier, tcp, question).await {
        Ok(()) => splice::may_end(tcp),
        Err(Ended::NotMade(why)) => {
            station.counts.refused_by_peer.one();
            tracing::warn!(target = shown(), why, "the peer has not connected");
            station.not_made(Asker::ThisSide, target.as_ref(), &why);
            if is_socks {
                // The client reads the reply before the end.
                splice::may_end(tcp);
            }
        }
        Err(Ended::Broken(why)) => {
            station.counts.broken.one();
            tracing::debug!(target = shown(), %why, "a connection is broken");
        }
    }
}

/// Reads where a SOCKS client wants to go, and what it has sent after that already.
async fn greet(tcp: &mut TcpStream) -> io::Result<(Target, Bytes)> {
    let mut buffer = BytesMut::with_capacity(2 * socks::BYTES_MAX);
    let wants_none = read(tcp, &mut buffer, socks::greeting).await?;
    if !wants_none {
        tcp.write_all(&socks::NO_METHOD).await?;
        return Err(io::Error::other("the client asks for a password, there is none"));
    }
    tcp.write_all(&socks::WELCOME).await?;
    let target = read(tcp, &mut buffer, socks::request).await?;
    Ok((target, buffer.freeze()))
}

async fn read<T>(
    tcp: &mut TcpStream,
    buffer: &mut BytesMut,
    parse: fn(&[u8]) -> socks::Step<T>,
) -> io::Result<T> {
    loop {
        match parse(buffer) {
            Ok(Some(parsed)) => {
                let _used = buffer.split_to(parsed.used);
                return Ok(parsed.value);
            }
            Ok(None) => {}
            Err(error) => {
                if let Some(code) = error.code() {
                    tcp.write_all(&socks::reply(code)).await?;
                    tcp.shutdown().await?;
                }
                return Err(io::Error::other(error));
            }
        }
        if tcp.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Why a connection did not come to its end.
enum Ended {
    NotMade(String),
    Broken(Broken),
}

impl<T: Into<Broken>> From<T> for Ended {
    fn from(error: T) -> Self {
        Self::Broken(error.into())
    }
}

/// Asks the peer for the connection, and carries it. The first bytes follow the request at once.
async fn carry(
    carrier: &Carrier,
    tcp: &mut TcpStream,
    Question { request, first, is_socks, .. }: Question,
) -> Result<(), Ended> {
    splice::prepare(tcp)?;
    // A target has a form in JSON, and is shorter than a request may be.
    let request = framed(&request).map_err(|error| Ended::NotMade(error.to_string()))?;
    let opened = carrier.link.open_bi().await.map_err(|_| Broken::Link)?;
    let (mut send, mut recv) = (Sending::new(opened.0), opened.1);
    let (turns, sent) = (Turns::default(), Sent::before(&carrier.station.counts));
    let outcome = async {
        let (from_tcp, mut to_tcp) = tcp.split();
        let up = async {
            let first = (request, first);
            splice::up(from_tcp, &mut send, first, &turns, &sent).await.map_err(Ended::from)
        };
        let down = async {
            let answer = answer(carrier, &mut recv).await?;
            if is_socks {
                to_tcp.write_all(&socks::reply(socks::code(&answer))).await?;
            }
            match answer {
                Answer::Connected => {
                    carrier.station.counts.opened.one();
                    sent.made();
                }
                Answer::Refused { reason, .. } | Answer::Failed { reason, .. } => {
                    return Err(Ended::NotMade(harmless(&reason, REASON_CHARACTERS_MAX)));
                }
                Answer::Listening { .. } => {
                    return Err(Ended::NotMade("the peer's answer is none to this".to_owned()));
                }
            }
            Ok(splice::down(&mut recv, to_tcp, &turns, carrier).await?)
        };
        tokio::try_join!(up, down).map(|_| ())
    };
    let outcome = outcome.await;
    if outcome.is_err() {
        splice::give_up(&mut send, &mut recv, CODE_RESET);
    }
    outcome
}

/// The peer's answer; that it is busy, or says nothing in time, is one too.
async fn answer(carrier: &Carrier, recv: &mut holepunch_link::RecvStream) -> Result<Answer, Ended> {
    let failed = |reason: &str| Answer::Failed {
        failure: super::request::Failure::Other,
        reason: reason.to_owned(),
    };
    match timeout(carrier.station.times.answer, answered(recv)).await {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) => Ok(failed("the peer has ended the stream without an answer")),
        Ok(Err(_)) if carrier.link.ended().is_some() => Err(Ended::Broken(Broken::Link)),
        Ok(Err(error)) if is_busy(&error) => Ok(failed("the peer has too many connections")),
        Ok(Err(error)) => Ok(failed(&format!("the peer's answer: {error}"))),
        Err(_) => Ok(failed("the peer has not answered in time")),
    }
}

fn is_busy(error: &crate::messages::MessageError) -> bool {
    let crate::messages::MessageError::Stream(error) = error else { return false };
    let source = error.get_ref().and_then(|it| it.downcast_ref::<holepunch_link::ReadError>());
    matches!(source, Some(holepunch_link::ReadError::Reset(CODE_BUSY)))
}
