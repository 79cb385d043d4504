//! Counters with one label of a few words, without a look-up for each event.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// One label, all of whose values are this program's own.
pub(crate) type Word = [(&'static str, &'static str); 1];

/// A counter for each of some words. All of them are there from the start, so that the first event is an increase.
#[derive(Debug, Clone)]
pub(crate) struct ByWord {
    family: Family<Word, Counter>,
    each: Vec<Counter>,
}

impl ByWord {
    pub(crate) fn new(label: &'static str, words: impl IntoIterator<Item = &'static str>) -> Self {
        let family = Family::default();
        let counter = |word| family.get_or_create_owned(&[(label, word)]);
        let each = words.into_iter().map(counter).collect();
        Self { family, each }
    }

    /// So many more of the word at this place.
    pub(crate) fn add(&self, place: usize, count: u64) {
        debug_assert!(place < self.each.len(), "there is no word {place}");
        if let Some(counter) = self.each.get(place) {
            counter.inc_by(count);
        }
    }

    /// How many there are, word by word.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> {
        self.each.iter().map(Counter::get)
    }

    /// What is registered.
    pub(crate) fn family(&self) -> Family<Word, Counter> {
        self.family.clone()
    }
}

/// A counter for each code of a kind of reasons; the place is the reason's own number.
macro_rules! by_reason {
    ($reason:ty) => {
        $crate::metrics::ByWord::new(
            "reason",
            <$reason>::ALL.iter().map(|it| it.code()).chain([<$reason>::Unknown.code()]),
        )
    };
}
pub(crate) use by_reason;
