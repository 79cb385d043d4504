//! `GET /debug/list_workers`: one object that serves every generation of readers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use holepunch_matchmaker::{Board, Event, Listed, ListedWorker, Member, Reply, Request};
use holepunch_wire::address::{Site, Source};
use holepunch_wire::rate::{Bucket, Rate};
use holepunch_wire::shares::Table;
use holepunch_wire::tenant::Tenant;
use serde::Serialize;
use tokio::sync::MutexGuard;

use crate::client_address::client_address;
use crate::front::Front;
use crate::hub::Hub;
use crate::refused::Refused;
use crate::tokens::Gate;

/// Most workers of one listing, and of those that wait for a peer: some 500 KB. A fleet that is larger is listed page by
/// page.
const LISTED_MAX: usize = 1000;
/// Listings under way at once: each is in memory until its client has read it.
const LISTINGS_MAX: usize = 16;
/// Of these, for one source, which may be an IPv6 site.
const LISTINGS_OF_SOURCE_MAX: usize = 4;
/// Bytes of listings that one source is sent, likewise: a listing of all that fits into one, four times a second, or some 60,000
/// workers page by page at once. Whoever asks again and again has what costs the operator most.
const BYTES_OF_SOURCE: Rate =
    Rate { count: 2_000_000, per: Duration::from_secs(1), burst: 32_000_000 };
/// A listing up to this length is sent in one piece.
const PIECE_BYTES: usize = 64 * 1024;

/// The number that stands for "connected" in the raw states.
const STATE_CONNECTED: u8 = 1;

const NO_AFTER: &str = "expected an id, or what `next_after` of another page says, as `after`";

/// The whole answer. A worker that is not connected is not registered, so it never stands here.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    connected_workers_count: usize,
    workers_ready_for_pairing_count: usize,
    workers_ready_list: Vec<String>,
    workers: BTreeMap<String, Entry>,
    workers_details: BTreeMap<String, ShortEntry>,
    /// The last worker of this page, where there are more behind it: the `after` of the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
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

/// Which workers are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    after: Option<Member>,
    limit: usize,
}

impl Page {
    /// From a query, `after=…&limit=…`: else what is wrong with it.
    fn of(query: Option<&str>) -> Result<Self, String> {
        let mut page = Self { after: None, limit: LISTED_MAX };
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "after" => page.after = Some(Member::of_text(&value).ok_or(NO_AFTER)?),
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=LISTED_MAX).contains(it));
                    page.limit = limit.ok_or(format!("expected a limit from 1 to {LISTED_MAX}"))?;
                }
                _ => {}
            }
        }
        Ok(page)
    }
}

impl Listing {
    fn of(board: &Board, listed: &Listed, page: &Page, within: Option<&Tenant>) -> Self {
        let by_id = |worker: &ListedWorker| match within {
            Some(_) => worker.id.name.as_str().to_owned(),
            None => worker.id.to_string(),
        };
        // Ids of two tenants may look alike to people, and not in a cursor.
        let last = listed.workers.last().map(|worker| match within {
            Some(_) => worker.id.name.as_str().to_owned(),
            None => worker.id.to_text(),
        });
        let ready = board.halls().ready(within).take(page.limit);
        Self {
            connected_workers_count: listed.all,
            workers_ready_for_pairing_count: board.halls().ready_count(within),
            workers_ready_list: ready.map(|worker| worker.as_str().to_owned()).collect(),
            workers: listed.workers.iter().map(|it| (by_id(it), Entry::of(it))).collect(),
            workers_details: listed
                .workers
                .iter()
                .map(|it| (by_id(it), ShortEntry::of(it)))
                .collect(),
            next_after: last.filter(|_| listed.has_more),
        }
    }
}

impl Entry {
    fn of(worker: &ListedWorker) -> Self {
        Self {
            websocket_observed_ip: worker.ip,
            websocket_observed_port: worker.seen.port,
            http_reported_public_ip: worker.seen.http_ip,
            stun_reported_udp_ip: worker.seen.endpoint.map(|endpoint| endpoint.ip()),
            stun_reported_udp_port: worker.seen.endpoint.map(|endpoint| endpoint.port()),
            websocket_connected: true,
            public_ip: worker.seen.http_ip.unwrap_or(worker.ip),
            public_port: worker.seen.port,
            connected: true,
            raw_state: STATE_CONNECTED,
            websocket_raw_state: STATE_CONNECTED,
        }
    }
}

