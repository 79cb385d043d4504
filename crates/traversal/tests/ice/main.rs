//! Our machine against the ICE agent of another project (`is`, of str0m), under one virtual clock: the
//! checks are ICE's, so any agent can be the peer.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one event among many")]

mod network;

use std::time::Duration;

use holepunch_traversal::{Input, SessionEvent, SessionFailure};
use holepunch_wire::candidate::CandidateKind;
use holepunch_wire::credentials::IceRole;
use is::IceConnectionState;
use network::{Network, SESSION, Setup, Wrong, host};

const ROLES: [IceRole; 2] = [IceRole::Controlling, IceRole::Controlled];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A network whose ends have agreed on a path.
fn linked(setup: Setup) -> Network {
    let mut network = Network::start(setup);
    assert!(network.run_until(secs(5), Network::agree), "{:?}", network.setup);
    network
}

#[test]
fn the_controlling_side_links_and_nominates() {
    let mut network = linked(Setup::new(IceRole::Controlling));
    assert!(network.elapsed() < secs(1), "{:?}", network.elapsed());
    network.run(secs(20));
    assert!(network.agree(), "{:?} {:?}", network.our_path(), network.agent_path);
    assert!(network.agent.state().is_connected());
    assert!(!network.agent.controlling());
}

#[test]
fn the_controlled_side_links_and_follows_the_nomination() {
    let mut network = linked(Setup::new(IceRole::Controlled));
    assert!(network.elapsed() < secs(1), "{:?}", network.elapsed());
    network.run(secs(20));
    assert!(network.agree(), "{:?} {:?}", network.our_path(), network.agent_path);
    assert!(network.agent.state().is_connected());
    assert!(network.agent.controlling());
}

#[test]
fn both_ends_agree_whatever_the_round_trip_time() {
    for our_role in ROLES {
        for latency in [1, 5, 20, 60, 150, 400] {
            let latency = Duration::from_millis(latency);
            let mut network = Network::start(Setup { latency, ..Setup::new(our_role) });
            network.run(secs(20));
            assert!(network.agree(), "{our_role:?} {latency:?}: {:?}", network.our_path());
        }
    }
}

#[test]
fn an_end_with_one_family_is_linked_in_that_family() {
    for our_role in ROLES {
        for family in 0..2 {
            let mut setup = Setup::new(our_role);
            for list in [&mut setup.ours, &mut setup.theirs] {
                *list = vec![list[family]];
            }
            (setup.ours_told, setup.theirs_told) = (setup.ours.clone(), setup.theirs.clone());
            let network = linked(setup);
            assert_eq!(network.our_path().map(|(own, _)| own), Some(network.setup.ours[0]));
        }
    }
}

#[test]
fn an_address_that_nobody_told_us_is_learnt_from_its_checks() {
    for our_role in ROLES {
        let mut setup = Setup::new(our_role);
        setup.theirs = vec!["203.0.113.9:7777".parse().unwrap()];
        setup.theirs_told = vec!["203.0.113.9:6001".parse().unwrap()];
        let network = linked(setup);
        let path = network.linked().unwrap();
        assert_eq!(path.remote, network.setup.theirs[0]);
        assert_eq!(path.kind, CandidateKind::PeerReflexive);
    }
}

#[test]
fn an_agent_that_was_told_no_address_learns_ours_from_our_checks() {
    for our_role in ROLES {
        let setup = Setup { ours_told: Vec::new(), ..Setup::new(our_role) };
        let mut network = linked(setup);
        network.run(secs(20));
        assert!(network.agree(), "{:?} {:?}", network.our_path(), network.agent_path);
    }
}

#[test]
fn a_lite_agent_that_sends_no_checks_is_linked() {
    let setup = Setup { lite: true, ..Setup::new(IceRole::Controlling) };
    let mut network = linked(setup);
    network.run(secs(60));
    assert!(network.agree() && network.agent.state().is_connected());
}

#[test]
fn an_agent_that_starts_first_is_linked_when_the_offer_comes() {
    for our_role in ROLES {
        let mut network = Network::without_offer(Setup::new(our_role));
        network.run(secs(3));
        network.offer();
        assert!(network.run_until(secs(5), Network::agree), "{our_role:?}");
    }
}

#[test]
fn a_conflict_of_roles_is_resolved_whoever_has_the_greater_tie_breaker() {
    for our_role in ROLES {
        for tie_breaker in [0, u64::MAX] {
            for latency in [2, 20, 45, 100, 250] {
                let setup = Setup {
                    agent_controls: our_role == IceRole::Controlling,
                    tie_breaker: Some(tie_breaker),
                    latency: Duration::from_millis(latency),
                    ..Setup::one_pair(our_role)
                };
                let mut network = Network::start(setup);
                network.run(secs(20));
                let ours = network.our_part == Some(IceRole::Controlling);
                let state = (our_role, tie_breaker, latency);
                assert_ne!(ours, network.agent.controlling(), "{state:?}: two in one role");
                assert!(network.agree(), "{state:?}: {:?}", network.our_path());
            }
        }
    }
}

#[test]
fn a_role_is_changed_at_most_twice_in_a_conflict() {
    for our_role in ROLES {
        for tie_breaker in [0, u64::MAX] {
            let setup = Setup {
                agent_controls: our_role == IceRole::Controlling,
                tie_breaker: Some(tie_breaker),
                latency: Duration::from_millis(120),
                ..Setup::new(our_role)
            };
            let mut network = Network::start(setup);
            network.run(secs(20));
            assert!(
                network.part_changes <= 2,
                "{our_role:?} {tie_breaker}: {}",
                network.part_changes
            );
        }
    }
}

