//! Names of files in a line that has no room for long ones.

use holepunch_programs::transfer::Names;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Names that a summary has.
const NAMED_MAX: usize = 3;
/// Columns of each.
const COLUMNS_MAX: usize = 40;
/// What stands for what is left out.
const LEFT_OUT: char = '…';

/// A name in so many columns at most: of a long one, the beginning and the end, where the kind of file stands.
pub(super) fn shortened(name: &str, columns: usize) -> String {
    if name.width() <= columns {
        return name.to_owned();
    }
    let room = columns.saturating_sub(1);
    let end = fitting(name.chars().rev(), room / 2);
    let beginning = fitting(name.chars(), room - end.width());
    let mut short = beginning;
    short.push(LEFT_OUT);
    short.extend(end.chars().rev());
    short
}

/// As many of these characters as fit.
fn fitting(characters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    characters
        .take_while(|character| {
            used += character.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// What was transferred, by name, behind the number of files: ` (a, b and 7 more)`.
pub(super) fn in_brackets(names: &Names) -> String {
    let shown: Vec<_> =
        names.first.iter().take(NAMED_MAX).map(|name| shortened(name, COLUMNS_MAX)).collect();
    let more = names.first.len() - shown.len() + names.more;
    match (shown.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(" ({})", shown.join(", ")),
        (false, more) => format!(" ({} and {more} more)", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_end_and_fits() {
        assert_eq!(shortened("notes.txt", 9), "notes.txt");
        assert_eq!(shortened("holidays-2026-august-0815.jpeg", 16), "holidays…15.jpeg");
        // Each takes two columns.
        assert_eq!(shortened("日本日本日本.txt", 9), "日本….txt");
        for name in ["x".repeat(300), "日本".repeat(99), "e\u{301}".repeat(99)] {
            for columns in 0..70 {
                let short = shortened(&name, columns);
                assert!(short.width() <= columns.max(1), "{columns}: {short}");
            }
        }
    }

    #[test]
    fn a_summary_names_the_first_and_counts_the_others() {
        let names = |first: &[&str], more| {
            let first = first.iter().map(|name| (*name).to_owned()).collect();
            in_brackets(&Names { first, more })
        };
        assert_eq!(names(&[], 0), "");
        assert_eq!(names(&["a"], 0), " (a)");
        assert_eq!(names(&["a", "b", "c"], 0), " (a, b, c)");
        assert_eq!(names(&["a", "b", "c", "d"], 5), " (a, b, c and 6 more)");
    }
}
