//! The token that a request carries, in whichever way.

use std::borrow::Cow;

use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::{HeaderMap, HeaderName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holepunch_wire::signal::TOKEN_PROTOCOL_PREFIX;

use super::TOKEN_BYTES_MAX;
use super::refusal::Refusal;

/// The token of a request: that of a bearer (RFC 6750 §2.1), the password of a URL, or an entry in the list of sub-protocols,
/// the only one that a browser can set. Several have to be the same.
pub(super) fn token_of(headers: &HeaderMap) -> Result<Cow<'_, str>, Refusal> {
    let bearers = texts(headers, &AUTHORIZATION).filter_map(|text| behind(text, "Bearer "));
    let listed = texts(headers, &SEC_WEBSOCKET_PROTOCOL).flat_map(|list| list.split(','));
    let listed = listed.filter_map(|entry| entry.trim().strip_prefix(TOKEN_PROTOCOL_PREFIX));
    let mut found: Option<Cow<'_, str>> = None;
    let direct = bearers.map(str::trim).chain(listed).map(Cow::Borrowed);
    for token in direct {
        if found.as_ref().is_some_and(|known| *known != token) {
            return Err(Refusal::Several);
        }
        found = Some(token);
    }
    for password in texts(headers, &AUTHORIZATION).filter_map(password) {
        match &found {
            Some(known) if *known == password => {}
            // It is for a server in front of this one.
            Some(_) if !is_like_a_token(&password) => {}
            Some(_) => return Err(Refusal::Several),
            None => found = Some(Cow::Owned(password)),
        }
    }
    match found {
        Some(token) if token.len() > TOKEN_BYTES_MAX => Err(Refusal::TooLong(token.len())),
        Some(token) if !token.is_empty() => Ok(token),
        Some(_) | None => Err(Refusal::Missing),
    }
}

fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// What stands behind a scheme, which is the same in capitals (RFC 9110 §11.1).
fn behind<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (before, rest) = text.split_at_checked(scheme.len())?;
    before.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The password of a login (RFC 7617 §2).
fn password(text: &str) -> Option<String> {
    let login = STANDARD.decode(behind(text, "Basic ")?.trim()).ok()?;
    let (_, password) = std::str::from_utf8(&login).ok()?.split_once(':')?;
    Some(password.to_owned())
}

/// The header of every JWT begins with `{"`.
fn is_like_a_token(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(headers: &[(HeaderName, &str)]) -> Result<String, Refusal> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, value.parse().unwrap());
        }
        token_of(&all).map(Cow::into_owned)
    }

    #[test]
    fn it_is_read_wherever_it_may_stand() {
        let basic = format!("Basic {}", STANDARD.encode("x:a.b.c"));
        for one in [
            (AUTHORIZATION, "Bearer a.b.c"),
            (AUTHORIZATION, "bearer  a.b.c"),
            (AUTHORIZATION, &*basic),
            (SEC_WEBSOCKET_PROTOCOL, "holepunch.v1, holepunch.token.a.b.c"),
        ] {
            assert_eq!(token(std::slice::from_ref(&one)), Ok("a.b.c".to_owned()), "{one:?}");
            let twice = [one, (SEC_WEBSOCKET_PROTOCOL, "holepunch.token.a.b.c")];
            assert_eq!(token(&twice), Ok("a.b.c".to_owned()));
        }
    }

    #[test]
    fn two_that_differ_are_none_but_a_password_may_be_somebody_else_s() {
        let listed = (SEC_WEBSOCKET_PROTOCOL, "holepunch.token.eyA.b.c");
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("x:{password}")));
        let (proxy, other) = (basic("secret"), basic("eyB.b.c"));
        assert_eq!(token(&[listed.clone(), (AUTHORIZATION, &proxy)]), Ok("eyA.b.c".to_owned()));
        let differ = Err(Refusal::Several);
        assert_eq!(token(&[listed.clone(), (AUTHORIZATION, &other)]), differ);
        assert_eq!(token(&[listed.clone(), (AUTHORIZATION, "Bearer eyB.b.c")]), differ);
        let list = "holepunch.token.a, holepunch.token.b";
        assert_eq!(token(&[(SEC_WEBSOCKET_PROTOCOL, list)]), differ);
    }

    #[test]
    fn what_is_none_is_missing() {
        for none in ["", "Bearer ", "Basic !", "Basic eA==", "Digest x", "Bearer"] {
            assert_eq!(token(&[(AUTHORIZATION, none)]), Err(Refusal::Missing), "{none}");
        }
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        assert_eq!(token(&[(AUTHORIZATION, &long)]), Err(Refusal::TooLong(TOKEN_BYTES_MAX + 1)));
    }
}
