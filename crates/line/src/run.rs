//! Flows on a line, event by event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use holepunch_link::machine;
use noq_proto::congestion::ControllerFactory;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::end::{Driver, End};
use crate::line::{Fate, Line, LineConfig};

/// A flow: one connection, on which one side sends all that is taken.
#[derive(Clone)]
pub struct Flow {
    /// How the sender is controlled; what links have if there is none.
    pub congestion: Option<Arc<dyn ControllerFactory + Send + Sync>>,
    /// When its handshake begins.
    pub start: Duration,
    /// Unread bytes that the receiver lets come, however it reads; what links do if there is none.
    pub window: Option<u32>,
}

/// What is simulated.
#[derive(Clone)]
pub struct Setup {
    /// From the senders to the receivers.
    pub forth: LineConfig,
    /// From the receivers back to the senders.
    pub back: LineConfig,
    /// The flows on it.
    pub flows: Vec<Flow>,
    /// How long, in virtual time.
    pub length: Duration,
    /// How the ends are driven.
    pub driver: Driver,
    /// Decides the random losses.
    pub seed: u64,
    /// How often [`FlowReport::samples`] has one.
    pub sample: Duration,
    /// The forth direction has this many bits a second from these moments on.
    pub turns: Vec<(Duration, u64)>,
}

/// What has become of a flow.
#[derive(Debug, Clone, Default)]
pub struct FlowReport {
    /// Bytes that have been read, in order, at the end of each sample.
    pub samples: Vec<u64>,
    /// When its handshake was done, for the sender.
    pub connected: Option<Duration>,
    /// Packets that the sender took for lost, of those sent.
    pub lost_packets: u64,
    /// Packets that the sender has sent.
    pub sent_packets: u64,
    /// Datagrams that the queue had no room for.
    pub dropped: u64,
    /// Datagrams of acknowledgements.
    pub datagrams_back: u64,
    /// How often the sender was driven.
    pub wakes: u64,
    /// Why the connection ended before its time.
    pub ended: Option<String>,
    /// The state of the sender's controller at each sample, in words.
    pub states: Vec<String>,
}

impl FlowReport {
    /// Bytes read until the end.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.samples.last().copied().unwrap_or(0)
    }
}

/// What has become of all flows, in their order.
#[derive(Debug, Clone)]
pub struct Report {
    /// One for each flow.
    pub flows: Vec<FlowReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Sender,
    Receiver,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Turn(u64),
    Start(usize),
    Arrive(usize, Side, Bytes),
    Wake(usize, Side),
    Sample,
}

struct Station {
    sender: End,
    receiver: End,
    /// When the next wake-up of each is due: another one in the queue is stale.
    wakes: [Option<Duration>; 2],
    /// Until when each sleeps, and at which moment it is awake: a machine that is busy wakes it late.
    awake: [Duration; 2],
    client: Option<noq_proto::ClientConfig>,
    report: FlowReport,
}

impl Station {
    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Sender => &mut self.sender,
            Side::Receiver => &mut self.receiver,
        }
    }
}

struct World {
    stations: Vec<Station>,
    forth: Line,
    back: Line,
    driver: Driver,
    /// Decides how late ends are woken.
    random: StdRng,
    /// By moment, then by the order in which they were put in.
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    count: u64,
}

