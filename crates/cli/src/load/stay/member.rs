//! One worker that stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use holepunch_wire::session::{LinkState, RoomName};
use holepunch_wire::signal::v1::{HeldSession, LinkReport, ServerV1, SessionOffer, WorkerV1};
use holepunch_wire::signal::{FromServer, WorkerMessage};
use holepunch_worker::{Asking, Opened, Stream, WorkerId};
use serde::Serialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::super::client::{BUFFER_BYTES, endpoint};
use super::{OUT_MAX, Run};

type Socket = WebSocketStream<Stream>;

/// A rendezvous that does not let a worker in by then is left for another one.
const LET_IN_WITHIN: Duration = Duration::from_secs(2);
/// Whoever has lost a connection comes back within so long, each worker after a time of its own.
const BACK_WITHIN: Duration = Duration::from_millis(500);
/// Two neighbours come back so much apart.
const APART: Duration = Duration::from_millis(37);

pub(super) struct Member {
    run: Arc<Run>,
    index: usize,
    id: Result<WorkerId, String>,
    room: Result<RoomName, String>,
    keeps: bool,
    /// At which rendezvous it was last, counted up.
    turn: usize,
    /// What takes up its sessions, and that of the last welcome, which is good once the hello is known to be heard.
    resume: Option<String>,
    welcomed: Option<String>,
    held: Option<HeldSession>,
    /// When it leaves that.
    leaves_at: Option<Instant>,
    wants_since: Option<Instant>,
    lost_at: Option<Instant>,
}

impl Member {
    pub(super) fn new(run: Arc<Run>, index: usize) -> Self {
        let (name, half) = (&run.targets[0].run, run.plan.workers / 2);
        let keeps = index < half;
        let room = match keeps {
            true => format!("stay-{name}-keep-{}", index / 2),
            false => format!("stay-{name}-move-{}", (index - half) / run.plan.room_workers),
        };
        let id = WorkerId::new(&format!("stay-{name}-{index}"));
        Self {
            id: id.map_err(|why| why.to_string()),
            room: RoomName::new(&room).map_err(|why| why.to_string()),
            index,
            keeps,
            turn: index,
            resume: None,
            welcomed: None,
            held: None,
            leaves_at: None,
            wants_since: None,
            lost_at: None,
            run,
        }
    }

    /// Stays until the end; whether it has a peer then.
    pub(super) async fn stay(mut self) -> bool {
        let end = self.run.end;
        let _until_then = tokio::time::timeout_at(end.into(), async {
            loop {
                let why = match self.connect().await {
                    Ok(socket) => self.serve(socket).await,
                    Err(why) => Err(why),
                };
                if let Err(why) = why {
                    tracing::debug!(worker = self.index, why, "out of reach");
                }
                self.lost_at.get_or_insert_with(Instant::now);
                (self.wants_since, self.welcomed) = (None, None);
                tokio::time::sleep(self.comes_back_after()).await;
            }
        })
        .await;
        if let Some(lost) = self.lost_at {
            self.is_back(lost);
        }
        self.held.is_some()
    }

    fn comes_back_after(&mut self) -> Duration {
        self.turn += 1;
        let spread = APART.as_millis() * self.index as u128 + 97 * self.turn as u128;
        Duration::from_millis(u64::try_from(spread % BACK_WITHIN.as_millis()).unwrap_or_default())
    }

