//! A report for a terminal of 120 columns.

mod layout;
mod matrix;
mod table;

pub use layout::Style;

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
    let pairs = format!("{} {}", count(pairs), if pairs == 1 { "pair" } else { "pairs" });
    format!("{pairs}, {} histories: {verdict}", count(report.histories()))
}
