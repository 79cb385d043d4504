//! Shows a transfer: as a bar on a terminal, as a line now and then elsewhere, or as JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_programs::transfer::{self, Notice, Phase, Progress, Summary, Totals};
use holepunch_worker::{Link, PathKind, milliseconds};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use textwrap::core::display_width;
use tokio::time::{MissedTickBehavior, interval};

use super::json::{FailureLine, Line, LinkLine};
use super::names;
use crate::exit::Failure;
use crate::joining::Telling;
use crate::output::{self, counted};
use crate::path_history::PathChange;
use crate::screen::{Stream, can_redraw, columns};

/// How often a bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a JSON line is written.
const JSON_EVERY: Duration = Duration::from_secs(1);
/// How often a line is written into a log: seldom enough to be read.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar of fewer columns, with its brackets and a blank, says nothing.
const BAR_COLUMNS_MIN: usize = 13;
/// A terminal that does not say how wide it is, is taken to be so wide.
const COLUMNS_UNKNOWN: usize = 80;
/// Of a terminal's width, a third is the name's.
const NAME_SHARE: usize = 3;
/// A name of fewer columns tells nothing.
const NAME_COLUMNS_MIN: usize = 8;
/// Columns of a name in a line of a log.
const LINE_NAME_COLUMNS: usize = 60;

/// Before this, the time since the beginning makes no rate.
const RATE_AFTER_S: f64 = 0.5;
/// Where nothing has come for so long, nobody knows when the rest will be there.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// Longer than a year is no estimate.
const ETA_MAX_S: f64 = 365.0 * 86_400.0;

/// The way to show it.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Bar(ProgressBar),
    Lines,
    Json,
}

impl Way {
    pub(super) fn new(json: bool) -> Self {
        if json {
            Self::Json
        } else if can_redraw(Stream::Err) {
            // Not shown before there is something to show.
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            Self::Bar(bar)
        } else {
            Self::Lines
        }
    }

    /// Tells of the link: above the bar, where there is one.
    pub(super) fn telling(&self) -> Telling {
        let telling = Telling::lines();
        match self.clone() {
            Self::Bar(bar) => Telling {
                line: Arc::new(move |text| bar.suspend(|| output::progress(text))),
                ..telling
            },
            Self::Lines => telling,
            Self::Json => telling
                .with_json(|change| output::json_line(&LinkLine::Path(change)))
                .with_json_code(|invited| output::json_line(&LinkLine::Code(invited.clone()))),
        }
    }

    /// Tells programs of a link.
    pub(super) fn linked(&self, link: &Link) {
        if matches!(self, Self::Json) {
            let kind = link.path().kind;
            let direct = matches!(kind, PathKind::Direct { .. });
            let (peer, path) = (link.peer().to_string(), kind.to_string());
            output::json_line(&LinkLine::Linked { peer, path, direct });
        }
    }

    /// The link is over, and another one is waited for: the bar is taken away until then.
    pub(super) fn link_lost(&self, why: &str) {
        match self {
            Self::Bar(bar) => take_away(bar),
            Self::Lines => {}
            Self::Json => output::json_line(&LinkLine::LinkLost { why: why.to_owned() }),
        }
    }
}

/// Takes a bar away until it is shown again.
fn take_away(bar: &ProgressBar) {
    if !bar.is_hidden() {
        bar.finish_and_clear();
        // With all that stood on its line.
        output::line_is_ended();
        bar.set_draw_target(ProgressDrawTarget::hidden());
        bar.reset();
    }
}

/// Shows a transfer, over however many links it takes.
#[derive(Debug)]
pub(super) struct Show {
    way: Way,
    began: Instant,
}

