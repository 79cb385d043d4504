//! One WebSocket: frames go to its desk, the desk's actions go out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use holepunch_matchmaker::{Action, Arrival, Closing, DropReason, echo_response};
use holepunch_wire::WorkerId;
use holepunch_wire::close_code::CloseCode;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::signal::FromWorker;
use holepunch_wire::text::harmless;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::clerk::{CLOSE_GRACE, Clerk};
use crate::close_watch::ClosedWith;
use crate::hub::Hub;
use crate::identity::Verifier;
use crate::log_budget::LOGGED_CHARS_MAX;
use crate::telling::IGNORED_LOGGED_MAX;
use crate::tokens::Ticket;
use crate::websocket::WebSocket;

/// Messages of one client handled before the answers are flushed and the others have a turn.
const BATCH_MAX: usize = 16;
/// Frames that are looked through for a client's end before it is sent an offer.
const LOOK_AHEAD_MAX: usize = 8;

/// What comes off a WebSocket; `None` is its end.
type Frame = Option<Result<Message, Error>>;

/// Serves one worker until its WebSocket ends.
///
/// Thousands are idle: what is needed for a turn alone, and at the end, is in a box of its own, so that a task which waits for
/// its client holds nothing of it.
pub(crate) async fn serve(mut connection: Box<Connection>) {
    let mut frame = None;
    while Box::pin(connection.turn(frame)).await == Flow::Goes {
        frame = connection.next_frame().await;
    }
    Box::pin(connection.end()).await;
}

pub(crate) struct Connection {
    clerk: Clerk,
    hub: Arc<Hub>,
    worker: WorkerId,
    /// For the keys of a client that speaks the sub-protocol.
    verifier: Option<Verifier>,
    socket: WebSocket,
    /// Frames that were taken off the socket, and not handled yet.
    arrived: VecDeque<Frame>,
    /// An offer has been written to the buffer, but not to the kernel.
    offer_unflushed: bool,
    /// An offer came when the client had already hung up.
    offer_too_late: bool,
    /// The client has sent a close frame.
    said_goodbye: bool,
    /// The close frame to end with.
    close: Option<(u16, Cow<'static, str>)>,
    /// Frames that were no messages.
    bad: u32,
    /// There is more behind the last batch: the others come first.
    batch_was_full: bool,
}

/// Whether a connection goes on.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Goes,
    Ends,
}

impl Connection {
    pub(crate) fn new(
        hub: Arc<Hub>,
        socket: WebSocket,
        (arrival, ticket): (Arrival, Option<Ticket>),
        verifier: Option<Verifier>,
    ) -> Self {
        Self {
            worker: arrival.worker.clone(),
            clerk: Hub::enter(&hub, arrival, ticket),
            hub,
            verifier,
            socket,
            arrived: VecDeque::new(),
            offer_unflushed: false,
            offer_too_late: false,
            said_goodbye: false,
            close: None,
            bad: 0,
            batch_was_full: false,
        }
    }

    /// The worker is gone for all others before its client is told why.
    async fn end(self: Box<Self>) {
        let Self {
            mut clerk, socket, close, said_goodbye, offer_unflushed, offer_too_late, ..
        } = *self;
        clerk.closing = if offer_unflushed || offer_too_late {
            Closing::OfferUnsent
        } else if said_goodbye {
            Closing::Goodbye
        } else {
            Closing::Broken
        };
        drop(clerk);
        if let Some(close) = close {
            farewell(socket, close, said_goodbye).await;
        }
    }

    /// What the client says next; `None`: the desk has something to say.
    async fn next_frame(&mut self) -> Option<Frame> {
        if !self.clerk.is_busy()
            && let Some(frame) = self.arrived.pop_front()
        {
            return Some(frame);
        }
        poll_fn(|context| {
            if self.clerk.poll_news(context).is_ready() {
                return Poll::Ready(None);
            }
            if self.clerk.is_busy() {
                return Poll::Pending;
            }
            self.socket.poll_next_unpin(context).map(Some)
        })
        .await
    }

