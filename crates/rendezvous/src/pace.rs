//! How a client and its connection get on, before it is a WebSocket: what is waited for, and how long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// From the first byte of a request, or from the beginning of the connection, to the end of its headers: a client that
/// takes longer is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests. Longer than the 60 s for which proxies usually keep a connection that they do not use: the
/// one that ends it should be the proxy, which knows that it has sent no request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The same for a proxy that is trusted: Google's load balancers keep connections for 600 s.
const PROXY_IDLE_TIMEOUT: Duration = Duration::from_secs(620);
/// A client that takes nothing of its answer for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// One that takes something now and then has so long for all of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// So long nobody loses his place to others: a client that has just connected is about to ask. When thousands come back
/// at once they are all of one source, if they are behind one NAT. Whoever needs the place waits no longer than this.
const GRACE: Duration = Duration::from_millis(25);
/// The same for one that has begun to speak TLS: the server's answer has to reach it first, and what it has cost to sign would
/// be lost. Whoever waits for the place waits no longer than this, and the places of others are free after as long.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(300);
/// A connection that is this old has no such grace where nobody else of its source is silent: whoever asks again and again
/// would keep its place for ever. One that will be a WebSocket is one long before.
const OLD: Duration = Duration::from_secs(2);

/// What the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The first byte of the next request.
    Idle,
    /// The rest of a request's line and headers.
    Head,
    /// That the client takes more of its answer.
    Reader,
}

/// How a connection is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// As HTTP does: a request that is on its way is still answered.
    Politely,
    /// At once.
    Cut,
}

/// Shared by a connection's task, its socket, and the table of all connections.
#[derive(Debug, Clone)]
pub(crate) struct Pace(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    begun: Instant,
    /// When its place may be taken, should it be silent.
    spared_until: Instant,
    wait: Wait,
    since: Instant,
    answer_since: Instant,
    /// A request has come that waits for its turn to be answered.
    answering: bool,
    idle_timeout: Duration,
    /// Its place goes to somebody else.
    evicted: bool,
    /// The server stops.
    stopped: bool,
    task: Option<Waker>,
}

impl Pace {
    pub(crate) fn new(is_proxy: bool, now: Instant) -> Self {
        let idle_timeout = if is_proxy { PROXY_IDLE_TIMEOUT } else { IDLE_TIMEOUT };
        Self(Arc::new(Mutex::new(State {
            begun: now,
            spared_until: now + GRACE,
            wait: Wait::Head,
            since: now,
            answer_since: now,
            answering: false,
            idle_timeout,
            evicted: false,
            stopped: false,
            task: None,
        })))
    }

    /// Something has come.
    pub(crate) fn read(&self, now: Instant) {
        let mut state = self.lock();
        if state.wait == Wait::Idle {
            (state.wait, state.since) = (Wait::Head, now);
        }
    }

    /// It has begun to speak TLS.
    pub(crate) fn handshake(&self, now: Instant) {
        self.lock().spared_until = now + HANDSHAKE_GRACE;
    }

    /// A whole request has come, to be [answered](Self::answered).
    pub(crate) fn request(&self, now: Instant) {
        let mut state = self.lock();
        (state.answer_since, state.answering) = (now, true);
        // Whoever asks for more without reading what there is does not read it by that.
        if state.wait != Wait::Reader {
            (state.wait, state.since) = (Wait::Idle, now);
        }
    }

    /// The answer to the request is there, to be written.
    pub(crate) fn answered(&self) {
        self.lock().answering = false;
    }

    /// There is more of an answer that has no end: the client has as long for it as for a new one.
    pub(crate) fn goes_on(&self, now: Instant) {
        self.lock().answer_since = now;
    }

    /// The kernel has taken something, or has no room.
    pub(crate) fn written(&self, has_taken: bool, now: Instant) {
        let mut state = self.lock();
        match (has_taken, state.wait) {
            (false, Wait::Reader) | (true, Wait::Head) => {}
            (false, _) => (state.wait, state.since) = (Wait::Reader, now),
            (true, _) => (state.wait, state.since) = (Wait::Idle, now),
        }
    }

    /// Whether the client does not read what it has asked for. Then nothing of what it sends is read either.
    pub(crate) fn is_stuck(&self) -> bool {
        self.lock().wait == Wait::Reader
    }

    /// Whether the client has had its time, should its place be needed.
    pub(crate) fn may_be_evicted(&self, now: Instant) -> bool {
        let state = self.lock();
        now >= state.spared_until.max(state.since + GRACE)
    }

