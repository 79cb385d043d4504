//! Holepunch and one TCP flow with Cubic on the same line at the same time.

use std::time::Duration;

use holepunch_lab::LabError;
use serde::Serialize;

use crate::cell::Cell;
use crate::contender::Line;

/// What both carried in the later half of the time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Share {
    pub(crate) holepunch_mbit: f64,
    pub(crate) cubic_mbit: f64,
    /// Of both together, from 0 to 1.
    pub(crate) holepunch_share: f64,
    pub(crate) line: Line,
}

/// Cubic begins as soon as the first byte of the other one has come.
pub(crate) fn measure(cell: &Cell, time: Duration) -> Result<Share, LabError> {
    let network = cell.build()?;
    let rendezvous = network.rendezvous()?;
    let holepunch = network.pipe(&rendezvous)?;
    let holepunch_began = holepunch.begun()?;
    let cubic = network.tcp("cubic", time)?;
    let ahead = cubic.began().duration_since(holepunch_began);
    let cubic_mbit = cubic.arrivals()?.mbit_per_second(time / 2, time);
    let holepunch_mbit = holepunch.arrivals().mbit_per_second(ahead + time / 2, ahead + time);
    let both = holepunch_mbit + cubic_mbit;
    if both == 0.0 {
        let why = "nothing has come in the later half".to_owned();
        return Err(LabError::NotProven { why, evidence: holepunch.tails() });
    }
    let holepunch_share = holepunch_mbit / both;
    Ok(Share { holepunch_mbit, cubic_mbit, holepunch_share, line: Line::of(&network)? })
}