impl ShortEntry {
    fn of(worker: &ListedWorker) -> Self {
        Self {
            ws_ip: worker.ip,
            ws_port: worker.seen.port,
            http_ip: worker.seen.http_ip,
            stun_udp_ip: worker.seen.endpoint.map(|endpoint| endpoint.ip()),
            stun_udp_port: worker.seen.endpoint.map(|endpoint| endpoint.port()),
            ws_connected: true,
        }
    }
}

/// Who reads a listing. This machine has no share of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listings {
    readers: Arc<Mutex<Readers>>,
    /// Held by the one that is being made: a listing takes longer than anything else that is asked of the server, which has
    /// to get on with all else between two of them.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Readers {
    all: usize,
    of_sites: Table<Site, usize>,
    bytes: Table<Site, Bucket>,
}

/// One listing under way.
#[derive(Debug)]
pub(crate) struct Reading {
    listings: Listings,
    site: Option<Site>,
}

impl Listings {
    /// Waits for this one's turn, and takes a place among the readers; else says that there is none.
    pub(crate) async fn turn(
        &self,
        front: &Front,
        client: IpAddr,
    ) -> Result<(MutexGuard<'_, ()>, Reading), Response> {
        let turn = self.turn.lock().await;
        match self.begin(client, Instant::now()) {
            Ok(reading) => Ok((turn, reading)),
            Err(status) => {
                front.refused.count(Refused::Listings);
                let soon = [(RETRY_AFTER, HeaderValue::from_static("1"))];
                let why = "too many listings at once, or in too short a time";
                Err((status, soon, why).into_response())
            }
        }
    }

