//! Random histories, compared with a model that keeps every packet in a list and looks through it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_sim::nat::{Allocation, DropReason, Filtering, Mapping, NatConfig};
use proptest::prelude::*;

use crate::common::{at, ip};
use crate::prober::{EXTERNAL, Prober};

#[derive(Debug, Clone)]
enum Step {
    Out { inside: usize, to: usize },
    In { from: usize, flow: usize },
    Wait(u64),
}

const INSIDE: [&str; 4] =
    ["192.168.1.2:5000", "192.168.1.2:5001", "192.168.1.3:5000", "192.168.1.3:6000"];
const OUTSIDE: [&str; 6] = [
    "192.0.2.1:1000",
    "192.0.2.1:2000",
    "192.0.2.2:1000",
    "192.0.2.2:2000",
    "192.0.2.3:1000",
    "198.51.100.1:77",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..INSIDE.len(), 0..OUTSIDE.len()).prop_map(|(inside, to)| Step::Out { inside, to }),
        4 => (0..OUTSIDE.len(), any::<usize>()).prop_map(|(from, flow)| Step::In { from, flow }),
        1 => (0..20_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..120)
}

fn config() -> impl Strategy<Value = NatConfig> {
    let mapping = prop_oneof![
        Just(Mapping::EndpointIndependent),
        Just(Mapping::AddressDependent),
        Just(Mapping::AddressAndPortDependent),
    ];
    let filtering = prop_oneof![
        Just(Filtering::EndpointIndependent),
        Just(Filtering::AddressDependent),
        Just(Filtering::AddressAndPortDependent),
    ];
    let block = |size, reuse| Allocation::Block { size, aligned: false, reuse };
    let allocation = prop_oneof![
        Just(Allocation::Preserving),
        Just(Allocation::PreservingFirst),
        Just(Allocation::Sequential { step: 1, noise_per_second: 1.0 }),
        Just(Allocation::Random),
        Just(block(3, false)),
        Just(block(2, true)),
    ];
    (mapping, filtering, allocation, any::<bool>()).prop_map(
        |(mapping, filtering, allocation, refresh_on_inbound)| NatConfig {
            refresh_on_inbound,
            ..NatConfig::new(mapping, filtering)
                .with_allocation(allocation)
                .with_lifetime(Duration::from_secs(30))
        },
    )
}

/// Somebody inside has talked with somebody outside through an external port.
#[derive(Debug, Clone, Copy)]
struct Talk {
    inside: SocketAddr,
    remote: SocketAddr,
    port: u16,
    /// What was sent to first through the mapping: the destination that it was made for.
    made_for: SocketAddr,
    until: Instant,
}

struct Model {
    config: NatConfig,
    talks: Vec<Talk>,
}

impl Model {
    fn alive(&self, now: Instant) -> impl Iterator<Item = &Talk> {
        self.talks.iter().filter(move |talk| talk.until > now)
    }

    fn is_same_mapping(&self, a: SocketAddr, b: SocketAddr) -> bool {
        match self.config.mapping {
            Mapping::EndpointIndependent => true,
            Mapping::AddressDependent => a.ip() == b.ip(),
            Mapping::AddressAndPortDependent => a == b,
        }
    }

    /// The mappings of an inside socket at an external port that let a packet in, by what was said
    /// so far: what they were made for, the last one that anything came through, last.
    fn admitting(
        &self,
        inside: SocketAddr,
        from: SocketAddr,
        port: u16,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let at_port = |talk: &&Talk| talk.inside == inside && talk.port == port;
        let mut all: Vec<Talk> = self.alive(now).filter(at_port).copied().collect();
        all.sort_by_key(|talk| talk.until);
        let admits = |made_for: SocketAddr| {
            let mut own = all.iter().filter(|talk| talk.made_for == made_for);
            own.any(|talk| match self.config.filtering {
                Filtering::EndpointIndependent => true,
                Filtering::AddressDependent => talk.remote.ip() == from.ip(),
                Filtering::AddressAndPortDependent => talk.remote == from,
            })
        };
        all.iter().map(|talk| talk.made_for).filter(|made_for| admits(*made_for)).collect()
    }

    fn check_out(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        seen: Result<SocketAddr, DropReason>,
        now: Instant,
    ) -> Result<(), TestCaseError> {
        let old = self
            .alive(now)
            .find(|talk| talk.inside == inside && self.is_same_mapping(talk.made_for, to))
            .copied();
        let Ok(seen) = seen else {
            prop_assert_eq!(seen, Err(DropReason::PortsExhausted));
            prop_assert!(old.is_none(), "an old mapping needs no port");
            return Ok(());
        };
        prop_assert_eq!(seen.ip(), ip(EXTERNAL));
        if let Some(old) = old {
            prop_assert_eq!(seen.port(), old.port, "a mapping stays while it lives");
        }
        let reuses = matches!(self.config.allocation, Allocation::Block { reuse: true, .. });
        for other in self.alive(now).filter(|talk| talk.port == seen.port()) {
            let same = other.inside == inside && self.is_same_mapping(other.made_for, to);
            prop_assert!(same || reuses, "a port of its own: {:?}", other);
            prop_assert!(same || other.made_for != to, "one flow per destination: {:?}", other);
        }
        let until = now + self.config.lifetime;
        let made_for = old.map_or(to, |old| old.made_for);
        self.talks.push(Talk { inside, remote: to, port: seen.port(), made_for, until });
        Ok(())
    }

    fn check_in(
        &mut self,
        from: SocketAddr,
        port: u16,
        receiver: Result<SocketAddr, DropReason>,
        now: Instant,
    ) -> Result<(), TestCaseError> {
        let Ok(receiver) = receiver else {
            let admits = |inside| !self.admitting(at(inside), from, port, now).is_empty();
            let wrongly = INSIDE.iter().find(|inside| admits(inside));
            prop_assert!(wrongly.is_none(), "{:?} ought to get it", wrongly);
            return Ok(());
        };
        let admitting = self.admitting(receiver, from, port, now);
        prop_assert!(!admitting.is_empty(), "against the filter");
        let own = admitting.iter().find(|made_for| self.is_same_mapping(**made_for, from));
        if let Some(made_for) = own.or(admitting.last()).copied()
            && self.config.refresh_on_inbound
        {
            let until = now + self.config.lifetime;
            self.talks.push(Talk { inside: receiver, remote: from, port, made_for, until });
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_history_lets_anybody_in_against_the_filter_or_mixes_two_flows_up(
        config in config(),
        seed in any::<u64>(),
        steps in steps(),
    ) {
        let mut prober = Prober::seeded(config.clone(), seed);
        let mut model = Model { config, talks: Vec::new() };
        for step in steps {
            // No two packets at one moment: which mapping was used last is never a tie.
            prober.wait(Duration::from_millis(1));
            match step {
                Step::Out { inside, to } => {
                    let (inside, to) = (INSIDE[inside], OUTSIDE[to]);
                    let seen = prober.try_outward(inside, to);
                    model.check_out(at(inside), at(to), seen, prober.now)?;
                }
                Step::In { from, flow } => {
                    let Some(talk) = (!model.talks.is_empty())
                        .then(|| model.talks[flow % model.talks.len()]) else { continue };
                    let to = SocketAddr::new(ip(EXTERNAL), talk.port);
                    let receiver = prober.inward(OUTSIDE[from], to);
                    model.check_in(at(OUTSIDE[from]), talk.port, receiver, prober.now)?;
                }
                Step::Wait(seconds) => prober.wait(Duration::from_secs(seconds)),
            }
        }
    }
}
