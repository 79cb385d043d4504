//! What QUIC says of paths, in the words of the machine of a link's paths: for whoever drives the two together, on sockets or on a
//! simulated line.

use holepunch_paths::{Counts, Input, PathId, Status};
use noq::{PathEvent, PathStats, PathStatus};

/// The number of a path.
#[must_use]
pub fn number(id: noq::PathId) -> PathId {
    PathId(id.as_u32())
}

/// The path of a number.
#[must_use]
pub fn id(path: PathId) -> noq::PathId {
    noq::PathId::from(path.0)
}

/// How a path is to be used.
#[must_use]
pub fn status(status: Status) -> PathStatus {
    match status {
        Status::Available => PathStatus::Available,
        Status::Backup => PathStatus::Backup,
    }
}

/// What is counted on a path.
#[must_use]
pub fn counts(stats: &PathStats) -> Counts {
    Counts {
        acked_bytes: stats.acked_bytes,
        in_flight_bytes: stats.in_flight_bytes,
        received_datagrams: stats.udp_rx.datagrams,
        black_holes: stats.black_holes_detected,
        payload_bytes: stats.current_mtu,
        rtt: stats.rtt,
    }
}

/// Whether a path carries packets: a challenge has been answered on it (RFC 9000 §8.2).
#[must_use]
pub fn is_validated(stats: &PathStats) -> bool {
    stats.frame_rx.path_response > 0
}

/// What has happened to a path, if the machine is to know. `route` tells the route that the peer's address on it stands for.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add events")]
pub fn input<R>(
    event: &PathEvent,
    route: impl FnOnce(noq::PathId) -> Option<R>,
) -> Option<Input<R>> {
    match event {
        PathEvent::Established { id, .. } => {
            Some(Input::Established { path: number(*id), route: route(*id) })
        }
        PathEvent::Abandoned { id, .. } => Some(Input::Abandoned(number(*id))),
        PathEvent::Discarded { id, .. } => Some(Input::Discarded(number(*id))),
        // Each side decides by itself; and what the peer sees of this side, STUN tells better.
        _ => None,
    }
}
