use super::*;

const RATE: Rate = Rate {
    per_second: 2.0,
    burst: 3,
};

#[test]
fn a_burst_passes_then_the_rate_holds() {
    let buckets = Buckets::default();
    for _ in 0..3 {
        assert_eq!(buckets.take(RATE, "a", 1, 1000), Ok(()));
    }
    assert_eq!(buckets.take(RATE, "a", 1, 1000), Err(500));
    assert_eq!(
        buckets.take(RATE, "b", 1, 1000),
        Ok(()),
        "others have their own bucket"
    );
    assert_eq!(buckets.take(RATE, "a", 1, 1500), Ok(()));
    assert_eq!(buckets.take(RATE, "a", 1, 1500), Err(500));
}

#[test]
fn several_at_once_are_counted_each_or_none() {
    let buckets = Buckets::default();
    assert_eq!(buckets.take(RATE, "a", 2, 0), Ok(()));
    assert_eq!(buckets.take(RATE, "a", 2, 0), Err(500));
    assert_eq!(buckets.take(RATE, "a", 1, 0), Ok(()), "nothing was taken");
}

#[test]
fn what_is_done_already_can_come_to_be_owed() {
    let (buckets, close) = (Buckets::default(), |a: f64, b: f64| (a - b).abs() < 1e-9);
    assert!(close(buckets.spent(RATE, "a", 0), 0.0));
    buckets.charge(RATE, "a", 2.5, 0);
    assert!(close(buckets.spent(RATE, "a", 0), 2.5));
    buckets.charge(RATE, "a", 2.5, 0);
    assert!(close(buckets.spent(RATE, "a", 1_000), 3.0), "2 came back");
    assert!(close(buckets.spent(RATE, "b", 0), 0.0));
    // However much it was, it is over some time.
    for cost in [1e300, f64::INFINITY, f64::NAN] {
        buckets.charge(RATE, "a", cost, 1_000);
        assert!(close(buckets.spent(RATE, "a", 1_000), 6.0));
    }
    buckets.charge(RATE, "a", -1e300, 1_000);
    assert!(close(buckets.spent(RATE, "a", 4_000), 0.0));
}

#[test]
fn who_fills_the_table_frees_nobody() {
    let rate = Rate {
        per_second: 0.001,
        burst: 5,
    };
    let buckets = Buckets::default();
    for _ in 0..5 {
        assert_eq!(buckets.take(rate, "the abuser", 1, 0), Ok(()));
    }
    for n in 0..2 * MAX_BUCKETS {
        assert_eq!(buckets.take(rate, n, 1, 0), Ok(()));
    }
    assert!(buckets.take(rate, "the abuser", 1, 0).is_err());
    assert_eq!(buckets.len(), MAX_BUCKETS, "memory is bounded");
}

#[test]
fn a_subscriber_has_one_block() {
    let block = |address: &str| block_of(address.parse().unwrap()).to_string();
    assert_eq!(block("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(block("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(block("192.0.2.1"), "192.0.2.1");
    let site = |address: &str| site_of(address.parse().unwrap()).map(|site| site.to_string());
    assert_eq!(
        site("2001:db8:1:2:3:4:5:6").as_deref(),
        Some("2001:db8:1::")
    );
    assert_eq!(site("::ffff:192.0.2.1"), None);
    assert_eq!(site("192.0.2.1"), None);
}

fn v6(site: u128, block: u128, n: u128) -> IpAddr {
    let bits = (0x2001_0db8 << 96) | (site << 80) | (block << 64) | n;
    IpAddr::V6(bits.into())
}

#[test]
fn all_blocks_of_a_site_have_a_bucket_together() {
    let buckets = Buckets::default();
    let take = |peer, now| buckets.take_from(RATE, ("login", peer), 1, now);
    for block in 0..16 {
        for n in 0..3 {
            assert_eq!(take(v6(1, block, n), 0), Ok(()), "{block} {n}");
        }
        assert!(
            take(v6(1, block, 9), 0).is_err(),
            "its block has had its own"
        );
    }
    // A seventeenth block has done nothing, and its site has done enough.
    let fresh = v6(1, 16, 1);
    let wait = take(fresh, 0).unwrap_err();
    assert!(take(v6(1, 65_535, 1), 0).is_err());
    assert_eq!(take(v6(2, 16, 1), 0), Ok(()), "others have their own");
    assert_eq!(
        buckets.take_from(RATE, ("registration", fresh), 1, 0),
        Ok(()),
        "so has another kind"
    );
    // What the site refused wasn't taken from the block.
    for _ in 0..3 {
        assert_eq!(take(fresh, wait * 3), Ok(()));
    }
}

#[test]
fn neighbours_with_ipv4_are_nobody_in_particular() {
    let buckets = Buckets::default();
    for n in 0..250 {
        let peer = IpAddr::from([192, 0, 2, n]);
        for _ in 0..3 {
            assert_eq!(buckets.take_from(RATE, ("login", peer), 1, 0), Ok(()));
        }
        assert!(buckets.take_from(RATE, ("login", peer), 1, 0).is_err());
    }
}

#[test]
fn what_is_missing_is_told_without_taking_any() {
    let buckets = Buckets::default();
    let missing = |peer, now| buckets.missing_from(RATE, ("vain", peer), now);
    let (one, other) = (v6(1, 1, 1), v6(1, 2, 1));
    assert_eq!((missing(one, 0), buckets.len()), (0, 0));
    for _ in 0..2 {
        buckets.take_from(RATE, ("vain", one), 1, 0).unwrap();
    }
    assert_eq!((missing(one, 0), missing(other, 0)), (2, 0));
    assert_eq!(missing(one, 500), 1);
    assert_eq!(missing(one, 10_000), 0);
    // Of sixteen blocks' worth for a site, one is another block's.
    for block in 3..19 {
        buckets
            .take_from(RATE, ("vain", v6(1, block, 1)), 1, 0)
            .unwrap();
    }
    assert_eq!(missing(other, 0), 1);
    assert_eq!(missing(v6(2, 1, 1), 0), 0);
}

#[test]
fn what_is_counted_finds_what_was_counted_before() {
    let buckets = Buckets::default();
    let one: IpAddr = "192.0.2.1".parse().unwrap();
    for peer in [one, v6(1, 0, 1)] {
        let count = || buckets.count_from(RATE, ("vain", peer), 0);
        let all: Vec<_> = (0..4).map(|_| count()).collect();
        assert_eq!(all, [(0, true), (1, true), (2, true), (3, false)]);
        buckets.give_back_from(RATE, ("vain", peer), 0);
        assert_eq!(count(), (2, true));
        // Never more than a full one.
        for _ in 0..9 {
            buckets.give_back_from(RATE, ("vain", peer), 0);
        }
        assert_eq!(count(), (0, true));
    }
}

#[test]
fn another_rate_is_another_bucket() {
    let buckets = Buckets::default();
    for _ in 0..3 {
        assert_eq!(buckets.take(RATE, "a", 1, 0), Ok(()));
    }
    let more = Rate { burst: 5, ..RATE };
    for _ in 0..5 {
        assert_eq!(buckets.take(more, "a", 1, 0), Ok(()));
    }
    assert!(buckets.take(more, "a", 1, 0).is_err());
}