impl Show {
    /// Of a transfer that begins now.
    pub(super) fn new(way: &Way) -> Self {
        Self { way: way.clone(), began: Instant::now() }
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// A transfer's progress that tells what a person may want to know at once.
    pub(super) fn progress(&self) -> Progress {
        let way = self.way.clone();
        Progress::new(move |notice| {
            let Some(text) = words(&notice) else { return };
            match &way {
                Way::Bar(bar) => bar.suspend(|| output::progress(text)),
                Way::Lines => output::progress(text),
                // Standard output is the JSON's; failures stand in its last line.
                Way::Json => {}
            }
        })
    }

    /// Shows how far it is, until nobody waits for this any more.
    pub(super) async fn watch(&self, progress: &Progress) -> Infallible {
        let every = match &self.way {
            Way::Bar(_) => BAR_EVERY,
            Way::Lines => LINE_EVERY,
            Way::Json => JSON_EVERY,
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let (summary, last_piece) = (progress.summary(), progress.last_piece());
            let eta = self.eta(&summary, last_piece, Instant::now());
            match &self.way {
                // Nothing moves, and on one of the two sides a question stands there.
                Way::Bar(bar) if summary.phase == Phase::Asking => take_away(bar),
                Way::Lines if summary.phase == Phase::Asking => {}
                Way::Bar(_) if summary.totals == Totals::default() => {}
                Way::Bar(bar) => {
                    bar.set_length(summary.totals.bytes);
                    bar.set_position(summary.bytes_done);
                    let columns = columns(Stream::Err).unwrap_or(COLUMNS_UNKNOWN);
                    let name = prefix(&summary, columns);
                    let left = columns.saturating_sub(display_width(&name));
                    let (text, has_room) = beside_a_bar(&self.parts(&summary, eta), left);
                    bar.set_style(style(has_room));
                    bar.set_prefix(name);
                    bar.set_message(text);
                    if bar.is_hidden() {
                        bar.set_draw_target(ProgressDrawTarget::stderr());
                    }
                }
                Way::Lines => output::progress(self.sentence(&summary, eta, false)),
                Way::Json => self.json("progress", &summary, eta, Vec::new(), None),
            }
        }
    }

    pub(super) fn end(
        &self,
        summary: &Summary,
        path_history: Vec<PathChange>,
        error: Option<Failure>,
    ) {
        match &self.way {
            Way::Json => return self.json("summary", summary, None, path_history, error),
            Way::Bar(bar) => take_away(bar),
            Way::Lines => {}
        }
        let unshown = summary.failed.saturating_sub(summary.failures.len() as u64);
        if unshown > 0 {
            output::progress(format!("and {unshown} more that failed"));
        }
        // What came to nothing is told by its error.
        let results = summary.files_completed + summary.files_already_there + summary.failed;
        if results > 0
            || summary.bytes_done > 0
            || (error.is_none() && summary.totals != Totals::default())
        {
            output::line(self.sentence(summary, None, true));
        }
    }

    /// Where it stands, in words.
    fn sentence(&self, summary: &Summary, eta: Option<f64>, is_last: bool) -> String {
        let Summary { totals, .. } = summary;
        let names = if is_last { names::in_brackets(&summary.names) } else { String::new() };
        let mut text = match &summary.current {
            Some(name) if !is_last => format!("{}: ", names::shortened(name, LINE_NAME_COLUMNS)),
            Some(_) | None => String::new(),
        };
        text += &format!(
            "{} of {}{names}, {} of {}",
            summary.files_completed + summary.files_already_there,
            counted(totals.files, "file"),
            HumanBytes(summary.bytes_done),
            HumanBytes(totals.bytes),
        );
        let seconds = self.began.elapsed().as_secs_f64();
        if is_last {
            text += &format!(", in {seconds:.1} s");
        }
        text += &self.rate_in_words(summary).unwrap_or_default();
        text += &eta_in_words(eta).unwrap_or_default();
        if !is_last {
            text += at(summary);
        }
        for (number, what) in [
            (summary.files_already_there, "there already"),
            (summary.skipped, "left out"),
            (summary.failed, "failed"),
            (summary.warned, "sent without what was added meanwhile"),
        ] {
            if number > 0 {
                text += &format!("; {number} {what}");
            }
        }
        text
    }

    /// How fast it is, behind a comma. Of a moment, or of nothing, a rate says nothing.
    fn rate_in_words(&self, summary: &Summary) -> Option<String> {
        let is_known =
            self.began.elapsed().as_secs_f64() >= RATE_AFTER_S && summary.bytes_transferred > 0;
        is_known.then(|| format!(", {}/s", HumanBytes(self.rate(summary) as u64)))
    }

    /// What stands beside a bar, what matters most first.
    fn parts(&self, summary: &Summary, eta: Option<f64>) -> Vec<String> {
        let (done, all) = (HumanBytes(summary.bytes_done), HumanBytes(summary.totals.bytes));
        let parts = [
            Some(format!("{done} of {all}")),
            Some(at(summary).to_owned()),
            self.rate_in_words(summary),
            eta_in_words(eta),
        ];
        parts.into_iter().flatten().collect()
    }

    fn rate(&self, summary: &Summary) -> f64 {
        summary.bytes_transferred as f64 / self.began.elapsed().as_secs_f64().max(f64::EPSILON)
    }

    /// Seconds that are left, where something is and something comes: at the rate up to the last piece.
    fn eta(&self, summary: &Summary, last_piece: Option<Instant>, now: Instant) -> Option<f64> {
        let last_piece =
            last_piece.filter(|at| now.saturating_duration_since(*at) < STALLED_AFTER)?;
        let gone = summary.bytes_done.saturating_add(summary.bytes_failed);
        let left = summary.totals.bytes.saturating_sub(gone);
        let seconds = last_piece.saturating_duration_since(self.began).as_secs_f64();
        let seconds = left as f64 / summary.bytes_transferred as f64 * seconds;
        (left > 0 && seconds < ETA_MAX_S).then_some(seconds)
    }

    fn json<'a>(
        &self,
        event: &str,
        summary: &'a Summary,
        eta: Option<f64>,
        path_history: Vec<PathChange>,
        error: Option<Failure>,
    ) {
        let is_last = event == "summary";
        let lines = |of: &'a [transfer::Failure]| {
            of.iter().filter(|_| is_last).map(FailureLine::from).collect()
        };
        let line = Line {
            event,
            phase: match summary.phase {
                Phase::Asking => "asking",
                Phase::Transfer => "transfer",
                Phase::Disk => "disk",
                Phase::End => "end",
            },
            names: summary.names.first.iter().filter(|_| is_last).map(String::as_str).collect(),
            more_names: Some(summary.names.more).filter(|more| is_last && *more > 0),
            file: summary.current.as_deref().filter(|_| !is_last),
            files: summary.totals.files,
            folders: summary.totals.folders,
            bytes: summary.totals.bytes,
            files_completed: summary.files_completed,
            files_already_there: summary.files_already_there,
            files_failed: summary.failed,
            files_warned: summary.warned,
            skipped: summary.skipped,
            bytes_transferred: summary.bytes_transferred,
            bytes_already_there: summary.bytes_already_there,
            bytes_done: summary.bytes_done,
            bytes_failed: summary.bytes_failed,
            seconds: milliseconds(self.began.elapsed()).round() / 1e3,
            bytes_per_second: self.rate(summary) as u64,
            longest_pause_ms: milliseconds(summary.longest_pause),
            eta_seconds: eta.map(f64::round),
            failures: lines(&summary.failures),
            warnings: lines(&summary.warnings),
            path_history,
            error: error.as_ref().map(|error| error.why().to_owned()),
            error_code: error.and_then(|error| error.cause()),
        };
        output::json_line(&line);
    }
}