impl World {
    fn at(&mut self, moment: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((moment, self.count, event)));
    }

    fn put(
        &mut self,
        flow: usize,
        from: Side,
        datagrams: impl Iterator<Item = Bytes>,
        now: Duration,
    ) {
        for datagram in datagrams {
            let (line, to) = match from {
                Side::Sender => (&mut self.forth, Side::Receiver),
                Side::Receiver => (&mut self.back, Side::Sender),
            };
            let report = &mut self.stations[flow].report;
            report.datagrams_back += u64::from(from == Side::Receiver);
            match line.send(datagram.len(), now) {
                Fate::Arrives(moment) => {
                    let driver = match to {
                        Side::Sender => self.driver,
                        Side::Receiver => self.driver.other(),
                    };
                    self.at(driver.read_at(moment), Event::Arrive(flow, to, datagram));
                }
                Fate::Dropped => report.dropped += 1,
                Fate::Lost => {}
            }
        }
    }

    fn drive(&mut self, flow: usize, side: Side, now: Duration) {
        let station = &mut self.stations[flow];
        station.report.wakes += u64::from(side == Side::Sender);
        let out = station.end(side).drive(now);
        let wake = station.end(side).wakes_at().map(|at| at.max(now + Duration::from_nanos(1)));
        if station.report.connected.is_none() && station.sender.connected {
            station.report.connected = Some(now);
        }
        let slot = &mut station.wakes[side as usize];
        if *slot != wake {
            *slot = wake;
            if let Some(wake) = wake {
                self.at(wake, Event::Wake(flow, side));
            }
        }
        self.put(flow, side, out.into_iter(), now);
    }

    /// When an end that is to do something at `now` does it, if that is later.
    fn woken_at(&mut self, flow: usize, side: Side, now: Duration) -> Option<Duration> {
        let awake = &mut self.stations[flow].awake[side as usize];
        if now > *awake {
            *awake = now + self.driver.jitter.mul_f64(self.random.random());
        }
        (*awake > now).then_some(*awake)
    }

    fn handle(&mut self, event: Event, now: Duration) {
        if let Event::Arrive(flow, side, _) | Event::Wake(flow, side) = event
            && let Some(later) = self.woken_at(flow, side, now)
        {
            if matches!(event, Event::Wake(..)) {
                let slot = &mut self.stations[flow].wakes[side as usize];
                if *slot != Some(now) {
                    return;
                }
                *slot = Some(later);
            }
            self.at(later, event);
            return;
        }
        match event {
            Event::Turn(rate) => self.forth.turn_to(rate),
            Event::Start(flow) => {
                let station = &mut self.stations[flow];
                if let Some(config) = station.client.take() {
                    station.sender.connect(config, now);
                }
                self.drive(flow, Side::Sender, now);
            }
            Event::Arrive(flow, side, datagram) => {
                let out = self.stations[flow].end(side).receive(BytesMut::from(&datagram[..]), now);
                self.put(flow, side, out.into_iter(), now);
                // What comes at the same moment is read together, as from a socket.
                let more = self.events.peek().is_some_and(|Reverse((at, _, next))| {
                    *at == now && matches!(next, Event::Arrive(f, s, _) if *f == flow && *s == side)
                });
                if !more {
                    self.drive(flow, side, now);
                }
            }
            Event::Wake(flow, side) => {
                let slot = &mut self.stations[flow].wakes[side as usize];
                if *slot == Some(now) {
                    *slot = None;
                    self.drive(flow, side, now);
                }
            }
            Event::Sample => {
                for station in &mut self.stations {
                    station.report.samples.push(station.receiver.read_bytes);
                    station.report.states.push(station.sender.state());
                }
            }
        }
    }
}

fn station(flow: &Flow, driver: Driver, epoch: Instant, index: usize) -> Station {
    let mut transport = machine::transport();
    if let Some(congestion) = &flow.congestion {
        transport.congestion_controller_factory(Arc::clone(congestion) as _);
    }
    let ends = machine::ends(Arc::new(transport)).expect("keys of links are accepted");
    let address = |host: u8| SocketAddr::from((Ipv4Addr::new(10, 0, 0, host), 1_000));
    let mut endpoint = ends.endpoint.clone();
    let mut seed = [0; 32];
    seed[0] = u8::try_from(index).unwrap_or(u8::MAX);
    endpoint.rng_seed(Some(seed));
    let mut receiver =
        End::new(ends.endpoint, Some(ends.server), driver.other(), epoch, address(1));
    if let Some(bytes) = flow.window {
        receiver.fix_window(bytes);
    }
    Station {
        sender: End::new(endpoint, None, driver, epoch, address(2)),
        receiver,
        wakes: [None; 2],
        awake: [Duration::ZERO; 2],
        client: Some(ends.client),
        report: FlowReport::default(),
    }
}

/// Plays it all.
#[must_use]
pub fn run(setup: &Setup) -> Report {
    // The machine's moments are those of the standard library; what they count from does not matter.
    let epoch = Instant::now();
    let flows = setup.flows.iter().enumerate();
    let mut world = World {
        stations: flows.map(|(index, flow)| station(flow, setup.driver, epoch, index)).collect(),
        forth: Line::new(setup.forth, setup.seed),
        back: Line::new(setup.back, setup.seed ^ 0x5eed),
        driver: setup.driver,
        random: StdRng::seed_from_u64(!setup.seed),
        events: BinaryHeap::new(),
        count: 0,
    };
    for (index, flow) in setup.flows.iter().enumerate() {
        world.at(flow.start, Event::Start(index));
    }
    for (moment, rate) in &setup.turns {
        world.at(*moment, Event::Turn(*rate));
    }
    let mut sample = setup.sample;
    while sample <= setup.length {
        world.at(sample, Event::Sample);
        sample += setup.sample;
    }
    while let Some(Reverse((now, _, event))) = world.events.pop() {
        if now > setup.length {
            break;
        }
        world.handle(event, now);
    }
    let flows = world.stations.into_iter().map(|mut station| {
        let stats = station.sender.path().unwrap_or_default();
        station.report.lost_packets = stats.lost_packets;
        station.report.sent_packets = stats.udp_tx.datagrams;
        station.report.ended = station.sender.lost.or(station.receiver.lost);
        station.report
    });
    Report { flows: flows.collect() }
}
