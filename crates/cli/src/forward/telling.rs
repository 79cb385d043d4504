//! What `holepunch forward` tells while it runs, and in the end: lines for a person, or JSON.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holepunch_programs::forward::{
    Asker, ListenRefused, NotListening, NotMade, RemoteListening, Summary, Target, Told,
};
use holepunch_wire::rate::{Bucket, Rate};
use holepunch_worker::{Link, PathKind};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::joining::{Invited, Telling};
use crate::output::{self, counted};
use crate::path_history::PathChange;

/// What happens to connections is told at this rate: what a browser opens for a page at once, and then so seldom that a
/// client that tries again and again does not fill a log.
pub(super) const TOLD: Rate = Rate { count: 1, per: Duration::from_secs(5), burst: 10 };

/// Lines, and JSON; of the link with this peer, where there are several.
pub(super) fn telling(json: bool, peer: Option<String>) -> Telling {
    let mut telling = Telling::lines();
    if let Some(peer) = peer.clone() {
        telling.line = Arc::new(move |text| output::progress(format!("{peer}: {text}")));
    }
    if !json {
        return telling;
    }
    telling
        .with_json(move |path| output::json_line(&Event::Path { peer: peer.clone(), path }))
        .with_json_code(|invited| output::json_line(&Event::Code(invited.clone())))
}

/// What happens, in JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    Listening {
        address: SocketAddr,
        to: Option<&'a Target>,
        protocol: &'static str,
    },
    Linked {
        peer: &'a str,
        path: String,
        direct: bool,
    },
    /// A link has ended, and another one is waited for.
    Unlinked {
        peer: &'a str,
        why: String,
    },
    Path {
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
        #[serde(flatten)]
        path: PathChange,
    },
    Code(Invited),
    /// The peer listens for this side (-R).
    RemoteListening(RemoteListening),
    /// It does not.
    RemoteNotListening(NotListening),
    /// This side listens for the peer (--allow-listen).
    ListensForPeer {
        address: SocketAddr,
    },
    /// It does not.
    NotListeningForPeer(ListenRefused),
    /// A connection that did not come about; `untold` others came before.
    NotMade {
        #[serde(flatten)]
        not_made: NotMade,
        untold: u64,
    },
    Ended {
        why: String,
        summary: Summary,
    },
}

/// A link, in JSON.
pub(super) fn linked(link: &Link) {
    let kind = link.path().kind;
    let direct = matches!(kind, PathKind::Direct { .. });
    let (peer, path) = (link.peer().as_str(), kind.to_string());
    output::json_line(&Event::Linked { peer, path, direct });
}

/// How many connections that were not made may be told.
#[derive(Debug, Default)]
struct Allowance {
    used: Bucket,
    untold: u64,
    /// What was told last, and when: the same is not told again at once.
    last: Option<(NotMade, Instant)>,
}

impl Allowance {
    /// Whether one more may be told; then, how many were not since the last one.
    fn take(&mut self, not_made: &NotMade, now: Instant) -> Option<u64> {
        let is_known = self.last.as_ref().is_some_and(|(last, told_at)| {
            last == not_made && now.duration_since(*told_at) < TOLD.per
        });
        if is_known || !self.used.take(TOLD, now) {
            self.untold += 1;
            return None;
        }
        self.last = Some((not_made.clone(), now));
        Some(std::mem::take(&mut self.untold))
    }
}

/// Tells what happens to connections and listeners. Peers cause it, so there is a bound.
pub(super) fn teller(json: bool) -> impl Fn(Told) + Send + Sync + 'static {
    let not_made = tell_not_made(json);
    let used = Mutex::new(Bucket::default());
    move |told| {
        let (event, text) = match told {
            Told::NotMade(it) => return not_made(it),
            Told::Listening(it) => {
                let text =
                    format!("the peer listens on {} (-R), to {} on this side", it.address, it.to);
                (Event::RemoteListening(it), text)
            }
            Told::NotListening(it) => {
                let text = format!("the peer does not listen on {} (-R): {}", it.listen, it.reason);
                (Event::RemoteNotListening(it), text)
            }
            Told::ListenRefused(it) => {
                let text = format!(
                    "not listening on {} for the peer (-R there): {}",
                    it.address, it.reason
                );
                (Event::NotListeningForPeer(it), text)
            }
            Told::ListensForPeer(address) => (
                Event::ListensForPeer { address },
                format!("listening on {address} for the peer (-R there)"),
            ),
        };
        if !used.lock().unwrap_or_else(PoisonError::into_inner).take(TOLD, Instant::now()) {
            return;
        }
        if json { output::json_line(&event) } else { output::progress(text) }
    }
}

/// Tells of connections that were not made, up to a bound.
fn tell_not_made(json: bool) -> impl Fn(NotMade) + Send + Sync + 'static {
    let allowance = Mutex::new(Allowance::default());
    move |not_made| {
        let mut allowance = allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let may = allowance.take(&not_made, Instant::now());
        drop(allowance);
        let Some(untold) = may else { return };
        if json {
            output::json_line(&Event::NotMade { not_made, untold });
        } else {
            output::progress(line(&not_made, untold));
        }
    }
}

