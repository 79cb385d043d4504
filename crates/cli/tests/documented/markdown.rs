//! As much of Markdown as the documents use.

/// A table with the headings above it.
pub(crate) struct Table {
    /// The heading of its section.
    pub(crate) section: String,
    /// The text between that heading, or the table before, and this one.
    pub(crate) before: String,
    /// The cells of each row but the first one, which names the columns.
    pub(crate) rows: Vec<Vec<String>>,
}

/// All tables of a document.
pub(crate) fn tables(text: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    let (mut section, mut before) = (String::new(), String::new());
    let mut lines = outside_fences(text).into_iter().map(|(_, line)| line).peekable();
    while let Some(line) = lines.next() {
        if let Some((_, title)) = heading(line) {
            (section, before) = (title.to_owned(), String::new());
        } else if line.starts_with('|') {
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            // The line below the names of the columns.
            rows.remove(0);
            tables.push(Table {
                section: section.clone(),
                before: std::mem::take(&mut before),
                rows,
            });
        } else {
            before.push_str(line);
            before.push(' ');
        }
    }
    tables
}

/// The cells of a row; a vertical bar within one is written `\|`.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    let row = row.strip_suffix('|').unwrap_or(&row);
    row.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// The level and the text of a heading.
pub(crate) fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.chars().take_while(|c| *c == '#').count();
    let title = line[level..].strip_prefix(' ')?;
    (1..=6).contains(&level).then_some((level, title.trim()))
}

/// What stands between backticks.
pub(crate) fn code_spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The lines that are no code, with their numbers from 1.
pub(crate) fn outside_fences(text: &str) -> Vec<(usize, &str)> {
    let mut is_open = false;
    let is_outside = |(_, line): &(usize, &str)| {
        let is_fence = line.trim_start().starts_with("```");
        is_open ^= is_fence;
        !is_fence && !is_open
    };
    (1..).zip(text.lines()).filter(is_outside).collect()
}