    /// Whether its place may be taken though it asks for something all the time.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        now >= self.lock().begun + OLD
    }

    /// Whether the connection ends with the answer that is being made.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Ends the connection: its place is needed.
    pub(crate) fn evict(&self) {
        self.tell(|state| state.evicted = true);
    }

    /// Ends it as soon as no request is being answered.
    pub(crate) fn stop(&self) {
        self.tell(|state| state.stopped = true);
    }

    /// The connection has no task any more that waits for what is due. What is known of the pace stays with a WebSocket's
    /// socket, and a waker keeps all that its task once needed.
    pub(crate) fn leave(&self) {
        self.lock().task = None;
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if let Some(task) = state.task.take() {
            task.wake();
        }
    }

    /// When the connection is to be ended, and how; at once where its place is needed, of which the task of
    /// `context` is told.
    pub(crate) fn due(&self, context: &Context<'_>) -> (Instant, Due) {
        let mut state = self.lock();
        if !state.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            state.task = Some(context.waker().clone());
        }
        state.due()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn due(&self) -> (Instant, Due) {
        if self.evicted {
            return (self.since, Due::Cut);
        }
        match self.wait {
            Wait::Idle if self.answering => (self.answer_since + ANSWER_TIMEOUT, Due::Cut),
            Wait::Idle | Wait::Head if self.stopped => (self.since, Due::Politely),
            Wait::Idle => (self.since + self.idle_timeout, Due::Politely),
            Wait::Head => (self.since + HEADER_TIMEOUT, Due::Cut),
            Wait::Reader => {
                let all = self.answer_since + ANSWER_TIMEOUT;
                (all.min(self.since + WRITE_TIMEOUT), Due::Cut)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(pace: &Pace, start: Instant) -> (Duration, Due) {
        let (at, due) = pace.due(&Context::from_waker(Waker::noop()));
        (at - start, due)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn idle_time_counts_and_not_age() {
        for (is_proxy, idle) in [(false, 75), (true, 620)] {
            let start = Instant::now();
            let pace = Pace::new(is_proxy, start);
            for minute in 1..100 {
                let now = start + seconds(60 * minute);
                pace.read(now);
                pace.request(now);
                pace.answered();
                pace.written(true, now);
                assert_eq!(due(&pace, now), (seconds(idle), Due::Politely));
            }
        }
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_has_ten_seconds_in_all() {
        let start = Instant::now();
        let pace = Pace::new(true, start);
        assert_eq!(due(&pace, start), (seconds(10), Due::Cut), "and the first one from the start");
        pace.request(start);
        pace.answered();
        for second in 1..9 {
            pace.read(start + seconds(second));
            assert_eq!(due(&pace, start), (seconds(11), Due::Cut));
        }
    }

    #[test]
    fn a_request_whose_turn_has_not_come_is_answered_before_the_connection_ends() {
        let start = Instant::now();
        let pace = Pace::new(false, start);
        pace.request(start);
        pace.stop();
        assert_eq!(due(&pace, start), (seconds(30), Due::Cut));
        pace.answered();
        assert_eq!(due(&pace, start), (Duration::ZERO, Due::Politely));
    }

    #[test]
    fn a_reader_that_stops_is_cut_soon_and_a_slow_one_in_the_end() {
        let start = Instant::now();
        let pace = Pace::new(false, start);
        pace.request(start);
        pace.answered();
        pace.written(true, start);
        pace.written(false, start);
        pace.written(false, start + seconds(1));
        pace.read(start + seconds(2));
        assert_eq!((due(&pace, start), pace.is_stuck()), ((seconds(5), Due::Cut), true));
        for second in 1..30 {
            pace.written(true, start + seconds(second));
            pace.written(false, start + seconds(second));
        }
        assert_eq!(due(&pace, start), (seconds(30), Due::Cut));
        pace.written(true, start + seconds(29));
        assert_eq!(due(&pace, start), (seconds(29 + 75), Due::Politely), "it has all of it");
    }

    #[test]
    fn what_is_known_of_a_pace_keeps_no_task() {
        struct Task;
        impl std::task::Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let (task, pace) = (Arc::new(Task), Pace::new(false, Instant::now()));
        pace.due(&Context::from_waker(&Waker::from(Arc::clone(&task))));
        assert_eq!(Arc::strong_count(&task), 2, "it is told when its place is needed");
        pace.leave();
        assert_eq!(Arc::strong_count(&task), 1);
    }

    #[test]
    fn a_handshake_is_not_ended_while_its_client_waits_for_an_answer() {
        let start = Instant::now();
        let pace = Pace::new(false, start);
        assert!(pace.may_be_evicted(start + GRACE));
        pace.handshake(start);
        assert!(!pace.may_be_evicted(start + HANDSHAKE_GRACE - GRACE));
        assert!(pace.may_be_evicted(start + HANDSHAKE_GRACE));
        assert_eq!(due(&pace, start), (seconds(10), Due::Cut), "with its first request");
    }

    #[test]
    fn whose_place_is_needed_is_cut_at_once() {
        let start = Instant::now();
        let pace = Pace::new(false, start);
        pace.evict();
        pace.request(start);
        assert_eq!(due(&pace, start), (Duration::ZERO, Due::Cut));
    }
}
