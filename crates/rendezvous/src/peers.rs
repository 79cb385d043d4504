//! Several rendezvous as one: what they have in common, and how they reach each other.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::iter;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holepunch_matchmaker::{Board, Config, InstanceId, Packet, Reply, Request};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::metrics::ByWord;

/// Time that the store has for an answer to a client that waits for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Questions that wait for the store. The board asks anew what is not answered, so what has no room is not lost.
const QUESTIONS_MAX: usize = 65_536;
/// Questions that are asked at once.
const BATCH_MAX: usize = 256;
/// Packets that wait for one rendezvous. What has no room is sent again.
const PACKETS_MAX: usize = 65_536;

/// Seconds until the store has answered: on the next machine it takes less than a millisecond.
const STORE_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5];
/// The places of the directions of packets.
const SENT: usize = 0;
const RECEIVED: usize = 1;

/// Something that takes its time.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A packet, from whom it is, and to which number of this process.
pub type Parcel = (InstanceId, InstanceId, Packet);

/// What all rendezvous have in common: who is connected where, and who owns which room.
pub trait Store: Debug + Send + Sync {
    /// Carries out what an instance asks, in this order. `None`, or fewer answers: what was asked may have been done, or not.
    fn ask(&self, from: InstanceId, requests: Vec<Request>) -> Later<'_, Vec<Option<Reply>>>;
    /// Whether it is there, and has refused what it was asked last.
    fn refuses(&self) -> bool {
        false
    }
}

/// The way from one rendezvous to the others.
pub trait Fabric: Debug + Send + Sync {
    /// Sends a packet to the process of an instance. It may be lost, be late, or come twice; nothing waits for it.
    fn send(&self, from: InstanceId, to: InstanceId, packet: Packet);
    /// The next packet that has come.
    fn next(&self) -> Later<'_, Parcel>;
}

/// The other rendezvous, as one of them sees them.
#[derive(Debug)]
pub struct Peers {
    /// Its own number. The lower half is the process's, and no other one has it at any time.
    own: InstanceId,
    store: Arc<dyn Store>,
    fabric: Arc<dyn Fabric>,
    urgent: Line,
    others: Line,
    figures: Figures,
}

/// What is counted of the store and of the way to the others.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) seconds: Histogram,
    pub(crate) unanswered: Counter,
    pub(crate) unasked: Counter,
    pub(crate) packets: ByWord,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            seconds: Histogram::new(STORE_SECONDS),
            unanswered: Counter::default(),
            unasked: Counter::default(),
            packets: ByWord::new("direction", ["sent", "received"]),
        }
    }
}

/// Who asks, the board's number of the question, and that.
type Question = (InstanceId, u64, Request);

/// Questions in line.
#[derive(Debug)]
struct Line {
    questions: mpsc::Sender<Question>,
    asked: AsyncMutex<mpsc::Receiver<Question>>,
}

impl Line {
    fn new() -> Self {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        Self { questions, asked: AsyncMutex::new(asked) }
    }
}

impl Peers {
    /// Those of the process with this number, the lower half of which must be its own.
    #[must_use]
    pub fn new(own: InstanceId, store: Arc<dyn Store>, fabric: Arc<dyn Fabric>) -> Self {
        let (urgent, others, figures) = (Line::new(), Line::new(), Figures::default());
        Self { own, store, fabric, urgent, others, figures }
    }

    pub(crate) fn own(&self) -> InstanceId {
        self.own
    }

