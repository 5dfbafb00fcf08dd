//! Readers who leave and come back: whatever was hidden from them, the state that they are told is the room's.

use http::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Server, User, esc, events, filter, ids, next, story, timeline},
    model::{Model, State, state_of},
    random::Random,
};

async fn topic(user: &User, room: &str, topic: &str) -> String {
    let content = json!({ "topic": topic });
    user.set_state(room, "m.room.topic", "", content).await
}

async fn visibility(user: &User, room: &str, value: &str) {
    let content = json!({ "history_visibility": value });
    user.set_state(room, "m.room.history_visibility", "", content)
        .await;
}

async fn act(user: &User, room: &str, action: &str, on: &User) {
    let path = format!("/rooms/{}/{action}", esc(room));
    user.ok(Method::POST, &path, json!({"user_id": on.id}))
        .await;
}

#[tokio::test]
async fn what_changed_in_the_readers_absence_begins_the_timeline() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        visibility(&alice, &room, "joined").await;
        bob.join(&room).await;
        let before = topic(&alice, &room, "before").await;
        let said = alice.say(&room, "before").await;
        let since = next(&bob.sync(None, "").await);
        bob.leave(&room).await;
        let away = topic(&alice, &room, "in bob's absence").await;
        bob.join(&room).await;
        let back = alice.say(&room, "welcome").await;
        for since in [None, Some(&*since)] {
            let told = bob.sync(since, "").await;
            let part = &told["rooms"]["join"][&room];
            assert!(ids(&events(part, &["state", "events"])).contains(&away));
            let shown = timeline(&told, &room);
            assert!(!shown.contains(&before) && shown.contains(&back), "{told}");
            assert_eq!(part["timeline"]["limited"], true);
            // What bob may see of the time before is found by paging back.
            let path = format!(
                "/rooms/{}/messages?dir=b&limit=50&from={}",
                esc(&room),
                part["timeline"]["prev_batch"].as_str().unwrap()
            );
            let page = ids(&events(&bob.read(&path).await, &["chunk"]));
            assert!(page.contains(&before) && page.contains(&said));
            assert!(!page.contains(&away) && !page.contains(&back));
        }
        // Who asks for the state after the timeline is told the same of the room.
        let told = bob.sync(None, "&use_state_after=true").await;
        let after = &told["rooms"]["join"][&room]["state_after"];
        assert!(ids(&events(after, &["events"])).contains(&away));
    })
    .await;
}

/// A filter that hides the last change of an entry and shows the one before.
#[tokio::test]
async fn a_change_that_the_filter_hides_is_not_undone_by_one_that_it_shows() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let levels = json!({"users": {&bob.id: 50}});
        alice
            .set_state(&room, "m.room.power_levels", "", levels)
            .await;
        bob.join(&room).await;
        let without_bob = filter(&json!({"room": {"timeline": {"not_senders": [&bob.id]}}}));
        let since = next(&alice.sync(None, &without_bob).await);
        alice.say(&room, "first").await;
        topic(&alice, &room, "shown").await;
        let said = alice.say(&room, "second").await;
        let hidden = topic(&bob, &room, "hidden").await;
        for since in [None, Some(&*since)] {
            let told = alice.sync(since, &without_bob).await;
            let part = &told["rooms"]["join"][&room];
            assert!(ids(&events(part, &["state", "events"])).contains(&hidden));
            assert_eq!(timeline(&told, &room), std::slice::from_ref(&said));
            assert_eq!(part["timeline"]["limited"], true);
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_comes_and_goes_ends_with_the_servers_state() {
    let seeds = std::env::var("RHIZOME_RANDOM_ABSENCES").map_or(3, |n| n.parse().unwrap());
    for seed in 0..seeds {
        story(|server| comings_and_goings(server, seed)).await;
    }
}

const VISIBILITIES: [&str; 4] = ["joined", "invited", "shared", "world_readable"];

fn filters(carol: &User) -> Vec<String> {
    let timeline = |timeline: Value| filter(&json!({"room": {"timeline": timeline}}));
    vec![
        String::new(),
        timeline(json!({"limit": 0})),
        timeline(json!({"limit": 1})),
        timeline(json!({"limit": 3})),
        timeline(json!({"limit": 200})),
        timeline(json!({"limit": 4, "not_senders": [&carol.id]})),
        timeline(json!({"limit": 5, "not_types": ["m.room.member"]})),
        timeline(json!({"limit": 2, "types": ["m.room.message", "org.*"]})),
        timeline(json!({"limit": 3})) + "&use_state_after=true",
    ]
}

/// Bob comes and goes, and his devices look now and then: some go on from where they were, some begin anew.
async fn comings_and_goings(server: Server, seed: u64) {
    let mut random = Random(seed);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    let room = alice.create_public().await;
    let levels = json!({"users": {&carol.id: 50}, "invite": 0});
    alice
        .set_state(&room, "m.room.power_levels", "", levels)
        .await;
    carol.join(&room).await;
    let mut readers = Vec::new();
    for filter in filters(&carol) {
        readers.push((bob.another_device().await, filter, Model::default()));
    }
    let mut membership = "leave";
    for step in 0..90 {
        match (random.below(9), membership) {
            (0, "join") => {
                bob.leave(&room).await;
                membership = "leave";
            }
            (0, "leave") => {
                act(&alice, &room, "invite", &bob).await;
                membership = "invite";
            }
            (1, "join") => {
                act(&alice, &room, "ban", &bob).await;
                membership = "ban";
            }
            (0 | 1, "ban") => {
                act(&alice, &room, "unban", &bob).await;
                membership = "leave";
            }
            (1 | 2, "leave" | "invite") => {
                bob.join(&room).await;
                membership = "join";
            }
            (3, _) => {
                visibility(&alice, &room, VISIBILITIES[random.below(4)]).await;
            }
            (4..=6, _) => {
                let user = [&alice, &carol][random.below(2)];
                let key = random.below(3).to_string();
                let content = json!({ "step": step });
                user.set_state(&room, "org.test", &key, content).await;
            }
            (_, _) => drop(alice.say(&room, &step.to_string()).await),
        }
        let at = random.below(2 * readers.len());
        let Some((device, filter, model)) = readers.get_mut(at) else {
            continue;
        };
        if random.below(3) == 0 {
            *model = Model::default();
        }
        model.catch_up(device, filter).await;
        compare(
            &bob,
            &room,
            membership,
            model,
            &format!("{seed} {step} {filter}"),
        )
        .await;
    }
    for (device, filter, model) in &mut readers {
        model.catch_up(device, filter).await;
        compare(&bob, &room, membership, model, &format!("{seed} {filter}")).await;
    }
}

async fn compare(bob: &User, room: &str, membership: &str, model: &Model, when: &str) {
    if membership == "join" {
        assert_eq!(model.state[room], state_of(bob, room).await, "{when}");
        return;
    }
    assert!(!model.state.contains_key(room), "{when}");
    // Of a room that has been left the state as of the leaving, and what became of the reader since.
    let others = |state: &State| {
        let mut state = state.clone();
        state.retain(|(kind, _), _| kind != "m.room.member");
        state
    };
    if let Some(left) = model.left.get(room).filter(|left| left.len() > 1) {
        // A room that everybody may read is told as it is now.
        let path = format!("/rooms/{}/state/m.room.history_visibility", esc(room));
        let visibility = bob.read(&path).await;
        if visibility["history_visibility"] != "world_readable" {
            assert_eq!(others(left), others(&state_of(bob, room).await), "{when}");
        }
    }
}
