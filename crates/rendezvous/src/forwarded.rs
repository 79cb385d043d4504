//! What a trusted proxy says about the request that it forwards: `X-Forwarded-For`, `X-Forwarded-Host`, and
//! `Forwarded` (RFC 7239), which says the same in one header.

use axum::http::HeaderMap;

pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";
/// What a proxy calls the host that it was asked for, where it rewrites `Host`.
pub(crate) const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED: &str = "forwarded";
/// What some proxies say instead. It is believed nowhere: it shows that there is a proxy.
const REAL_IP: &str = "x-real-ip";

/// Takes out all that anybody has forwarded.
pub(crate) fn forget(headers: &mut HeaderMap) {
    for name in [FORWARDED_FOR, FORWARDED_HOST, FORWARDED] {
        headers.remove(name);
    }
}

/// Whether anybody has forwarded anything.
pub(crate) fn is_any(headers: &HeaderMap) -> bool {
    [FORWARDED_FOR, FORWARDED_HOST, FORWARDED, REAL_IP].iter().any(|it| headers.contains_key(*it))
}

/// The values of a header whose values are lists, in order.
pub(crate) fn listed<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim).collect()
}

/// A parameter of `Forwarded`, one for each proxy on the way, the first of them first; `None` where one does not say it.
pub(crate) fn parameter(headers: &HeaderMap, wanted: &str) -> Vec<Option<String>> {
    let values = headers.get_all(FORWARDED).iter();
    let elements = values.flat_map(|value| split(value.to_str().unwrap_or_default(), ','));
    elements
        .map(|element| {
            split(element, ';').into_iter().find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| unquoted(value.trim()))
            })
        })
        .collect()
}

/// The parts of a text between separators that are not in a quoted string (RFC 9110 §5.6.4).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        } else if c == separator && !quoted {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A token, or what is in a quoted string.
fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else { return text.to_owned() };
    let mut chars = inner.chars();
    let next = || match chars.next() {
        Some('\\') => chars.next(),
        c => c,
    };
    std::iter::from_fn(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str], wanted: &str) -> Vec<Option<String>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        parameter(&headers, wanted)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn each_proxy_says_its_own() {
        let values =
            [r#"For="[2001:db8:cafe::17]:4711";host=a.example, for=192.0.2.60"#, "for=_x;by=y"];
        let expected = [some("[2001:db8:cafe::17]:4711"), some("192.0.2.60"), some("_x")];
        assert_eq!(read(&values, "for"), expected);
        assert_eq!(read(&values, "host"), [some("a.example"), None, None]);
    }

    #[test]
    fn what_is_quoted_separates_nothing() {
        let value = r#"for="192.0.2.1, for=8.8.8.8; \" for=9.9.9.9", for=192.0.2.2"#;
        let expected = [some(r#"192.0.2.1, for=8.8.8.8; " for=9.9.9.9"#), some("192.0.2.2")];
        assert_eq!(read(&[value], "for"), expected);
        assert_eq!(read(&["for=\"open, for=8.8.8.8"], "for"), [some("\"open, for=8.8.8.8")]);
        assert_eq!(read(&["", ";;,="], "for"), [None, None, None]);
    }
}
