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
    // Named one by one: what is added to a scenario is not to be forgotten here.
    let Scenario {
        first,
        second,
        loss,
        bursts,
        jitter,
        ipv6,
        ways,
        lag,
        later,
        wish,
        lie,
        incident,
        busy,
    } = scenario;
    let usual = Scenario::new(*first, *second);
    let mut command = format!("holepunch lab --pair {first},{second}");
    let mut add = |is: bool, option: &dyn Fn() -> String| {
        if is {
            command.push(' ');
            command.push_str(&option());
        }
    };
    add(*loss > 0.0, &|| format!("--loss {}", loss * 100.0));
    add(*bursts, &|| "--bursts".to_owned());
    add(!jitter.is_zero(), &|| format!("--jitter {}", jitter.as_millis()));
    add(*ipv6, &|| "--ipv6".to_owned());
    add(*ways != usual.ways, &|| format!("--ways {}", in_ms(*ways)));
    add(*lag != usual.lag, &|| format!("--lag {}", in_ms(*lag)));
    add(*later != usual.later, &|| format!("--later {}", later.as_secs_f64()));
    add(*wish == SearchWish::Exhaustive, &|| "--exhaustive".to_owned());
    add(*wish == SearchWish::Never, &|| "--no-search".to_owned());
    add(lie.is_some(), &|| "--wrong-profiles".to_owned());
    add(*incident == Incident::Rebind, &|| "--incident rebind".to_owned());
    add(*incident == Incident::Move, &|| "--incident move".to_owned());
    add(*busy, &|| "--busy".to_owned());
    command
}

fn in_ms(times: [Duration; 2]) -> String {
    times.map(|time| time.as_millis().to_string()).join(",")
}
