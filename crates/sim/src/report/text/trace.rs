//! One history, line by line.

use super::super::words::{ms, time};
use super::layout::{Style, Tone, wrap};
use super::one::setting;
use crate::lab::{Outcome, ROWS, Scenario, Verdict};

/// Columns before the text of a line: time and worker.
const MARGIN: usize = 21;

/// What happened on both sides, and how it ended.
#[must_use]
pub fn trace(scenario: &Scenario, seed: u64, style: Style) -> (Outcome, String) {
    let (outcome, lines) = scenario.trace(seed);
    let mut text = setting(scenario, style);
    text += &style.paint(Tone::Quiet, "→ to the rendezvous  ← from the rendezvous\n\n");
    for line in rows_together(lines.iter().filter_map(|line| Line::parse(line)).collect()) {
        text += &line.show(style);
    }
    text.push('\n');
    text += &ending(&outcome, style);
    (outcome, text)
}

/// A line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    who: String,
    at: String,
    text: String,
    /// Lines that were taken together with this one: how many, and when the last was.
    more: usize,
    until: String,
}

impl Line {
    /// Reads "first      0.040 s text".
    fn parse(line: &str) -> Option<Self> {
        let (who, rest) = line.split_once(' ')?;
        let (at, text) = rest.trim_start().split_once(" s ")?;
        let at = at.to_owned();
        Some(Self { who: who.to_owned(), until: at.clone(), at, text: text.to_owned(), more: 0 })
    }

    /// What a row of lines has in common.
    fn row(&self) -> Option<&'static str> {
        ROWS.into_iter().find(|row| self.text.starts_with(row))
    }

    fn show(&self, style: Style) -> String {
        let mut text = self.text.clone();
        if self.more > 0 {
            text += &format!(", and so {} times more until {} s", self.more, self.until);
        }
        let is_result =
            ["LINKED", "REPAIRED", "VERDICT", "FAILED"].iter().any(|word| text.starts_with(word));
        let is_packet = self.row().is_some();
        let mut shown = String::new();
        for (index, part) in wrap(&text, style.columns() - MARGIN).iter().enumerate() {
            let part = match (is_result, is_packet) {
                (true, _) => style.paint(Tone::Heading, part),
                (false, true) => style.paint(Tone::Quiet, part),
                (false, false) => part.clone(),
            };
            match index {
                0 => shown += &format!("{:>9} s  {:6}  {part}\n", self.at, self.who),
                _ => shown += &format!("{}{part}\n", " ".repeat(MARGIN)),
            }
        }
        shown
    }
}

/// Takes together what one worker does again and again: of more than three lines of a row, one
/// after the other on its side, the first one stands for all.
fn rows_together(lines: Vec<Line>) -> Vec<Line> {
    const LEFT_ALONE: usize = 3;
    let mut shown: Vec<Line> = Vec::new();
    let mut index = 0;
    let mut taken = vec![false; lines.len()];
    while let Some(line) = lines.get(index) {
        if !taken[index] {
            let later = lines.iter().enumerate().skip(index + 1);
            let same_side = later.filter(|(_, other)| other.who == line.who);
            let row: Vec<usize> = match line.row() {
                Some(row) => same_side
                    .take_while(|(_, other)| other.row().is_some())
                    .filter(|(at, other)| other.row() == Some(row) && !taken[*at])
                    .map(|(at, _)| at)
                    .collect(),
                None => Vec::new(),
            };
            let mut line = line.clone();
            if let Some(last) = row.last().filter(|_| row.len() >= LEFT_ALONE) {
                line.more = row.len();
                line.until.clone_from(&lines[*last].at);
                row.iter().for_each(|at| taken[*at] = true);
            }
            shown.push(line);
        }
        index += 1;
    }
    shown
}

fn ending(outcome: &Outcome, style: Style) -> String {
    let [first, second] = outcome.probes;
    let mut text = match outcome.verdict {
        Verdict::Direct => style.paint(Tone::Good, "direct path"),
        Verdict::Relay => style.paint(Tone::Heading, "relay"),
        Verdict::Failed => style.paint(Tone::Bad, "neither a direct path nor a relay verdict"),
    };
    let mut more = Vec::new();
    if let Some(after) = outcome.link_time {
        more.push(format!("{} ms after the second report", ms(after)));
    }
    if let Some(after) = outcome.verdict_time.filter(|_| outcome.verdict == Verdict::Relay) {
        more.push(format!("told {} after the offer", time(after)));
    }
    more.push(format!("packets {first} and {second}"));
    more.push(format!("sockets {}", outcome.sockets));
    if let Some(strategy) = outcome.strategy {
        more.push(format!("strategy {strategy}"));
    }
    if let Some(after) = outcome.repair_time {
        more.push(format!("repaired {} after the first packet", time(after)));
    }
    text += &format!(": {}\n", more.join(", "));
    if let Some(reason) = &outcome.reason {
        text += &format!("reason: {reason}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[(&str, &str)]) -> Vec<Line> {
        let line = |(at, (who, text)): (usize, &(&str, &str))| {
            Line::parse(&format!("{who} {at:9.3} s {text}", at = at as f64)).unwrap()
        };
        texts.iter().enumerate().map(line).collect()
    }

    #[test]
    fn a_long_row_of_one_side_becomes_one_line_though_the_other_side_speaks() {
        let texts = [
            ("first", "opens socket 3"),
            ("first", "sends for the first time to 198.18.0.2:1"),
            ("second", "LINKED"),
            ("first", "opens socket 4"),
            ("first", "opens socket 5"),
            ("first", "opens socket 6"),
            ("first", "LINKED"),
            ("first", "opens socket 7"),
        ];
        let shown = rows_together(lines(&texts));
        let said: Vec<_> = shown.iter().map(|it| (it.text.as_str(), it.more)).collect();
        assert_eq!(
            said,
            [
                ("opens socket 3", 3),
                ("sends for the first time to 198.18.0.2:1", 0),
                ("LINKED", 0),
                ("LINKED", 0),
                ("opens socket 7", 0),
            ]
        );
        assert_eq!(shown[0].until, "5.000");
    }
}
