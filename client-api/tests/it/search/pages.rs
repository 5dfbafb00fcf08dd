//! Pages of results, groups, and what stands around results.

use serde_json::{Value, json};

use super::{ask, both, edit, fill, found};
use crate::harness::{User, events, ids};

/// All pages of a search, from a token on.
async fn pages(user: &User, criteria: &Value, from: Option<&str>) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut batch = from.map(ToOwned::to_owned);
    loop {
        let answer = ask(user, criteria, batch.as_deref()).await;
        let next = answer["next_batch"].as_str().map(ToOwned::to_owned);
        if !found(&answer).is_empty() {
            pages.push(found(&answer));
        }
        match next {
            Some(next) => batch = Some(next),
            None => return pages,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_each_result_once_whatever_comes_meanwhile() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        let mut said = Vec::new();
        for n in 0..25 {
            let more = "moon ".repeat(n % 4 + 1);
            said.push(ada.say(&room, &format!("{more} {n}")).await);
        }
        if indexed {
            fill(&server.store).await;
        }
        said.reverse();
        let recent = json!({"search_term": "moon", "order_by": "recent", "filter": {"limit": 10}});
        let all = pages(&ada, &recent, None).await;
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(all.concat(), said);

        let rank = json!({"search_term": "moon", "filter": {"limit": 10}});
        let first = ask(&ada, &rank, None).await;
        assert_eq!(first["count"], 25);
        ada.say(&room, &"moon ".repeat(20)).await;
        if indexed {
            fill(&server.store).await;
        }
        let rest = pages(&ada, &rank, first["next_batch"].as_str()).await;
        let mut all = [vec![found(&first)], rest].concat().concat();
        let ranked = all.clone();
        all.sort_unstable();
        let mut wanted = said.clone();
        wanted.sort_unstable();
        assert_eq!(all, wanted, "each once, and nothing that came later");
        assert_ne!(ranked, said, "in another order than by time");
    })
    .await;
}

/// More than is looked at in one piece, most of it hers, then little, then nearly all.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_others_rooms_stands_in_nobodys_way() {
    both(async |server, indexed| {
        if !indexed {
            return;
        }
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let (own, left) = (ada.create_public().await, ada.create_public().await);
        let elsewhere = bob.create_public().await;
        bob.join(&left).await;
        let (mut said, mut of_left) = (Vec::new(), Vec::new());
        // More than a piece of what she has left.
        for n in 0..210 {
            of_left.push(bob.say(&left, &format!("moon before {n}")).await);
        }
        said.extend(of_left.clone());
        for n in 0..540 {
            let every = [3, 10, 1][n / 180];
            let text = format!("moon {n}");
            if n == 270 {
                ada.leave(&left).await;
            }
            match n % every {
                0 if n % 9 != 4 => said.push(ada.say(&own, &text).await),
                1 | 4 if n < 270 => {
                    of_left.push(bob.say(&left, &text).await);
                    said.extend(of_left.last().cloned());
                }
                2 if n > 270 => drop(bob.say(&left, &text).await),
                _ => drop(bob.say(&elsewhere, &text).await),
            }
        }
        fill(&server.store).await;
        said.reverse();
        of_left.reverse();
        let recent = json!({"search_term": "moon", "order_by": "recent", "filter": {"limit": 50}});
        assert_eq!(pages(&ada, &recent, None).await.concat(), said);
        let messages = json!({"search_term": "moon", "order_by": "recent", "keys": ["content.body"],
            "filter": {"limit": 50, "rooms": [left]}});
        assert_eq!(pages(&ada, &messages, None).await.concat(), of_left);
        // By rank all are looked at first.
        let rank = json!({"search_term": "moon", "filter": {"limit": 50}});
        assert_eq!(ask(&ada, &rank, None).await["count"], said.len());
        let mut ranked = pages(&ada, &rank, None).await.concat();
        ranked.sort_unstable();
        said.sort_unstable();
        assert_eq!(ranked, said);
    })
    .await;
}