    /// Handles a frame, if there is one, and all that have already arrived behind it, and writes what there is to say.
    async fn turn(&mut self, frame: Option<Frame>) -> Flow {
        if let Some(frame) = frame
            && self.read_batch(frame).await == Flow::Ends
        {
            return Flow::Ends;
        }
        if self.clerk.has_asked_others() {
            // Those who report at the same moment have their turn first: an offer that comes of it goes out with the ack.
            tokio::task::yield_now().await;
            self.clerk.read_mail();
        }
        let flow = self.write_out().await;
        if std::mem::take(&mut self.batch_was_full) {
            tokio::task::yield_now().await;
        }
        flow
    }

    /// Handles a frame and all that have already arrived behind it.
    async fn read_batch(&mut self, first: Frame) -> Flow {
        let mut next = Some(first);
        for _ in 0..BATCH_MAX {
            let Some(frame) = next else { break };
            if self.handle_frame(frame).await == Flow::Ends {
                return Flow::Ends;
            }
            next = self.next_arrived();
        }
        // The batch is full, and one more frame has been taken off already.
        match next {
            Some(frame) => {
                self.batch_was_full = true;
                self.handle_frame(frame).await
            }
            None => Flow::Goes,
        }
    }

    fn next_arrived(&mut self) -> Option<Frame> {
        if self.clerk.is_busy() {
            return None;
        }
        self.arrived.pop_front().or_else(|| self.socket.next().now_or_never())
    }

    /// Whether the client's end has arrived. A write might still succeed, and what it held would be
    /// lost.
    fn has_hung_up(&mut self) -> bool {
        while self.arrived.len() < LOOK_AHEAD_MAX {
            let Some(frame) = self.socket.next().now_or_never() else { return false };
            let is_end = matches!(frame, None | Some(Err(_) | Ok(Message::Close(_))));
            self.arrived.push_back(frame);
            if is_end {
                return true;
            }
        }
        false
    }

    async fn handle_frame(&mut self, frame: Frame) -> Flow {
        match frame {
            Some(Ok(Message::Text(text))) => return self.handle_text(&text).await,
            Some(Ok(Message::Pong(_))) => self.clerk.pong(),
            // Pings and closes are answered by the library; the stream ends after a close.
            Some(Ok(Message::Close(_))) => self.said_goodbye = true,
            Some(Ok(Message::Binary(_))) => self.hub.dropped(DropReason::NotText),
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
            Some(Err(error)) => {
                let closed = closed_with(&error);
                self.said_goodbye |= closed.is_some();
                let own = || close_for(&error).map(|(code, reason)| (code.into(), reason));
                let close = closed.map(|code| (code, "")).or_else(own);
                self.close = close.map(|(code, reason)| (code, reason.into()));
                return Flow::Ends;
            }
            None => return Flow::Ends,
        }
        Flow::Goes
    }

    async fn handle_text(&mut self, text: &str) -> Flow {
        match FromWorker::parse(text) {
            // An echo needs nothing of the desk; what that said before goes out first.
            Ok(FromWorker::EchoRequest(payload)) => {
                let answer = echo_response(&self.worker, payload);
                if self.feed_outbox().await == Flow::Ends {
                    return Flow::Ends;
                }
                self.feed(Message::Text(answer.into())).await
            }
            Ok(message) => {
                let proved = self.proved_by(&message);
                self.clerk.message(message, proved);
                // A client may ask more at once than its outbox holds answers.
                self.feed_outbox().await
            }
            Err(why) => {
                self.hub.dropped(DropReason::NotJson);
                self.bad = self.bad.saturating_add(1);
                if self.bad <= IGNORED_LOGGED_MAX && self.hub.may_warn() {
                    let why = harmless(&why.to_string(), LOGGED_CHARS_MAX);
                    tracing::warn!(worker = %self.worker, why, "frame ignored");
                }
                Flow::Goes
            }
        }
    }

