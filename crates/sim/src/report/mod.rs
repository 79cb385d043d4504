//! What the laboratory says of many histories: as text, as JSON, as a page.
//!
//! A [`Request`] says which pairs are played with how many seeds; [`Request::jobs`] are what
//! [`run()`] plays on several threads; [`Request::report`] puts what came out beside what has to hold.
//! A [`Report`] depends on the request alone, not on the machine.

mod html;
mod json;
mod matrix;
mod replay;
mod run;
mod text;
mod words;

use crate::lab::{Pair, Summary, Violation};
use crate::presets::NatKind;

pub use html::{Made, html};
pub use json::{json, json_of_one};
pub use matrix::{Cell, Expectation, Matrix, usual_kinds};
pub use replay::replay;
pub use run::{Control, Job, RunError, run};
pub use text::{Style, one, text, trace};
pub use words::thousands;

/// What is to be played.
#[derive(Debug, Clone)]
pub struct Request {
    /// The first seed of every pair.
    pub first_seed: u64,
    /// How many seeds; `None`: as many as each pair of the table names for itself, and
    /// [`MATRIX_SEEDS`] for each cell of the matrix.
    pub seeds: Option<u64>,
    /// Rows of the table of requirements.
    pub pairs: Vec<Pair>,
    /// The kinds of the matrix; none: no matrix.
    pub kinds: Vec<NatKind>,
}

/// Seeds of each cell of the matrix where none are named.
pub const MATRIX_SEEDS: u64 = 1000;

/// A row of the table of requirements.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was played, and what has to hold.
    pub pair: Pair,
    /// What came out.
    pub summary: Summary,
    /// What does not hold.
    pub violations: Vec<Violation>,
}

/// What came out of a [`Request`].
#[derive(Debug, Clone)]
pub struct Report {
    /// The first seed of every pair.
    pub first_seed: u64,
    /// How many seeds, where it is one number for all.
    pub seeds: Option<u64>,
    /// The table of requirements.
    pub rows: Vec<Row>,
    /// Every kind with every kind.
    pub matrix: Option<Matrix>,
}

impl Request {
    /// What is to be played, the rows of the table first.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        let rows = self.pairs.iter().map(|pair| Job {
            scenario: pair.scenario.clone(),
            first_seed: self.first_seed,
            seeds: self.seeds.unwrap_or(pair.seeds),
        });
        let cells = matrix::scenarios(&self.kinds).map(|scenario| Job {
            scenario,
            first_seed: self.first_seed,
            seeds: self.seeds.unwrap_or(MATRIX_SEEDS),
        });
        rows.chain(cells).collect()
    }

    /// What came out of the jobs, beside what has to hold. The summaries are those of
    /// [`Self::jobs`], in their order.
    #[must_use]
    pub fn report(&self, summaries: Vec<Summary>) -> Report {
        let mut summaries = summaries.into_iter();
        let rows = self.pairs.iter().zip(summaries.by_ref()).map(|(pair, summary)| {
            let violations =
                if summary.direct.of < usize::try_from(pair.seeds).unwrap_or(usize::MAX) {
                    pair.requirement.violations_of_few(&summary)
                } else {
                    pair.requirement.violations(&summary)
                };
            Row { pair: pair.clone(), summary, violations }
        });
        let rows = rows.collect();
        let matrix = (!self.kinds.is_empty()).then(|| Matrix::of(&self.kinds, summaries));
        Report { first_seed: self.first_seed, seeds: self.seeds, rows, matrix }
    }
}

impl Report {
    /// How many histories were played.
    #[must_use]
    pub fn histories(&self) -> usize {
        let cells = self.matrix.iter().flat_map(|matrix| &matrix.cells);
        let cells = cells.map(|cell| cell.summary.direct.of);
        self.rows.iter().map(|row| row.summary.direct.of).chain(cells).sum()
    }

    /// How many rows and cells there are of which something does not hold.
    #[must_use]
    pub fn violated(&self) -> usize {
        let rows = self.rows.iter().filter(|row| !row.violations.is_empty()).count();
        rows + self.matrix.as_ref().map_or(0, Matrix::violated)
    }
}