/// More than is on the page is counted, but nothing that the reader doesn't see.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_is_what_one_sees() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let eve = server.register("eve").await;
        let secret = ada.create_public().await;
        let edited = ada.say(&secret, "a sun of old").await;
        super::access::visibility(&ada, &secret, "joined").await;
        for n in 0..5 {
            ada.say(&secret, &format!("moon {n}")).await;
        }
        edit(&ada, &secret, &edited, "moon now").await;
        eve.join(&secret).await;
        let own = eve.create(json!({"name": "moon"})).await;
        let mut of_eve = Vec::new();
        for n in 0..4 {
            of_eve.push(eve.say(&own, &format!("moon {n}")).await);
        }
        let of_ada = ada.say(&secret, "moon for all").await;
        eve.say(&own, "moon, the last").await;
        if indexed {
            fill(&server.store).await;
        }
        let count = async |user: &User, keys: Value| {
            let mut criteria =
                json!({"search_term": "moon", "order_by": "recent", "filter": {"limit": 1}});
            if keys.is_array() {
                criteria["keys"] = keys;
            }
            ask(user, &criteria, None).await["count"].clone()
        };
        assert_eq!(count(&ada, Value::Null).await, 7);
        assert_eq!(count(&eve, Value::Null).await, 7, "six messages, a name");
        assert_eq!(count(&eve, json!(["content.body"])).await, 6);
        // Even before the index hears of it.
        super::redact(&eve, &own, &of_eve[0]).await;
        assert_eq!(count(&eve, json!(["content.body"])).await, 5);
        let ignored = json!({"ignored_users": {&ada.id: {}}});
        let path = format!(
            "/user/{}/account_data/m.ignored_user_list",
            crate::harness::esc(&eve.id)
        );
        eve.ok(http::Method::PUT, &path, ignored).await;
        assert_eq!(count(&eve, json!(["content.body"])).await, 4);
        assert!(!super::finds(&eve, "moon").await.contains(&of_ada));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_go_on_by_themselves() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let (one, two) = (ada.create_public().await, ada.create_public().await);
        bob.join(&one).await;
        let (mut of_bob, mut in_two) = (Vec::new(), Vec::new());
        for n in 0..6 {
            ada.say(&one, &format!("tea {n}")).await;
            of_bob.push(bob.say(&one, &format!("tea {n}")).await);
            in_two.push(ada.say(&two, &format!("tea {n}")).await);
        }
        if indexed {
            fill(&server.store).await;
        }
        of_bob.reverse();
        in_two.reverse();
        let group_by = json!([{"key": "room_id"}, {"key": "sender"}]);
        let criteria = json!({"search_term": "tea", "order_by": "recent", "filter": {"limit": 4},
            "groupings": {"group_by": group_by}});
        let first = ask(&ada, &criteria, None).await;
        let (rooms, senders) = (&first["groups"]["room_id"], &first["groups"]["sender"]);
        assert_eq!(rooms[&two]["results"], json!(in_two[..2]));
        assert_eq!(
            (&rooms[&two]["order"], &rooms[&one]["order"]),
            (&json!(1), &json!(2))
        );
        assert_eq!(senders[&bob.id]["results"], json!(of_bob[..1]));
        let batch = rooms[&two]["next_batch"].as_str();
        assert_eq!(pages(&ada, &criteria, batch).await.concat(), in_two[2..]);
        let batch = senders[&bob.id]["next_batch"].as_str();
        assert_eq!(pages(&ada, &criteria, batch).await.concat(), of_bob[1..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_around_a_result_is_told() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let path = format!("/profile/{}/displayname", crate::harness::esc(&ada.id));
        let name = json!({"displayname": "Ada"});
        ada.ok(http::Method::PUT, &path, name).await;
        let room = ada.create(json!({"name": "Club"})).await;
        let mut said = Vec::new();
        for n in 1..=7 {
            said.push(ada.say(&room, &format!("Message number {n}")).await);
        }
        let edited = edit(&ada, &room, &said[3], "Message number 44").await;
        if indexed {
            fill(&server.store).await;
        }
        let criteria = json!({"search_term": "number 44", "include_state": true,
            "event_context": {"before_limit": 2, "after_limit": 1, "include_profile": true}});
        let answer = ask(&ada, &criteria, None).await;
        assert_eq!(found(&answer), [&*said[3]]);
        let result = &answer["results"][0];
        let replaced = &result["result"]["unsigned"]["m.relations"]["m.replace"];
        assert_eq!(replaced["event_id"], json!(edited));
        let context = &result["context"];
        assert_eq!(
            ids(&events(context, &["events_before"])),
            [&*said[2], &*said[1]]
        );
        assert_eq!(ids(&events(context, &["events_after"])), [&*said[4]]);
        assert_eq!(context["profile_info"][&ada.id]["displayname"], "Ada");
        let name = events(&answer, &["state", &room]);
        assert!(name.iter().any(|event| event["content"]["name"] == "Club"));
        // Its places are those of the room's history.
        let (start, end) = (
            context["start"].as_str().unwrap(),
            context["end"].as_str().unwrap(),
        );
        let page = |dir: &str, from: &str| {
            format!(
                "/rooms/{}/messages?dir={dir}&limit=1&from={}",
                crate::harness::esc(&room),
                crate::harness::esc(from)
            )
        };
        let before = ada.read(&page("b", start)).await;
        assert_eq!(ids(&events(&before, &["chunk"])), [&*said[0]]);
        let after = ada.read(&page("f", end)).await;
        assert_eq!(ids(&events(&after, &["chunk"])), [&*said[5]]);
        let plain = ask(&ada, &json!({"search_term": "number 5"}), None).await;
        assert!(plain["results"][0].get("context").is_none() && plain.get("state").is_none());
    })
    .await;
}
