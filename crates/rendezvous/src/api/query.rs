//! What a request asks for: a page, and a filter.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holepunch_matchmaker::Room;
use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatClass;
use holepunch_wire::session::{RoomName, SessionId};
use holepunch_wire::tenant::Tenant;

/// Entries of a page at most: some 300 KB, or 1.5 MB of links whose workers say as much of them as they may.
pub(super) const PAGE_MAX: usize = 1000;
/// Entries of a page where nothing is said.
pub(super) const PAGE: usize = 100;
/// Entries that are looked at for one page. One that finds fewer than it may have names the next page all the same.
const LOOKED_AT_MAX: usize = 20_000;
/// Bytes of a filter's value, or of a cursor: a room and an id in base64 are 514.
const VALUE_BYTES_MAX: usize = 1024;

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) limit: usize,
    pub(super) cursor: Option<String>,
    pub(super) room: Option<RoomName>,
    /// Whose rooms; with a room and without this, that of the tenant without a name.
    pub(super) tenant: Option<Tenant>,
    pub(super) prefix: Option<String>,
    pub(super) nat: Option<NatClass>,
    pub(super) session: Option<SessionId>,
    pub(super) waiting: Option<bool>,
    /// A word of one kind or another, where the kind has one.
    pub(super) word: Option<String>,
}

impl Query {
    /// From a query, which may name these filters beside `limit` and `cursor`; else what is wrong with it.
    pub(super) fn of(query: Option<&str>, filters: &[&str]) -> Result<Self, String> {
        let mut wanted = Self { limit: PAGE, ..Self::default() };
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !matches!(&*name, "limit" | "cursor") && !filters.contains(&&*name) {
                let known = filters.join(", ");
                return Err(format!("expected limit, cursor, {known} in the query"));
            }
            wanted.set(&name, &value)?;
        }
        Ok(wanted)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("the value of {name} is too long"));
        }
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|it| (1..=PAGE_MAX).contains(it));
                self.limit = limit.ok_or(format!("expected a limit from 1 to {PAGE_MAX}"))?;
            }
            "cursor" => self.cursor = Some(value.to_owned()),
            "room" => self.room = Some(RoomName::new(value).map_err(|it| it.to_string())?),
            "tenant" => self.tenant = Some(Tenant::new(value).map_err(|it| it.to_string())?),
            "prefix" => self.prefix = Some(value.to_owned()),
            "nat" => {
                let of_code = |it: &&NatClass| it.code() == value;
                let unknown = [NatClass::Unknown];
                let found = NatClass::ALL.iter().chain(&unknown).find(of_code);
                self.nat = Some(*found.ok_or("expected a class of NAT")?);
            }
            "session" => {
                self.session = Some(value.parse().map_err(|_| "expected 16 hexadecimal digits")?);
            }
            "waiting" => {
                self.waiting = Some(value.parse().map_err(|_| "expected true or false")?);
            }
            _ => self.word = Some(value.to_owned()),
        }
        Ok(())
    }

    /// Whether one of these ids begins as is asked.
    pub(super) fn takes_ids<'a>(&self, ids: impl IntoIterator<Item = &'a WorkerId>) -> bool {
        let prefix = self.prefix.as_deref();
        prefix.is_none_or(|prefix| ids.into_iter().any(|id| id.as_str().starts_with(prefix)))
    }

    pub(super) fn takes_nats(&self, nats: &[NatClass]) -> bool {
        self.nat.is_none_or(|nat| nats.contains(&nat))
    }

    pub(super) fn takes_room(&self, room: Option<&Room>) -> bool {
        let all = self.room.is_none() && self.tenant.is_none();
        let tenant = self.tenant.as_ref().unwrap_or(&Tenant::Unnamed);
        let is_it = |room: &Room| {
            room.tenant == *tenant && self.room.as_ref().is_none_or(|it| room.name == *it)
        };
        all || room.is_some_and(is_it)
    }

    /// The first room that is asked for, where not all are.
    pub(super) fn first_room(&self) -> Option<Room> {
        let (room, tenant) = (self.room.clone(), self.tenant.clone());
        let is_one = room.is_some() || tenant.is_some();
        is_one.then(|| Room { tenant: tenant.unwrap_or_default(), name: room.unwrap_or_default() })
    }

    pub(super) fn takes_word(&self, word: &str) -> bool {
        self.word.as_ref().is_none_or(|wanted| wanted == word)
    }

    /// The texts that a cursor was made of; `None` without one.
    pub(super) fn cursor(&self) -> Result<Option<Vec<String>>, String> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|it| String::from_utf8(it).ok());
        let text = text.ok_or(NO_CURSOR)?;
        Ok(Some(text.split('\n').map(str::to_owned).collect()))
    }
}

