//! The table of requirements, with bars.

use std::time::Duration;

use super::super::words::{count, interval, main_strategy, ms, percent, round_trips, time};
use super::super::{Row, replay};
use super::escape::{breakable, escape};
use crate::lab::{Group, Percentiles};

/// Groups with more rows are folded up while all is as required.
const ROWS_OPEN_MAX: usize = 12;
/// The ends of the scale of times, which is logarithmic.
const SCALE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(20)];
/// Its marks.
const TICKS: [(u64, &str); 3] = [(100, "0.1 s"), (1000, "1 s"), (10_000, "10 s")];

/// The section with a table for each group.
pub(super) fn section(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<section>\n<h2>What is required, and what came out</h2>\n\
         <p>Bars of shares go from 0 to 100 %, with the 95 % interval; bars of times from the median \
         to the 99th percentile, on a logarithmic scale, with a mark at the 95th. A thin line is what \
         is required.</p>\n",
    );
    for group in Group::ALL {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.pair.group == group).collect();
        if !rows.is_empty() {
            text += &one_group(group, &rows);
        }
    }
    text + "</section>\n"
}

fn one_group(group: Group, rows: &[&Row]) -> String {
    let violated = rows.iter().filter(|row| !row.violations.is_empty()).count();
    let open = if violated > 0 || rows.len() <= ROWS_OPEN_MAX { " open" } else { "" };
    let verdict = match violated {
        0 => "<span class=\"good\">✓ all as required</span>".to_owned(),
        _ => format!("<span class=\"bad\">✗ {violated} not as required</span>"),
    };
    let has_times = rows.iter().any(|row| row.summary.link_time.is_some());
    let last = match group {
        Group::Repair => "repaired, after",
        Group::Relay => "relay, told after",
        Group::Plain
        | Group::PlainLossy
        | Group::Birthday
        | Group::Block
        | Group::Predicted
        | Group::Remap
        | Group::Late
        | Group::Wrong => "strategy",
    };
    let link = if has_times { format!("link time {}", ticks()) } else { "link time".to_owned() };
    let mut text = format!(
        "<details class=\"group\"{open}>\n<summary><b>{}</b> <span>{}</span> <small>{} {}{}</small> \
         {verdict}</summary>\n<table class=\"rows\">\n<thead><tr><th>pair</th><th>direct</th>\
         <th>{link}</th><th>packets</th><th>sockets</th><th>{last}</th></tr></thead>\n<tbody>\n",
        group.name(),
        escape(group.title()),
        rows.len(),
        if rows.len() == 1 { "pair" } else { "pairs" },
        extremes(rows),
    );
    for row in rows {
        text += &one_row(group, row);
    }
    text + "</tbody></table>\n</details>\n"
}

/// The lowest share and the longest median of a group in which something is required of both.
fn extremes(rows: &[&Row]) -> String {
    if rows.iter().any(|row| row.pair.requirement.direct.is_none()) {
        return String::new();
    }
    let least = rows.iter().map(|row| row.summary.direct.share).fold(1.0, f64::min);
    let medians = rows.iter().filter_map(|row| Some(row.summary.link_time?.p50));
    let longest = medians.max().map(|longest| format!(", p50 at most {}", time(longest)));
    format!(", direct at least {} %{}", percent(least, 2), longest.unwrap_or_default())
}

fn one_row(group: Group, row: &Row) -> String {
    let (summary, required) = (&row.summary, &row.pair.requirement);
    let (class, mark) = if row.violations.is_empty() { ("good", "✓") } else { ("bad", "✗") };
    let direct = summary.direct;
    let link = match summary.link_time {
        Some(times) => {
            let bounds = [required.p50, required.p95, required.p99];
            let Percentiles { p50, p95, p99 } = times;
            let trips = [p50, p95, p99].map(|time| round_trips(time, &row.pair.scenario));
            format!(
                "{}<span class=\"num\">{} · {} · {} ms</span><small>{} · {} · {} RTT</small>",
                range(times, &bounds),
                ms(p50),
                ms(p95),
                ms(p99),
                trips[0],
                trips[1],
                trips[2]
            )
        }
        None => "<span class=\"num none\">–</span>".to_owned(),
    };
    let [median, most] = summary.probes;
    let mut text = format!(
        "<tr><th scope=\"row\"><span class=\"{class}\">{mark}</span> {}</th>\
         <td data-label=\"direct\">{}<span class=\"num\">{} %</span><small>{} %</small></td>\
         <td data-label=\"link time\">{link}</td>\
         <td data-label=\"packets\"><span class=\"num\">{median}</span><small class=\"num\">most {most}</small></td>\
         <td data-label=\"sockets\"><span class=\"num\">{}</span></td>{}</tr>\n",
        breakable(&row.pair.name),
        bar(direct.share, direct.low, direct.high, required.direct),
        percent(direct.share, 2),
        interval(direct),
        summary.sockets,
        last_cell(group, row),
    );
    if !row.violations.is_empty() {
        text += &violations(row);
    }
    text
}

