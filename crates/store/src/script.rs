//! A request as the arguments of `registry.lua`, and what that answers.

use std::net::IpAddr;
use std::time::Duration;

use holepunch_matchmaker::{
    ClaimError, Claimed, ConnectionId, Epoch, InstanceId, Listed, ListedWorker, Member,
    NotAdmitted, Reply, Request, Room, Seat, Seen, Whereabouts, limits,
};
use holepunch_rendezvous::MatchmakerConfig;
use holepunch_wire::address::{SHARES_OF_SITE, Source};
use holepunch_wire::identity::{PublicKey, is_made_from_a_key};
use redis::{Cmd, FromRedisValue, Script, Value, cmd, from_redis_value};

/// Stands in the place of `None` for a limit that there is not.
const UNLIMITED: i64 = -1;

/// For so long a room is known to have been that of an instance which is gone.
const ROOMS_KEPT_FOR: Duration = Duration::from_secs(60);
/// Connections, and rooms, of one that is gone which are seen to in one step, in some 100 ms.
const BURIED_AT_ONCE: usize = 2000;

/// The script, with its limits.
pub(crate) fn script() -> Script {
    let text = format!(
        "local LEASE, RESUME, BOUND, KEPT = {}, {}, {}, {}\n\
         local BOUND_MAX, BOUND_OF_SOURCE_MAX, BOUND_OF_SITE_MAX = {}, {}, {}\n\
         local REPLACING_MAX, TOKENS_MAX, ROOMS_MAX, BURIED_AT_ONCE = {}, {}, {}, {}\n{}",
        limits::LEASE.as_millis(),
        limits::RESUME_WITHIN.as_millis(),
        limits::BOUND_FOR.as_millis(),
        ROOMS_KEPT_FOR.as_millis(),
        limits::BINDINGS_MAX,
        limits::BINDINGS_OF_SOURCE_MAX,
        limits::BINDINGS_OF_SITE_MAX,
        limits::REPLACING_MAX,
        limits::TOKENS_MAX,
        limits::ROOMS_MAX,
        BURIED_AT_ONCE,
        include_str!("registry.lua"),
    );
    Script::new(&text)
}

/// The places that there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    workers: i64,
    of_source: i64,
    of_site: i64,
    of_tenant: i64,
}

impl Places {
    pub(crate) fn of(config: &MatchmakerConfig) -> Self {
        let number = |places: usize| i64::try_from(places).unwrap_or(i64::MAX);
        let own = config.workers_per_address_max;
        let site = |own: usize| own.saturating_mul(SHARES_OF_SITE as usize);
        Self {
            workers: number(config.workers_max),
            of_source: own.map_or(UNLIMITED, number),
            of_site: own.map_or(UNLIMITED, |own| number(site(own))),
            of_tenant: config.workers_per_tenant_max.map_or(UNLIMITED, number),
        }
    }

    fn refusal(self, why: &str) -> NotAdmitted {
        let max = |places: i64| usize::try_from(places).unwrap_or(usize::MAX);
        match why {
            "source" => NotAdmitted::ShareOfAddress(max(self.of_source)),
            "site" => NotAdmitted::ShareOfSite(max(self.of_site)),
            "tenant" => NotAdmitted::ShareOfTenant(max(self.of_tenant)),
            _ => NotAdmitted::Full,
        }
    }
}

/// What carries a request out.
pub(crate) fn command(
    (sha, base): (&str, &str),
    from: InstanceId,
    request: &Request,
    places: Places,
) -> Cmd {
    let mut cmd = cmd("EVALSHA");
    cmd.arg(sha).arg(1).arg(base);
    let with_places = |cmd: &mut Cmd| {
        cmd.arg(places.workers).arg(places.of_source).arg(places.of_site).arg(places.of_tenant);
    };
    match request {
        Request::Renew { again } => {
            cmd.arg("renew").arg(instance_text(from)).arg(u8::from(*again));
        }
        Request::Resign => {
            cmd.arg("resign").arg(instance_text(from));
        }
        Request::Own { room, known } => {
            cmd.arg("own").arg(instance_text(from)).arg(room_text(room)).arg(known.0);
        }
        Request::Disown { room, epoch } => {
            cmd.arg("disown").arg(instance_text(from)).arg(room_text(room)).arg(epoch.0);
        }
        Request::Admits { worker, ip } => {
            let [source, site] = shares(*ip);
            cmd.arg("admits").arg(worker.to_text()).arg(source).arg(site);
            with_places(&mut cmd);
        }
        Request::List { within, after, limit } => {
            let after = after.as_ref().map(Member::to_text).unwrap_or_default();
            // As `tenant_of` says it; `*` is nobody's name.
            let within = within.as_ref().map_or("*", |tenant| tenant.name().unwrap_or_default());
            cmd.arg("list").arg(after).arg(*limit).arg(within);
        }
        Request::Arrive { seat, worker, ip } => {
            cmd.arg("arrive");
            arriving(&mut cmd, *seat, worker, *ip);
            with_places(&mut cmd);
        }
        Request::Claim { seat, worker, ip, key, again } => {
            cmd.arg(if again.is_some() { "reclaim" } else { "claim" });
            arriving(&mut cmd, *seat, worker, *ip);
            cmd.arg(key.as_ref().map(PublicKey::to_string).unwrap_or_default());
            if let Some(before) = again {
                cmd.arg(seat_text(*before));
            }
        }
        Request::Find { worker, .. } => {
            cmd.arg("find").arg(worker.to_text());
        }
        Request::Is { seat, worker, is } => {
            let Whereabouts { version, room, visits, resume, seen } = is;
            let all = room.iter().chain(visits).map(room_text).collect::<Vec<_>>().join("\n");
            // A listing shows less of a worker whose details are no JSON, and nothing else goes by them.
            let seen = serde_json::to_string(seen).unwrap_or_default();
            cmd.arg("is").arg(seat_text(*seat)).arg(worker.to_text());
            cmd.arg(room.as_ref().map(room_text).unwrap_or_default()).arg(all);
            cmd.arg(resume.join("\n")).arg(seen).arg(*version);
        }
        Request::Release { seat, worker, outlives, has_sessions, .. } => {
            cmd.arg("release").arg(seat_text(*seat)).arg(worker.to_text());
            cmd.arg(u8::from(*outlives)).arg(u8::from(*has_sessions));
        }
    }
    cmd
}