/// The name of the file that is under way, before the bar.
fn prefix(summary: &Summary, columns: usize) -> String {
    let columns = columns / NAME_SHARE;
    let name = summary.current.as_deref().filter(|_| columns >= NAME_COLUMNS_MIN);
    name.map_or_else(String::new, |name| names::shortened(name, columns) + " ")
}

/// What is waited for once everything has come.
fn at(summary: &Summary) -> &'static str {
    match summary.phase {
        Phase::Asking | Phase::Transfer | Phase::End => "",
        Phase::Disk => ", the receiver is writing to its disk",
    }
}

/// How long it takes, behind a comma.
fn eta_in_words(eta: Option<f64>) -> Option<String> {
    let left = HumanDuration(Duration::from_secs_f64(eta?));
    Some(format!(", {left} left"))
}

/// As many of the parts as a line of so many columns has room for, and whether there is room for a bar beside them. The last
/// column stays free: some terminals begin a new line there.
fn beside_a_bar(parts: &[String], columns: usize) -> (String, bool) {
    let mut text = String::new();
    for part in parts {
        if text.is_empty() || text.len() + part.len() < columns {
            text += part;
        }
    }
    let has_room = text.len() + BAR_COLUMNS_MIN < columns;
    (text, has_room)
}

fn style(has_bar: bool) -> ProgressStyle {
    let template = if has_bar { "{prefix}[{wide_bar}] {msg}" } else { "{prefix}{msg}" };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// What is worth a line of its own; files that go well are not.
fn words(notice: &Notice) -> Option<String> {
    match notice {
        Notice::Listed(totals) => {
            let folders = match totals.folders {
                0 => String::new(),
                folders => format!(" in {}", counted(folders, "folder")),
            };
            let files = counted(totals.files, "file");
            Some(format!("{files}{folders}, {}", HumanBytes(totals.bytes)))
        }
        Notice::Skipped { path, reason } => Some(format!("left out: {path}: {reason}")),
        Notice::Resumed { path, from } => {
            Some(format!("{path} goes on after {}", HumanBytes(*from)))
        }
        Notice::Failed(failure) => Some(format!("failed: {failure}")),
        Notice::Warning(failure) => Some(format!("warning: {failure}")),
        Notice::Asking => Some("the other side is being asked whether it wants this".to_owned()),
        Notice::Waiting(what) => Some(what.clone()),
        Notice::Checking { .. } | Notice::Completed { .. } | Notice::AlreadyThere { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_programs::transfer::Failure;

    #[test]
    fn a_summary_says_what_has_failed_and_what_was_there() {
        let show = Show { way: Way::Lines, began: Instant::now() };
        let summary = Summary {
            totals: Totals { files: 3, folders: 1, bytes: 30 },
            files_completed: 1,
            files_already_there: 1,
            bytes_already_there: 20,
            bytes_done: 20,
            bytes_failed: 10,
            failed: 1,
            ..Summary::default()
        };
        let text = show.sentence(&summary, None, true);
        assert!(text.starts_with("2 of 3 files, 20 B of 30 B"), "{text}");
        assert!(text.ends_with("1 there already; 1 failed"), "{text}");
        let now = show.began + Duration::from_secs(1);
        assert_eq!(show.eta(&summary, Some(now), now), None, "nothing is to come");
    }

    #[test]
    fn the_rest_is_estimated_by_what_was_sent_and_not_while_nothing_comes() {
        let show = Show { way: Way::Lines, began: Instant::now() };
        let totals = Totals { files: 1, folders: 0, bytes: 1000 };
        let summary = Summary {
            totals,
            bytes_transferred: 100,
            bytes_already_there: 500,
            bytes_done: 600,
            ..Summary::default()
        };
        let at = |seconds| show.began + Duration::from_secs(seconds);
        assert_eq!(show.eta(&summary, None, at(10)), None, "nothing has come");
        assert_eq!(show.eta(&summary, Some(at(10)), at(10)), Some(40.0));
        assert_eq!(show.eta(&summary, Some(at(10)), at(12)), Some(40.0), "it does not grow");
        assert_eq!(show.eta(&summary, Some(at(10)), at(13)), None);
    }

    #[test]
    fn beside_a_bar_stands_what_there_is_room_for() {
        let parts = [
            "1.00 GiB of 10.00 GiB",
            ", the receiver is writing to its disk",
            ", 100.00 MiB/s",
            ", 90 seconds left",
        ];
        let parts = parts.map(str::to_owned);
        let shown = |columns| beside_a_bar(&parts, columns);
        assert_eq!(shown(200), (parts.concat(), true));
        for columns in [20, 40, 60, 80, 100] {
            let (text, has_bar) = shown(columns);
            assert!(text.len() < columns || text == parts[0], "{columns}: {text}");
            assert_eq!(has_bar, text.len() + BAR_COLUMNS_MIN < columns);
        }
        assert_eq!(shown(80).0, parts[..3].concat());
        assert_eq!(shown(60).0, parts[..2].concat());
        assert_eq!(shown(40), (parts[0].clone() + &parts[2], false));
    }

    #[test]
    fn words_are_singular_or_plural_and_zero_is_left_out() {
        let listed = |files, folders| words(&Notice::Listed(Totals { files, folders, bytes: 3 }));
        assert_eq!(listed(1, 0).as_deref(), Some("1 file, 3 B"));
        assert_eq!(listed(2, 1).as_deref(), Some("2 files in 1 folder, 3 B"));
        assert_eq!(listed(0, 2).as_deref(), Some("0 files in 2 folders, 3 B"));
        let began = Instant::now();
        let totals = Totals { files: 1, folders: 0, bytes: 3 };
        let summary = Summary {
            totals,
            files_completed: 1,
            bytes_transferred: 3,
            bytes_done: 3,
            ..Summary::default()
        };
        let quick = Show { way: Way::Lines, began }.sentence(&summary, None, true);
        assert!(
            quick.starts_with("1 of 1 file, 3 B of 3 B, in 0.") && !quick.contains("/s"),
            "{quick}"
        );
        let slow = Show { way: Way::Lines, began: began - Duration::from_millis(1500) };
        let slow = slow.sentence(&summary, None, true);
        assert_eq!(slow, "1 of 1 file, 3 B of 3 B, in 1.5 s, 1 B/s");
    }

    #[test]
    fn what_fails_is_told_and_what_goes_well_is_not() {
        let failure = Failure { path: "a".to_owned(), reason: "no".to_owned() };
        assert_eq!(words(&Notice::Failed(failure)).as_deref(), Some("failed: a: no"));
        assert_eq!(words(&Notice::Completed { path: "a".to_owned() }), None);
    }
}
