use holepunch_wire::relay::RelayKey;
use holepunch_wire::stun::proof::ProofKey;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const SESSION: SessionId = SessionId(7);
const CHANNEL: Channel = Channel(5);

/// A machine, and what plays its relay.
struct World {
    machine: Machine,
    rng: StdRng,
    token: RelayToken,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let (mut rng, now) = (StdRng::seed_from_u64(1), Instant::now());
        let machine = Machine::new(SESSION, &mut rng, now);
        let token = RelayKey::new([1; 32]).token(SESSION, 0, u32::MAX.into());
        Self { machine, rng, token, now }
    }

    /// What is sent next, and whether from another port; time goes on until then.
    fn next(&mut self) -> (ToRelay<'static>, bool) {
        loop {
            self.now = self.now.max(self.machine.due().expect("it goes on"));
            let action = self.machine.handle_timeout(&self.token, &mut self.rng, self.now);
            let (bytes, elsewhere) = match action {
                None => continue,
                Some(Action::Send(bytes)) => (bytes, false),
                Some(Action::SendFromElsewhere(bytes)) => (bytes, true),
            };
            return (ToRelay::parse(Box::leak(bytes.into_boxed_slice())).unwrap(), elsewhere);
        }
    }

    fn hear(&mut self, answer: &FromRelay<'_>) -> Option<Reason> {
        match self.machine.handle(&answer.to_bytes(), &mut self.rng, self.now) {
            Heard::Over(why) => Some(why),
            Heard::Data(_) | Heard::Nothing => None,
        }
    }

    fn ping(&mut self) -> Ping<'static> {
        let (ToRelay::Ping(ping), _) = self.next() else { panic!("a ping") };
        ping
    }

    /// Up to its first ping.
    fn bound() -> (Self, Ping<'static>) {
        let mut world = Self::new();
        let (ToRelay::Hello(nonce), false) = world.next() else { panic!("a hello") };
        let from = "192.0.2.1:9".parse().unwrap();
        let cookie = ProofKey::new([2; 32]).prove(nonce, from, 9);
        world.hear(&FromRelay::Challenge(FromRelay::echo_of(nonce), cookie));
        let (ToRelay::Bind(bind), false) = world.next() else { panic!("a bind") };
        assert_eq!(bind.side(&RelayKey::new([1; 32]), 0), Ok((0, None)));
        world.hear(&FromRelay::Bound(CHANNEL, bind.echo()));
        let ping = world.ping();
        (world, ping)
    }

    /// One whose longest datagrams get there.
    fn in_use() -> Self {
        let (mut world, ping) = Self::bound();
        world.hear(&FromRelay::Pong(ping));
        let trial = world.ping();
        world.hear(&FromRelay::Pong(trial));
        let told = world.ping();
        assert_eq!(usize::from(told.proved), PAYLOAD_BYTES_MAX, "the relay is told");
        world.hear(&FromRelay::Pong(told));
        world
    }
}

#[test]
fn a_channel_is_used_once_a_datagram_of_the_safe_length_has_come_back() {
    let (mut world, ping) = World::bound();
    assert_eq!((ping.payload_bytes(), world.machine.in_use()), (PAYLOAD_BYTES_SAFE, None));
    world.hear(&FromRelay::Pong(ping));
    assert_eq!(world.machine.in_use(), Some((CHANNEL, PAYLOAD_BYTES_SAFE)));
    let trial = world.ping();
    assert_eq!(trial.payload_bytes(), PAYLOAD_BYTES_MAX);
    world.hear(&FromRelay::Pong(trial));
    assert_eq!(world.machine.in_use(), Some((CHANNEL, PAYLOAD_BYTES_MAX)));
}

#[test]
fn a_narrow_path_keeps_the_safe_length_and_is_no_doubt() {
    let (mut world, ping) = World::bound();
    world.hear(&FromRelay::Pong(ping));
    let mut trials = 0;
    for _ in 0..20 {
        let ping = world.ping();
        if ping.payload_bytes() > PAYLOAD_BYTES_SAFE {
            trials += 1;
        } else {
            world.hear(&FromRelay::Pong(ping));
        }
        assert_eq!(world.machine.in_use(), Some((CHANNEL, PAYLOAD_BYTES_SAFE)));
    }
    assert_eq!(trials, TRIALS_MAX);
}

#[test]
fn what_goes_silent_under_way_is_left_within_a_second_and_taken_up_when_it_answers() {
    let mut world = World::in_use();
    let start = world.now;
    assert!(world.machine.carried(start));
    let mut last = world.ping();
    assert!(world.now <= start + PING_SILENT);
    while world.machine.in_use().is_some() {
        last = world.ping();
    }
    assert!(world.now - start < Duration::from_secs(1), "{:?}", world.now - start);
    world.hear(&FromRelay::Pong(last));
    assert_eq!(world.machine.in_use(), Some((CHANNEL, PAYLOAD_BYTES_MAX)));
}

/// What comes says nothing of what goes.
#[test]
fn a_way_back_alone_is_no_way() {
    let mut world = World::in_use();
    let start = world.now;
    world.machine.carried(start);
    while world.machine.in_use().is_some() {
        world.ping();
        world.hear(&FromRelay::Data(CHANNEL, b"x"));
        world.machine.carried(world.now);
    }
    assert!(world.now - start < Duration::from_secs(2), "{:?}", world.now - start);
}

#[test]
fn a_channel_that_does_not_answer_for_long_is_asked_for_again_from_another_port() {
    let mut world = World::in_use();
    world.machine.carried(world.now);
    let start = world.now;
    let elsewhere = loop {
        let (question, elsewhere) = world.next();
        if matches!(question, ToRelay::Hello(_)) {
            break elsewhere;
        }
    };
    assert!(elsewhere && world.now - start < LOST_AFTER + Duration::from_secs(1));
}

#[test]
fn where_no_udp_gets_out_it_is_tried_seldom() {
    let mut world = World::new();
    let start = world.now;
    let asked: Vec<_> = (0..20).map(|_| world.next()).collect();
    assert!(asked.iter().all(|(question, _)| matches!(question, ToRelay::Hello(_))));
    assert!(world.now - start > 10 * AGAIN_LONGEST);
    // The relay may have another address, and this machine another network.
    let elsewhere = asked.iter().filter(|(_, elsewhere)| *elsewhere).count();
    assert_eq!(elsewhere, 4);
}

#[test]
fn an_unknown_channel_is_asked_for_again_and_not_at_once_for_ever() {
    let mut world = World::in_use();
    let start = world.now;
    world.hear(&FromRelay::Unknown(Channel(99)));
    assert!(world.machine.in_use().is_some(), "somebody else's");
    world.hear(&FromRelay::Unknown(CHANNEL));
    assert!(matches!(world.next(), (ToRelay::Hello(_), false)) && world.now > start);
}

#[test]
fn a_session_that_is_over_asks_nothing_more() {
    let (mut world, _) = World::bound();
    let Some(close) = world.machine.close() else { panic!("a channel") };
    let Some(ToRelay::Close(_, echo)) = ToRelay::parse(&close) else { panic!("a close") };
    assert_eq!(world.hear(&FromRelay::Closed(CHANNEL, [0; 8], Reason::Ended)), None, "a forger");
    let over = world.hear(&FromRelay::Closed(CHANNEL, echo, Reason::Ended));
    assert_eq!((over, world.machine.due()), (Some(Reason::Ended), None));
}