fn last_cell(group: Group, row: &Row) -> String {
    let summary = &row.summary;
    let strategy = escape(&main_strategy(summary));
    if group == Group::Repair {
        let within = row.pair.requirement.repaired.map(|(_, within)| within);
        let bar = summary.repair_time.map(|times| range(times, &[within]));
        let times = summary.repair_time.map(in_words);
        let share = summary.repaired.map(|share| format!("{} %", percent(share.share, 2)));
        return format!(
            "<td data-label=\"repaired\">{}<span class=\"num\">{}</span>{}</td>",
            bar.unwrap_or_default(),
            share.unwrap_or_default(),
            times.unwrap_or_default()
        );
    }
    if summary.relay.count == 0 {
        return format!("<td data-label=\"strategy\">{strategy}</td>");
    }
    let before = if strategy == "relay" { String::new() } else { format!("{strategy}; ") };
    let told = summary.verdict_time.map(|times| format!(", told after {} (p99)", time(times.p99)));
    let reason = summary.reasons.iter().max_by_key(|(_, times)| **times);
    let reason = reason.map(|(reason, _)| format!("<small>{}</small>", escape(reason)));
    format!(
        "<td data-label=\"strategy\">{before}relay {} %{}{}</td>",
        percent(summary.relay.share, 0),
        told.unwrap_or_default(),
        reason.unwrap_or_default()
    )
}

fn in_words(times: Percentiles) -> String {
    format!("<small>{} · {} · {} ms</small>", ms(times.p50), ms(times.p95), ms(times.p99))
}

fn violations(row: &Row) -> String {
    let mut text = String::from("<tr class=\"why\"><td colspan=\"6\"><ul>");
    for violation in &row.violations {
        text += &format!("<li>{}", escape(&violation.text));
        if let Some(seed) = violation.seed {
            text += &format!("<br><code>{}</code>", escape(&replay(&row.pair.scenario, seed)));
        }
        text += "</li>";
    }
    let seeds: Vec<String> = row.summary.failed_seeds.iter().map(u64::to_string).collect();
    if row.pair.requirement.direct.is_some() && !seeds.is_empty() {
        text += &format!("<li>no direct path with the seeds {}", escape(&seeds.join(", ")));
        if seeds.len() < row.summary.direct.of - row.summary.direct.count {
            text += &format!(
                " and {} more",
                count(row.summary.direct.of - row.summary.direct.count - seeds.len())
            );
        }
        text += "</li>";
    }
    text + "</ul></td></tr>\n"
}

/// A bar of a share, with its interval and what is required.
fn bar(share: f64, low: f64, high: f64, required: Option<f64>) -> String {
    let required = required.map(|least| format!("<u style=\"left:{:.2}%\"></u>", least * 100.0));
    format!(
        "<span class=\"bar\" aria-hidden=\"true\"><b style=\"width:{:.2}%\"></b>\
         <i style=\"left:{:.2}%;width:{:.2}%\"></i>{}</span>",
        share * 100.0,
        low * 100.0,
        (high - low) * 100.0,
        required.unwrap_or_default()
    )
}

/// A bar from the median to the 99th percentile.
fn range(times: Percentiles, required: &[Option<Duration>]) -> String {
    let [from, mark, to] = [times.p50, times.p95, times.p99].map(place);
    let lines: String = required
        .iter()
        .flatten()
        .map(|bound| format!("<u style=\"left:{:.2}%\"></u>", place(*bound)))
        .collect();
    format!(
        "<span class=\"range\" aria-hidden=\"true\"><b style=\"left:{from:.2}%;width:{:.2}%\"></b>\
         <i style=\"left:{mark:.2}%\"></i>{lines}</span>",
        to - from
    )
}

/// Where a time stands on the scale, in percent.
fn place(time: Duration) -> f64 {
    let [first, last] = SCALE.map(|end| end.as_secs_f64());
    let time = time.as_secs_f64().clamp(first, last);
    (time / first).ln() / (last / first).ln() * 100.0
}

fn ticks() -> String {
    let tick = |(at, label): &(u64, &str)| {
        format!("<u style=\"left:{:.2}%\">{label}</u>", place(Duration::from_millis(*at)))
    };
    format!("<span class=\"ticks\">{}</span>", TICKS.iter().map(tick).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_logarithmic_and_has_ends() {
        assert!(place(Duration::ZERO).abs() < 0.01);
        assert!((place(Duration::from_secs(1)) - 50.0).abs() < 0.01);
        assert!((place(Duration::from_secs(100)) - 100.0).abs() < 0.01);
    }
}
