use super::*;

fn host(number: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes())
}

/// An address in a network of a site.
fn network(site: u16, number: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, site, number, 0, 0, 0, 1])
}

/// How many of so many requests at once are answered: wholly, and with the mapped address alone.
fn answered(
    budget: &mut Budget,
    all: impl Iterator<Item = IpAddr>,
    now: Instant,
) -> (usize, usize) {
    let (mut whole, mut alone) = (0, 0);
    for ip in all {
        match budget.allows(ip, now) {
            Some(Allowance::Whole) => whole += 1,
            Some(Allowance::MappedAlone) => alone += 1,
            None => {}
        }
    }
    (whole, alone)
}

fn asks(ip: IpAddr, requests: usize) -> impl Iterator<Item = IpAddr> {
    std::iter::repeat_n(ip, requests)
}

#[test]
fn one_address_gets_its_burst_and_then_its_rate_and_others_theirs() {
    let (start, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    assert_eq!(answered(&mut budget, asks(host(1), 60_000), start), (20_000, 25_000));
    let search = asks(host(2), 500);
    assert_eq!(answered(&mut budget, search, start), (500, 0), "the search of another worker");
    let all = asks(host(1), 60_000);
    assert_eq!(answered(&mut budget, all, start + SECOND), (2_000, 20_000));
    let all = asks(host(1), 60_000);
    assert_eq!(answered(&mut budget, all, start + 60 * SECOND), (20_000, 25_000));
}

#[test]
fn three_thousand_workers_behind_one_address_start_at_once() {
    let (start, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    let (whole, alone) = answered(&mut budget, asks(host(1), 3_000 * 15), start);
    assert_eq!(whole + alone, 45_000);
}

/// 1 Mbit/s of the shortest requests, each 48 bytes with its headers, is 2,600 a second.
#[test]
fn requests_in_the_name_of_a_nat_do_not_keep_those_behind_it_from_their_addresses() {
    let (start, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    for millisecond in 0..30_000 {
        let now = start + Duration::from_millis(millisecond);
        for _ in 0..20 {
            assert!(budget.allows(host(1), now).is_some(), "after {millisecond} ms");
        }
    }
    let shortened = budget.news(start).map(|shortfall| shortfall.shortened);
    assert_eq!(shortened, Some(600_000 - 20_000 - 59_998));
}

#[test]
fn whoever_is_within_the_share_comes_first() {
    let (start, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    for millisecond in 0..4_000 {
        let now = start + Duration::from_millis(millisecond);
        for greedy in 1..=4 {
            answered(&mut budget, asks(host(greedy), 30), now);
        }
        let modest = answered(&mut budget, asks(host(9), 2), now);
        // Until the four have used up their bursts, they are within their shares.
        assert!(modest == (2, 0) || millisecond < 2_000, "{modest:?} after {millisecond} ms");
    }
}

#[test]
fn an_ipv6_network_is_one_address() {
    let (now, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    let all = (0..45_000_u128).map(|low| IpAddr::from(((0x2001_0db8 << 96) + low).to_be_bytes()));
    assert_eq!(answered(&mut budget, all, now).0, 20_000);
}

#[test]
fn all_networks_of_an_ipv6_site_have_two_shares_together() {
    let (start, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    let all = || (0..60_000_u32).map(|it| network(7, u16::try_from(it % 100).unwrap()));
    assert_eq!(answered(&mut budget, all(), start).0, 40_000);
    assert_eq!(answered(&mut budget, asks(network(8, 1), 500), start), (500, 0), "another site");
    assert_eq!(answered(&mut budget, all(), start + SECOND), (4_000, 41_000), "45,000 of all");
    let (mut whole, mut alone) = (0, 0);
    for ip in all().chain(all()) {
        budget.used = Bucket::default();
        match budget.allows(ip, start + 30 * SECOND) {
            Some(Allowance::Whole) => whole += 1,
            Some(Allowance::MappedAlone) => alone += 1,
            None => {}
        }
    }
    assert_eq!((whole, alone), (40_000, 50_000));
    budget.allows(host(1), start + 60 * SECOND);
    assert_eq!(budget.whole.known()[1], 0);
}

#[test]
fn requests_in_everybody_s_name_are_answered_at_the_rate_of_all() {
    let (start, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    let all = || (0..120_000).map(host);
    assert_eq!(answered(&mut budget, all(), start), (50_000, 0));
    assert_eq!(budget.whole.known()[0], 50_000);
    assert_eq!(answered(&mut budget, all(), start + SECOND), (50_000, 0));
    budget.allows(host(1), start + 60 * SECOND);
    assert_eq!(budget.whole.known()[0], 1, "the others are idle");
}

#[test]
fn the_table_is_bounded_and_whoever_has_used_most_stays_in_it() {
    let (now, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    assert_eq!(answered(&mut budget, asks(host(0), 30_000), now).0, 20_000);
    for number in 1..=u32::try_from(KNOWN_MAX + 10).unwrap() {
        budget.used = Bucket::default();
        assert_eq!(budget.allows(host(number), now), Some(Allowance::Whole));
    }
    assert_eq!(budget.whole.known()[0], KNOWN_MAX);
    assert_eq!(budget.allows(host(0), now), Some(Allowance::MappedAlone));
}

#[test]
fn this_machine_counts_in_all_alone() {
    let (now, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    assert_eq!(answered(&mut budget, asks([127, 0, 0, 1].into(), 60_000), now), (50_000, 0));
    assert_eq!(budget.whole.known()[0], 0);
}

#[test]
fn what_is_left_out_is_told_once_in_a_minute() {
    let (start, mut budget) = (Instant::now(), Budget::new(Some(TOTAL)));
    assert_eq!(budget.news(start), None);
    answered(&mut budget, asks(host(1), 45_007), start);
    assert_eq!(budget.news(start), Some(Shortfall { shortened: 25_000, left_out: 7 }));
    answered(&mut budget, asks(host(1), 5), start);
    assert_eq!(budget.news(start + Duration::from_secs(59)), None);
    let left_out = Shortfall { shortened: 0, left_out: 5 };
    assert_eq!(budget.news(start + Duration::from_secs(60)), Some(left_out));
}
