//! What happens is told once, to everybody who wants to know: the log, the metrics, the event stream, and the relay.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use holepunch_matchmaker::{Event, Told};
use holepunch_wire::nat::NatClass;
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::SessionId;
use holepunch_wire::signal::v1::LinkReport;

use crate::log_budget::{LINES, LogBudget, WARNINGS};
use crate::relay::Relay;

/// Ignored messages of one connection that are logged; further ones are only counted, so that nobody
/// can flood the log.
pub(crate) const IGNORED_LOGGED_MAX: u32 = 10;
/// Somebody who wants to know what happens.
pub(crate) trait Observer: Debug + Send + Sync {
    /// This has happened then.
    fn observe(&self, told: &Told, at: SystemTime);
}

/// The relay of a session ends with it. Two that have both lost their connections may talk by it still, and come back to say so;
/// where they do not, it ends by itself.
impl Observer for Arc<Relay> {
    fn observe(&self, told: &Told, _: SystemTime) {
        if let (Event::SessionEnded(reason), Some((session, _))) = (&told.event, told.session)
            && *reason != EndReason::ConnectionEnded
        {
            self.session_ended(session, reason.text());
        }
    }
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    lines: LogBudget,
    warnings: LogBudget,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { lines: LogBudget::new(LINES), warnings: LogBudget::new(WARNINGS) }
    }

    /// Whether one more warning that a client causes may be logged.
    pub(crate) fn may_warn(&self) -> bool {
        self.warnings.allows_one()
    }
}

impl Observer for Arc<Log> {
    fn observe(&self, told: &Told, _: SystemTime) {
        // These come by the million, and nobody has done anything wrong; or they are logged where they are known in full.
        if told.quiet || matches!(told.event, Event::Dropped(_) | Event::Denied(_)) {
            return;
        }
        let budget = if is_warning(&told.event) { &self.warnings } else { &self.lines };
        if budget.allows_one() {
            log(told);
        }
    }
}

/// Whether it is one more of what a client does wrong again and again: it is counted, and told to nobody.
pub(crate) fn is_surplus(event: &Event) -> bool {
    if let Event::ReportRefused(.., before) | Event::MessageIgnored(.., before) = event {
        *before >= IGNORED_LOGGED_MAX
    } else {
        false
    }
}

/// Whether a client has done something wrong, and it is to be logged as a warning.
fn is_warning(event: &Event) -> bool {
    match event {
        Event::Refused(..) | Event::PingOverdue(_) | Event::Unreadable(_) => true,
        Event::ReportRefused(..) | Event::MessageIgnored(..) => !is_surplus(event),
        Event::Registered(..)
        | Event::PublicIp(..)
        | Event::Queued { .. }
        | Event::Paired(..)
        | Event::CallRefused(..)
        | Event::SessionStarted(..)
        | Event::Replanned(..)
        | Event::LinkState(..)
        | Event::SessionEnded(..)
        | Event::Dropped(_)
        | Event::Denied(_)
        | Event::Left(..) => false,
    }
}

macro_rules! complaint {
    ($event:ident, $($field:tt)*) => {
        if is_warning($event) { tracing::warn!($($field)*) } else { tracing::debug!($($field)*) }
    };
}

fn log(told: &Told) {
    let event = &told.event;
    let (code, reason_code) = event.code();
    if let Some((session, classes)) = told.session {
        return log_session(event, session, classes);
    }
    match event {
        Event::Registered(worker, observed) => {
            let port = observed.port.map(tracing::field::display);
            tracing::info!(code, %worker, ip = %observed.ip, port, "worker registered");
        }
        Event::Refused(worker, reason) => {
            tracing::warn!(code, reason_code, %worker, reason = reason.text(), "connection refused");
        }
        Event::PublicIp(worker, ip) => tracing::info!(code, %worker, %ip, "public IP reported"),
        Event::Queued { worker, endpoint, waiting } => {
            // A fleet reports all at once, and again for each further peer: the line of its pair is enough.
            tracing::debug!(code, %worker, %endpoint, waiting, "UDP endpoint accepted, in the ready queue");
        }
        Event::ReportRefused(worker, _, detail, _) => {
            complaint!(event, code, reason_code, %worker, detail, "UDP endpoint refused");
        }
        Event::Paired(first, second) => {
            tracing::info!(code, %first, %second, "pair selected, both offers on their way");
        }
        Event::CallRefused(worker, why) => {
            tracing::debug!(code, reason_code, %worker, why = why.text(), "call refused");
        }
        Event::MessageIgnored(worker, why, detail, _) => {
            let why = if detail.is_empty() { why.to_string() } else { format!("{why}: {detail}") };
            complaint!(event, code, reason_code, %worker, why, "message ignored");
        }
        Event::PingOverdue(worker) => {
            tracing::warn!(code, %worker, "ping overdue: not offered until it answers");
        }
        Event::Unreadable(from) => {
            let process = from.process();
            tracing::warn!(
                code,
                process,
                "another rendezvous is of another version: what it says cannot all be read"
            );
        }
        Event::Left(worker, why) => {
            tracing::info!(code, reason_code, %worker, reason = why.text(), "worker left");
        }
        Event::SessionStarted(..)
        | Event::Replanned(..)
        | Event::LinkState(..)
        | Event::SessionEnded(_)
        | Event::Denied(_)
        | Event::Dropped(_) => {}
    }
}

/// The classes of two NATs as a text, in the order of their workers.
pub(crate) fn nats([a, b]: [NatClass; 2]) -> String {
    format!("{}/{}", a.code(), b.code())
}

fn log_session(event: &Event, session: SessionId, classes: [NatClass; 2]) {
    let (code, reason_code) = event.code();
    let nats = nats(classes);
    if let Event::SessionStarted([first, second], strategy, reason) = event {
        tracing::info!(code, %session, nats, %first, %second, %strategy, reason, "session offered to both");
    } else if let Event::Replanned(strategy, reason) = event {
        tracing::info!(code, %session, nats, %strategy, reason, "session has another plan");
    } else if let Event::LinkState(worker, report) = event {
        let LinkReport { state, strategy, reason, rtt_ms, elapsed_ms, probes, .. } = report;
        tracing::info!(
            code, %session, nats, %worker, ?state, reason, %strategy, rtt_ms, elapsed_ms, probes, "state of a session"
        );
    } else if let Event::SessionEnded(reason) = event {
        tracing::info!(code, reason_code, %session, nats, reason = reason.text(), "session ended");
    }
}

#[cfg(test)]
mod tests {
    use holepunch_matchmaker::{DropReason, LeaveReason};
    use holepunch_wire::WorkerId;
    use holepunch_wire::reason::CloseReason;

    use super::*;

    #[test]
    fn what_a_client_does_wrong_is_a_warning_ten_times() {
        let worker = WorkerId::new("a").unwrap();
        for (before, is) in [(0, true), (9, true), (10, false), (u32::MAX, false)] {
            let text = || "why".to_owned();
            let refused = Event::ReportRefused(worker.clone(), "bad_endpoint", text(), before);
            assert_eq!(is_warning(&refused), is);
            let why = DropReason::TooMany;
            let ignored = Event::MessageIgnored(worker.clone(), why, text(), before);
            assert_eq!(is_warning(&ignored), is);
        }
        assert!(is_warning(&Event::Refused(worker.clone(), CloseReason::OtherKey)));
        assert!(!is_warning(&Event::Left(worker, LeaveReason::Closed)));
    }
}
