//! Who serves a desk: gives it the time, its mail, and what its client says, and passes on what it wants.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use holepunch_matchmaker::{Closing, ConnectionId, Desk, DropReason, Errand, Out, Surroundings};
use holepunch_wire::identity::PublicKey;
use holepunch_wire::signal::FromWorker;
use tokio::time::{Instant, Sleep};

use crate::hub::Hub;
use crate::mailbox::Mailbox;
use crate::outbox::Outbox;

/// Time that a client has to take what it is still to be sent, once its connection is to end.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// A connection is registered for as long as this value is there: also one whose task panics leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Clerk {
    hub: Arc<Hub>,
    id: ConnectionId,
    desk: Desk,
    mailbox: Arc<Mailbox>,
    /// What the client is to be sent.
    pub(crate) outbox: Outbox,
    /// When the desk wants to be called.
    timer: Pin<Box<Sleep>>,
    /// What the desk wanted of others may have an answer by the next turn.
    has_asked_others: bool,
    /// In which way the connection ends; [`Closing::OfferUnsent`] when an offer was taken off the outbox, and not sent.
    pub(crate) closing: Closing,
}

impl Drop for Clerk {
    fn drop(&mut self) {
        let is_unsent = self.outbox.holds_an_offer();
        let closing = if is_unsent { Closing::OfferUnsent } else { self.closing };
        self.act(|desk, _| desk.closed(closing));
        // A desk that had no place has wanted nothing of others.
        self.hub.leave(self.id);
    }
}

impl Clerk {
    pub(crate) fn new(hub: Arc<Hub>, id: ConnectionId, desk: Desk, mailbox: Arc<Mailbox>) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(Instant::now()));
        let (outbox, closing) = (Outbox::default(), Closing::Broken);
        let mut clerk =
            Self { hub, id, desk, mailbox, outbox, timer, has_asked_others: false, closing };
        clerk.read_mail();
        clerk
    }

    /// A message of the client; `proved`: the key that it has proved by now.
    pub(crate) fn message(&mut self, message: FromWorker<'_>, proved: Option<PublicKey>) {
        self.act(|desk, at| desk.message(message, proved, at));
    }

    /// The client has answered a ping.
    pub(crate) fn pong(&mut self) {
        self.act(Desk::pong);
    }

    /// Whether the desk has wanted something of others since the last call.
    pub(crate) fn has_asked_others(&mut self) -> bool {
        std::mem::take(&mut self.has_asked_others)
    }

    /// Tells the desk what there is to tell.
    pub(crate) fn read_mail(&mut self) {
        self.act(|_, _| {});
    }

    /// Whether what comes from the client has to wait for an answer of the registry.
    pub(crate) fn is_busy(&self) -> bool {
        self.desk.is_busy()
    }

    /// Whether the connection is to end once what is queued has been written.
    pub(crate) fn is_ending(&self) -> bool {
        self.outbox.is_ending() || self.mailbox.is_overfull()
    }

    /// Ready when the desk has been told something, or has done what was due.
    pub(crate) fn poll_news(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.mailbox.poll_any(context).is_ready() {
            self.read_mail();
        } else if !self.desk.is_gone() && self.timer.as_mut().poll(context).is_ready() {
            self.act(Desk::handle_timeout);
        } else {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Waits for a write, and serves the desk meanwhile. `None`: the connection is to end, and its client reads nothing.
    pub(crate) async fn until<T>(
        &mut self,
        mut write: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let written = poll_fn(|context| {
            loop {
                if let Poll::Ready(written) = write(context) {
                    return Poll::Ready(Some(written));
                }
                if self.is_ending() {
                    return Poll::Ready(None);
                }
                ready!(self.poll_news(context));
            }
        });
        match written.await {
            Some(written) => Some(written),
            // In a box, since it is seldom.
            None => Box::pin(tokio::time::timeout(CLOSE_GRACE, poll_fn(write))).await.ok(),
        }
    }

    /// Something happens at the desk, and all that follows from it here.
    fn act(&mut self, act: impl FnOnce(&mut Desk, Surroundings<'_>)) {
        let Self { hub, id, desk, mailbox, outbox, timer, has_asked_others, .. } = self;
        let at = hub.surroundings();
        act(desk, at);
        loop {
            let mut errands: Vec<Errand> = Vec::new();
            while let Some(out) = desk.poll_out() {
                match out {
                    Out::Act(action) => {
                        if !outbox.push(action) {
                            hub.dropped(DropReason::Unsent);
                        }
                    }
                    Out::Errand(errand) => errands.push(errand),
                    Out::Event(told) => hub.tell(&told, SystemTime::now()),
                }
            }
            if !errands.is_empty() {
                *has_asked_others = true;
                hub.take((*id, desk, mailbox), errands);
            }
            let Some(note) = mailbox.pop() else { break };
            desk.note(note, at);
        }
        if let Some((due, _)) = desk.poll_timeout()
            && timer.deadline() != due.into()
        {
            timer.as_mut().reset(due.into());
        }
    }
}
