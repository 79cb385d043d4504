use super::*;

/// Far from any end of time.
const NOW: u64 = 1_800_000_000;

fn gate(key: &TokenKey) -> Gate {
    let keys = Arc::new(TokenKeys::of_text(key.to_set(false).as_bytes()).unwrap());
    let audience = Arc::from(["one.example".to_owned()]);
    Gate { path: PathBuf::new(), audience, file: Mutex::new(Known { keys, text: None }) }
}

fn key(algorithm: TokenAlgorithm) -> TokenKey {
    TokenKey::generate(algorithm, Some("k")).unwrap()
}

#[test]
fn a_token_is_good_between_its_times_and_a_minute_beyond_both() {
    for algorithm in [TokenAlgorithm::EdDsa, TokenAlgorithm::Hs256] {
        let key = key(algorithm);
        let gate = gate(&key);
        let claims = Claims { exp: NOW, nbf: Some(NOW - 100), ..Claims::default() };
        let token = claims.sign(&key).unwrap();
        let at = |now| gate.verify(&token, now).map(drop);
        assert_eq!(at(NOW), Ok(()));
        assert_eq!(at(NOW + LEEWAY_S), Ok(()));
        assert_eq!(at(NOW + 300), Err(Refusal::Expired { ago_s: 300 }));
        assert_eq!(at(NOW - 100 - LEEWAY_S), Ok(()));
        assert_eq!(at(NOW - 400), Err(Refusal::NotYet { in_s: 300 }));
    }
}

#[test]
fn a_token_for_others_is_none_here() {
    let key = key(TokenAlgorithm::EdDsa);
    let gate = gate(&key);
    let of = |aud: Audience| {
        let claims = Claims { exp: NOW, aud: Some(aud), ..Claims::default() };
        gate.verify(&claims.sign(&key).unwrap(), NOW).map(drop)
    };
    let several = |names: [&str; 2]| Audience::Several(names.map(str::to_owned).to_vec());
    assert_eq!(of(Audience::One("one.example".to_owned())), Ok(()));
    assert_eq!(of(several(["other", "holepunch"])), Ok(()));
    assert_eq!(of(several(["other", "two.example"])), Err(Refusal::Audience));
}

#[test]
fn a_file_of_keys_says_what_is_wrong_and_none_of_its_secrets() {
    let good = key(TokenAlgorithm::Hs256).to_set(true);
    assert!(TokenKeys::of_text(good.as_bytes()).is_ok());
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ";
    let wrong = [
        (String::new(), "a JWK set"),
        (format!("{{\"keys\": \"{secret}\"}}"), "a JWK set"),
        ("{\"keys\": []}".to_owned(), "no key"),
        (format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"}}]}}"#), "32 bytes"),
        (good.replace("HS256", "EdDSA"), "`alg`"),
        (good.replace("\"oct\"", "\"RSA\""), "Ed25519"),
        (good.replace("\"sig\"", "\"enc\""), "`use`"),
    ];
    for (text, part) in wrong {
        let error = TokenKeys::of_text(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains(secret), "{text}: {error}");
    }
    let twice = good.replace("[", "[KEY,").replace("KEY", good.split(['[', ']']).nth(1).unwrap());
    let error = TokenKeys::of_text(twice.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("same kid"), "{error}");
    assert!(!format!("{:?}", key(TokenAlgorithm::EdDsa)).contains("seed"));
}

#[test]
fn a_key_pair_signs_with_its_private_part_alone() {
    let key = key(TokenAlgorithm::EdDsa);
    let keys = |private| TokenKeys::of_text(key.to_set(private).as_bytes()).unwrap();
    assert!(keys(false).signing(None).is_none());
    let (private, other) = (keys(true), TokenKey::generate(TokenAlgorithm::EdDsa, None).unwrap());
    let token = Claims { exp: NOW, ..Claims::default() }.sign(private.signing(None).unwrap());
    assert!(gate(&key).verify(&token.unwrap(), NOW).is_ok());
    assert_ne!(other.id(), key.id());
    let swapped = key.to_set(true).replace("\"x\": \"", "\"x\": \"A");
    assert!(TokenKeys::of_text(swapped.as_bytes()).is_err());
}

#[test]
fn a_bound_that_is_null_or_in_capitals_is_no_good_token() {
    let key = key(TokenAlgorithm::EdDsa);
    let gate = gate(&key);
    let of = |name: &str, value: serde_json::Value| {
        let header = jsonwebtoken::Header {
            kid: Some("k".to_owned()),
            ..jsonwebtoken::Header::new(key.algorithm().of_library())
        };
        let claims = serde_json::json!({ "exp": NOW, name: value });
        let token = jsonwebtoken::encode(&header, &claims, &key.encoding().unwrap()).unwrap();
        gate.verify(&token, NOW).map(drop)
    };
    assert_eq!(of("other", serde_json::Value::Null), Ok(()));
    let names = ["nbf", "jti", "sub", "aud", "tenant", "rooms", "ids", "modes", "relay_bytes"];
    for name in names {
        let refused = of(name, serde_json::Value::Null);
        assert!(matches!(refused, Err(Refusal::Claims(_))), "{name}: {refused:?}");
    }
    for name in ["Tenant", "Rooms", "Ids", "Modes"] {
        let refused = of(name, "x".into());
        assert!(matches!(refused, Err(Refusal::Claims(_))), "{name}: {refused:?}");
    }
}
