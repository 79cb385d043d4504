//! The relay's other way: datagrams on the port of STUN, for workers that get UDP out.
//!
//! 1. `HELLO` is answered by a cookie, which proves that its address is real, and `BIND` with that cookie and what the
//!    session's token makes of it by a **channel**: a number that stands for one end of a session at one address.
//! 2. A datagram with that number, from that address, goes on to the other end: with its number where that one has a
//!    channel, and speaks by it, and else in a frame of its WebSocket. The header is written over where it was read, and
//!    what the kernel has read in one piece leaves in one: nothing is copied, and nothing allocated.
//! 3. An end is sent to by the way that it spoke by last, so that a worker whose UDP has gone silent need only go on by its
//!    WebSocket.
//! 4. A channel ends with its session, when its worker says so or opens another one, when its quota is used up, and when
//!    nothing has come of it for a minute.

mod channel;
mod drops;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use holepunch_wire::address::Source;
use holepunch_wire::relay::RelayFrame;
use holepunch_wire::relay::udp::{
    self, Bind, CHANNEL_LIFETIME, CHANNELS_MAX, Channel as Number, FromRelay, HEADER_BYTES,
    PAYLOAD_BYTES_MAX, Reason, ToRelay,
};
use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use noq_udp::{RecvMeta, Transmit};
use rand::TryRng;
use rand::rngs::SysRng;

use super::Relay;
use super::budget::{Payer, Refusal, Verdict, Way};
use crate::stun::Socket;
pub(super) use channel::Channel;
use channel::Place;
pub(super) use drops::Drops;
pub use drops::RelayDrop;

/// How often channels of which nothing comes are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// So many numbers are tried for a channel; at most every second one is taken.
const TRIES_MAX: usize = 64;

type Open = HashMap<Number, Arc<Channel>>;

/// All channels, and what is needed to open them.
#[derive(Debug)]
pub(super) struct Channels {
    cookies: (ProofKey, ProofClock),
    open: RwLock<Open>,
    pub(super) drops: Drops,
    /// Datagrams of links that have come by channels and were handed on.
    carried: AtomicU64,
}

/// Where a datagram has arrived, and where from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) sockets: &'a Arc<[Socket]>,
    pub(crate) own: usize,
    pub(crate) meta: &'a RecvMeta,
    pub(crate) now: Instant,
}

impl Arrival<'_> {
    fn place(&self) -> Place {
        let socket = &self.sockets[self.own];
        Place {
            sockets: Arc::downgrade(self.sockets),
            own: self.own,
            to: self.meta.addr,
            from: socket.source(self.meta.dst_ip),
        }
    }

    fn source(&self) -> SocketAddr {
        SocketAddr::new(self.meta.addr.ip().to_canonical(), self.meta.addr.port())
    }

    fn answer(&self, answer: &[u8]) -> Result<(), RelayDrop> {
        let socket = &self.sockets[self.own];
        let transmit = Transmit {
            destination: self.meta.addr,
            ecn: None,
            contents: answer,
            segment_size: None,
            src_ip: socket.source(self.meta.dst_ip),
        };
        socket.send(&transmit).map_err(|_| RelayDrop::NotSent)
    }
}

impl Channels {
    pub(super) fn new(cookie_key: [u8; 32]) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let cookies = (ProofKey::new(cookie_key), ProofClock::new(Instant::now(), unix));
        Self {
            cookies,
            open: RwLock::default(),
            drops: Drops::default(),
            carried: AtomicU64::new(0),
        }
    }

    /// The channel of this number that is at this address.
    fn at(&self, number: Number, address: SocketAddr) -> Option<Arc<Channel>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let channel = open.get(&number)?;
        (channel.place.to == address).then(|| Arc::clone(channel))
    }

    /// Whether it was there.
    fn remove(&self, channel: &Arc<Channel>) -> bool {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let is_there = open.get(&channel.number).is_some_and(|it| Arc::ptr_eq(it, channel));
        if is_there {
            open.remove(&channel.number);
        }
        is_there
    }

    fn all(&self) -> Vec<Arc<Channel>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().cloned().collect()
    }
}

/// A number that nobody has, and that nobody guesses who would send in the name of a worker whose address he knows.
fn free_number(taken: &Open) -> Option<Number> {
    if taken.len() >= CHANNELS_MAX / 2 {
        return None;
    }
    (0..TRIES_MAX).find_map(|_| {
        let mut bytes = [0; 4];
        SysRng.try_fill_bytes(&mut bytes[1..]).ok()?;
        let number = Number(u32::from_be_bytes(bytes));
        (!taken.contains_key(&number)).then_some(number)
    })
}

