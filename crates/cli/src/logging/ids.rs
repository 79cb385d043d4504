//! Ids of workers in a log that somebody looks at: whole where they appear first, and after that by their beginning.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// So many ids are known; a further one is shown by its beginning from the first time on.
const KNOWN_MAX: usize = 10_000;
/// Bytes of a UUID as text (RFC 9562 §4): the id of a worker that has not chosen another one.
const UUID_BYTES: usize = 36;
/// Its first group, which is enough to tell the workers of a log apart.
const SHORT_BYTES: usize = 8;

/// The ids that were shown. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Ids(Arc<Mutex<BTreeSet<String>>>);

impl Ids {
    /// The line with each id that was shown before by its beginning.
    pub(super) fn shortened(&self, line: &str) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut text, mut rest) = (String::with_capacity(line.len()), line);
        let mut before = None;
        while let Some(character) = rest.chars().next() {
            // Behind a slash it is a part of a URL.
            let begins = before.is_none_or(|it: char| !it.is_alphanumeric() && !"-/".contains(it));
            let taken = match uuid(rest).filter(|_| begins) {
                Some(id) if known.contains(id) => {
                    text.push_str(&id[..SHORT_BYTES]);
                    id
                }
                Some(id) => {
                    let is_known = known.len() < KNOWN_MAX && known.insert(id.to_owned());
                    text.push_str(if is_known { id } else { &id[..SHORT_BYTES] });
                    id
                }
                None => {
                    text.push(character);
                    &rest[..character.len_utf8()]
                }
            };
            before = taken.chars().last();
            rest = &rest[taken.len()..];
        }
        text
    }
}

/// The UUID with which a text begins, where nothing more belongs to it.
fn uuid(text: &str) -> Option<&str> {
    let id = text.get(..UUID_BYTES)?;
    let is_uuid = id.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let ends =
        text[UUID_BYTES..].chars().next().is_none_or(|it| !it.is_alphanumeric() && it != '-');
    (is_uuid && ends).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f420cb5-1ff7-83ba-a222-9a80c7313115";
    const OTHER: &str = "da2711db-2971-8ef4-ba00-4c5c41a6f4cf";

    #[test]
    fn an_id_is_whole_the_first_time_and_short_after_that() {
        let ids = Ids::default();
        assert_eq!(ids.shortened(&format!("worker={ID}")), format!("worker={ID}"));
        let line = format!("worker{{worker={ID}}}: peer={OTHER}");
        assert_eq!(
            ids.clone().shortened(&line),
            format!("worker{{worker=3f420cb5}}: peer={OTHER}")
        );
        assert_eq!(ids.shortened(&format!("{OTHER} → {ID}")), "da2711db → 3f420cb5");
    }

    #[test]
    fn what_is_no_id_stays_as_it_is() {
        let ids = Ids::default();
        ids.shortened(ID);
        for text in [
            format!("ws://a/ws/register/{ID}"),
            format!("{ID}0"),
            format!("x{ID}"),
            format!("é{}", &ID[1..]),
        ] {
            assert_eq!(ids.shortened(&text), text);
        }
    }

    #[test]
    fn so_many_are_known_and_no_more() {
        let ids = Ids::default();
        let id = |number: usize| format!("{number:08x}-0000-0000-0000-000000000000");
        let whole = (0..KNOWN_MAX + 5).filter(|number| ids.shortened(&id(*number)) == id(*number));
        assert_eq!(whole.count(), KNOWN_MAX);
    }
}
