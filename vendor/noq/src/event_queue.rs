//! The events for one connection, from the endpoint's driver to the connection's.
//!
//! A queue that is empty takes no memory. A channel of tokio's keeps blocks of 32 events, and up to four of them, for as
//! long as it lives: an idle connection has no use for any.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Debug)]
struct Shared<T> {
    events: VecDeque<T>,
    waker: Option<Waker>,
    is_sender_gone: bool,
    is_receiver_gone: bool,
}

type Queue<T> = Arc<Mutex<Shared<T>>>;

fn with<T, R>(queue: &Queue<T>, act: impl FnOnce(&mut Shared<T>) -> R) -> R {
    // Nothing here can panic half-way but an allocation.
    act(&mut queue.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Why an event comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Its receiver is gone.
    Gone,
    /// As many as may wait do.
    TooMany,
}

#[derive(Debug)]
pub(crate) struct Sender<T>(Queue<T>);

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    queue: Queue<T>,
    /// What has been taken out of the queue in one piece, under one lock.
    batch: VecDeque<T>,
}

pub(crate) fn event_queue<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Mutex::new(Shared {
        events: VecDeque::new(),
        waker: None,
        is_sender_gone: false,
        is_receiver_gone: false,
    }));
    let receiver = Receiver {
        queue: queue.clone(),
        batch: VecDeque::new(),
    };
    (Sender(queue), receiver)
}

impl<T> Sender<T> {
    /// Queues an event, unless its receiver is gone: then it comes back.
    pub(crate) fn send(&self, event: T) -> Result<(), T> {
        let sent = self.send_within(event, usize::MAX);
        sent.map_err(|(_gone, event)| event)
    }

    /// The same unless `max` events wait already: for those that come from strangers.
    pub(crate) fn send_within(&self, event: T, max: usize) -> Result<(), (Unsent, T)> {
        let waker = with(&self.0, |shared| {
            if shared.is_receiver_gone {
                return Err((Unsent::Gone, event));
            }
            if shared.events.len() >= max {
                return Err((Unsent::TooMany, event));
            }
            shared.events.push_back(event);
            Ok(shared.waker.take())
        })?;
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = with(&self.0, |shared| {
            shared.is_sender_gone = true;
            shared.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The next event; `None` when there is none left and the sender is gone.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(event) = self.batch.pop_front() {
            return Poll::Ready(Some(event));
        }
        let batch = &mut self.batch;
        with(&self.queue, |shared| {
            mem::swap(&mut shared.events, batch);
            if let Some(event) = batch.pop_front() {
                return Poll::Ready(Some(event));
            }
            // Both are empty: what they had room for is given back.
            (shared.events, *batch) = (VecDeque::new(), VecDeque::new());
            if shared.is_sender_gone {
                return Poll::Ready(None);
            }
            match &mut shared.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                waker => *waker = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let unread = with(&self.queue, |shared| {
            shared.is_receiver_gone = true;
            shared.waker = None;
            mem::take(&mut shared.events)
        });
        // Outside of the lock: an event may have a destructor of its own.
        drop(unread);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn events_come_in_order_wake_once_and_leave_no_memory_behind() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let (sender, mut receiver) = event_queue();
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Pending);
        for event in 0..1000 {
            sender.send(event).unwrap();
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        for event in 0..500 {
            assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(event)));
        }
        sender.send(1000).unwrap();
        for event in 500..=1000 {
            assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(event)));
        }
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Pending);
        let room = receiver.batch.capacity() + with(&sender.0, |shared| shared.events.capacity());
        assert_eq!(room, 0);
    }

    #[test]
    fn a_flood_is_dropped_and_what_the_connection_needs_is_not() {
        let mut cx = Context::from_waker(Waker::noop());
        let (sender, mut receiver) = event_queue();
        for event in 0..100 {
            assert_eq!(sender.send_within(event, 100), Ok(()));
        }
        let sent = sender.send_within(100, 100);
        assert_eq!(sent, Err((Unsent::TooMany, 100)));
        sender.send(101).unwrap();
        for event in (0..100).chain([101]) {
            assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(event)));
        }
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Pending);
        assert_eq!(sender.send_within(102, 100), Ok(()));
        drop(receiver);
        let sent = sender.send_within(103, 100);
        assert_eq!(sent, Err((Unsent::Gone, 103)));
    }

    #[test]
    fn either_end_may_go() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let (sender, mut receiver) = event_queue();
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Pending);
        sender.send(7).unwrap();
        drop(sender);
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(Some(7)));
        assert_eq!(receiver.poll_recv(&mut cx), Poll::Ready(None));

        let (sender, receiver) = event_queue();
        let event = Arc::new(());
        sender.send(event.clone()).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&event), 1, "what nobody reads is dropped");
        assert!(sender.send(event).is_err());
    }
}