fn arriving(cmd: &mut Cmd, seat: Seat, worker: &Member, ip: IpAddr) {
    let [source, site] = shares(ip);
    cmd.arg(seat_text(seat)).arg(worker.to_text()).arg(source).arg(site).arg(ip.to_string());
    cmd.arg(u8::from(is_made_from_a_key(&worker.name)));
}

/// What has come for a request; `None`: nothing that can be one.
pub(crate) fn reply(request: &Request, answer: Value, places: Places) -> Option<Reply> {
    let admitted = |why: &str| if why.is_empty() { Ok(()) } else { Err(places.refusal(why)) };
    match request {
        Request::Renew { .. } => {
            let (run, live): (String, Vec<String>) = read(answer)?;
            let live = live.iter().map(|text| instance(text)).collect::<Option<_>>()?;
            // Another run of the server, or another server, may have lost what the one before was told last.
            let store = u64::from_str_radix(run.get(..16)?, 16).ok()?;
            Some(Reply::Renewed { live, store })
        }
        Request::Own { room, .. } => {
            let (owner, epoch, was_owned): (String, u64, bool) = read(answer)?;
            let (room, owner) = (room.clone(), instance(&owner)?);
            Some(Reply::Owner { room, owner, epoch: Epoch(epoch), was_owned })
        }
        Request::Admits { .. } => Some(Reply::Admits(admitted(&read::<String>(answer)?))),
        Request::List { .. } => {
            let (workers, has_more, all): (Vec<(String, String, String)>, bool, usize) =
                read(answer)?;
            let workers = workers.into_iter().filter_map(listed).collect();
            Some(Reply::Listed(Listed { workers, has_more, all }))
        }
        Request::Arrive { seat, .. } => {
            let Some((why, needs_proof)) = read::<(String, bool)>(answer) else {
                return Some(Reply::NotLive);
            };
            Some(Reply::Arrived(*seat, admitted(&why).map(|()| needs_proof)))
        }
        Request::Claim { seat, again, .. } => Some(match (claimed(answer), again) {
            (None, _) => Reply::NotLive,
            (Some(claimed), None) => Reply::Claimed(*seat, claimed),
            (Some(claimed), Some(_)) => Reply::Reclaimed(*seat, claimed),
        }),
        Request::Find { seat: asks, .. } => {
            let (at, room): (Option<String>, Option<String>) = read(answer)?;
            let found = at.zip(room).and_then(|(at, room)| Some((seat(&at)?, room_of(&room)?)));
            Some(Reply::Found(*asks, found))
        }
        Request::Resign | Request::Disown { .. } | Request::Is { .. } | Request::Release { .. } => {
            Some(Reply::Done)
        }
    }
}

fn claimed(answer: Value) -> Option<Result<Claimed, ClaimError>> {
    let parts: Vec<String> = read(answer)?;
    match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["replaced"] => Some(Err(ClaimError::Replaced)),
        ["other_key"] => Some(Err(ClaimError::OtherKey)),
        ["ok", replaced, rooms, resume, order] => Some(Ok(Claimed {
            replaced: seat(replaced),
            left: rooms.lines().filter_map(room_of).collect(),
            resume: resume.lines().map(str::to_owned).collect(),
            order: order.parse().ok()?,
        })),
        _ => None,
    }
}

fn listed((id, ip, seen): (String, String, String)) -> Option<ListedWorker> {
    let seen: Seen = serde_json::from_str(&seen).unwrap_or_default();
    Some(ListedWorker { id: Member::of_text(&id)?, ip: ip.parse().ok()?, seen })
}

fn read<T: FromRedisValue>(answer: Value) -> Option<T> {
    from_redis_value(answer).ok()
}

/// Whose share a place is of, as texts; this machine has none.
fn shares(ip: IpAddr) -> [String; 2] {
    let source = Source::of(ip);
    let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    [text(source.map(Source::address)), text(source.map(|it| it.site().address()))]
}

/// With a letter before it, since the default room has no name.
fn room_text(room: &Room) -> String {
    format!("r{}", room.to_text())
}

fn room_of(text: &str) -> Option<Room> {
    Room::of_text(text.strip_prefix('r')?)
}

/// The generation, and the process.
fn instance_text(instance: InstanceId) -> String {
    format!("{}.{}", instance.0 >> 32, instance.process())
}

fn instance(text: &str) -> Option<InstanceId> {
    let (generation, process) = text.split_once('.')?;
    let (generation, process): (u32, u32) = (generation.parse().ok()?, process.parse().ok()?);
    Some(InstanceId((u64::from(generation) << 32) | u64::from(process)))
}

fn seat_text(Seat { instance, connection }: Seat) -> String {
    format!("{}/{}", instance_text(instance), connection.0)
}

fn seat(text: &str) -> Option<Seat> {
    let (of, connection) = text.split_once('/')?;
    Some(Seat { instance: instance(of)?, connection: ConnectionId(connection.parse().ok()?) })
}
