use super::*;
use crate::credentials::{CREDENTIAL_CHARS_MAX, Ufrag};
use proptest::prelude::*;

/// The password of the samples in RFC 5769.
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
/// RFC 5769 §2.1.
const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\
    \xfa\x87\xdf\xae\x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\
    \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
    \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\
    \xa2\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
/// RFC 5769 §2.2.
const SAMPLE_RESPONSE_IPV4: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\
    \xd6\x86\xfa\x87\xdf\xae\x80\x22\x00\x0btest vector\x20\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\
    \x12\xa6\x43\x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\
    \xf0\x6b\xe7\xd7\x80\x28\x00\x04\xc0\x7d\x4c\x96";
/// RFC 5769 §2.3.
const SAMPLE_RESPONSE_IPV6: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\
    \xd6\x86\xfa\x87\xdf\xae\x80\x22\x00\x0btest vector\x20\x00\x20\x00\x14\x00\x02\xa1\x47\x01\
    \x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\x00\x08\x00\x14\xa3\x82\x95\x4e\
    \x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\x80\x28\x00\x04\xc8\xfb\x0b\
    \x4c";

fn key() -> CheckKey {
    CheckKey::new(PASSWORD)
}

fn sample_transaction() -> TransactionId {
    TransactionId::from(0xb7e7_a701_bc34_d686_fa87_dfae)
}

fn request(use_candidate: bool) -> Vec<u8> {
    let (remote, local) = (Ufrag::new("evtj").unwrap(), Ufrag::new("h6vY").unwrap());
    let request = CheckRequest {
        transaction: TransactionId::from(7),
        remote_ufrag: &remote,
        local_ufrag: &local,
        priority: 0x6e00_01ff,
        role: IceRole::Controlling,
        tie_breaker: 0x932f_f9b1_5126_3b36,
        use_candidate,
    };
    request.encode(&key())
}

/// A message of these attributes, without MESSAGE-INTEGRITY and FINGERPRINT.
fn plain(class: MessageClass, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = begin(class, TransactionId::from(7), 0);
    attributes.iter().for_each(|(kind, value)| push(&mut out, *kind, value));
    out.finish()
}

