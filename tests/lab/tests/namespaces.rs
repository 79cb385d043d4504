//! Our programs behind the kernel's NATs and simulated ones, and those NATs themselves.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::logs::Line;
use holepunch_lab::pairs::{Pair, catalogue};
use holepunch_lab::{Conditions, Lab, NatKind, Session, Workers, availability, multicall, proof};
use libtest_mimic::{Arguments, Failed, Trial};

use NatKind::{None as Open, PortPreserving, Symmetric};

/// A punch is given up after 11 s; a machine that is busy may take its time.
const PUNCH_FAILS_WITHIN: Duration = Duration::from_secs(30);
const REPORT_WITHIN: Duration = Duration::from_secs(10);

/// Kinds that the kernel lacks.
const SIMULATED: [&str; 17] = [
    "public",
    "firewall",
    "full-cone",
    "eim-adf",
    "eim-apdf",
    "eim-apdf-random",
    "eim-apdf-sequential",
    "hard-eif-random",
    "hard-adf-random",
    "hard-apdf-random",
    "hard-apdf-sequential",
    "hard-apdf-preserving-first",
    "hard-apdf-block64",
    "hard-apdf-block64-reuse",
    "adm-apdf-block512",
    "remap",
    "udp-blocked",
];

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let arguments = Arguments::from_args();
    // The longest first, so that the others run beside it.
    let mut trials = vec![
        trial("symmetric_and_port_preserving_nats_do_not_link_and_both_workers_say_why", fails),
        trial("a_side_without_nat_is_what_it_claims", || nat_is_what_it_claims(Open)),
        trial("a_port_preserving_nat_is_what_it_claims", || nat_is_what_it_claims(PortPreserving)),
        trial("a_symmetric_nat_is_what_it_claims", || nat_is_what_it_claims(Symmetric)),
        trial("a_nat_that_is_not_what_it_claims_is_found_out", wrong_claims_are_found_out),
        trial("a_link_that_the_kernel_has_not_seen_is_not_believed", false_claims_are_found_out),
        trial("two_open_workers_link", || links(Open, Open)),
        trial("two_workers_behind_port_preserving_nats_link", || {
            links(PortPreserving, PortPreserving)
        }),
        trial("a_worker_behind_a_symmetric_nat_links_with_an_open_one_that_comes_later", || {
            links(Symmetric, Open)
        }),
        trial("an_open_worker_links_with_one_behind_a_symmetric_nat_that_comes_later", || {
            links(Open, Symmetric)
        }),
    ];
    // Searches take longest, and are the last of the catalogue.
    trials.extend(catalogue().into_iter().rev().filter(Pair::is_smoke).map(|pair| {
        trial(&format!("{pair}, {:?}", pair.expected), move || Ok(pair.run().map(drop)?))
    }));
    trials.extend(SIMULATED.map(|name| {
        trial(&format!("a_simulated_{}_is_what_it_claims", name.replace('-', "_")), move || {
            let kind: NatKind = name.parse()?;
            let line = Conditions::with_delay(Duration::from_millis(20)).with_loss(0.1);
            Ok(Lab::build_on(&[(kind, line)])?.check_nats()?)
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    holepunch_lab::trial(name, availability::check, test)
}

fn nat_is_what_it_claims(kind: NatKind) -> Outcome {
    Ok(Lab::build(&[kind])?.check_nats()?)
}

fn wrong_claims_are_found_out() -> Outcome {
    let kinds = NatKind::KERNEL;
    let lab = Lab::build(&kinds)?;
    for (index, (kind, observed)) in kinds.into_iter().zip(lab.observe_all()?).enumerate() {
        for claimed in kinds.into_iter().filter(|claimed| *claimed != kind) {
            let Err(error) = observed.check(index, claimed, Conditions::IDEAL) else {
                return Err(format!("{kind} passes for {claimed}").into());
            };
            let text = error.to_string();
            if !text.contains(&format!("claimed ({claimed})")) {
                return Err(format!("the error does not say what was claimed: {text}").into());
            }
        }
    }
    Ok(())
}

/// Both workers say that they are linked, and the kernel has counted the packets.
fn links(first: NatKind, second: NatKind) -> Outcome {
    let mut lab = Lab::build(&[first, second])?;
    lab.check_nats()?;
    let mut session = Session::start(&lab, Workers::USUAL)?;
    let linked = session.link()?;
    Ok(proof::direct(&lab, &linked)?)
}

fn false_claims_are_found_out() -> Outcome {
    let lab = Lab::build(&[Open, Open])?;
    let mut session = Session::start(&lab, Workers::USUAL)?;
    let mut linked = session.link()?;
    if proof::filtered(&lab).is_ok() {
        return Err("packets that got through pass for filtered".into());
    }
    let address = &mut linked.established[0].address;
    address.set_port(address.port() + 1);
    if proof::direct(&lab, &linked).is_ok() {
        return Err("a port that was not used passes".into());
    }
    Ok(())
}

/// Neither worker says that it is linked, both say why not and ask for another peer, and the kernel
/// has counted packets at the NAT boxes, but none at the hosts.
fn fails() -> Outcome {
    let mut lab = Lab::build(&[Symmetric, PortPreserving])?;
    lab.check_nats()?;
    let mut session = Session::start(&lab, Workers::BASELINE)?;
    session.start_reporting_worker()?;
    session.start_reporting_worker()?;
    for worker in [0, 1] {
        let reason = session.wait_for(worker, "link failed", PUNCH_FAILS_WITHIN, |lines| {
            let failed = &lines[position(lines, "link failed")?];
            Some(failed.string("reason").unwrap_or_default().to_owned())
        })?;
        if !reason.contains("no datagram of the peer arrived") {
            return Err(format!("worker {worker} gives the reason {reason:?}").into());
        }
    }
    for worker in [0, 1] {
        session.wait_for(worker, "a report after the failure", REPORT_WITHIN, |lines| {
            let after = &lines[position(lines, "link failed")?..];
            position(after, "UDP endpoint sent to the rendezvous").map(drop)
        })?;
        if position(&session.lines(worker), "link established").is_some() {
            return Err(format!("worker {worker} is linked\n{}", session.tails()).into());
        }
    }
    Ok(proof::filtered(&lab)?)
}

fn position(lines: &[Line], message: &str) -> Option<usize> {
    lines.iter().position(|line| line.message() == message)
}
