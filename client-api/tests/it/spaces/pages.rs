//! The way through a space, page by page.

use http::StatusCode;
use rhizome_storage::{Store, testing::TestDatabase};
use serde_json::{Value, json};

use super::{children, hierarchy, look, put, rooms, shown, space};
use crate::harness::{Server, User, next, story};

/// A space that holds R1, SS1 and R2; SS1 holds SS2, which holds R3 and R4. R2 names a child, but is no space.
struct Tree {
    root: String,
    r1: String,
    ss1: String,
    ss2: String,
    r3: String,
    r4: String,
    r2: String,
}

impl Tree {
    async fn grow(alice: &User) -> Tree {
        let none = json!({});
        let named = |name: &str| json!({ "preset": "public_chat", "name": name });
        let tree = Tree {
            root: space(alice, json!({ "name": "Root" })).await,
            r1: alice.create(named("R1")).await,
            ss1: space(alice, json!({ "name": "SS1", "topic": "Some" })).await,
            ss2: space(alice, json!({ "name": "SS2" })).await,
            r3: alice.create(named("R3")).await,
            r4: alice.create(named("R4")).await,
            r2: alice.create(named("R2")).await,
        };
        let suggested = json!({ "suggested": true });
        put(alice, &tree.root, &tree.r1, suggested.clone()).await;
        put(alice, &tree.root, &tree.ss1, none.clone()).await;
        put(alice, &tree.root, &tree.r2, suggested).await;
        put(alice, &tree.ss1, &tree.ss2, none.clone()).await;
        put(alice, &tree.ss2, &tree.r3, none.clone()).await;
        put(alice, &tree.ss2, &tree.r4, none.clone()).await;
        let hidden = alice.create_public().await;
        put(alice, &tree.r2, &hidden, none).await;
        tree
    }

    /// All of it, depth first.
    fn all(&self) -> [&str; 7] {
        let ss2 = [&*self.ss2, &self.r3, &self.r4];
        let [a, b, c] = ss2;
        [&self.root, &self.r1, &self.ss1, a, b, c, &self.r2]
    }
}

#[tokio::test]
async fn a_space_is_told_depth_first() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let tree = Tree::grow(&alice).await;
        let whole = look(&alice, &tree.root, "").await;
        assert_eq!(rooms(&whole), tree.all());
        assert_eq!(whole.get("next_batch"), None);
        let ss1 = shown(&whole, &tree.ss1);
        assert_eq!(ss1["name"], "SS1");
        assert_eq!(ss1["topic"], "Some");
        assert_eq!(ss1["room_type"], "m.space");
        assert_eq!(ss1["join_rule"], "public");
        assert_eq!(ss1["num_joined_members"], 1);
        assert_eq!(ss1["room_version"], "12");
        let [r1, of_ss1, r2] = [&tree.r1, &tree.ss1, &tree.r2].map(String::as_str);
        assert_eq!(children(&whole, &tree.root), [r1, of_ss1, r2]);
        assert_eq!(children(&whole, &tree.ss2), [&*tree.r3, &tree.r4]);
        // No space holds nothing.
        assert!(children(&whole, &tree.r2).is_empty());
        let link = &shown(&whole, &tree.root)["children_state"][0];
        assert_eq!(link["content"]["suggested"], true);
        assert!(link["origin_server_ts"].is_i64(), "{link}");

        // Not deeper, but what is there is told of.
        let flat = look(&alice, &tree.root, "max_depth=1").await;
        assert_eq!(rooms(&flat), [&*tree.root, r1, of_ss1, r2]);
        assert_eq!(children(&flat, &tree.ss1), [&*tree.ss2]);
        let alone = look(&alice, &tree.root, "max_depth=0").await;
        assert_eq!(rooms(&alone), [&*tree.root]);
        assert_eq!(alone.get("next_batch"), None);
        let suggested = look(&alice, &tree.root, "suggested_only=true").await;
        assert_eq!(rooms(&suggested), [&*tree.root, r1, r2]);
        assert_eq!(children(&suggested, &tree.root), [r1, r2]);
        // A room that is no space holds nothing either.
        assert_eq!(rooms(&look(&alice, &tree.r2, "").await), [r2]);

        // What is taken out is gone.
        alice
            .set_state(&tree.root, "m.space.child", &tree.ss1, json!({}))
            .await;
        let without = look(&alice, &tree.root, "").await;
        assert_eq!(rooms(&without), [&*tree.root, r1, r2]);
        assert_eq!(children(&without, &tree.root), [r1, r2]);
    })
    .await;
}

