use std::net::IpAddr;

use super::*;

const NONE: RelayLimits = RelayLimits {
    rate: None,
    quota: None,
    rate_per_ip: None,
    quota_per_ip: None,
    rate_total: None,
    connections_max: 100,
};

fn payer(session: u64, host: u8) -> Payer {
    let source = Source::of(IpAddr::from([192, 0, 2, host]));
    Payer { session: SessionId(session), source, way: Way::WebSocket, quota: None }
}

fn entered(limits: RelayLimits, payers: &[Payer], now: Instant) -> Budgets {
    let mut budgets = Budgets::new(limits);
    payers.iter().for_each(|payer| budgets.enter(*payer, now).unwrap());
    budgets
}

/// Bytes that pass in a time, where each of the payers sends whenever it may.
fn passed(budgets: &mut Budgets, payers: &[Payer], start: Instant, time: Duration) -> u64 {
    const PIECE: usize = 10_000;
    let mut next: Vec<Instant> = payers.iter().map(|_| start).collect();
    let mut bytes = 0;
    loop {
        let first = (0..next.len()).min_by_key(|index| next[*index]).unwrap();
        let now = next[first];
        if now >= start + time {
            return bytes;
        }
        bytes += PIECE as u64;
        match budgets.spend(payers[first], PIECE, now) {
            Verdict::Slow(until, ..) => next[first] = until,
            Verdict::Within => {}
            Verdict::Over(_) => return bytes,
        }
    }
}

#[test]
fn without_limits_nothing_is_slowed() {
    let (start, one) = (Instant::now(), payer(1, 1));
    let mut budgets = entered(NONE, &[one], start);
    assert!((0..1000).all(|_| budgets.spend(one, 1 << 30, start) == Verdict::Within));
}

#[test]
fn each_rate_is_kept_over_those_that_share_it() {
    let start = Instant::now();
    let all = [payer(1, 1), payer(2, 1), payer(3, 2)];
    for (limits, flows) in [
        (RelayLimits { rate: Some(1_000_000), ..NONE }, 3),
        (RelayLimits { rate_per_ip: Some(1_000_000), ..NONE }, 2),
        (RelayLimits { rate_total: Some(1_000_000), ..NONE }, 1),
    ] {
        let mut budgets = entered(limits, &all, start);
        let bytes = passed(&mut budgets, &all, start, Duration::from_secs(10));
        let expected = 10_000_000 * flows;
        let slack = 150_000 * flows;
        assert!((expected..=expected + slack).contains(&bytes), "{limits:?}: {bytes}");
    }
}

#[test]
fn a_pause_earns_no_more_than_a_burst() {
    let (start, one) = (Instant::now(), payer(1, 1));
    let mut budgets = entered(RelayLimits { rate: Some(1_000_000), ..NONE }, &[one], start);
    let later = start + Duration::from_secs(3600);
    let bytes = passed(&mut budgets, &[one], later, Duration::from_millis(1));
    assert!(bytes <= 120_000, "{bytes}");
}

#[test]
fn a_slow_session_is_told_of_once() {
    let (start, one) = (Instant::now(), payer(1, 1));
    let mut budgets = entered(RelayLimits { rate: Some(1000), ..NONE }, &[one], start);
    let told = |verdict| matches!(verdict, Verdict::Slow(_, Bound::Session, true));
    assert!(told(budgets.spend(one, 5000, start)));
    assert!(!told(budgets.spend(one, 5000, start)));
}

#[test]
fn a_session_has_its_quota_whoever_sends_and_however_often_it_connects() {
    let (start, all) = (Instant::now(), [payer(1, 1), payer(1, 2)]);
    let mut budgets = entered(RelayLimits { quota: Some(1000), ..NONE }, &all, start);
    assert_eq!(budgets.spend(all[0], 600, start), Verdict::Within);
    assert_eq!(budgets.spend(all[1], 400, start), Verdict::Within);
    assert_eq!(budgets.spend(all[1], 1, start), Verdict::Over(Bound::Session));
    all.iter().for_each(|it| budgets.leave(*it, start));
    assert_eq!(budgets.enter(all[0], start), Err(Refusal::QuotaOfSession));
    assert_eq!(budgets.enter(payer(2, 1), start), Ok(()));
    budgets.forget(SessionId(1));
    assert_eq!(budgets.enter(all[0], start), Ok(()));
}

#[test]
fn an_address_has_its_quota_back_after_a_while() {
    let (start, one) = (Instant::now(), payer(1, 1));
    let mut budgets = entered(RelayLimits { quota_per_ip: Some(24_000), ..NONE }, &[one], start);
    assert_eq!(budgets.spend(one, 24_000, start), Verdict::Within);
    assert_eq!(budgets.spend(one, 1, start), Verdict::Over(Bound::Address));
    budgets.leave(one, start);
    let minute = Duration::from_secs(60);
    assert_eq!(budgets.enter(payer(2, 1), start + 59 * minute), Err(Refusal::QuotaOfAddress));
    assert_eq!(budgets.enter(payer(2, 2), start + 59 * minute), Ok(()), "another address");
    let later = start + 61 * minute;
    assert_eq!(budgets.enter(payer(2, 1), later), Ok(()));
    assert_eq!(budgets.spend(payer(2, 1), 1000, later), Verdict::Within);
    assert_eq!(budgets.spend(payer(2, 1), 100, later), Verdict::Over(Bound::Address));
}

#[test]
fn nobody_takes_all_the_places() {
    let start = Instant::now();
    let mut budgets = Budgets::new(NONE);
    let taken = (0..100).filter(|it| budgets.enter(payer(*it, 1), start).is_ok()).count();
    assert_eq!(taken, 25);
    assert_eq!(budgets.enter(payer(1, 1), start), Err(Refusal::ShareOfAddress));
    for host in 2..5 {
        (0..25).for_each(|it| budgets.enter(payer(it, host), start).unwrap());
    }
    assert_eq!(budgets.enter(payer(1, 9), start), Err(Refusal::Full));
    budgets.leave(payer(1, 2), start);
    assert_eq!(budgets.enter(payer(1, 9), start), Ok(()));
}

#[test]
fn the_networks_of_one_site_have_two_shares_together() {
    let start = Instant::now();
    let home = |network: u16, host: u64| {
        let source = Source::of(IpAddr::from([0x2001, 0xdb8, 7, network, 0, 0, 0, 1]));
        Payer { session: SessionId(host), source, way: Way::WebSocket, quota: None }
    };
    let mut budgets = Budgets::new(RelayLimits { quota_per_ip: Some(24_000), ..NONE });
    let payers = (0..100).map(|number| home(number / 20, number.into()));
    let taken = payers.filter(|it| budgets.enter(*it, start).is_ok()).count();
    assert_eq!(taken, 50);
    assert_eq!(budgets.enter(home(9, 1), start), Err(Refusal::ShareOfSite));
    assert_eq!(budgets.enter(payer(1, 1), start), Ok(()), "another site");
    for (network, bytes) in [(0, 24_000), (1, 20_000), (2, 4_000)] {
        assert_eq!(budgets.spend(home(network, 1), bytes, start), Verdict::Within);
    }
    assert_eq!(budgets.spend(home(2, 1), 1, start), Verdict::Over(Bound::Site));
    for number in 0..20 {
        budgets.leave(home(0, number), start);
    }
    assert_eq!(budgets.enter(home(3, 1), start), Err(Refusal::QuotaOfAddress));
}
