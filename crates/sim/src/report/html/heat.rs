//! The heat map: every kind with every kind.

use super::super::matrix::{Cell, Matrix};
use super::super::replay;
use super::super::words::{count, interval, main_strategy, ms, percent, round_trips, time};
use super::escape::{breakable, escape};
use crate::lab::Percentiles;

/// The section with the heat map and its legend.
pub(super) fn section(matrix: &Matrix) -> String {
    let mut text = String::from(
        "<section>\n<h2>Kind × kind</h2>\n<p>Row: the first worker; column: the second. In each cell \
         the share of direct paths in % and, below it, the median time to the link in ms. Point at a \
         cell, or tap it, for the rest; the arrow keys go from cell to cell.</p>\n",
    );
    text += &legend(matrix);
    text += "<div class=\"scroll\" tabindex=\"-1\"><table class=\"heat\">\n<thead><tr><td class=\"corner\">first ↓ second →</td>";
    for kind in &matrix.kinds {
        text += &format!(
            "<th scope=\"col\" title=\"{}\"><span>{}</span></th>",
            escape(&kind.describe()),
            escape(&kind.to_string())
        );
    }
    text += "</tr></thead>\n<tbody>\n";
    for (kind, row) in matrix.kinds.iter().zip(matrix.rows()) {
        text += &format!(
            "<tr><th scope=\"row\" title=\"{}\">{}</th>",
            escape(&kind.describe()),
            breakable(&kind.to_string())
        );
        for cell in row {
            text += &one_cell(cell);
        }
        text += "</tr>\n";
    }
    text += "</tbody></table></div>\n</section>\n";
    text
}

/// Strategies with a mark of their own; plain checks have none.
const MARKS: [(&str, &str, &str); 7] = [
    ("opener", "o", "a first packet dies on its way"),
    ("preserved", "p", "sockets whose ports the NAT keeps"),
    ("sequence", "q", "ports in sequence are predicted"),
    ("sweep", "s", "a block of ports is swept"),
    ("birthday", "b", "many sockets, many ports"),
    ("exhaust", "x", "a whole block at one port"),
    ("test_reuse", "t", "whether the NAT reuses ports is tested"),
];

fn legend(matrix: &Matrix) -> String {
    let shades =
        [("s6", "100 %"), ("s5", "99"), ("s4", "98"), ("s3", "90"), ("s2", "50"), ("s1", "0")];
    let mut text = String::from("<div class=\"legend\"><p class=\"shades\"><span>direct:</span>");
    for (class, label) in shades {
        text += &format!("<span class=\"shade {class}\">{label}</span>");
    }
    text += "<span class=\"shade relay\">relay</span></p>\n<p class=\"marks\">";
    text += "<span><i></i>no mark: plain checks</span> ";
    for (name, mark, meaning) in MARKS {
        if matrix.cells.iter().any(|cell| strategy(cell).as_deref() == Some(name)) {
            text += &format!("<span><i>{mark}</i> {name}: {meaning}</span> ");
        }
    }
    if matrix.violated() > 0 {
        text += "<span class=\"bad\"><i>✗</i> not as required</span>";
    }
    text + "</p></div>\n"
}

fn one_cell(cell: &Cell) -> String {
    let direct = cell.summary.direct;
    let is_relayed = is_relayed(cell);
    let name = strategy(cell).unwrap_or_default();
    let mark = MARKS.iter().find(|(of, ..)| *of == name).map(|(_, mark, _)| *mark);
    let mark = if cell.violations.is_empty() { mark } else { Some("✗") };
    let mark = mark.map(|mark| format!("<i>{mark}</i>")).unwrap_or_default();
    let share = if is_relayed { "0".to_owned() } else { percent(direct.share, 0) };
    let below = match cell.summary.link_time {
        Some(times) => short_time(times),
        None if is_relayed => "relay".to_owned(),
        None => "–".to_owned(),
    };
    let class = if is_relayed { "relay" } else { shade(direct.share) };
    let violated = if cell.violations.is_empty() { "" } else { " violated" };
    format!(
        "<td class=\"{class}{violated}\" tabindex=\"0\"><b>{share}</b>{mark}<small>{below}</small>{}</td>",
        tip(cell)
    )
}

/// The colour of a share.
fn shade(share: f64) -> &'static str {
    match share {
        share if share >= 1.0 => "s6",
        share if share >= 0.99 => "s5",
        share if share >= 0.98 => "s4",
        share if share >= 0.9 => "s3",
        share if share >= 0.5 => "s2",
        _ => "s1",
    }
}

/// At most four characters.
fn short_time(times: Percentiles) -> String {
    let text = ms(times.p50);
    if text.len() <= 4 { text } else { format!("{:.0} s", times.p50.as_secs_f64()) }
}

/// What is shown of a cell that is pointed at.
fn tip(cell: &Cell) -> String {
    let (summary, scenario) = (&cell.summary, &cell.scenario);
    let mut rows: Vec<(&str, String)> = Vec::new();
    let direct = summary.direct;
    let share = percent(direct.share, 2);
    rows.push((
        "direct",
        format!("{share} % of {} (95 %: {} %)", count(direct.of), interval(direct)),
    ));
    if let Some(Percentiles { p50, p95, p99 }) = summary.link_time {
        rows.push(("link", format!("p50 {}, p95 {}, p99 {}", time(p50), time(p95), time(p99))));
        let [p50, p95, p99] = [p50, p95, p99].map(|time| round_trips(time, scenario));
        rows.push(("", format!("in RTT: {p50}, {p95}, {p99}")));
    }
    if summary.relay.count > 0 {
        let told =
            summary.verdict_time.map(|times| format!(", told after {} (p99)", time(times.p99)));
        let share = percent(summary.relay.share, 2);
        rows.push(("relay", format!("{share} %{}", told.unwrap_or_default())));
    }
    let [median, most] = summary.probes;
    rows.push(("packets", format!("median {median}, most {most}; sockets {}", summary.sockets)));
    let strategies = summary.strategies.iter();
    let strategies: Vec<String> =
        strategies.map(|(name, times)| format!("{name} {times}")).collect();
    rows.push(("strategy", strategies.join(", ")));
    rows.push(("oracle", cell.expectation.describe().to_owned()));
    if let Some((reason, _)) = summary.reasons.iter().max_by_key(|(_, times)| **times) {
        rows.push(("reason", reason.clone()));
    }
    rows.extend(cell.excuse.map(|excuse| ("excused", excuse.to_owned())));
    let mut text = format!(
        "<div class=\"tip\" role=\"note\"><strong>{} × {}</strong><dl>",
        breakable(&scenario.first.to_string()),
        breakable(&scenario.second.to_string())
    );
    for (name, content) in rows {
        text += &format!("<dt>{name}</dt><dd>{}</dd>", escape(&content));
    }
    for violation in &cell.violations {
        text +=
            &format!("<dt class=\"bad\">✗</dt><dd class=\"bad\">{}</dd>", escape(&violation.text));
        if let Some(seed) = violation.seed {
            text += &format!(
                "<dt>replay</dt><dd><code>{}</code></dd>",
                escape(&replay(scenario, seed))
            );
        }
    }
    text + "</dl></div>"
}

fn is_relayed(cell: &Cell) -> bool {
    cell.summary.relay.of > 0 && cell.summary.relay.count == cell.summary.relay.of
}

/// The strategy of a cell that has direct paths.
fn strategy(cell: &Cell) -> Option<String> {
    (cell.summary.direct.count > 0).then(|| main_strategy(&cell.summary))
}