    /// The key that the client has proved by now. Its first signature that is not good is told.
    fn proved_by(&mut self, message: &FromWorker<'_>) -> Option<PublicKey> {
        let verifier = self.verifier.as_mut().filter(|verifier| !verifier.has_failed)?;
        let proved = verifier.proved_by(&self.worker, message);
        if verifier.has_failed && self.hub.may_warn() {
            verifier.log_failure(&self.worker);
        }
        proved
    }

    /// Writes what is queued, down to the kernel.
    async fn write_out(&mut self) -> Flow {
        loop {
            if self.feed_outbox().await == Flow::Ends {
                return Flow::Ends;
            }
            if !matches!(
                self.clerk.until(|context| self.socket.poll_flush_unpin(context)).await,
                Some(Ok(()))
            ) {
                return Flow::Ends;
            }
            self.offer_unflushed = false;
            // What the desk has said meanwhile is not written yet.
            if self.clerk.outbox.is_empty() {
                return Flow::Goes;
            }
        }
    }

    async fn feed_outbox(&mut self) -> Flow {
        while let Some(action) = self.clerk.outbox.pop() {
            let frame = match action {
                Action::Send(text) | Action::Update(_, _, text) => Message::Text(text.into()),
                Action::Offer(_) if self.has_hung_up() => {
                    self.offer_too_late = true;
                    continue;
                }
                Action::Offer(text) => {
                    self.offer_unflushed = true;
                    Message::Text(text.into())
                }
                Action::Ping => Message::Ping(Bytes::new()),
                Action::Close(why) => {
                    let text = match &self.verifier {
                        // The desk does not know the host.
                        Some(verifier) if why == CloseReason::NotProved => verifier.reason().into(),
                        _ => why.text().into(),
                    };
                    self.close = Some((why.close_code().into(), text));
                    return Flow::Ends;
                }
            };
            if self.feed(frame).await == Flow::Ends {
                return Flow::Ends;
            }
        }
        if self.clerk.is_ending() {
            let why = CloseReason::TooSlow;
            self.close = Some((why.close_code().into(), why.text().into()));
            return Flow::Ends;
        }
        Flow::Goes
    }

    async fn feed(&mut self, frame: Message) -> Flow {
        let is_ready = self.clerk.until(|context| self.socket.poll_ready_unpin(context)).await;
        if matches!(is_ready, Some(Ok(()))) && self.socket.start_send_unpin(frame).is_ok() {
            Flow::Goes
        } else {
            Flow::Ends
        }
    }
}

/// Says why the connection ends, and gives the client a moment to take it: a socket that is dropped
/// with unread bytes is reset, and the close frame may be lost with it.
async fn farewell(
    mut socket: WebSocket,
    (code, reason): (u16, Cow<'static, str>),
    said_goodbye: bool,
) {
    let frame = CloseFrame { code: code.into(), reason: reason.as_ref().into() };
    let goodbye = async {
        // An answer to the client's own close frame is the last word (RFC 6455 §5.5.1).
        if socket.send(Message::Close(Some(frame))).await.is_err() || said_goodbye {
            return;
        }
        let broken = [CloseCode::ProtocolError, CloseCode::InvalidData, CloseCode::TooBig];
        if broken.map(u16::from).contains(&code) {
            // The rest of the stream cannot be read as frames any more.
            return tokio::time::sleep(CLOSE_GRACE).await;
        }
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _in_time = tokio::time::timeout(CLOSE_GRACE, goodbye).await;
}

/// The code of a client's close frame that the library does not know.
fn closed_with(error: &Error) -> Option<u16> {
    let Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref().map(|ClosedWith(code)| *code)
}

/// The close frame that a broken stream deserves; none where it just ended.
fn close_for(error: &Error) -> Option<(CloseCode, &'static str)> {
    if let Error::Capacity(_) = error {
        Some((CloseCode::TooBig, "a message has at most 64 KiB"))
    } else if let Error::Utf8(_) = error {
        Some((CloseCode::InvalidData, "a text frame must be UTF-8"))
    } else if let Error::Protocol(_) = error {
        Some((CloseCode::ProtocolError, "not a valid WebSocket frame"))
    } else {
        None
    }
}
