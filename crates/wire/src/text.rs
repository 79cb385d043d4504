//! Somebody else's text, cut, and so that it can do nothing to a terminal, nor look like what it is not.

use std::fmt::Write;

/// Makes a type that is read by `FromStr` and shown by `Display` one that serde takes for a text, by
/// `#[serde(try_from = "String", into = "String")]`.
#[macro_export]
macro_rules! as_text {
    ($name:ty) => {
        impl TryFrom<String> for $name {
            type Error = <$name as ::std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// At most so many characters of a text, for whoever writes it out as `{:?}`, or makes it harmless later.
#[must_use]
pub fn start(text: &str, characters_max: usize) -> &str {
    text.char_indices().nth(characters_max).map_or(text, |(end, _)| &text[..end])
}

/// Cuts `text` to at most `bytes_max`, between two characters.
pub fn truncate(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

/// Whether a character acts on a terminal or hides what stands there: controls (C0, DEL, C1), marks
/// that turn the direction of text around (Unicode TR 9), separators of lines, invisible ones (most of Unicode's
/// `Default_Ignorable_Code_Point`). Joiners and variation selectors stay: scripts and emoji need them.
#[must_use]
pub fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Whether a character only says how its neighbours are drawn, so that two texts may look the same.
#[must_use]
pub fn is_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}')
}

/// As [`harmless`], with joiners written out as well: two names that differ look different, but for variation selectors.
#[must_use]
pub fn exact(text: &str, characters_max: usize) -> String {
    let is_escaped = |character| is_harmful(character) || is_joiner(character);
    escaped(text, characters_max, is_escaped)
}

fn escaped(text: &str, characters_max: usize, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len().min(characters_max));
    for character in start(text, characters_max).chars() {
        match character {
            '\t' => shown.push(' '),
            it if is_escaped(it) => shown.extend(it.escape_unicode()),
            it => shown.push(it),
        }
    }
    shown
}

/// The text with each harmful character written out, as `\u{1b}`; a tab is a blank. At most
/// `characters_max` of its characters are shown.
#[must_use]
pub fn harmless(text: &str, characters_max: usize) -> String {
    escaped(text, characters_max, is_harmful)
}

/// The same for a JSON document on one line: harmful characters stand only inside of its strings, where
/// an escape means the same.
#[must_use]
pub fn harmless_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for character in document.chars() {
        if is_harmful(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_terminal_is_not_taken_over() {
        assert_eq!(harmless("\u{1b}[2Jx\r\n\u{9b}1m", 100), "\\u{1b}[2Jx\\u{d}\\u{a}\\u{9b}1m");
        assert_eq!(harmless("a\u{202e}b\u{2066}", 100), "a\\u{202e}b\\u{2066}");
        assert_eq!(harmless("tab\there", 100), "tab here");
        assert_eq!(harmless("👩\u{200d}🚀 grüße שלום", 100), "👩\u{200d}🚀 grüße שלום");
        assert_eq!(harmless("abcdef", 3), "abc");
        assert_eq!(exact("a\u{200d}b", 3), "a\\u{200d}b");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(["", "aü", "aüb", "aübc"].map(|it| start(it, 3)), ["", "aü", "aüb", "aüb"]);
        let cut = |bytes_max| {
            let mut text = "aü".to_owned();
            truncate(&mut text, bytes_max);
            text
        };
        assert_eq!([0, 1, 2, 3, 4].map(cut), ["", "a", "a", "aü", "aü"]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_harmless_and_in_json_the_same(text in any::<String>()) {
            prop_assert!(!harmless(&text, usize::MAX).chars().any(is_harmful));
            let document = harmless_json(&serde_json::to_string(&text).unwrap());
            prop_assert!(!document.chars().any(is_harmful));
            prop_assert_eq!(serde_json::from_str::<String>(&document).unwrap(), text);
        }
    }
}
