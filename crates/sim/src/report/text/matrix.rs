//! The matrix: shares, then times.

use super::super::matrix::{Cell, Matrix};
use super::super::replay;
use super::super::words::{count, main_strategy, ms, percent};
use super::layout::{Style, Tone};
use super::table::one_violation;

/// Columns of a cell: three digits, a mark, and a space before them.
const CELL: usize = 5;
/// Columns of the number before a name, and of the blank behind that.
const MARGIN: usize = 3;

/// The shares, the times, and what does not hold.
pub(super) fn matrix(matrix: &Matrix, style: Style) -> String {
    let histories = matrix.cells.first().map_or(0, |cell| cell.summary.direct.of);
    let mut text = style.paint(Tone::Heading, "Direct paths");
    text += &format!(
        ", in % of {} histories each. Row: the worker that comes first, column: the second.\n",
        count(histories)
    );
    text += &style.paint(Tone::Quiet, &legend(matrix));
    text += &grid(matrix, style, share);
    text += &style.paint(Tone::Heading, "\nTime to the link");
    text += ", the median in ms, from the second report until both hold an authenticated answer.\n";
    text += &grid(matrix, style, median);
    text.push('\n');
    for cell in matrix.cells.iter().filter(|cell| !cell.violations.is_empty()) {
        text += &format!(
            "{} {} × {}\n",
            style.paint(Tone::Bad, "✗"),
            cell.scenario.first,
            cell.scenario.second
        );
        for violation in &cell.violations {
            text += &one_violation(violation, style);
            if let Some(seed) = violation.seed {
                text += &format!("    {}\n", replay(&cell.scenario, seed));
            }
        }
    }
    text
}

/// The marks that occur.
fn legend(matrix: &Matrix) -> String {
    let marks = MARKS.iter().filter(|(_, name)| {
        let unmarked = matrix.cells.iter().filter(|cell| cell.violations.is_empty());
        unmarked.filter_map(strategy_of).any(|of| of == *name)
    });
    let mut words: Vec<String> = marks.map(|(mark, name)| format!("{mark} {name}")).collect();
    let is_any = |is: fn(&Cell) -> bool| matrix.cells.iter().any(is);
    if is_any(is_relayed) {
        words.push("– relay".to_owned());
    }
    if is_any(|cell| cell.excuse.is_some()) {
        words.push("* excused".to_owned());
    }
    if is_any(|cell| !cell.violations.is_empty()) {
        words.push("! not as required".to_owned());
    }
    match words.is_empty() {
        true => String::new(),
        false => format!("No mark: plain checks; {}.\n", words.join(", ")),
    }
}

fn grid(matrix: &Matrix, style: Style, cell: fn(&Cell) -> (String, Option<Tone>)) -> String {
    let names: Vec<String> = matrix.kinds.iter().map(ToString::to_string).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    // Where there is no room for all columns, the others follow below.
    let at_once = (style.columns().saturating_sub(width + MARGIN) / CELL).max(1);
    let columns: Vec<usize> = (0..names.len()).collect();
    let mut text = String::new();
    for columns in columns.chunks(at_once) {
        let mut head = " ".repeat(width + MARGIN);
        for column in columns {
            head += &format!("{:>4} ", column + 1);
        }
        text += &format!("{}\n", style.paint(Tone::Quiet, head.trim_end()));
        for (index, (name, row)) in names.iter().zip(matrix.rows()).enumerate() {
            text += &format!("{:>2} {name:width$}", index + 1);
            for each in columns.iter().filter_map(|column| row.get(*column)) {
                let (content, tone) = cell(each);
                let padded = format!("{content:>CELL$}");
                text += &tone.map_or(padded.clone(), |tone| style.paint(tone, &padded));
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
    }
    text
}

fn share(cell: &Cell) -> (String, Option<Tone>) {
    let share = percent(cell.summary.direct.share, 0);
    if !cell.violations.is_empty() {
        return (format!("{share}!"), Some(Tone::Bad));
    }
    if is_relayed(cell) {
        return ("– ".to_owned(), Some(Tone::Quiet));
    }
    let name = strategy_of(cell).unwrap_or_default();
    let mark = MARKS.iter().find(|(_, of)| *of == name).map_or(' ', |(mark, _)| *mark);
    let mark = if cell.excuse.is_some() { '*' } else { mark };
    (format!("{share}{mark}"), None)
}

fn median(cell: &Cell) -> (String, Option<Tone>) {
    let Some(times) = cell.summary.link_time else {
        return ("– ".to_owned(), Some(Tone::Quiet));
    };
    match ms(times.p50) {
        text if text.len() < CELL => (text + " ", None),
        _ => (format!("{:.0}s ", times.p50.as_secs_f64()), None),
    }
}

fn is_relayed(cell: &Cell) -> bool {
    cell.summary.relay.of > 0 && cell.summary.relay.count == cell.summary.relay.of
}

/// One letter for each strategy but plain checks.
const MARKS: [(char, &str); 8] = [
    ('b', "birthday"),
    ('o', "opener"),
    ('p', "preserved"),
    ('q', "sequence"),
    ('r', "relay"),
    ('s', "sweep"),
    ('t', "test_reuse"),
    ('x', "exhaust"),
];

/// The strategy of a cell that has direct paths.
fn strategy_of(cell: &Cell) -> Option<String> {
    (cell.summary.direct.count > 0).then(|| main_strategy(&cell.summary))
}