    async fn connect(&self) -> Result<Socket, String> {
        let target = &self.run.targets[self.turn % self.run.targets.len()];
        let url = target.url.register_in(self.id.as_ref()?, self.room.as_ref()?);
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES);
        let opening = target.dial(&url, Asking::V1, config);
        let opened = tokio::time::timeout(LET_IN_WITHIN, opening).await;
        match opened.map_err(|_| "no handshake in time".to_owned())?? {
            Opened { socket, is_v1: true, .. } => Ok(socket),
            Opened { .. } => Err("this rendezvous does not speak holepunch.v1".to_owned()),
        }
    }

    /// Until the connection is lost.
    async fn serve(&mut self, mut socket: Socket) -> Result<(), String> {
        let opened = Instant::now();
        loop {
            let let_in = self.lost_at.is_some().then(|| opened + LET_IN_WITHIN);
            let timer = [self.leaves_at, let_in].into_iter().flatten().min();
            let due = timer.unwrap_or(self.run.end).into();
            match tokio::time::timeout_at(due, socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => self.hear(&text, &mut socket).await?,
                Ok(Some(Ok(Message::Close(frame)))) => return Err(format!("{frame:?}")),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) => return Err("the connection ended".to_owned()),
                Err(_) if let_in.is_some_and(|until| until <= Instant::now()) => {
                    return Err("not let in in time".to_owned());
                }
                Err(_) => self.leave(&mut socket).await?,
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else concerns a worker that stays")]
    async fn hear(&mut self, text: &str, socket: &mut Socket) -> Result<(), String> {
        match FromServer::parse(text).map_err(|error| error.to_string())? {
            FromServer::UdpEndpointAck(Ok(())) => {
                self.resume = self.welcomed.take().or(self.resume.take());
                if let Some(lost) = self.lost_at.take() {
                    self.is_back(lost);
                }
            }
            FromServer::UdpEndpointAck(Err(why)) => return Err(why),
            FromServer::SessionOffer(offer) => {
                let offer = offer.map_err(|error| error.to_string())?;
                self.offered(&offer, socket).await?;
            }
            FromServer::V1(message) => match *message? {
                ServerV1::Welcome(welcome) => {
                    self.welcomed = Some(welcome.resume);
                    say(socket, &self.hello()).await?;
                    self.report(socket).await?;
                }
                ServerV1::SessionEnded { session, reason, .. } => {
                    self.run.told(|ledger| ledger.ended(self.index, session, &reason));
                    if self.held.take_if(|held| held.session == session).is_some() {
                        self.leaves_at = None;
                        self.wants_since = Some(Instant::now());
                    }
                }
                ServerV1::Plan { session, plan } => {
                    let held = self.held.iter_mut().filter(|held| held.session == session);
                    held.for_each(|held| held.planned(&plan));
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn hello(&self) -> WorkerV1 {
        let resumed = self.resume.is_some();
        WorkerV1::Hello {
            room: self.room.clone().ok(),
            mode: None,
            key: None,
            signature: None,
            resume: self.resume.clone(),
            sessions: resumed.then(|| self.held.iter().map(|it| it.session).collect()),
            held: self.held.clone().filter(|_| resumed).into_iter().collect(),
            fresh: false,
            own: false,
            callable: false,
        }
    }

    async fn report(&mut self, socket: &mut Socket) -> Result<(), String> {
        if self.held.is_none() {
            self.wants_since = Some(Instant::now());
        }
        let report = WorkerMessage::report(endpoint(self.index)).encode();
        socket.send(Message::text(report)).await.map_err(|error| error.to_string())
    }

    async fn offered(&mut self, offer: &SessionOffer, socket: &mut Socket) -> Result<(), String> {
        let (session, now) = (offer.details.session, Instant::now());
        let plan = &offer.details.plan;
        if let Some(had) = self.held.replace(offer.held(true)).filter(|had| had.session != session)
        {
            self.run.told(|ledger| ledger.doubled(self.index, had.session));
        }
        let waited = self.wants_since.take().map(|since| now - since);
        self.run.told(|ledger| ledger.offered(self.index, session, waited));
        let hold = self.run.plan.hold_sec.0;
        // Not both of a pair at once, nor all pairs.
        let hold = hold + hold * u32::try_from(self.index % 7).unwrap_or_default() / 7;
        self.leaves_at = Some(now + hold).filter(|at| !self.keeps && *at < self.run.calm);
        let report = LinkReport {
            session,
            state: LinkState::Direct,
            strategy: plan.strategy,
            number: plan.number,
            reason: String::new(),
            rtt_ms: None,
            elapsed_ms: 0,
            probes: 0,
        };
        say(socket, &WorkerV1::LinkState(report)).await
    }

    async fn leave(&mut self, socket: &mut Socket) -> Result<(), String> {
        let now = Instant::now();
        if self.leaves_at.take_if(|at| *at <= now).is_none() {
            return Ok(());
        }
        let Some(HeldSession { session, .. }) = self.held.take() else { return Ok(()) };
        self.run.told(|ledger| ledger.leaves(self.index, session, now));
        say(socket, &WorkerV1::Leave { session }).await?;
        self.report(socket).await
    }

    fn is_back(&self, lost: Instant) {
        let out = lost.elapsed();
        self.run.told(|ledger| {
            ledger.out.add(out);
            if out > OUT_MAX {
                ledger.faults.push(format!("a worker was out of reach for over {OUT_MAX:?}"));
            }
        });
    }
}

async fn say(socket: &mut Socket, message: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string(message).map_err(|error| error.to_string())?;
    socket.send(Message::text(text)).await.map_err(|error| error.to_string())
}