impl Relay {
    /// Takes the first datagrams of those that the kernel has read in one piece, each of `stride` bytes but the last; how
    /// many bytes of them. `allows` says whether something may be sent to an address that has proved nothing.
    pub(crate) fn take(
        &self,
        read: &mut [u8],
        arrival: &Arrival<'_>,
        allows: impl FnOnce(IpAddr) -> bool,
    ) -> usize {
        let stride = arrival.meta.stride.clamp(1, read.len().max(1));
        let first = &read[..stride.min(read.len())];
        let (taken, outcome) = match udp::data_channel(first) {
            Some(number) => {
                let header = udp::data_header(number);
                let is_of = |datagram: &&[u8]| {
                    datagram.starts_with(&header) && datagram.len() > HEADER_BYTES
                };
                let run = read.chunks(stride).take_while(is_of).map(<[u8]>::len).sum();
                (run, self.forward(&mut read[..run], number, stride, arrival, allows))
            }
            None => (first.len(), self.control(&mut read[..stride], arrival, allows)),
        };
        if let Err(why) = outcome {
            self.channels.drops.count(why, taken.div_ceil(stride));
        }
        taken
    }

    /// Hands datagrams of one channel on.
    fn forward(
        &self,
        run: &mut [u8],
        number: Number,
        stride: usize,
        arrival: &Arrival<'_>,
        allows: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), RelayDrop> {
        let Some(channel) = self.channels.at(number, arrival.meta.addr) else {
            return self.unknown(number, arrival, allows);
        };
        if stride > HEADER_BYTES + PAYLOAD_BYTES_MAX {
            return Err(RelayDrop::Malformed);
        }
        self.pay(&channel, run.len(), arrival.now)?;
        let [own, other] = [channel.own, 1 - channel.own].map(|at| &channel.pair.ends[at]);
        own.speaks_by(Way::Udp);
        match other.channel_in_use(stride - HEADER_BYTES) {
            Some(to) => to.send_in_place(run, stride)?,
            None => {
                let mut frame = RelayFrame::with_capacity(run.len());
                let payloads = run.chunks(stride).filter_map(|it| it.get(HEADER_BYTES..));
                payloads.for_each(|payload| _ = frame.push(payload));
                if !other.offer(Bytes::from(frame.into_bytes())) {
                    return Err(RelayDrop::PeerBusy);
                }
            }
        }
        let count = run.len().div_ceil(stride);
        channel.carried(count, run.len());
        self.channels.carried.fetch_add(count as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Pays for bytes that a worker has sent. There is no pause as on a WebSocket: what is over a rate is dropped.
    fn pay(&self, channel: &Arc<Channel>, bytes: usize, now: Instant) -> Result<(), RelayDrop> {
        channel.heard(now);
        if channel.is_slowed(now) {
            return Err(RelayDrop::OverRate);
        }
        match self.spend(channel.payer, bytes) {
            Verdict::Within => {}
            Verdict::Slow(until, ..) => channel.slow_down(until),
            Verdict::Over(_) => {
                self.close_channel(channel, Some(Reason::Quota));
                return Err(RelayDrop::OverQuota);
            }
        }
        Ok(())
    }

    /// What is no datagram of a link.
    fn control(
        &self,
        datagram: &mut [u8],
        arrival: &Arrival<'_>,
        allows: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), RelayDrop> {
        let address = arrival.meta.addr;
        match ToRelay::parse(datagram).ok_or(RelayDrop::Malformed)? {
            ToRelay::Data(number, _) => self.unknown(number, arrival, allows),
            ToRelay::Hello(nonce) => {
                if !allows(arrival.source().ip()) {
                    return Err(RelayDrop::Unanswered);
                }
                let (key, clock) = &self.channels.cookies;
                let cookie = key.prove(nonce, arrival.source(), clock.expiry(arrival.now));
                let challenge = FromRelay::Challenge(FromRelay::echo_of(nonce), cookie);
                arrival.answer(&challenge.to_bytes())
            }
            ToRelay::Bind(bind) => {
                let answer = match self.bind(&bind, arrival)? {
                    Ok(channel) => FromRelay::Bound(channel.number, bind.echo()),
                    Err(reason) => FromRelay::Refused(reason, bind.echo()),
                };
                arrival.answer(&answer.to_bytes())
            }
            ToRelay::Ping(ping) => {
                let Some(channel) = self.channels.at(ping.channel, address) else {
                    return self.unknown(ping.channel, arrival, allows);
                };
                if ping.payload_bytes() > PAYLOAD_BYTES_MAX {
                    return Err(RelayDrop::Malformed);
                }
                let proved = ping.proved.into();
                // It costs what a datagram for the other end would.
                self.pay(&channel, datagram.len(), arrival.now)?;
                channel.proved(proved);
                udp::answer_in_place(datagram);
                arrival.answer(datagram)
            }
            ToRelay::Close(number, echo) => {
                let channel = self.channels.at(number, address).filter(|it| it.echo == echo);
                let channel = channel.ok_or(RelayDrop::Unknown)?;
                self.close_channel(&channel, None);
                Ok(())
            }
        }
    }

    /// Says that no such channel is at that address, so that a worker whose address has changed need not wait.
    fn unknown(
        &self,
        number: Number,
        arrival: &Arrival<'_>,
        allows: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), RelayDrop> {
        if allows(arrival.source().ip()) {
            arrival.answer(&FromRelay::Unknown(number).to_bytes())?;
        }
        Err(RelayDrop::Unknown)
    }

    /// Opens a channel, or says why there is none. Who has not proved its address, or its token, is told nothing.
    fn bind(
        &self,
        bind: &Bind,
        arrival: &Arrival<'_>,
    ) -> Result<Result<Arc<Channel>, Reason>, RelayDrop> {
        let (key, clock) = &self.channels.cookies;
        if !bind.came_from(arrival.source(), key, clock.unix_s(arrival.now)) {
            return Err(RelayDrop::Unproved);
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Ok((own, quota)) = bind.side(&self.key, unix.as_secs()) else {
            return Err(RelayDrop::Token);
        };
        let session = bind.session;
        let known = self.with_table(|table| table.pairs.get(&session)?.ends[own].channel());
        if let Some(known) = known.filter(|it| it.is(bind.echo(), arrival.meta.addr)) {
            // Its answer was lost.
            known.heard(arrival.now);
            return Ok(Ok(known));
        }
        let payer =
            Payer { session, source: Source::of(arrival.source().ip()), way: Way::Udp, quota };
        if let Err(refusal) = self.enter(payer) {
            return Ok(Err(reason_of(refusal)));
        }
        let opened = self.attach(payer, own, bind, arrival);
        if opened.is_err() {
            self.leave(payer);
        }
        Ok(opened.map(|(channel, before)| {
            if let Some(before) = before {
                // Its address may be somebody else's by now.
                self.close_channel(&before, None);
            }
            channel
        }))
    }

    /// The channel of that end from now on, and the one before.
    fn attach(
        &self,
        payer: Payer,
        own: usize,
        bind: &Bind,
        arrival: &Arrival<'_>,
    ) -> Result<(Arc<Channel>, Option<Arc<Channel>>), Reason> {
        self.with_table(|table| {
            if table.ended {
                return Err(Reason::ShuttingDown);
            }
            // It may have ended since the place was asked for.
            if table.is_over(payer.session) {
                return Err(Reason::Ended);
            }
            let pair = Arc::clone(table.pairs.entry(payer.session).or_default());
            let end = Arc::clone(&pair);
            let mut open = self.channels.open.write().unwrap_or_else(PoisonError::into_inner);
            let number = free_number(&open).ok_or(Reason::Full)?;
            let (place, echo) = (arrival.place(), bind.echo());
            let channel = Channel::new(number, payer, own, pair, place, echo, arrival.now);
            let channel = Arc::new(channel);
            open.insert(number, Arc::clone(&channel));
            drop(open);
            let before = end.ends[own].attach(Arc::clone(&channel));
            Ok((channel, before))
        })
    }

    /// Ends a channel, and tells its worker why.
    pub(super) fn close_channel(&self, channel: &Arc<Channel>, why: Option<Reason>) {
        if !self.channels.remove(channel) {
            return;
        }
        channel.pair.ends[channel.own].detach_channel(channel);
        self.leave(channel.payer);
        self.forget_unused(channel.payer.session, &channel.pair);
        if self.log_budget.allows_one() {
            let (session, end) = (channel.payer.session, channel.own);
            let (datagrams, bytes) = channel.counts();
            tracing::info!(%session, end, ?why, datagrams, bytes, "relay by UDP left");
        }
        if let Some(why) = why {
            let closed = FromRelay::Closed(channel.number, channel.echo, why);
            let _best_effort = channel.send(&closed.to_bytes(), None);
        }
    }

    /// Ends all channels.
    pub(super) fn close_channels(&self, why: Reason) {
        self.channels.all().iter().for_each(|channel| self.close_channel(channel, Some(why)));
    }

    /// How many datagrams of links have come by UDP, and were handed on.
    pub(crate) fn datagrams(&self) -> u64 {
        self.channels.carried.load(Ordering::Relaxed)
    }

    /// Ends the channels of which nothing comes any more, for as long as the relay is.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut clock = tokio::time::interval(SWEEP_EVERY);
        loop {
            clock.tick().await;
            self.sweep_once(Instant::now());
        }
    }

    fn sweep_once(&self, now: Instant) {
        let silent = |it: &Arc<Channel>| it.is_silent_for(CHANNEL_LIFETIME, now);
        let all = self.channels.all();
        all.iter().filter(|it| silent(it)).for_each(|it| self.close_channel(it, None));
    }
}

fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Full | Refusal::ShareOfAddress | Refusal::ShareOfSite => Reason::Full,
        Refusal::QuotaOfAddress | Refusal::QuotaOfSession => Reason::Quota,
        Refusal::Ended => Reason::Ended,
    }
}

#[cfg(test)]
mod tests;
