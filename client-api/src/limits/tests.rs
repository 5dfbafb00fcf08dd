use rhizome_storage::{OwnLimit, testing::each_database};
use ruma::user_id;

use super::*;
use crate::config::UserRates;

fn limits(burst: u32, enabled: bool) -> Limits {
    let rate = Rate {
        per_second: 0.001,
        burst,
    };
    let rates = RateLimits {
        enabled,
        login: rate,
        invite: rate,
        ..RateLimits::default()
    };
    Limits::new(&rates, UserLimits::default())
}

#[test]
fn switched_off_nothing_is_counted() {
    let limits = limits(1, false);
    for _ in 0..1000 {
        assert_eq!(limits.take(Kind::Login, "a", 0), Ok(()));
    }
    assert_eq!(
        limits.take_many(Kind::Invite, user_id!("@a:here"), 1000, 0),
        Ok(())
    );
    assert!(limits.buckets.is_empty());
}

#[test]
fn a_subscriber_has_one_bucket_for_all_addresses() {
    let limits = limits(2, true);
    let take = |address: &str| limits.take_from(Kind::Login, address.parse().ok(), 0);
    assert_eq!(take("2001:db8::1"), Ok(()));
    assert_eq!(take("2001:db8::2"), Ok(()));
    assert!(take("2001:db8::3").is_err());
    assert_eq!(take("2001:db8:0:1::3"), Ok(()));
}

#[test]
fn what_one_request_does_many_times_counts_as_often() {
    let limits = limits(5, true);
    let ada = user_id!("@a:here");
    let take = |count| limits.take_many(Kind::Invite, ada, count, 0);
    assert_eq!(take(0), Ok(()));
    assert_eq!(take(3), Ok(()));
    assert_eq!(take(3).unwrap_err().errcode, "M_LIMIT_EXCEEDED");
    assert_eq!(take(6).unwrap_err().errcode, "M_INVALID_PARAM");
    assert_eq!(limits.take_user(Kind::Invite, ada, 0), Ok(()));
    limits.give_back(Kind::Invite, ada, 3, 0);
    assert_eq!(take(4), Ok(()));
    // Never more than a full one.
    limits.give_back(Kind::Invite, ada, 9, 0);
    assert_eq!(take(5), Ok(()));
    assert!(take(1).is_err());
}

#[test]
fn some_may_do_more() {
    let (bot, busy, ada) = (
        user_id!("@bot:here"),
        user_id!("@busy:here"),
        user_id!("@ada:here"),
    );
    let rate = |burst| Rate {
        per_second: 0.001,
        burst,
    };
    let network = |address: &str, bits| Network {
        address: address.parse().unwrap(),
        bits,
    };
    let rates = RateLimits {
        enabled: true,
        login: rate(1),
        message: rate(1),
        invite: rate(1),
        exempt_users: [bot.to_owned()].into(),
        exempt_networks: vec![
            network("192.0.2.0", 24),
            network("::ffff:198.51.100.0", 120),
        ],
        proxies: vec![network("192.0.2.1", 32)],
        overrides: [(
            busy.to_owned(),
            UserRates {
                message: Some(rate(3)),
                ..UserRates::default()
            },
        )]
        .into(),
        ..RateLimits::default()
    };
    let limits = Limits::new(&rates, UserLimits::default());
    let times = |kind, user: &UserId| {
        let mut done = 0;
        while done < 10 && limits.take_user(kind, user, 0).is_ok() {
            done += 1;
        }
        done
    };
    assert_eq!(times(Kind::Message, ada), 1);
    assert_eq!(times(Kind::Message, busy), 3);
    assert_eq!(times(Kind::Invite, busy), 1);
    assert_eq!(times(Kind::Message, bot), 10);
    assert!(limits.take_many(Kind::Invite, bot, 1_000, 0).is_ok());
    // Passwords are guessed by whoever it is.
    assert_eq!(times(Kind::Login, bot), 1);
    let from = |address: &str| {
        let address = address.parse().ok();
        let take = || limits.take_from(Kind::Login, address, 0).is_ok();
        (take(), take())
    };
    assert_eq!(from("192.0.2.77"), (true, true));
    assert_eq!(from("::ffff:192.0.2.77"), (true, true));
    assert_eq!(from("198.51.100.9"), (true, true));
    // A proxy of ours stands for whoever comes through it.
    assert_eq!(from("192.0.2.1"), (true, false));
    assert_eq!(from("192.0.3.1"), (true, false));
    assert_eq!(from("2001:db8::1"), (true, false));
}

