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

/// The anchors of all headings, as code hosts and mdBook make them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, title) in outside_fences(text).into_iter().filter_map(|(_, line)| heading(line)) {
        let kept = title.to_lowercase().replace(' ', "-");
        let kept: String =
            kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        let same = |known: &&String| **known == kept || known.starts_with(&format!("{kept}-"));
        let is_number =
            |known: &&String| known[kept.len()..].trim_start_matches('-').parse::<u32>().is_ok();
        let before =
            anchors.iter().filter(same).filter(|known| **known == kept || is_number(known)).count();
        anchors.push(if before == 0 { kept } else { format!("{kept}-{before}") });
    }
    anchors
}

/// What stands between backticks.
pub(crate) fn code_spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A block of code.
#[derive(Debug)]
pub(crate) struct Fence {
    /// The number of the line above its first one, from 1.
    pub(crate) line: usize,
    /// What it is, such as `sh`.
    pub(crate) info: String,
    pub(crate) lines: Vec<String>,
}

/// All blocks of code between fences.
pub(crate) fn fences(text: &str) -> Vec<Fence> {
    let mut fences: Vec<Fence> = Vec::new();
    let mut is_open = false;
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            if !is_open {
                fences.push(Fence {
                    line: number,
                    info: info.trim().to_owned(),
                    lines: Vec::new(),
                });
            }
            is_open = !is_open;
        } else if is_open && let Some(fence) = fences.last_mut() {
            fence.lines.push(line.to_owned());
        }
    }
    assert!(!is_open, "a fence is not closed");
    fences
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