#[test]
fn a_wrong_password_on_either_side_never_links() {
    for our_role in ROLES {
        for wrong in [Wrong::Ours, Wrong::Theirs, Wrong::Both] {
            let mut network = Network::start(Setup { wrong: Some(wrong), ..Setup::new(our_role) });
            network.run(secs(60));
            let is_linked = network.linked().is_some() && network.agent_path.is_some();
            assert!(!is_linked, "{our_role:?} {wrong:?}");
            let failed = network.when(|event| matches!(event, SessionEvent::Failed(_)));
            match wrong {
                // Nothing of ours is answered, so we never have a path.
                Wrong::Ours | Wrong::Both => {
                    assert_eq!(network.linked(), None, "{our_role:?} {wrong:?}");
                    assert!(failed.is_some());
                }
                Wrong::Theirs => assert_eq!(network.agent_path, None, "{our_role:?}"),
            }
            let dropped = network.machine.dropped().unauthenticated;
            assert_eq!(dropped > 0, wrong != Wrong::Ours, "{our_role:?} {wrong:?}: {dropped}");
        }
    }
}

#[test]
fn a_fifth_of_all_packets_lost_links_still() {
    for our_role in ROLES {
        for seed in 0..200 {
            let mut network =
                Network::start(Setup { seed, loss_percent: 20, ..Setup::new(our_role) });
            assert!(network.run_until(secs(15), Network::agree), "{our_role:?} seed {seed}");
            assert!(network.linked().unwrap().after < secs(3), "{our_role:?} seed {seed}");
        }
    }
}

#[test]
fn an_idle_path_stays_for_an_hour() {
    for our_role in ROLES {
        let mut network = linked(Setup::new(our_role));
        network.run(secs(3600));
        assert!(network.agree() && network.agent.state().is_connected(), "{our_role:?}");
        assert_eq!(network.when(|event| matches!(event, SessionEvent::Suspect(_))), None);
    }
}

#[test]
fn an_end_that_goes_silent_is_suspected_and_then_given_up() {
    for our_role in ROLES {
        let mut network = linked(Setup::new(our_role));
        network.run(secs(20));
        let cut_at = network.elapsed();
        network.is_cut = true;
        network.run(secs(60));
        let suspect = network.when(|event| matches!(event, SessionEvent::Suspect(_))).unwrap();
        assert!(suspect - cut_at <= secs(11), "{our_role:?}: {:?}", suspect - cut_at);
        let lost = |event: &SessionEvent| *event == SessionEvent::Failed(SessionFailure::Lost);
        let lost = network.when(lost).unwrap() - cut_at;
        assert!((secs(20)..=secs(30)).contains(&lost), "{our_role:?}: {lost:?}");
        assert_eq!(network.agent.state(), IceConnectionState::Disconnected);
    }
}

#[test]
fn a_path_on_which_data_goes_unanswered_is_suspect_soon_if_it_does_not_answer() {
    let ms = Duration::from_millis;
    for (latency, suspect_within) in [(ms(5), ms(160)), (ms(250), ms(1010))] {
        for is_cut in [false, true] {
            let mut network = linked(Setup { latency, ..Setup::new(IceRole::Controlling) });
            network.run(secs(20));
            let doubted_at = network.elapsed();
            network.is_cut = is_cut;
            network.machine.handle_input(Input::Doubt(SESSION), network.now);
            network.run(secs(3));
            let suspect = network.when(|event| matches!(event, SessionEvent::Suspect(_)));
            assert_eq!(suspect.is_some(), is_cut, "{latency:?}");
            let after = suspect.map_or(Duration::ZERO, |at| at - doubted_at);
            assert!(after <= suspect_within, "{latency:?}: {after:?}");
        }
    }
}

#[test]
fn an_end_that_comes_back_within_the_time_of_consent_is_linked_again() {
    for our_role in ROLES {
        for silent in [2, 8, 12, 18] {
            let mut network = linked(Setup::new(our_role));
            network.run(secs(20));
            network.is_cut = true;
            network.run(secs(silent));
            network.is_cut = false;
            network.run(secs(20));
            let failed = network.when(|event| matches!(event, SessionEvent::Failed(_)));
            assert_eq!(failed, None, "{our_role:?} after {silent} s");
            assert!(network.our_path().is_some(), "{our_role:?} after {silent} s");
            let is_suspect = network.machine.sessions(network.now).any(|it| it.is_suspect);
            assert!(!is_suspect, "{our_role:?} after {silent} s");
            assert!(network.agree() && network.agent.state().is_connected(), "{our_role:?}");
        }
    }
}

#[test]
fn a_nomination_that_is_repeated_for_every_pair_does_not_make_the_path_flap() {
    let mut setup = Setup::new(IceRole::Controlled);
    setup.ours_told.truncate(1);
    setup.theirs_told.truncate(1);
    let mut network = linked(setup);
    let late = network.setup.ours[1];
    network.agent.add_remote_candidate(host(late));
    network.run(secs(60));
    let changes = network.count(|event| matches!(event, SessionEvent::PathChanged(_)));
    assert!(changes <= 1, "{changes} changes of the path");
    assert_eq!(network.our_path().map(|(own, _)| own), Some(late));
    assert!(network.agree());
}

#[test]
fn a_nomination_that_was_lost_is_repeated_within_seconds() {
    for seed in 0..200 {
        // An agent whose own checks are not waited for.
        let setup =
            Setup { seed, loss_percent: 20, lite: true, ..Setup::one_pair(IceRole::Controlling) };
        let mut network = Network::start(setup);
        assert!(network.run_until(secs(15), |it| it.linked().is_some()));
        let linked_at = network.elapsed();
        network.run_until(secs(15), Network::agree);
        let after = network.elapsed() - linked_at;
        assert!(after <= secs(5), "seed {seed}: {after:?} from our link to the agent's");
    }
}