/// Adds attributes at the end, and corrects the header's length.
fn append(message: &mut Vec<u8>, attributes: &[(u16, &[u8])]) {
    let more = plain(MessageClass::Indication, attributes);
    message.extend_from_slice(&more[HEADER_BYTES..]);
    let length = u16::try_from(message.len() - HEADER_BYTES).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

const VALID: [(u16, &[u8]); 3] =
    [(USERNAME, b"evtj:h6vY"), (PRIORITY, &[0, 0, 0, 1]), (ICE_CONTROLLED, &[0; 8])];

fn error_of(class: MessageClass, attributes: &[(u16, &[u8])]) -> Option<CheckError> {
    ParsedCheck::parse(&plain(class, attributes)).err()
}

#[test]
fn the_sample_request_of_rfc_5769_is_read_and_verified() {
    let parsed = ParsedCheck::parse(SAMPLE_REQUEST).unwrap();
    assert_eq!(parsed.transaction, sample_transaction());
    let Check::Request { username, priority, role, tie_breaker, use_candidate } = parsed.check
    else {
        panic!("not a request: {parsed:?}")
    };
    assert_eq!((username.receiver(), username.sender()), ("evtj", "h6vY"));
    assert_eq!((priority, role), (0x6e00_01ff, IceRole::Controlled));
    assert_eq!((tie_breaker, use_candidate), (0x932f_f9b1_5126_3b36, false));
    assert!(parsed.verify(&key()));
    assert!(!parsed.verify(&CheckKey::new("VOkJxbRl1RmTxUk/WvJxBu")));
}

#[test]
fn the_sample_responses_of_rfc_5769_are_read_and_verified() {
    let table = [
        (SAMPLE_RESPONSE_IPV4, "192.0.2.1:32853"),
        (SAMPLE_RESPONSE_IPV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ];
    for (datagram, mapped) in table {
        let parsed = ParsedCheck::parse(datagram).unwrap();
        assert_eq!(parsed.transaction, sample_transaction());
        assert_eq!(parsed.check, Check::Success { mapped: mapped.parse().unwrap() });
        assert!(parsed.verify(&key()));
    }
}

#[test]
fn an_ipv4_mapped_address_is_reported_as_ipv4() {
    let mapped = "[::ffff:192.0.2.1]:32853".parse().unwrap();
    let answer = encode_success(sample_transaction(), mapped, &key());
    let check = ParsedCheck::parse(&answer).unwrap().check;
    assert_eq!(check, Check::Success { mapped: "192.0.2.1:32853".parse().unwrap() });
}

#[test]
fn a_role_conflict_is_an_error_response_with_integrity() {
    let answer = encode_role_conflict(sample_transaction(), &key());
    let parsed = ParsedCheck::parse(&answer).unwrap();
    assert_eq!(parsed.transaction, sample_transaction());
    assert_eq!(parsed.check, Check::Error { code: ROLE_CONFLICT });
    assert!(parsed.verify(&key()));
}

#[test]
fn no_output_is_longer_than_what_was_allocated() {
    let mapped = "[2001:db8::1]:1".parse().unwrap();
    let success = encode_success(sample_transaction(), mapped, &key());
    let conflict = encode_role_conflict(sample_transaction(), &key());
    for output in [request(true), success, conflict] {
        assert_eq!(output.capacity(), output.len());
    }
}

#[test]
fn the_longest_credentials_fit_into_a_check() {
    let long = Ufrag::new("x".repeat(CREDENTIAL_CHARS_MAX)).unwrap();
    let request = CheckRequest {
        transaction: TransactionId::from(1),
        remote_ufrag: &long,
        local_ufrag: &long,
        priority: 1,
        role: IceRole::Controlling,
        tie_breaker: 1,
        use_candidate: true,
    };
    let datagram = request.encode(&key());
    assert_eq!(datagram.len(), 596);
    assert!(ParsedCheck::parse(&datagram).unwrap().verify(&key()));
}

#[test]
fn a_message_without_integrity_is_read_but_never_verifies() {
    let datagram = plain(MessageClass::Request, &VALID);
    let parsed = ParsedCheck::parse(&datagram).unwrap();
    assert!(!parsed.has_integrity());
    assert!(!parsed.verify(&key()));
    let indication = plain(MessageClass::Indication, &[]);
    assert_eq!(ParsedCheck::parse(&indication).unwrap().check, Check::Indication);
}

#[test]
fn what_follows_message_integrity_does_not_count() {
    let mut datagram = request(false);
    datagram.truncate(datagram.len() - FINGERPRINT_BYTES);
    append(&mut datagram, &[(USE_CANDIDATE, &[]), (PRIORITY, &[9; 4]), (0x7fff, b"junk")]);
    let parsed = ParsedCheck::parse(&datagram).unwrap();
    assert!(parsed.verify(&key()));
    let untouched = request(false);
    assert_eq!(parsed.check, ParsedCheck::parse(&untouched).unwrap().check);
}

#[test]
fn a_second_message_integrity_does_not_replace_the_first() {
    let mut datagram = plain(MessageClass::Request, &VALID);
    append(&mut datagram, &[(MESSAGE_INTEGRITY, &[0; MAC_BYTES])]);
    let covered = datagram.len();
    append(&mut datagram, &[(MESSAGE_INTEGRITY, &[0; MAC_BYTES])]);
    let mac = key().compute(&datagram[..covered]);
    datagram[covered + ATTRIBUTE_HEADER_BYTES..].copy_from_slice(&mac);
    assert!(!ParsedCheck::parse(&datagram).unwrap().verify(&key()));
}

#[test]
fn of_attributes_that_stand_twice_the_first_counts() {
    let mut attributes = VALID.to_vec();
    attributes.extend([
        (PRIORITY, &[0, 0, 0, 2][..]),
        (USERNAME, b"other:name"),
        (ICE_CONTROLLED, &[1; 8]),
    ]);
    let (once, twice) =
        (plain(MessageClass::Request, &VALID), plain(MessageClass::Request, &attributes));
    let (once, twice) =
        (ParsedCheck::parse(&once).unwrap().check, ParsedCheck::parse(&twice).unwrap().check);
    assert_eq!(once, twice);
}

#[test]
fn no_bit_can_be_changed_unnoticed_even_without_fingerprint() {
    let mut original = request(true);
    original.truncate(original.len() - FINGERPRINT_BYTES);
    append(&mut original, &[]);
    assert!(ParsedCheck::parse(&original).unwrap().verify(&key()));
    for bit in 0..original.len() * 8 {
        let mut datagram = original.clone();
        datagram[bit / 8] ^= 1 << (bit % 8);
        let verified = ParsedCheck::parse(&datagram).is_ok_and(|parsed| parsed.verify(&key()));
        assert!(!verified, "bit {bit}");
    }
}

#[test]
fn nothing_shorter_or_longer_than_the_header_says_is_read() {
    let original = request(true);
    for length in 0..original.len() {
        let outcome = ParsedCheck::parse(&original[..length]);
        assert_eq!(outcome, Err(CheckError::Malformed), "{length} bytes");
    }
    let longer = [original.as_slice(), &[0; 4]].concat();
    assert_eq!(ParsedCheck::parse(&longer), Err(CheckError::Malformed));
    let oversized = vec![0; CHECK_BYTES_MAX + 1];
    assert_eq!(ParsedCheck::parse(&oversized), Err(CheckError::TooLong(CHECK_BYTES_MAX + 1)));
}

#[test]
fn a_request_says_what_it_lacks() {
    let names = ["USERNAME", "PRIORITY", "ICE-CONTROLLING or ICE-CONTROLLED"];
    for (missing, name) in names.into_iter().enumerate() {
        let mut attributes = VALID.to_vec();
        attributes.remove(missing);
        let error = error_of(MessageClass::Request, &attributes);
        assert_eq!(error, Some(CheckError::Missing(name)));
    }
    let mut both = VALID.to_vec();
    both.push((ICE_CONTROLLING, &[0; 8]));
    assert_eq!(error_of(MessageClass::Request, &both), Some(CheckError::BothRoles));
    let success = error_of(MessageClass::Success, &[]);
    assert_eq!(success, Some(CheckError::Missing("XOR-MAPPED-ADDRESS")));
    let error = error_of(MessageClass::Error, &[]);
    assert_eq!(error, Some(CheckError::Missing("ERROR-CODE")));
}

#[test]
fn values_of_the_wrong_form_are_refused() {
    let with = |index: usize, value: &'static [u8]| {
        let mut attributes = VALID.to_vec();
        attributes[index].1 = value;
        error_of(MessageClass::Request, &attributes)
    };
    for username in [&b"evtj"[..], b"", b":", b"evtj:", b":h6vY", b"a:b:c", b"a\n:b", b"\xff:b"] {
        assert_eq!(with(0, username), Some(CheckError::Invalid("USERNAME")), "{username:?}");
    }
    assert_eq!(with(1, &[1, 2, 3]), Some(CheckError::Invalid("PRIORITY")));
    assert_eq!(with(2, &[0; 9]), Some(CheckError::Invalid("ICE-CONTROLLED")));
    let mut short_mac = VALID.to_vec();
    short_mac.push((MESSAGE_INTEGRITY, &[0; 16]));
    let error = error_of(MessageClass::Request, &short_mac);
    assert_eq!(error, Some(CheckError::Invalid("MESSAGE-INTEGRITY")));
    for code in [&[0, 0, 2, 99][..], &[0, 0, 7, 0], &[0, 0, 4, 100], &[0, 0, 4]] {
        let error = error_of(MessageClass::Error, &[(ERROR_CODE, code)]);
        assert_eq!(error, Some(CheckError::Invalid("ERROR-CODE")), "{code:?}");
    }
    let error = error_of(MessageClass::Success, &[(XOR_MAPPED_ADDRESS, &[0, 3, 0, 1, 1, 2, 3, 4])]);
    assert_eq!(error, Some(CheckError::Invalid("XOR-MAPPED-ADDRESS")));
}

#[test]
fn an_attribute_that_must_be_understood_and_is_not_is_refused() {
    let mut attributes = VALID.to_vec();
    attributes.push((0x7f00, b"what"));
    let error = error_of(MessageClass::Request, &attributes);
    assert_eq!(error, Some(CheckError::UnknownRequired(0x7f00)));
    attributes[3].0 = 0xff00;
    assert_eq!(error_of(MessageClass::Request, &attributes), None);
}

#[test]
fn another_method_is_not_a_check() {
    let mut datagram = plain(MessageClass::Request, &VALID);
    datagram[1] = 0x03;
    assert_eq!(ParsedCheck::parse(&datagram), Err(CheckError::NotBinding));
}

fn ufrags() -> impl Strategy<Value = Ufrag> {
    "[A-Za-z0-9+/]{4,256}".prop_map(|text| Ufrag::new(text).unwrap())
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        bits: u128, remote in ufrags(), local in ufrags(), priority: u32, tie_breaker: u64,
        use_candidate: bool, controlling: bool, password in "[A-Za-z0-9+/]{22,256}",
    ) {
        let role = if controlling { IceRole::Controlling } else { IceRole::Controlled };
        let (transaction, key) = (TransactionId::from(bits), CheckKey::new(&password));
        let request = CheckRequest {
            transaction, remote_ufrag: &remote, local_ufrag: &local, priority, role, tie_breaker,
            use_candidate,
        };
        let datagram = request.encode(&key);
        let parsed = ParsedCheck::parse(&datagram).unwrap();
        prop_assert_eq!(parsed.transaction, transaction);
        let Check::Request { username, .. } = parsed.check else { panic!("not a request") };
        prop_assert_eq!((username.receiver(), username.sender()), (remote.as_str(), local.as_str()));
        let expected = Check::Request { username, priority, role, tie_breaker, use_candidate };
        prop_assert_eq!(parsed.check, expected);
        prop_assert!(parsed.verify(&key));
        let other = CheckKey::new(&(password + "x"));
        prop_assert!(!parsed.verify(&other));
    }

    #[test]
    fn a_success_brings_the_address_back(bits: u128, ip: std::net::IpAddr, port: u16) {
        let mapped = SocketAddr::new(ip.to_canonical(), port);
        let answer = encode_success(TransactionId::from(bits), mapped, &key());
        let parsed = ParsedCheck::parse(&answer).unwrap();
        prop_assert_eq!(parsed.check, Check::Success { mapped });
        prop_assert!(parsed.verify(&key()));
    }

    #[test]
    fn no_datagram_panics(
        class in 0_u8..4, tail in proptest::collection::vec(any::<u8>(), 0..200),
        attributes in proptest::collection::vec(
            (prop_oneof![
                Just(USERNAME), Just(PRIORITY), Just(ICE_CONTROLLED), Just(MESSAGE_INTEGRITY),
                Just(ERROR_CODE), Just(XOR_MAPPED_ADDRESS), Just(0x8028_u16), any::<u16>(),
            ], proptest::collection::vec(any::<u8>(), 0..24)),
            0..8,
        ),
    ) {
        let attributes: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        let mut datagram = plain(MessageClass::Request, &attributes);
        datagram[0] |= class >> 1;
        datagram[1] |= (class & 1) << 4;
        for datagram in [datagram.clone(), [datagram, tail.clone()].concat(), tail] {
            if let Ok(parsed) = ParsedCheck::parse(&datagram) {
                prop_assert!(!parsed.verify(&key()));
            }
        }
    }
}