#[tokio::test]
async fn what_the_operator_sets_comes_before_the_configuration() {
    each_database(async |store| {
        let (bot, busy) = (user_id!("@bot:here"), user_id!("@busy:here"));
        let rate = |burst| Rate {
            per_second: 0.001,
            burst,
        };
        let busy_rates = UserRates {
            message: Some(rate(3)),
            ..UserRates::default()
        };
        let rates = RateLimits {
            enabled: true,
            message: rate(1),
            join: rate(1),
            login: rate(1),
            exempt_users: [bot.to_owned()].into(),
            overrides: [(busy.to_owned(), busy_rates)].into(),
            ..RateLimits::default()
        };
        let limits = Limits::new(&rates, store.user_limits().clone());
        let times = |kind, user: &UserId| {
            let mut done = 0;
            while done < 10 && limits.take_user(kind, user, 0).is_ok() {
                done += 1;
            }
            done
        };
        assert_eq!(
            (times(Kind::Message, bot), times(Kind::Message, busy)),
            (10, 3)
        );
        let set = async |user, kind, burst| {
            let limit = OwnLimit::new(0.001, burst);
            store.set_user_limits(user, &[(kind, limit)]).await.unwrap();
        };
        set(bot, "message", 2).await;
        set(busy, "message", 4).await;
        assert_eq!(
            (times(Kind::Message, bot), times(Kind::Message, busy)),
            (2, 4)
        );
        assert_eq!((times(Kind::Join, bot), times(Kind::Join, busy)), (10, 1));
        let usual = [("message", None)];
        store.set_user_limits(busy, &usual).await.unwrap();
        assert_eq!(times(Kind::Message, busy), 3);
        // Passwords are guessed by whoever it is.
        set(busy, "login", 5).await;
        assert_eq!(times(Kind::Login, busy), 1);
    })
    .await;
}

#[test]
fn what_users_can_have_has_names() {
    let kinds = [
        Kind::Message,
        Kind::Join,
        Kind::Invite,
        Kind::ToDevice,
        Kind::NewServer,
        Kind::Upload,
        Kind::Download,
        Kind::Fetch,
        Kind::Other,
    ];
    let names: Vec<_> = kinds.into_iter().filter_map(name_of).collect();
    assert_eq!(names, UserRates::NAMES);
}

#[test]
fn who_was_at_it_in_vain_comes_later() {
    let limits = limits(1, true);
    let peer = |text: &str| text.parse().ok();
    let (eve, ada) = (peer("192.0.2.1"), peer("198.51.100.1"));
    // Each of those that come at once comes later than the one before.
    for before in 0..3 {
        assert_eq!(limits.in_vain(eve, 0), (before, true));
    }
    assert_eq!((limits.vain_of(eve, 0), limits.vain_of(ada, 0)), (3, 0));
    assert_eq!(limits.vain_of(eve, 60_000), 2);
    // What was right is counted no more.
    assert_eq!(limits.in_vain(ada, 0), (0, true));
    limits.not_in_vain(ada, 0);
    assert_eq!(limits.vain_of(ada, 0), 0);
    for before in 2..VAIN.burst {
        assert_eq!(limits.in_vain(eve, 60_000), (before, true));
    }
    assert_eq!(limits.in_vain(eve, 60_000), (VAIN.burst, false));
    // Within one process nobody has an address.
    assert_eq!(limits.in_vain(None, 0), (0, false));
    assert_eq!(limits.vain_of(None, 0), 0);
}

#[test]
fn a_subscriber_downloads_so_much_at_a_time() {
    let limits = limits(1, true);
    let from = |address: String| limits.download(Downloader::Block(address.parse().ok()));
    let mut held: Vec<_> = (0..DOWNLOADS)
        .map(|n| from(format!("2001:db8:1::{n:x}")).unwrap())
        .collect();
    assert!(from("2001:db8:1::ffff".into()).is_err());
    for block in 1..16 {
        let more = (0..DOWNLOADS).map(|n| from(format!("2001:db8:1:{block:x}::{n:x}")).unwrap());
        held.extend(more);
    }
    assert!(
        from("2001:db8:1:ffff::1".into()).is_err(),
        "the whole /48 has enough"
    );
    assert!(from("2001:db8:2::1".into()).is_ok());
    held.truncate(DOWNLOADS);
    assert!(from("2001:db8:1:ffff::1".into()).is_ok());
    assert!(from("2001:db8:1::1".into()).is_err());
}
