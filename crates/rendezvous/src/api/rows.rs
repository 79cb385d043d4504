//! The entries of each kind of page.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::UNIX_EPOCH;

use holepunch_matchmaker::{EndView, InstanceId, MemberView, RoomView, SessionView};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatClass;
use holepunch_wire::plan::Strategy;
use holepunch_wire::session::{LinkState, RoomName, SessionId};
use holepunch_wire::signal::v1::LinkReport;
use holepunch_wire::tenant::Tenant;
use serde::Serialize;

use super::query::Query;
use crate::links::{Link, Path};
use crate::metrics::{ROOMS, class_of};

/// A worker in a room.
#[derive(Debug, Serialize)]
pub(super) struct WorkerRow {
    id: WorkerId,
    room: RoomName,
    #[serde(skip_serializing_if = "Tenant::is_unnamed")]
    tenant: Tenant,
    ip: IpAddr,
    endpoint: Option<SocketAddr>,
    protocol: &'static str,
    nat: NatClass,
    waiting: bool,
    overdue: bool,
    rtt_ms: Option<u64>,
    sessions: usize,
    /// Whether its WebSocket is at this instance.
    here: bool,
}

impl WorkerRow {
    pub(super) fn of(view: &MemberView<'_>, own: InstanceId, query: &Query) -> Option<Self> {
        let card = view.card;
        let protocol = if card.v1.is_some() { "v1" } else { "baseline" };
        let nat = card.v1.as_ref().map(|v1| v1.profile.class()).unwrap_or_default();
        let is_wanted = query.takes_ids([&card.worker])
            && query.takes_nats(&[nat])
            && query.takes_word(protocol)
            && query.waiting.is_none_or(|waiting| waiting == view.waits);
        is_wanted.then(|| Self {
            id: card.worker.clone(),
            room: view.room.name.clone(),
            tenant: view.room.tenant.clone(),
            ip: card.observed,
            endpoint: card.endpoint,
            protocol,
            nat,
            waiting: view.waits,
            overdue: card.overdue,
            rtt_ms: card.rtt.map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
            sessions: view.sessions,
            here: view.seat.instance == own,
        })
    }

    pub(super) fn cursor<'a>(view: &MemberView<'a>) -> [Cow<'a, str>; 2] {
        [view.room.to_text().into(), view.card.worker.as_str().into()]
    }
}

/// A room.
#[derive(Debug, Serialize)]
pub(super) struct RoomRow {
    room: RoomName,
    #[serde(skip_serializing_if = "Tenant::is_unnamed")]
    tenant: Tenant,
    class: &'static str,
    workers: usize,
    waiting: usize,
    sessions: usize,
}

impl RoomRow {
    pub(super) fn of(view: &RoomView<'_>, query: &Query) -> Option<Self> {
        let class = ROOMS[class_of(view)];
        let begins = |prefix: &String| view.name.name.as_str().starts_with(prefix.as_str());
        let is_wanted = query.prefix.as_ref().is_none_or(begins)
            && query.takes_room(Some(view.name))
            && query.takes_word(class);
        is_wanted.then(|| Self {
            room: view.name.name.clone(),
            tenant: view.name.tenant.clone(),
            class,
            workers: view.members,
            waiting: view.waiting,
            sessions: view.sessions,
        })
    }
}

/// A session.
#[derive(Debug, Serialize)]
pub(super) struct SessionRow {
    session: SessionId,
    room: RoomName,
    #[serde(skip_serializing_if = "Tenant::is_unnamed")]
    tenant: Tenant,
    nats: [NatClass; 2],
    strategy: Strategy,
    plan: u32,
    path: &'static str,
    workers: [EndRow; 2],
}

/// One of its workers.
#[derive(Debug, Serialize)]
struct EndRow {
    id: WorkerId,
    connected: bool,
    /// What it says of the path.
    path: &'static str,
}

fn path_of(end: &EndView<'_>) -> Path {
    if end.is_direct {
        Path::Direct
    } else if end.is_relayed {
        Path::Relayed
    } else {
        Path::None
    }
}

impl SessionRow {
    pub(super) fn of(view: &SessionView<'_>, query: &Query) -> Option<Self> {
        let path = view.ends.iter().map(path_of).max().unwrap_or(Path::None).code();
        let is_wanted = query.takes_ids(view.ends.iter().map(|end| end.worker))
            && query.takes_nats(&view.classes)
            && query.takes_word(path);
        is_wanted.then(|| Self {
            session: view.session,
            room: view.room.name.clone(),
            tenant: view.room.tenant.clone(),
            nats: view.classes,
            strategy: view.plan.strategy,
            plan: view.plan.number,
            path,
            workers: view.ends.each_ref().map(|end| EndRow {
                id: end.worker.clone(),
                connected: end.is_connected,
                path: path_of(end).code(),
            }),
        })
    }

    pub(super) fn cursor<'a>(view: &SessionView<'a>) -> [Cow<'a, str>; 2] {
        [view.room.to_text().into(), view.session.to_string().into()]
    }
}

/// What the two workers of a session have said of their link.
#[derive(Debug, Serialize)]
pub(super) struct LinkRow {
    session: SessionId,
    room: Option<RoomName>,
    #[serde(skip_serializing_if = "Tenant::is_unnamed")]
    tenant: Tenant,
    nats: [NatClass; 2],
    strategy: Strategy,
    path: &'static str,
    began_ms: u64,
    workers: [ReportRow; 2],
}

/// What one of them has said last.
#[derive(Debug, Serialize)]
struct ReportRow {
    id: WorkerId,
    report: Option<Said>,
}

#[derive(Debug, Serialize)]
struct Said {
    state: LinkState,
    strategy: Strategy,
    plan: u32,
    reason: String,
    rtt_ms: Option<u32>,
    elapsed_ms: u64,
    probes: u32,
}

impl Said {
    fn of(report: &LinkReport) -> Self {
        Self {
            state: report.state,
            strategy: report.strategy,
            plan: report.number,
            reason: report.reason.clone(),
            rtt_ms: report.rtt_ms,
            elapsed_ms: report.elapsed_ms,
            probes: report.probes,
        }
    }
}

impl LinkRow {
    pub(super) fn of((session, link): (SessionId, &Link), query: &Query) -> Option<Self> {
        let path = link.best.code();
        let is_wanted = query.takes_ids(&link.workers)
            && query.takes_nats(&link.nats)
            && query.takes_room(link.room.as_ref())
            && query.takes_word(path);
        let began = link.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        is_wanted.then(|| Self {
            session,
            room: link.room.as_ref().map(|room| room.name.clone()),
            tenant: link.room.as_ref().map(|room| room.tenant.clone()).unwrap_or_default(),
            nats: link.nats,
            strategy: link.strategy,
            path,
            began_ms: u64::try_from(began).unwrap_or(u64::MAX),
            workers: [0, 1].map(|own: usize| ReportRow {
                id: link.workers[own].clone(),
                report: link.reports[own].as_ref().map(Said::of),
            }),
        })
    }
}
