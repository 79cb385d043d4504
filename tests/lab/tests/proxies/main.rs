//! The rendezvous behind the proxies of `docs/operating.md`, each with the recipe that stands there, and workers behind the
//! proxy of an office.

mod apache;
mod caddy;
mod front;
mod haproxy;
mod nginx;
mod office;
mod recipes;

use std::process::ExitCode;

use holepunch_lab::{Server, availability, multicall, trial};
use libtest_mimic::{Arguments, Failed, Trial};

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let trials =
        [office::trials(), nginx::trials(), caddy::trials(), haproxy::trials(), apache::trials()];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test that needs a laboratory and these programs, with what to say where one is missing.
fn needing(
    programs: &'static [(&'static str, &'static str)],
    name: &str,
    test: fn() -> Outcome,
) -> Trial {
    let needs = move || {
        programs.iter().try_for_each(|(program, missing)| Server::check(program, missing))?;
        availability::check()
    };
    trial(name, needs, test)
}
