//! What a worker has to do with peers that speak the baseline: one pairing at a time, and the PINGs of everybody.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use holepunch_wire::WorkerId;
use holepunch_wire::probe::{Ping, Probe, ProbeError};
use holepunch_wire::rate::Bucket;
use holepunch_wire::signal::Offer;

use crate::answers::{EarlyPings, STRANGERS};
use crate::doors::{Dropped, Event, Out, Transmit, Turn, WakeUp};
use crate::pairing::Pairing;

#[derive(Debug)]
pub(crate) struct Baseline {
    own_id: WorkerId,
    pairing: Option<Pairing>,
    strangers: Bucket,
    early: EarlyPings,
}

impl Baseline {
    pub(crate) fn new(own_id: WorkerId) -> Self {
        let (strangers, early) = (Bucket::default(), EarlyPings::default());
        Self { own_id, pairing: None, strangers, early }
    }

    pub(crate) fn has_peer(&self) -> bool {
        self.pairing.is_some()
    }

    /// An offer is followed, whatever becomes of the peer of the one before.
    pub(crate) fn begin(&mut self, offer: Offer, out: &mut Out, now: Instant) {
        out.events.extend(self.pairing.as_mut().and_then(Pairing::replace));
        let early = self.early.take(offer.peer.as_str(), now);
        self.pairing = Some(Pairing::new(self.own_id.clone(), offer, &early, now));
    }

    pub(crate) fn handle_datagram(
        &mut self,
        (from, payload): (SocketAddr, &[u8]),
        (dropped, out): (&mut Dropped, &mut Out),
        (now, rng): Turn<'_>,
    ) {
        match Probe::parse(payload) {
            Ok(Probe::Ping(ping)) => self.ping(from, &ping, (dropped, out), now),
            Ok(Probe::Pong(pong)) => {
                let pairing = self.pairing.as_mut();
                let counts = pairing.is_some_and(|it| it.handle_pong(from, &pong, (now, rng)));
                dropped.stray_pong += u64::from(!counts);
            }
            Err(ProbeError::NotAProbe) => dropped.unknown += 1,
            Err(ProbeError::NotUtf8 | ProbeError::IdTooLong | ProbeError::NumberTooLong) => {
                dropped.malformed_probe += 1;
            }
        }
    }

    fn ping(
        &mut self,
        from: SocketAddr,
        ping: &Ping<'_>,
        (dropped, out): (&mut Dropped, &mut Out),
        now: Instant,
    ) {
        if let Some(pairing) = &mut self.pairing
            && pairing.peer.as_str() == ping.from
            && pairing.handle_ping(from, ping, now)
        {
            return;
        }
        self.early.remember(ping.from, from, now);
        if !self.strangers.take(STRANGERS, now) {
            dropped.rate_limited += 1;
            return;
        }
        let payload = ping.answer(self.own_id.as_str());
        out.transmits.push_back(Transmit::new(from, payload));
        out.events.push_back(Event::StrangerPing(ping.from.to_owned(), from));
    }

    /// Does what is due. What has happened.
    pub(crate) fn settle(&mut self, out: &mut Out, (now, rng): Turn<'_>) -> VecDeque<Event> {
        let Some(pairing) = &mut self.pairing else { return VecDeque::new() };
        pairing.handle_timeout((now, rng));
        out.transmits.append(&mut pairing.out.transmits);
        let events = std::mem::take(&mut pairing.out.events);
        self.pairing.take_if(|pairing| pairing.is_over());
        events
    }

    pub(crate) fn poll_timeout(&self) -> Option<WakeUp> {
        self.pairing.as_ref().and_then(Pairing::poll_timeout)
    }
}