    fn begin(&self, ip: IpAddr, now: Instant) -> Result<Reading, StatusCode> {
        let site = Source::of(ip).map(Source::site);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.all >= LISTINGS_MAX {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        if let Some(site) = site {
            let has_bytes = readers.bytes.has(&site, BYTES_OF_SOURCE, 1, now);
            if readers.of_sites.of(&site) >= LISTINGS_OF_SOURCE_MAX || !has_bytes {
                return Err(StatusCode::TOO_MANY_REQUESTS);
            }
            readers.of_sites.add(site);
        }
        readers.all += 1;
        drop(readers);
        Ok(Reading { listings: self.clone(), site })
    }
}

impl Reading {
    /// The answer with a listing, which holds its place until the client has read (nearly) all of it.
    pub(crate) fn answer(self, kind: &'static str, text: Vec<u8>) -> Response {
        let length = text.len();
        self.spend(length, Instant::now());
        let is_short = length <= PIECE_BYTES;
        let body = if is_short { Body::from(text) } else { in_pieces(text, self) };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
            (CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        (headers, body).into_response()
    }

    /// Counts what is sent. How much is known once it is there: the last listing may be more than what was left.
    fn spend(&self, bytes: usize, now: Instant) {
        let mut readers = self.listings.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(site) = self.site {
            readers.bytes.spend(site, BYTES_OF_SOURCE, bytes as u64, now);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut readers = self.listings.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.all -= 1;
        if let Some(site) = self.site {
            readers.of_sites.take_off(site);
        }
    }
}

/// Where listings are asked for.
#[derive(Debug)]
pub(crate) struct ListingDoor {
    pub(crate) front: Arc<Front>,
    pub(crate) hub: Arc<Hub>,
    /// `None`: whoever asks is told of all.
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) listings: Listings,
}

impl ListingDoor {
    pub(crate) fn routes(self) -> Router {
        Router::new().route("/debug/list_workers", get(list_workers)).with_state(Arc::new(self))
    }
}

async fn list_workers(
    State(door): State<Arc<ListingDoor>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let page = match Page::of(query.as_deref()) {
        Ok(page) => page,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    // Whoever needs a token to register needs one to see who has, and sees its own tenant alone.
    let within = match door.gate.as_ref().map(|gate| gate.admit(&headers)).transpose() {
        Ok(pass) => pass.map(|pass| pass.permit.tenant.clone()),
        Err(refusal) => {
            door.hub.tell(&Event::Denied(refusal.code()).told(None), SystemTime::now());
            return refusal.response();
        }
    };
    let client = client_address(from, &headers, &door.front.trusted_proxies).ip;
    let (turn, reading) = match door.listings.turn(&door.front, client).await {
        Ok(reading) => reading,
        Err(refusal) => return refusal,
    };
    let after = page.after.clone().map(|after| match &within {
        Some(tenant) => Member { tenant: tenant.clone(), ..after },
        None => after,
    });
    let request = Request::List { within: within.clone(), after, limit: page.limit };
    let Some(Reply::Listed(listed)) = door.hub.ask(request).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, door.hub.store_trouble()).into_response();
    };
    let listing = door.hub.read(|board| Listing::of(board, &listed, &page, within.as_ref()));
    let Ok(text) = serde_json::to_vec(&listing) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    tokio::task::yield_now().await;
    drop(turn);
    reading.answer("application/json", text)
}

/// A body that holds its place until the client has read (nearly) all of it.
fn in_pieces(text: Vec<u8>, reading: Reading) -> Body {
    let pieces = stream::unfold((Bytes::from(text), reading), |(mut rest, reading)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        Some((Ok::<_, std::convert::Infallible>(piece), (rest, reading)))
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_page_and_what_it_cannot_mean_is_said() {
        for whole in [None, Some(""), Some("verbose")] {
            assert_eq!(Page::of(whole), Ok(Page { after: None, limit: LISTED_MAX }));
        }
        let after = Member::of_text("a b");
        assert_eq!(Page::of(Some("limit=7&after=a%20b")), Ok(Page { after, limit: 7 }));
        for wrong in ["limit=0", "limit=1001", "limit=x", "limit=", "after=", "after=%1fa"] {
            assert!(Page::of(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nobody_reads_more_listings_at_once_than_his_share() {
        let listings = Listings::default();
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let begin = |text: &str| listings.begin(ip(text), Instant::now());
        let mut held: Vec<_> = (0..4).map(|_| begin("192.0.2.1").unwrap()).collect();
        assert_eq!(begin("192.0.2.1").unwrap_err(), StatusCode::TOO_MANY_REQUESTS);
        held.extend((0..4).map(|it| begin(&format!("2001:db8:0:{it}::1")).unwrap()));
        assert_eq!(begin("2001:db8:0:9::1").unwrap_err(), StatusCode::TOO_MANY_REQUESTS);
        held.extend((0..8).map(|_| begin("127.0.0.1").unwrap()));
        for full in ["127.0.0.1", "192.0.2.2"] {
            assert_eq!(begin(full).unwrap_err(), StatusCode::SERVICE_UNAVAILABLE);
        }
        held.clear();
        assert!(begin("192.0.2.1").is_ok());
        assert!(listings.readers.lock().unwrap().of_sites.is_empty());
    }

    #[test]
    fn nobody_is_sent_more_bytes_of_listings_than_his_share() {
        let (listings, start) = (Listings::default(), Instant::now());
        let begin = |text: &str, now| listings.begin(text.parse().unwrap(), now);
        let listing = 500_000;
        let sent = |now| {
            let spend = |reading: Reading| reading.spend(listing, now);
            (0..1000).filter(|_| begin("192.0.2.1", now).map(spend).is_ok()).count()
        };
        assert_eq!(sent(start), 64);
        assert_eq!(begin("192.0.2.1", start).unwrap_err(), StatusCode::TOO_MANY_REQUESTS);
        assert!(begin("192.0.2.2", start).is_ok(), "it is the other one's share");
        assert!(begin("127.0.0.1", start).is_ok(), "this machine has none");
        assert_eq!(sent(start + Duration::from_secs(1)), 4);
        assert_eq!(sent(start + Duration::from_secs(100)), 64);
    }
}
