//! Each kind of the catalogue, probed from outside: it does what its name says.

use std::collections::BTreeSet;

use holepunch_sim::nat::{Filtering, Mapping};
use holepunch_sim::net::TTL_DEFAULT;
use holepunch_sim::presets::{Layer, NatKind};

use crate::common::{at, ms, secs};
use crate::world::{SERVER, World, local};

#[test]
fn every_kind_has_a_name_that_is_read_back_and_a_description() {
    let all = NatKind::all();
    let names: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), all.len(), "no name twice");
    for kind in all {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        let described = kind.describe();
        assert!(described.ends_with('.') && described.len() > 20, "{described}");
    }
    let unknown = "double-dutch".parse::<NatKind>().unwrap_err().to_string();
    assert!(unknown.contains("\"double-dutch\"") && unknown.contains("eim-apdf"), "{unknown}");
}

#[test]
fn names_can_be_aligned() {
    assert_eq!(
        format!("{:>10}|{:<8}|", NatKind::FullCone, NatKind::Public),
        " full-cone|public  |"
    );
}

/// The mapping and filtering that a prober with two servers finds: the sources seen at three
/// endpoints, and whether three senders get in.
fn probe(kind: NatKind) -> (Option<Mapping>, Option<Filtering>) {
    let (mut world, site) = World::single(&kind.to_string());
    let endpoints = [SERVER, "192.0.2.1:3479", "192.0.2.2:3478"].map(at);
    for to in endpoints {
        world.send(&site, to);
    }
    let seen: Vec<_> = world.run(ms(100)).iter().map(|one| one.from).collect();
    let [first, port, ip] = seen[..] else { return (None, None) };
    let mapping = match (first == port, first == ip) {
        (true, true) => Mapping::EndpointIndependent,
        (true, false) => Mapping::AddressDependent,
        _ => Mapping::AddressAndPortDependent,
    };
    // A fresh socket, and a mapping for one destination only.
    world.run(secs(200));
    world.send(&site, at(SERVER));
    let target = world.run(ms(100))[0].from;
    let gets_in = |world: &mut World, from: &str| {
        world.send_from(world.server, at(from), target, TTL_DEFAULT);
        world.run(ms(100)).iter().any(|one| one.host == site.host)
    };
    let filtering = match (gets_in(&mut world, "192.0.2.1:9"), gets_in(&mut world, "192.0.2.2:9")) {
        (_, true) => Filtering::EndpointIndependent,
        (true, false) => Filtering::AddressDependent,
        (false, false) => Filtering::AddressAndPortDependent,
    };
    (Some(mapping), Some(filtering))
}

/// What the layers of a kind amount to: the strictest counts.
fn claim(kind: NatKind) -> (Option<Mapping>, Option<Filtering>) {
    let mut mapping = Mapping::EndpointIndependent;
    let mut filtering = Filtering::EndpointIndependent;
    for layer in kind.layers() {
        match layer {
            Layer::Nat(config) => {
                mapping = mapping.max(config.mapping);
                filtering = filtering.max(config.filtering);
            }
            Layer::Firewall(config) => filtering = filtering.max(config.filtering),
            Layer::UdpBlocked => return (None, None),
        }
    }
    (Some(mapping), Some(filtering))
}

#[test]
fn every_kind_behaves_as_its_layers_claim() {
    for kind in NatKind::all() {
        assert_eq!(probe(kind), claim(kind), "{kind}");
    }
}

#[test]
fn names_say_what_the_layers_are() {
    for kind in NatKind::all() {
        let name = kind.to_string();
        let (mapping, filtering) = claim(kind);
        if name.starts_with("hard-") {
            assert_eq!(mapping, Some(Mapping::AddressAndPortDependent), "{name}");
        }
        if name.starts_with("adm-") {
            assert_eq!(mapping, Some(Mapping::AddressDependent), "{name}");
        }
        for (word, expected) in [
            ("-eif", Filtering::EndpointIndependent),
            ("-adf", Filtering::AddressDependent),
            ("-apdf", Filtering::AddressAndPortDependent),
        ] {
            assert!(!name.contains(word) || filtering == Some(expected), "{name}");
        }
    }
}

#[test]
fn short_lived_kinds_forget_after_20_s() {
    for (kind, survives) in
        [("eim-apdf", true), ("eim-apdf-short", false), ("hard-apdf-short", false)]
    {
        let (mut world, site) = World::single(kind);
        let external = world.reflexive(&site);
        world.run(secs(21));
        world.send_from(world.server, at(SERVER), external, TTL_DEFAULT);
        let arrived = world.run(ms(100)).iter().any(|one| one.to == local(&site));
        assert_eq!(arrived, survives, "{kind}");
    }
}