    pub(crate) fn store_refuses(&self) -> bool {
        self.store.refuses()
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What the store answers to a question that changes nothing.
    pub(crate) async fn ask(&self, request: Request) -> Option<Reply> {
        let answer = self.ask_store(self.own, vec![request]);
        let answered = tokio::time::timeout(ANSWERED_WITHIN, answer).await;
        if answered.is_err() {
            self.figures.unanswered.inc();
        }
        answered.ok()?.pop().flatten()
    }

    /// Asks the store, and counts how it gets on.
    async fn ask_store(&self, from: InstanceId, requests: Vec<Request>) -> Vec<Option<Reply>> {
        let (count, begun) = (requests.len(), Instant::now());
        let replies = self.store.ask(from, requests).await;
        self.figures.seconds.observe(begun.elapsed().as_secs_f64());
        let answered = replies.iter().flatten().count();
        self.figures.unanswered.inc_by(count.saturating_sub(answered) as u64);
        replies
    }

    /// Tells the store that an instance stops.
    pub(crate) async fn resign(&self, own: InstanceId) {
        let resigned = self.store.ask(own, vec![Request::Resign]);
        // Else its lease ends by itself.
        let _in_time = tokio::time::timeout(ANSWERED_WITHIN, resigned).await;
    }

    /// Sends what the board has for the store and for others.
    pub(crate) fn send(&self, board: &mut Board) {
        let own = board.instance();
        while let Some((number, request)) = board.poll_request() {
            // Whoever does not renew its lease has to begin anew, and has more questions than before.
            let is_urgent = matches!(request, Request::Renew { .. } | Request::Own { .. });
            let line = if is_urgent { &self.urgent } else { &self.others };
            // Where there is no room, the board asks again.
            if line.questions.try_send((own, number, request)).is_err() {
                self.figures.unasked.inc();
            }
        }
        while let Some((to, packet)) = board.poll_packet() {
            self.figures.packets.add(SENT, 1);
            self.fabric.send(own, to, packet);
        }
    }

    /// Tells what the store answers and others send; never returns.
    pub(crate) async fn run(
        &self,
        replied: impl Fn(u64, Reply),
        came: impl Fn(Parcel),
        is_open: impl Fn(u64) -> bool,
    ) {
        let answers = async {
            let (mut urgent, mut others) =
                (self.urgent.asked.lock().await, self.others.asked.lock().await);
            // In order, since a later question may be about what an earlier one has changed.
            while let Some(first) = tokio::select! {
                biased;
                first = urgent.recv() => first,
                first = others.recv() => first,
            } {
                let rest = iter::from_fn(|| urgent.try_recv().or_else(|_| others.try_recv()).ok());
                let mut waiting: Vec<Question> =
                    iter::once(first).chain(rest).take(BATCH_MAX).collect();
                // What was asked again while it stood in line may have its answer, and nobody wants two.
                waiting.retain(|(_, number, _)| is_open(*number));
                for batch in waiting.chunk_by(|(one, ..), (next, ..)| one == next) {
                    let from = batch.first().map_or(self.own, |(own, ..)| *own);
                    let requests = batch.iter().map(|(.., request)| request.clone()).collect();
                    let replies = self.ask_store(from, requests).await;
                    for ((_, number, _), reply) in batch.iter().zip(replies) {
                        reply.into_iter().for_each(|reply| replied(*number, reply));
                    }
                }
            }
        };
        let packets = async {
            loop {
                let parcel = self.fabric.next().await;
                self.figures.packets.add(RECEIVED, 1);
                came(parcel);
            }
        };
        tokio::join!(answers, packets);
    }
}

/// The store of several rendezvous in one process.
#[derive(Debug)]
pub struct MemoryStore {
    store: Mutex<holepunch_matchmaker::Store>,
    config: Config,
}

impl MemoryStore {
    /// An empty one, with the places that there are.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { store: Mutex::default(), config }
    }
}

impl Store for MemoryStore {
    fn ask(&self, from: InstanceId, requests: Vec<Request>) -> Later<'_, Vec<Option<Reply>>> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = |request| Some(store.answer(from, request, &self.config, Instant::now()));
        Box::pin(std::future::ready(requests.into_iter().map(answer).collect()))
    }
}

/// By the number of the process.
type Inboxes = BTreeMap<u32, mpsc::Sender<Parcel>>;

/// What connects several rendezvous in one process.
#[derive(Debug, Clone, Default)]
pub struct MemoryFabric(Arc<Mutex<Inboxes>>);

impl MemoryFabric {
    /// The end of one of them.
    #[must_use]
    pub fn end(&self, own: InstanceId) -> Arc<dyn Fabric> {
        let (inbox, packets) = mpsc::channel(PACKETS_MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(own.process(), inbox);
        Arc::new(MemoryEnd { all: self.clone(), packets: AsyncMutex::new(packets) })
    }
}

#[derive(Debug)]
struct MemoryEnd {
    all: MemoryFabric,
    packets: AsyncMutex<mpsc::Receiver<Parcel>>,
}

impl Fabric for MemoryEnd {
    fn send(&self, from: InstanceId, to: InstanceId, packet: Packet) {
        let all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = all.get(&to.process()) {
            // Where there is no room, it is lost.
            let _is_taken = inbox.try_send((from, to, packet));
        }
    }

    fn next(&self) -> Later<'_, Parcel> {
        Box::pin(async {
            match self.packets.lock().await.recv().await {
                Some(packet) => packet,
                None => std::future::pending().await,
            }
        })
    }
}
