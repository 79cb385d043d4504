//! Words to tell somebody, and what makes them up.

use bip39_lexical_data::WL_BIP39;
use ring::rand::{SecureRandom, SystemRandom};

use crate::exit::Failure;

/// Words of the list (BIP 39, English), and the bits that each of them is worth. A power of two: every
/// word is as likely as any other.
const LIST_WORDS: usize = 1 << WORD_BITS;
pub(crate) const WORD_BITS: u32 = 11;
const _: () = assert!(WL_BIP39.len() == LIST_WORDS);
/// More would only be more to type: these have 264 bits.
pub(crate) const WORDS_MAX: u16 = 24;
/// By so many letters each word differs from all others (BIP 39 sees to it).
const TELLING_LETTERS: usize = 4;

/// Bytes from the system.
pub(crate) fn random(count: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; count];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(bytes)
}

/// So many bytes from the system, in hexadecimal digits.
pub(crate) fn random_hex(count: usize) -> Result<String, Failure> {
    Ok(random(count)?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// So many words, any two of which have at most so many letters: with 15, one pair of a hundred is drawn again.
pub(crate) fn random_words(count: u16, letters_max: usize) -> Result<Vec<&'static str>, Failure> {
    loop {
        let words = of_bytes(&random(2 * usize::from(count))?);
        if words.chunks(2).all(|pair| pair.concat().len() <= letters_max) {
            return Ok(words);
        }
    }
}

/// A word for every two bytes.
fn of_bytes(random: &[u8]) -> Vec<&'static str> {
    let (pairs, _) = random.as_chunks::<2>();
    let word = |pair: &[u8; 2]| WL_BIP39[usize::from(u16::from_be_bytes(*pair)) % LIST_WORDS];
    pairs.iter().map(word).collect()
}

/// The word that somebody has typed, or begun.
pub(super) fn find(typed: &str) -> Option<&'static str> {
    let exact = WL_BIP39.iter().find(|word| **word == typed);
    let begun = || {
        (typed.len() >= TELLING_LETTERS)
            .then(|| WL_BIP39.iter().find(|word| word.starts_with(typed)))
            .flatten()
    };
    exact.or_else(begun).copied()
}

/// The words that begin so.
pub(super) fn beginning_with(typed: &str) -> impl Iterator<Item = &'static str> {
    WL_BIP39.iter().copied().filter(move |word| word.starts_with(typed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_word_of_the_list_is_one_of_2048_and_needs_no_quotes() {
        let words: BTreeSet<&str> = WL_BIP39.iter().copied().collect();
        assert_eq!(words.len(), LIST_WORDS, "no word stands twice");
        let is_plain = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        assert!(words.iter().all(is_plain));
    }

    #[test]
    fn every_word_is_reached_by_as_many_numbers() {
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..=u16::MAX {
            *counts.entry(of_bytes(&number.to_be_bytes())).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), LIST_WORDS);
        assert!(counts.values().all(|count| *count == 32), "65,536 / 2,048");
    }

    #[test]
    fn four_letters_tell_a_word_and_three_do_not() {
        for word in WL_BIP39.iter().copied() {
            assert_eq!(find(word), Some(word));
            assert_eq!(find(&word[..word.len().min(TELLING_LETTERS)]), Some(word));
        }
        assert_eq!(find("aba"), None, "the beginning of abandon");
        for wrong in ["", "a", "zzzz", "abandonx", "é"] {
            assert_eq!(find(wrong), None, "{wrong}");
        }
        assert_eq!(beginning_with("aban").collect::<Vec<_>>(), ["abandon"]);
    }

    #[test]
    fn words_are_as_many_as_asked_for_and_not_too_long() {
        for count in [2, 3, WORDS_MAX] {
            let words = random_words(count, 15).unwrap();
            assert_eq!(words.len(), usize::from(count));
            assert!(words.chunks(2).all(|pair| pair.concat().len() <= 15));
        }
        assert_ne!(random_words(6, 16).unwrap(), random_words(6, 16).unwrap());
    }
}
