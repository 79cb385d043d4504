use super::*;

fn code(text: &str) -> Result<Code, CodeError> {
    text.parse()
}

#[test]
fn what_is_printed_is_read_again() {
    for attempt in 0..DIGITS.len() {
        for words in [WORDS, 3, WORDS_MAX] {
            let made = Code::make(attempt, words).unwrap().unwrap();
            assert_eq!(code(&made.to_string()), Ok(made.clone()));
            assert!(Code::is_like(&made.to_string()), "{made}");
            let there = made.at(&"https://a.example:8443/base".parse().unwrap());
            assert_eq!(code(&there.to_string()), Ok(there.clone()), "{there}");
            assert!(there.to_string().ends_with("@a.example:8443/base"));
        }
    }
    assert!(Code::make(DIGITS.len(), WORDS).is_none());
}

#[test]
fn the_first_codes_have_at_most_20_characters() {
    for attempt in 0..8 {
        for _ in 0..200 {
            let made = Code::make(attempt, WORDS).unwrap().unwrap().to_string();
            assert!(made.len() <= 20, "{made}");
        }
    }
}

#[test]
fn a_code_is_read_as_people_type_it() {
    let expected = code("7-abandon-ability").unwrap();
    for typed in
        [" 7 abandon ability\n", "7-ABANDON-Ability", "7 - abandon - ability", "07-aban-abil"]
    {
        assert_eq!(code(typed), Ok(expected.clone()), "{typed}");
    }
    assert_eq!(expected.room().as_str(), "code-7");
    assert_eq!(expected.secret().reveal(), "abandon ability");
}

#[test]
fn what_is_no_code_is_refused_with_the_reason() {
    for wrong in
        ["", "-", "7", "7-abandon", "abandon-ability", "x-abandon-ability", "0-abandon-able"]
    {
        assert!(matches!(code(wrong), Err(CodeError::Form(..))), "{wrong}");
    }
    assert_eq!(code("7-abandon-abilitx"), Err(CodeError::Word("abilitx".to_owned())));
    assert_eq!(
        code("7-abandon-a\u{e9}\u{1b}[31m").map(|_| ()),
        Err(CodeError::Word("a\u{e9}\u{1b}[31m".to_owned()))
    );
    assert!(matches!(code("7-abandon-ability@ftp://x"), Err(CodeError::Rendezvous(_))));
    let long = format!("7{}", "-abandon".repeat(25));
    assert!(matches!(code(&long), Err(CodeError::Form(_, "has too many words"))));
}

#[test]
fn the_rendezvous_of_a_code_is_encrypted_unless_it_says_otherwise() {
    let at = |text: &str| code(text).unwrap().rendezvous().map(str::to_owned);
    assert_eq!(at("7-abandon-ability@a.example").as_deref(), Some("https://a.example"));
    let plain = "7-abandon-ability@http://127.0.0.1:8080";
    assert_eq!(at(plain).as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(code(plain).unwrap().to_string(), plain);
    assert_eq!(at("7-abandon-ability"), None);
}

#[test]
fn a_folder_is_not_taken_for_a_code() {
    for name in
        [".", "incoming", "2026-11-30", "7-a-b", "./7-abandon-ability", "7-abandon", "a-b-c"]
    {
        assert!(!Code::is_like(name), "{name}");
    }
    assert!(Code::is_like("7-abandon-ability@http://127.0.0.1:8080"));
    assert!(Code::is_like("7 abandon ability") && !Code::is_like("7 abandon folder"));
}

#[test]
fn a_part_of_a_code_is_known_as_one_and_what_is_missing_is_said() {
    for (part, missing) in [
        ("7", "\"7\" ends before its second word"),
        ("7-", "\"7-\" ends before its second word"),
        ("7-gui", "\"7-gui\" ends before its second word"),
        ("guitar-fox", "\"guitar-fox\" does not begin with a number"),
        ("7-guitar-f", "\"f\" is not a word of codes"),
    ] {
        assert!(Code::is_part(part) && !Code::is_like(part), "{part}");
        let why = code(part).unwrap_err().to_string();
        assert!(why.contains(missing) && why.contains("ask the other side"), "{part}: {why}");
    }
    for other in ["incoming", "2026-11", "photos-2026", "send", "./7-guitar", "my-files", "-"] {
        assert!(!Code::is_part(other), "{other}");
    }
}

#[test]
fn numbers_have_the_digits_that_they_should_have() {
    for digits in 1..=9_u32 {
        for _ in 0..50 {
            let number = random_number(digits).unwrap().to_string();
            assert_eq!(number.len(), digits as usize);
        }
    }
}

#[test]
fn a_code_is_the_first_line_of_what_is_read() {
    assert_eq!(first_line(&b"7-a-b\nrest"[..]).unwrap(), "7-a-b");
    assert_eq!(first_line(&[b'x'; 5000][..]).unwrap().len(), BYTES_MAX);
    assert!(first_line(&b"\xff\xfe\n"[..]).is_err());
}