fn line(not_made: &NotMade, untold: u64) -> String {
    let NotMade { asked_by, target, reason, code: _ } = not_made;
    // Some reasons name it.
    let to = match target {
        Some(target) if reason.contains(&target.to_string()) => String::new(),
        Some(target) => format!(" to {target}"),
        None => String::new(),
    };
    let what = match (asked_by, target) {
        // Nothing of the peer's is in the way.
        (Asker::ThisSide, Some(_)) if not_made.code.is_some() => format!("no connection{to}"),
        (Asker::ThisSide, Some(_)) => format!("no connection{to} on the peer's side"),
        (Asker::ThisSide, None) => "no connection".to_owned(),
        (Asker::Peer, _) => format!("no connection{to} for the peer"),
    };
    let more = match untold {
        0 => String::new(),
        1 => " (1 more refusal was not told)".to_owned(),
        more => format!(" ({more} more refusals were not told)"),
    };
    format!("{what}: {reason}{more}")
}

/// All connections of a link, in words.
pub(super) fn in_words(summary: &Summary) -> String {
    let mut text = format!(
        "{} through the peer, {} for the peer; {} to the peer, {} from the peer",
        counted(summary.opened, "connection"),
        counted(summary.served, "connection"),
        HumanBytes(summary.sent_bytes),
        HumanBytes(summary.received_bytes)
    );
    if summary.udp_opened + summary.udp_served + summary.udp_dropped > 0 {
        text += &format!(
            "; UDP: {} through the peer, {} for the peer, {} sent, {} received, {} dropped",
            counted(summary.udp_opened, "flow"),
            summary.udp_served,
            counted(summary.udp_sent, "datagram"),
            summary.udp_received,
            summary.udp_dropped
        );
    }
    let not_made = summary.forbidden + summary.failed + summary.busy + summary.malformed;
    for (number, what) in [
        (summary.turned_away, "too many at once"),
        (summary.without_link, "without a link"),
        (summary.refused_by_peer, "not made by the peer"),
        (not_made, "not made for the peer"),
        (summary.broken, "cut short"),
    ] {
        if number > 0 {
            text += &format!("; {number} {what}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_and_then_one_now_and_then_with_the_number_of_the_others() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        let mut number = 0;
        let mut another = |allowance: &mut Allowance, now| {
            number += 1;
            allowance.take(&refused(&format!("reason {number}")), now)
        };
        let told = (0..1000).filter(|_| another(&mut allowance, start).is_some()).count();
        assert_eq!(told, 10);
        assert_eq!(another(&mut allowance, start + TOLD.per), Some(990));
        assert_eq!(another(&mut allowance, start + TOLD.per), None);
        assert_eq!(another(&mut allowance, start + TOLD.per * 2), Some(1));
        let later = start + TOLD.per * 1000;
        let told = (0..1000).filter(|_| another(&mut allowance, later).is_some()).count();
        assert_eq!(told, 10);
    }

    fn refused(reason: &str) -> NotMade {
        let target = Some("db:5432".parse().unwrap());
        NotMade { asked_by: Asker::ThisSide, target, reason: reason.to_owned(), code: None }
    }

    #[test]
    fn the_same_is_told_once_in_a_while() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        let told = (0..20).map(|second| {
            let now = start + Duration::from_millis(1100) * second;
            allowance.take(&refused("nothing listens there"), now)
        });
        let told: Vec<u64> = told.flatten().collect();
        assert_eq!(told, [0, 4, 4, 4]);
        assert_eq!(allowance.take(&refused("something else"), start + TOLD.per * 5), Some(4));
    }

    #[test]
    fn lines_name_the_side_the_target_and_the_reason() {
        let own = refused("Connection refused");
        assert_eq!(
            line(&own, 0),
            "no connection to db:5432 on the peer's side: Connection refused"
        );
        let named = refused("db:5432 is not allowed");
        assert_eq!(line(&named, 0), "no connection on the peer's side: db:5432 is not allowed");
        let theirs = NotMade { asked_by: Asker::Peer, ..own };
        assert_eq!(
            line(&theirs, 3),
            "no connection to db:5432 for the peer: Connection refused (3 more refusals were not told)"
        );
    }

    #[test]
    fn a_summary_counts_both_ways_and_leaves_out_what_has_not_happened() {
        let mut summary = Summary { opened: 1, sent_bytes: 2048, ..Summary::default() };
        let words = "1 connection through the peer, 0 connections for the peer; 2.00 KiB to the peer, \
                     0 B from the peer";
        assert_eq!(in_words(&summary), words);
        (summary.forbidden, summary.failed) = (1, 2);
        assert_eq!(in_words(&summary), format!("{words}; 3 not made for the peer"));
    }
}
