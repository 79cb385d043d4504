//! Columns and colours for a terminal.

/// How text is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether to use the terminal's colours.
    pub colour: bool,
    /// How wide the terminal is; 120 columns are used where that is not known, and at most.
    pub columns: Option<usize>,
}

/// As many columns are used where there is room for them.
const COLUMNS_MAX: usize = 120;
/// As many are used in any case.
const COLUMNS_MIN: usize = 40;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Heading,
    Good,
    Bad,
    Quiet,
}

impl Style {
    /// How many columns there are to use.
    pub(super) fn columns(self) -> usize {
        self.columns.unwrap_or(COLUMNS_MAX).clamp(COLUMNS_MIN, COLUMNS_MAX)
    }

    /// The text in its tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Quiet => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Longest text that stands in a column: with all columns that there are, 120 suffice.
const LEFT_COLUMNS_MAX: usize = 46;

/// One column of a table.
#[derive(Debug)]
pub(super) struct Column {
    /// What it has in common with its neighbours; stands above all of them.
    over: &'static str,
    head: &'static str,
    right: bool,
    cells: Vec<String>,
}

impl Column {
    /// A column of texts.
    pub(super) fn left(head: &'static str, cells: impl Iterator<Item = String>) -> Self {
        Self { over: "", head, right: false, cells: cells.collect() }
    }

    /// A column of numbers.
    pub(super) fn right(
        over: &'static str,
        head: &'static str,
        cells: impl Iterator<Item = String>,
    ) -> Self {
        Self { over, head, right: true, cells: cells.collect() }
    }

    /// What all cells have in common, if there are several and they do.
    pub(super) fn common(&self) -> Option<&str> {
        let (first, rest) = self.cells.split_first()?;
        (!rest.is_empty() && rest.iter().all(|cell| cell == first)).then_some(first)
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(String::is_empty)
    }

    /// Whether a cell is too long for the column, and stands on a line of its own.
    fn is_overlong(&self, cell: &str, left_max: usize) -> bool {
        !self.right && width(cell) > left_max
    }

    fn width(&self, left_max: usize) -> usize {
        let cells = self.cells.iter().filter(|cell| !self.is_overlong(cell, left_max));
        let cells = cells.map(|cell| width(cell));
        cells.chain([width(self.head)]).max().unwrap_or(0)
    }

    fn pad(&self, text: &str, width_wanted: usize) -> String {
        let space = " ".repeat(width_wanted.saturating_sub(width(text)));
        if self.right { space + text } else { text.to_owned() + &space }
    }
}

/// Columns under one heading.
struct Block<'a> {
    columns: Vec<&'a Column>,
    width: usize,
    /// The longest text of a column of texts.
    left_max: usize,
}

impl<'a> Block<'a> {
    fn new(columns: &[&'a Column], left_max: usize) -> Self {
        let inner: usize = columns.iter().map(|column| column.width(left_max)).sum();
        let own = inner + columns.len() - 1;
        let over = columns.first().map_or("", |column| column.over);
        Self { columns: columns.to_vec(), width: own.max(width(over)), left_max }
    }

    fn over(&self) -> String {
        let Some(column) = self.columns.first() else { return String::new() };
        column.pad(column.over, self.width)
    }

    fn line(&self, cell: impl Fn(&Column) -> String) -> String {
        let padded = |column: &&Column| column.pad(&cell(column), column.width(self.left_max));
        let cells: Vec<String> = self.columns.iter().map(padded).collect();
        self.columns.first().map_or_else(String::new, |it| it.pad(&cells.join(" "), self.width))
    }
}

/// A table as lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// One or two lines of headings.
    pub(super) head: Vec<String>,
    /// A line for each row; two where the first cell is too long for its column.
    pub(super) rows: Vec<Vec<String>>,
    /// What had no room.
    pub(super) left_out: Vec<&'static str>,
}

