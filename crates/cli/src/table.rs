//! Tables on standard output: as wide as they are, and within the terminal where that is narrower.

use textwrap::core::display_width;

use crate::screen::{Stream, cell, columns};

/// Columns between two cells.
const GAP: usize = 2;

/// Lines of a table: each column as wide as its widest cell, two spaces between columns. On a terminal that is too narrow
/// for that, cells have several lines; where not even their words have room, each row is a list of its cells.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    within(head, rows, columns(Stream::Out))
}

fn within(head: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let most = |of: fn(&str) -> usize| -> Vec<usize> {
        let cells = |column: usize| all.iter().filter_map(move |row| row.get(column));
        (0..head.len()).map(|column| cells(column).map(|it| of(it)).max().unwrap_or(0)).collect()
    };
    let (widths, narrowest) = (most(display_width), most(longest_word));
    match fitted(widths, &narrowest, columns) {
        Some(widths) => all.iter().map(|row| row_of(row, &widths)).collect(),
        None => rows.iter().map(|row| list(&head, row, columns)).collect::<Vec<_>>().join("\n"),
    }
}

fn longest_word(text: &str) -> usize {
    text.split(' ').map(display_width).max().unwrap_or_default()
}

/// The widths with which all fits, the widest column first made narrower; `None` where it does not.
fn fitted(
    mut widths: Vec<usize>,
    narrowest: &[usize],
    columns: Option<usize>,
) -> Option<Vec<usize>> {
    let Some(columns) = columns else { return Some(widths) };
    let gaps = GAP * widths.len().saturating_sub(1);
    loop {
        let over = (widths.iter().sum::<usize>() + gaps).saturating_sub(columns);
        if over == 0 {
            return Some(widths);
        }
        let can_give = widths.iter_mut().zip(narrowest).filter(|(width, least)| **width > **least);
        *can_give.max_by_key(|(width, _)| **width)?.0 -= 1;
    }
}

/// A row, with as many lines as its highest cell.
fn row_of(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<Vec<String>> =
        row.iter().zip(widths).map(|(text, width)| cell(text, *width)).collect();
    let lines = cells.iter().map(Vec::len).max().unwrap_or_default();
    let mut text = String::new();
    for line in 0..lines {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| {
                let part = cell.get(line).map_or("", String::as_str);
                format!("{part}{}", " ".repeat(width.saturating_sub(display_width(part))))
            })
            .collect();
        text.push_str(padded.join(&" ".repeat(GAP)).trim_end());
        text.push('\n');
    }
    text
}

/// A row as a list: the head of each column, and its cell beside it, or under it where it has no room there.
fn list(head: &[String], row: &[String], columns: Option<usize>) -> String {
    let width = head.iter().map(|head| display_width(head)).max().unwrap_or_default();
    let columns = columns.unwrap_or(usize::MAX);
    let mut text = String::new();
    for (head, content) in head.iter().zip(row) {
        let padding = " ".repeat(width - display_width(head) + GAP);
        let room = columns.saturating_sub(width + GAP);
        let between = format!("\n{}", " ".repeat(width + GAP));
        text += &format!("{head}{padding}{}\n", cell(content, room).join(&between));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn columns_line_up() {
        let rows = rows(&[&["a", "bb"], &["cccc", "→"]]);
        assert_eq!(within(&["x", "y"], &rows, None), "x     y\na     bb\ncccc  →\n");
        assert_eq!(within(&["x", "y"], &rows, Some(8)), "x     y\na     bb\ncccc  →\n");
    }

    #[test]
    fn the_widest_column_is_broken_between_words_where_the_terminal_is_too_narrow() {
        let rows = rows(&[&["mapping", "one external port for all peers"], &["IPv6", "no"]]);
        assert_eq!(
            within(&["", "what"], &rows, Some(27)),
            "         what\nmapping  one external port\n         for all peers\nIPv6     no\n"
        );
    }

    #[test]
    fn where_no_word_has_room_each_row_is_a_list() {
        let rows = rows(&[&["stun.example:3478", "203.0.113.7:4242"], &["b:1", "no answer"]]);
        assert_eq!(
            within(&["server", "mapped"], &rows, Some(30)),
            "server  stun.example:3478\nmapped  203.0.113.7:4242\n\nserver  b:1\nmapped  no answer\n"
        );
    }
}
