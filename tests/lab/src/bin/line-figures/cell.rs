//! One line, and all that is measured on it.

use std::fmt;
use std::time::Duration;

use holepunch_lab::LabError;
use holepunch_lab::fast_line::network::LineNetwork;
use holepunch_lab::fast_line::settings::LaneSettings;

use crate::Args;
use crate::contender::{Contender, Figure};
use crate::shared::{self, Share};

/// A line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub(crate) rate_mbit: u64,
    pub(crate) rtt_ms: u64,
    /// Packets of a hundred, each way.
    pub(crate) loss: f64,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Mbit/s, {} ms, {} % loss", self.rate_mbit, self.rtt_ms, self.loss)
    }
}

impl Cell {
    pub(crate) fn lane(&self) -> LaneSettings {
        let round_trip = Duration::from_millis(self.rtt_ms);
        LaneSettings::with_queue_of_bdp(self.rate_mbit * 1_000_000, round_trip, self.loss / 100.0)
    }

    /// A new network with this line.
    pub(crate) fn build(&self) -> Result<LineNetwork, LabError> {
        LineNetwork::build([self.lane(); 2])
    }
}

/// What has been measured on a line.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) cell: Cell,
    /// The figures of each round, by contender in the order of the table.
    pub(crate) contenders: Vec<(Contender, Vec<Option<Figure>>)>,
    pub(crate) shares: Vec<Share>,
    pub(crate) failures: Vec<String>,
}

impl Measured {
    /// Measures everything on this line; what fails is among the failures.
    pub(crate) fn of(cell: Cell, args: &Args) -> Self {
        let mut names = args.with.clone();
        names.extend(args.peer_command.is_some().then_some(Contender::Peer));
        let contenders = names.into_iter().map(|name| (name, Vec::new())).collect();
        let mut measured = Self { cell, contenders, shares: Vec::new(), failures: Vec::new() };
        for round in 0..args.rounds {
            // The machine has better and worse minutes: whoever was first is last in the next round.
            let count = measured.contenders.len();
            for turn in 0..count {
                let index = if round % 2 == 0 { turn } else { count - 1 - turn };
                measured.measure(index, args);
            }
            if args.beside_cubic {
                match shared::measure(&cell, Duration::from_secs(args.seconds)) {
                    Ok(share) => measured.shares.push(share),
                    Err(error) => measured.failures.push(format!("beside Cubic: {error}")),
                }
            }
        }
        measured
    }

    fn measure(&mut self, index: usize, args: &Args) {
        let (contender, figures) = &mut self.contenders[index];
        let measured = contender.measure(&self.cell, args);
        if let Err(error) = &measured {
            self.failures.push(format!("{contender}: {error}"));
        }
        figures.push(measured.ok());
    }

    /// Whether everything has been measured, on a line that was as it was told to be.
    pub(crate) fn is_good(&self) -> bool {
        let figures = self.contenders.iter().flat_map(|(_, figures)| figures.iter().flatten());
        self.failures.is_empty()
            && figures.into_iter().all(|figure| figure.line.is_good())
            && self.shares.iter().all(|share| share.line.is_good())
    }

    /// The median of what a contender carried, in Mbit/s.
    pub(crate) fn median(&self, of: Contender) -> Option<f64> {
        median(self.figures(of).filter_map(|figure| Some(figure?.mbit)).collect())
    }

    /// The median of its ratios to TCP with BBR, round by round.
    pub(crate) fn ratio(&self, of: Contender) -> Option<f64> {
        let pairs = self.figures(of).zip(self.figures(Contender::Bbr));
        let ratios = pairs.filter_map(|(own, bbr)| Some(own?.mbit / bbr?.mbit));
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    fn figures(&self, of: Contender) -> impl Iterator<Item = Option<&Figure>> {
        let of = self.contenders.iter().filter(move |(contender, _)| *contender == of);
        of.flat_map(|(_, figures)| figures.iter().map(Option::as_ref))
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
