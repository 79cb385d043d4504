//! The command that plays one history again and tells it.

use std::time::Duration;

use holepunch_wire::nat::SearchWish;

use crate::lab::{Incident, Scenario};

/// The command that plays the history of this seed again and tells it.
#[must_use]
pub fn replay(scenario: &Scenario, seed: u64) -> String {
    format!("{} --seed {seed} --trace", command(scenario))
}

/// The command that plays many histories of a scenario.
pub(super) fn command(scenario: &Scenario) -> String {
    let usual = Scenario::new(scenario.first, scenario.second);
    let mut command = format!("holepunch lab --pair {},{}", scenario.first, scenario.second);
    if scenario.loss > 0.0 {
        command += &format!(" --loss {}", scenario.loss * 100.0);
    }
    if scenario.ways != usual.ways {
        command += &format!(" --ways {}", in_ms(scenario.ways));
    }
    if scenario.lag != usual.lag {
        command += &format!(" --lag {}", in_ms(scenario.lag));
    }
    if scenario.later != usual.later {
        command += &format!(" --later {}", scenario.later.as_secs_f64());
    }
    if scenario.ipv6 {
        command += " --ipv6";
    }
    match scenario.wish {
        SearchWish::Exhaustive => command += " --exhaustive",
        SearchWish::Never => command += " --no-search",
        SearchWish::Usual => {}
    }
    if scenario.lie.is_some() {
        command += " --wrong-profiles";
    }
    match scenario.incident {
        Incident::Rebind => command += " --incident rebind",
        Incident::Move => command += " --incident move",
        Incident::None => {}
    }
    command
}

fn in_ms(times: [Duration; 2]) -> String {
    times.map(|time| time.as_millis().to_string()).join(",")
}