/// What is told of a cursor that is none.
pub(super) const NO_CURSOR: &str = "expected the cursor of an answer before";

/// A cursor behind what these texts name. None of them has a line break.
pub(super) fn cursor_of(texts: &[Cow<'_, str>]) -> String {
    URL_SAFE_NO_PAD.encode(texts.join("\n"))
}

/// As many rows as fit on a page, and the cursor of the next one, where there may be one.
pub(super) fn page<V: Copy, R>(
    views: &mut dyn Iterator<Item = V>,
    limit: usize,
    row: impl Fn(V) -> Option<R>,
    cursor: impl Fn(V) -> String,
) -> (Vec<R>, Option<String>) {
    let (mut rows, mut last) = (Vec::new(), None);
    for (looked_at, view) in views.enumerate() {
        if rows.len() >= limit || looked_at >= LOOKED_AT_MAX {
            return (rows, last.map(cursor));
        }
        rows.extend(row(view));
        last = Some(view);
    }
    (rows, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_page_and_a_filter_and_what_it_cannot_mean_is_said() {
        assert_eq!(Query::of(None, &[]).unwrap().limit, PAGE);
        let query =
            Query::of(Some("limit=7&room=a+b&nat=hard&waiting=true"), &["room", "nat", "waiting"]);
        let query = query.unwrap();
        assert_eq!((query.limit, query.nat, query.waiting), (7, Some(NatClass::Hard), Some(true)));
        assert!(
            query.takes_room(RoomName::new("a b").ok().map(Room::unnamed).as_ref())
                && !query.takes_room(None)
        );
        let long = format!("prefix={}", "x".repeat(VALUE_BYTES_MAX + 1));
        for wrong in ["limit=0", "limit=1001", "nat=x", "waiting=1", "session=1", "rooms=a", &long]
        {
            let filters = ["prefix", "nat", "waiting", "session"];
            assert!(Query::of(Some(wrong), &filters).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_made() {
        let cursor = cursor_of(&["Büro 7".into(), "a/b?c".into()]);
        let query = Query::of(Some(&format!("cursor={cursor}")), &[]).unwrap();
        assert_eq!(query.cursor().unwrap().unwrap(), ["Büro 7", "a/b?c"]);
        assert!(Query::of(Some("cursor=%21"), &[]).unwrap().cursor().is_err());
    }

    #[test]
    fn a_page_ends_when_it_is_full_or_has_looked_for_long_enough() {
        let numbers = |all: usize, limit, is: fn(usize) -> bool| {
            let row = |it| is(it).then_some(it);
            page(&mut (0..all), limit, row, |it| it.to_string())
        };
        assert_eq!(numbers(5, 2, |_| true), (vec![0, 1], Some("1".to_owned())));
        assert_eq!(numbers(2, 2, |_| true), (vec![0, 1], None));
        assert_eq!(numbers(5, 2, |it| it == 4), (vec![4], None));
        let far = numbers(2 * LOOKED_AT_MAX, 2, |_| false);
        assert_eq!(far, (vec![], Some((LOOKED_AT_MAX - 1).to_string())));
    }
}
