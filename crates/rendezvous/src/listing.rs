//! `GET /debug/list_workers`: one object that serves every generation of readers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holepunch_matchmaker::{Matchmaker, Worker};
use serde::Serialize;

/// The number that stands for "connected" in the raw states.
const STATE_CONNECTED: u8 = 1;

/// The whole answer. A worker that is not connected is not registered, so it never stands here.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    connected_workers_count: usize,
    workers_ready_for_pairing_count: usize,
    workers_ready_list: Vec<String>,
    workers: BTreeMap<String, Entry>,
    workers_details: BTreeMap<String, ShortEntry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    websocket_observed_ip: IpAddr,
    websocket_observed_port: Option<u16>,
    http_reported_public_ip: Option<IpAddr>,
    stun_reported_udp_ip: Option<IpAddr>,
    stun_reported_udp_port: Option<u16>,
    websocket_connected: bool,
    public_ip: IpAddr,
    public_port: Option<u16>,
    connected: bool,
    raw_state: u8,
    websocket_raw_state: u8,
}

#[derive(Debug, Serialize)]
struct ShortEntry {
    ws_ip: IpAddr,
    ws_port: Option<u16>,
    http_ip: Option<IpAddr>,
    stun_udp_ip: Option<IpAddr>,
    stun_udp_port: Option<u16>,
    ws_connected: bool,
}

impl Listing {
    pub(crate) fn of(machine: &Matchmaker) -> Self {
        let workers_ready_list: Vec<String> =
            machine.ready().map(|worker| worker.as_str().to_owned()).collect();
        let id = |worker: &Worker<'_>| worker.id.as_str().to_owned();
        let workers: BTreeMap<_, _> =
            machine.workers().map(|worker| (id(&worker), Entry::of(&worker))).collect();
        let workers_details =
            machine.workers().map(|worker| (id(&worker), ShortEntry::of(&worker))).collect();
        Self {
            connected_workers_count: workers.len(),
            workers_ready_for_pairing_count: workers_ready_list.len(),
            workers_ready_list,
            workers,
            workers_details,
        }
    }
}

impl Entry {
    fn of(worker: &Worker<'_>) -> Self {
        Self {
            websocket_observed_ip: worker.observed.ip,
            websocket_observed_port: worker.observed.port,
            http_reported_public_ip: worker.http_ip,
            stun_reported_udp_ip: worker.endpoint.map(|endpoint| endpoint.ip()),
            stun_reported_udp_port: worker.endpoint.map(|endpoint| endpoint.port()),
            websocket_connected: true,
            public_ip: worker.http_ip.unwrap_or(worker.observed.ip),
            public_port: worker.observed.port,
            connected: true,
            raw_state: STATE_CONNECTED,
            websocket_raw_state: STATE_CONNECTED,
        }
    }
}

impl ShortEntry {
    fn of(worker: &Worker<'_>) -> Self {
        Self {
            ws_ip: worker.observed.ip,
            ws_port: worker.observed.port,
            http_ip: worker.http_ip,
            stun_udp_ip: worker.endpoint.map(|endpoint| endpoint.ip()),
            stun_udp_port: worker.endpoint.map(|endpoint| endpoint.port()),
            ws_connected: true,
        }
    }
}