/// The lines of a table in so many columns of a terminal; columns without content are left out. Where there is no room for
/// all, texts stand on lines of their own first, and then the last columns of numbers are left out.
pub(super) fn lines(columns: &[Column], room: usize) -> Lines {
    let shown: Vec<&Column> = columns.iter().filter(|column| !column.is_empty()).collect();
    let blocks = |left_max: usize| -> Vec<Block<'_>> {
        let alike = shown.chunk_by(|a, b| a.over == b.over && !a.over.is_empty());
        alike.map(|columns| Block::new(columns, left_max)).collect()
    };
    let width_of =
        |blocks: &[Block<'_>]| blocks.iter().map(|block| block.width + 2).sum::<usize>() - 2;
    let is_narrow = width_of(&blocks(LEFT_COLUMNS_MAX)) > room;
    let left_max = if is_narrow { 0 } else { LEFT_COLUMNS_MAX };
    let mut blocks = blocks(left_max);
    let mut left_out = Vec::new();
    while blocks.len() > 1 && width_of(&blocks) > room {
        let last = blocks.pop().and_then(|block| block.columns.first().copied());
        left_out.extend(last.map(|it| if it.over.is_empty() { it.head } else { it.over }));
    }
    left_out.reverse();
    let join = |texts: Vec<String>| texts.join("  ").trim_end().to_owned();
    let over = join(blocks.iter().map(Block::over).collect());
    let head = join(blocks.iter().map(|block| block.line(|it| it.head.to_owned())).collect());
    let count = shown.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let row = |row: usize| {
        let cell = |column: &Column| column.cells.get(row).cloned().unwrap_or_default();
        let fitting = |column: &Column| {
            let fits = |text: &String| !column.is_overlong(text, left_max);
            Some(cell(column)).filter(fits).unwrap_or_default()
        };
        let overlong = shown.iter().filter(|column| column.is_overlong(&cell(column), left_max));
        let mut lines: Vec<String> = overlong.map(|column| cell(column)).collect();
        lines.push(join(blocks.iter().map(|block| block.line(fitting)).collect()));
        lines
    };
    let head = [over, head].into_iter().filter(|line| !line.is_empty()).collect();
    Lines { head, rows: (0..count).map(row).collect(), left_out }
}

/// Words in lines of at most so many characters, as far as each fits into one.
pub(super) fn wrap(text: &str, width_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= width_max => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Columns on a terminal: all characters used here take one.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells<const N: usize>(cells: [&str; N]) -> impl Iterator<Item = String> {
        cells.map(str::to_owned).into_iter()
    }

    #[test]
    fn numbers_stand_at_the_right_and_empty_columns_are_left_out() {
        let columns = [
            Column::left("pair", cells(["a × b", "c"])),
            Column::right("", "none", cells(["", ""])),
            Column::right("", "ms", cells(["5", "1000"])),
        ];
        let Lines { head, rows, left_out } = lines(&columns, COLUMNS_MAX);
        assert_eq!(left_out, [""; 0]);
        assert_eq!(head, ["pair     ms"]);
        assert_eq!(rows, [["a × b     5"], ["c      1000"]]);
    }

    #[test]
    fn columns_under_one_heading_stand_close_together() {
        let columns = [
            Column::left("pair", cells(["a × b"])),
            Column::right("link", "p50", cells(["5"])),
            Column::right("link", "p99", cells(["1000"])),
        ];
        let Lines { head, rows, .. } = lines(&columns, COLUMNS_MAX);
        assert_eq!(head, ["           link", "pair   p50  p99"]);
        assert_eq!(rows, [["a × b    5 1000"]]);
    }

    #[test]
    fn without_room_names_stand_alone_and_the_last_numbers_are_left_out() {
        let columns = [
            Column::left("pair", cells(["a long name × another"])),
            Column::right("link", "p50", cells(["5"])),
            Column::right("link", "p99", cells(["1000"])),
            Column::right("", "packets", cells(["12"])),
        ];
        let narrow = lines(&columns, 24);
        assert_eq!(narrow.head, ["          link", "pair  p50  p99  packets"]);
        assert_eq!(narrow.rows, [["a long name × another", "        5 1000       12"]]);
        let narrower = lines(&columns, 16);
        assert_eq!(narrower.head, ["          link", "pair  p50  p99"]);
        assert_eq!(narrower.left_out, ["packets"]);
    }

    #[test]
    fn an_overlong_name_has_a_line_of_its_own() {
        let long = "x".repeat(LEFT_COLUMNS_MAX + 1);
        let columns = [
            Column::left("pair", cells(["a × b", &long])),
            Column::right("", "ms", cells(["5", "6"])),
        ];
        let expected: [&[&str]; 2] = [&["a × b   5"], &[&long, "        6"]];
        assert_eq!(lines(&columns, COLUMNS_MAX).rows, expected);
    }

    #[test]
    fn words_are_wrapped_between_them() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), Vec::<String>::new());
        assert_eq!(wrap("overlong × x", 4), ["overlong", "× x"]);
    }

    #[test]
    fn colours_are_used_only_when_asked_for() {
        assert_eq!(Style::default().paint(Tone::Bad, "x"), "x");
        assert_eq!(
            Style { colour: true, columns: None }.paint(Tone::Bad, "x"),
            "\u{1b}[1;31mx\u{1b}[0m"
        );
    }
}
