//! A report for a terminal of 120 columns, or of as many as it has.

mod layout;
mod matrix;
mod one;
mod table;
mod trace;

pub use layout::Style;
pub use one::one;
pub use trace::trace;

use super::Report;
use super::words::count;

/// The report as text; it ends with a line that sums it up.
#[must_use]
pub fn text(report: &Report, style: Style) -> String {
    let mut text = String::new();
    if let Some(found) = &report.matrix {
        text += &matrix::matrix(found, style);
    }
    text += &table::table(&report.rows, style);
    text += &summary(report);
    text.push('\n');
    text
}

fn summary(report: &Report) -> String {
    let cells = report.matrix.as_ref().map_or(0, |matrix| matrix.cells.len());
    let pairs = report.rows.len() + cells;
    let verdict = match report.violated() {
        0 => "all as required".to_owned(),
        1 => "1 NOT AS REQUIRED".to_owned(),
        violated => format!("{violated} NOT AS REQUIRED"),
    };
    let number =
        |of: usize, one, more| format!("{} {}", count(of), if of == 1 { one } else { more });
    let histories = number(report.histories(), "history", "histories");
    format!("{}, {histories}: {verdict}", number(pairs, "pair", "pairs"))
}