/// Pages of every size, one after the other, are the whole.
async fn pages(user: &User, space: &str, query: &str, limit: usize) -> Vec<String> {
    let (mut from, mut found) = (String::new(), Vec::new());
    loop {
        let page = look(user, space, &format!("limit={limit}{query}{from}")).await;
        let rooms = rooms(&page);
        assert!(rooms.len() <= limit);
        found.extend(rooms.iter().map(ToString::to_string));
        match page["next_batch"].as_str() {
            Some(token) => from = format!("&from={token}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_are_the_whole() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let tree = Tree::grow(&alice).await;
        for limit in 1..8 {
            assert_eq!(pages(&alice, &tree.root, "", limit).await, tree.all());
        }
        let flat = pages(&alice, &tree.root, "&max_depth=2", 2).await;
        let expected = [&tree.root, &tree.r1, &tree.ss1, &tree.ss2, &tree.r2];
        assert_eq!(flat.iter().collect::<Vec<_>>(), expected);

        // What is gone when the next page is asked for is only passed over.
        let page = look(&alice, &tree.root, "limit=5").await;
        assert_eq!(rooms(&page).last(), Some(&&*tree.r3));
        let from = format!("from={}", page["next_batch"].as_str().unwrap());
        alice
            .set_state(&tree.ss2, "m.space.child", &tree.r4, json!({}))
            .await;
        assert_eq!(rooms(&look(&alice, &tree.root, &from).await), [&*tree.r2]);
        // The way down isn't there any more: what follows is found all the same.
        alice
            .set_state(&tree.ss1, "m.space.child", &tree.ss2, json!({}))
            .await;
        let rest = look(&alice, &tree.root, &from).await;
        assert!(rooms(&rest).contains(&&*tree.r2), "{rest}");
    })
    .await;
}

#[tokio::test]
async fn what_a_client_may_not_ask_for_is_refused() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let tree = Tree::grow(&alice).await;
        let page = look(&alice, &tree.root, "limit=1&max_depth=3").await;
        let from = page["next_batch"].as_str().unwrap();
        let other = look(&alice, &tree.ss1, "limit=1&max_depth=3").await;
        let other = other["next_batch"].as_str().unwrap();
        for query in [
            format!("from={from}"),
            format!("from={from}&max_depth=2"),
            format!("from={from}&max_depth=3&suggested_only=true"),
            format!("from={other}&max_depth=3"),
            "from=nonsense".to_owned(),
            "from=".to_owned(),
            "limit=0".to_owned(),
        ] {
            let (status, error) = hierarchy(&alice, &tree.root, &query).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {error}");
            assert_eq!(error["errcode"], "M_INVALID_PARAM", "{query}");
        }
        let again = look(&alice, &tree.root, &format!("from={from}&max_depth=3")).await;
        assert_eq!(rooms(&again), tree.all()[1..]);
        // As much as there is.
        let all = look(&alice, &tree.root, "limit=100000&max_depth=100000").await;
        assert_eq!(rooms(&all), tree.all());
    })
    .await;
}

/// Spaces that hold each other, and one that two hold.
#[tokio::test]
async fn a_circle_is_gone_through_once() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let (a, b, c) = (
            space(&alice, json!({})).await,
            space(&alice, json!({})).await,
            space(&alice, json!({})).await,
        );
        for (space, child) in [(&a, &b), (&b, &a), (&b, &b), (&b, &c), (&a, &c), (&c, &a)] {
            put(&alice, space, child, json!({})).await;
        }
        let [a, b, c] = [&*a, &b, &c];
        assert_eq!(rooms(&look(&alice, a, "").await), [a, b, c]);
        assert_eq!(rooms(&look(&alice, c, "").await), [c, a, b]);
        for limit in 1..4 {
            assert_eq!(pages(&alice, a, "", limit).await, [a, b, c]);
        }
    })
    .await;
}

#[tokio::test]
async fn children_stand_in_the_order_of_their_space() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let root = space(&alice, json!({})).await;
        let mut all = Vec::new();
        for order in [json!("b"), json!("a"), json!(7), json!(""), json!("\u{7f}")] {
            let room = alice.create_public().await;
            // In the specification's files an order is what it must be.
            let server_name = json!({ "via": ["here"], "order": order });
            alice
                .set_state(&root, "m.space.child", &room, server_name)
                .await;
            all.push(room);
        }
        let page = look(&alice, &root, "").await;
        let expected = [&root, &all[1], &all[0], &all[2], &all[3], &all[4]];
        assert_eq!(rooms(&page), expected.map(String::as_str));
        let mut told = vec![root.as_str()];
        told.extend(children(&page, &root));
        assert_eq!(told, expected.map(String::as_str));
    })
    .await;
}

/// Queries of one page by a server that has just started.
async fn queries(database: &TestDatabase, alice: &User, space: &str, limit: usize) -> u64 {
    let store: Store = database.open().await;
    let alice = User {
        server: Server::new(store.clone()),
        ..alice.clone()
    };
    // Who it is has to be found out, whatever is asked.
    next(&alice.sync(None, "").await);
    let before = store.counters().now();
    let page = look(&alice, space, &format!("limit={limit}")).await;
    assert_eq!(rooms(&page).len(), limit);
    let cost = store.counters().now() - before;
    store.close().await;
    cost.queries
}

#[tokio::test]
async fn a_pages_queries_do_not_grow_with_its_rooms() {
    for database in TestDatabase::both().await {
        let store: Store = database.open().await;
        let server = Server::new(store.clone());
        let alice = server.register("alice").await;
        // By somebody whose rooms Alice isn't in.
        let bob = server.register("bob").await;
        let root = space(&bob, json!({})).await;
        for _ in 0..3 {
            let inner = space(&bob, json!({})).await;
            put(&bob, &root, &inner, json!({})).await;
            for _ in 0..9 {
                let room = bob.create_public().await;
                put(&bob, &inner, &room, json!({})).await;
            }
        }
        store.close().await;
        let few = queries(&database, &alice, &root, 5).await;
        let many = queries(&database, &alice, &root, 30).await;
        assert!(many <= few, "{few} and {many}");
        assert!(many < 30, "{many}");
        println!("{few} and {many}");
        database.remove().await;
    }
}

/// However large what is said of a child is.
#[tokio::test]
async fn a_page_stays_bounded() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let root = space(&alice, json!({})).await;
        let mut all = Vec::new();
        for n in 0..3 {
            let room = alice.create_public().await;
            let more = json!({ "x": "x".repeat(50_000), "order": n.to_string() });
            put(&alice, &root, &room, more).await;
            all.push(room);
        }
        let page: Value = look(&alice, &root, "").await;
        assert!(page.to_string().len() < 10_000);
        assert_eq!(children(&page, &root), all);
        let link = &shown(&page, &root)["children_state"][0];
        assert_eq!(
            link["content"],
            json!({ "via": ["here"], "suggested": false, "order": "0" })
        );
    })
    .await;
}
