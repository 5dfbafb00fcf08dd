//! What people do, in each step the same.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use super::{ACTIVE, world::World};
use crate::{
    delayed,
    e2ee::signer::{Device, query},
    harness::{User, esc, next},
    pushers,
    sliding::client::{Client, first},
    sticky::stick,
    to_device,
};

/// Messages that are under way at a time.
const AT_ONCE: usize = 16;
/// What is written in a quiet step: in all of them more than the log tells of.
const QUIET: usize = 15;
/// Connections that are used once. The third one is gone when its name is used again.
const FORSAKEN: [&str; 3] = ["one", "two", "three"];
const HOUR_MS: u32 = 3_600_000;

/// Alice and Bob here, whose rooms are one with other servers and one of their own; Eve, who comes and goes; Carol of the
/// other server, and Dave, whose server is away.
pub struct People {
    alice: User,
    bob: User,
    eve: User,
    carol: User,
    room: String,
    chat: String,
    /// The device that Bob uses, with its keys,
    device: Device,
    slider: Client,
    /// where its `/sync` is,
    since: String,
    /// and one that he has lost.
    tablet: String,
    /// What Alice's third device is renewed with.
    refresh: Value,
}

/// Waits until an event has come to somebody's server. A moment of the clock is enough for whoever has failed and rests.
async fn hears(user: &User, room: &str, event: &str) {
    let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
    eventually("it is heard", async || {
        let heard = user.get(&path).await.0.is_success();
        if !heard {
            let moment = Duration::from_millis(100);
            user.server.store.clock().advance(moment);
        }
        heard
    })
    .await;
}

fn password_of(user: &User) -> Value {
    json!({
        "type": "m.login.password", "password": "a good password",
        "identifier": { "type": "m.id.user", "user": user.id },
    })
}

/// A request beside those of version 3, which must succeed.
async fn ask(user: &User, path: &str, token: Option<&str>, body: Value) -> Value {
    let path = format!("/_matrix/client/{path}");
    let asked = user.server.request(Method::POST, &path, token, Some(body));
    let (status, answer) = asked.await;
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    answer
}

impl People {
    pub async fn begin(world: &World) -> Self {
        let alice = world.here.register("alice").await;
        let bob = world.here.register("bob").await;
        let eve = world.here.register("eve").await;
        let carol = world.there.register("carol").await;
        let dave = world.away.register("dave").await;
        let (room, chat) = (alice.create_public().await, alice.create_public().await);
        bob.join(&room).await;
        bob.join(&chat).await;
        let path = format!("/join/{}?via=here", esc(&room));
        carol.ok(Method::POST, &path, json!({})).await;
        dave.ok(Method::POST, &path, json!({})).await;
        let all = alice.say(&room, "everybody is there").await;
        hears(&carol, &room, &all).await;
        world.lose();

        pushers::set(&bob, pushers::pusher("bob", json!({}))).await;
        let (device, of_carol) = (Device::of(&bob, 1).await, Device::of(&carol, 2).await);
        for one in [&device, &of_carol] {
            one.upload(json!({ "device_keys": one.keys() })).await;
        }
        let tablet = to_device::device_of(&bob.another_device().await).await;
        let mut login = password_of(&alice);
        login["refresh_token"] = true.into();
        let desk = ask(&alice, "v3/login", None, login).await;
        Self {
            since: next(&bob.sync(None, "").await),
            slider: Client::of(&bob),
            refresh: desk["refresh_token"].clone(),
            alice,
            bob,
            eve,
            carol,
            room,
            chat,
            device,
            tablet,
        }
    }

    /// A step with life in it, and so many messages beside what there always is.
    pub async fn live(&mut self, month: usize, step: usize, messages: usize) {
        let n = month * ACTIVE + step;
        if step == 0 {
            self.begins_a_month(month).await;
        }
        self.chats(n, messages).await;
        self.meets(n).await;
        self.keys(n).await;
        self.messages(n).await;
        self.settings(n).await;
        self.sessions().await;
        self.reads().await;
    }

    /// A step in which Bob looks, and Alice's client writes down where it is.
    pub async fn rest(&mut self, month: usize, step: usize) {
        for time in 0..QUIET {
            let place = json!({ "place": [month, step, time] });
            self.note("org.example.place", place).await;
        }
        self.reads().await;
    }

    async fn note(&self, kind: &str, content: Value) {
        let path = format!("/user/{}/account_data/{kind}", esc(&self.alice.id));
        self.alice.ok(Method::PUT, &path, content).await;
    }

    /// What somebody does now and then.
    async fn begins_a_month(&self, month: usize) {
        let alice = &self.alice;
        let path = format!("/profile/{}/displayname", esc(&alice.id));
        let name = json!({ "displayname": format!("Alice {month}") });
        alice.ok(Method::PUT, &path, name).await;
        // A backup is begun and given up.
        let backup = json!({
            "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
            "auth_data": { "public_key": "abc" },
        });
        let begun = alice.ok(Method::POST, "/room_keys/version", backup).await;
        let version = begun["version"].as_str().unwrap();
        let key = json!({
            "first_message_index": 1, "forwarded_count": 0, "is_verified": false,
            "session_data": { "ciphertext": "c", "ephemeral": "e", "mac": "m" },
        });
        let path = format!(
            "/room_keys/keys/{}/session?version={version}",
            esc(&self.room)
        );
        alice.ok(Method::PUT, &path, key).await;
        let path = format!("/room_keys/version/{version}");
        alice.ok(Method::DELETE, &path, json!({})).await;
        // Somebody looks at the server with a client, once.
        let mut once = Client::named(&self.bob, FORSAKEN[month % FORSAKEN.len()]);
        once.sync(&first(5)).await;
    }

    /// What two people say to each other here.
    async fn chats(&self, n: usize, messages: usize) {
        let (alice, bob, chat) = (&self.alice, &self.bob, &*self.chat);
        let mut left = messages;
        while left > 0 {
            let now = left.min(AT_ONCE);
            let said = (0..now).map(|_| bob.say(chat, "nothing much, and you?"));
            join_all(said).await;
            left -= now;
        }
        let said = alice.say(chat, "a mistake").await;
        let liked = json!({ "m.relates_to": {
            "rel_type": "m.annotation", "event_id": said, "key": "+",
        }});
        bob.send(chat, "m.reaction", liked).await;
        let edited = json!({
            "msgtype": "m.text", "body": "* a correction",
            "m.new_content": { "msgtype": "m.text", "body": "a correction" },
            "m.relates_to": { "rel_type": "m.replace", "event_id": said },
        });
        alice.send(chat, "m.room.message", edited).await;
        stick(alice, chat, &format!("sticky{n}"), HOUR_MS).await;
        // One is sent when the clock moves on, one never.
        let n = u32::try_from(n).unwrap();
        delayed::send(alice, chat, 2 * n, HOUR_MS).await;
        let other = delayed::send(alice, chat, 2 * n + 1, HOUR_MS).await;
        let (status, answer) = delayed::act(&alice.server, &other, "cancel").await;
        assert_eq!(status, 200, "{answer}");
    }

    /// What goes on in the room that other servers are in: one thing after the other, so that nothing has to be merged,
    /// once more or once less.
    async fn meets(&self, n: usize) {
        let (alice, eve, room) = (&self.alice, &self.eve, &*self.room);
        let topic = json!({ "topic": format!("the {n}th") });
        let topic = alice.set_state(room, "m.room.topic", "", topic).await;
        eve.join(room).await;
        self.has_read(eve, &topic).await;
        eve.leave(room).await;
        eve.forget(room).await;
        let said = alice.say(room, "how are you?").await;
        hears(&self.carol, room, &said).await;
        let for_bob = json!({ &self.bob.id: { &self.device.id: { "n": n } } });
        to_device::send(&self.carol, &format!("year{n}"), for_bob).await;
        let answer = self.carol.say(room, "well").await;
        hears(alice, room, &answer).await;
        self.has_read(&self.bob, &answer).await;
        let path = format!("/rooms/{}/typing/{}", esc(room), esc(&self.bob.id));
        let typing = json!({ "typing": true, "timeout": 30_000 });
        self.bob.ok(Method::PUT, &path, typing).await;
    }

    async fn has_read(&self, user: &User, event: &str) {
        let (room, event) = (esc(&self.room), esc(event));
        let path = format!("/rooms/{room}/receipt/m.read/{event}");
        user.ok(Method::POST, &path, json!({})).await;
    }

    /// A device comes with its keys, of which one is taken, and goes; and of one that stays, one is taken and replaced.
    async fn keys(&self, n: usize) {
        let phone = self.alice.another_device().await;
        let device = Device::of(&phone, 3).await;
        let id = format!("K{n}");
        let mut keys = json!({ "one_time_keys": device.one_time(&[id.as_str()]) });
        keys["device_keys"] = device.keys();
        keys["fallback_keys"] = device.fallback("F");
        device.upload(keys).await;
        claim(&self.bob, &device).await;
        phone.ok(Method::POST, "/logout", json!({})).await;
        let keys = json!({ "one_time_keys": self.device.one_time(&[id.as_str()]) });
        self.device.upload(keys).await;
        claim(&self.alice, &self.device).await;
        query(&self.alice, json!({ &self.carol.id: [] })).await;
    }

    /// Messages to a device that gets them, to one that never comes, to another server, and to the one that is away.
    async fn messages(&self, n: usize) {
        let content = json!({ "n": n });
        let messages = json!({
            &self.bob.id: { &self.device.id: content, &self.tablet: content },
            &self.carol.id: { "*": content },
            "@dave:away": { "*": content },
        });
        to_device::send(&self.alice, &format!("year{n}"), messages).await;
    }

    async fn settings(&self, n: usize) {
        let alice = &self.alice;
        self.note("org.example.year", json!({ "n": n })).await;
        let path = format!("/user/{}/filter", esc(&alice.id));
        let filter = json!({ "room": { "timeline": { "limit": n + 1 } } });
        alice.ok(Method::POST, &path, filter).await;
        let path = format!("/presence/{}/status", esc(&alice.id));
        let status = json!({ "presence": "online", "status_msg": format!("for the {n}th time") });
        alice.ok(Method::PUT, &path, status).await;
        let path = format!("/directory/room/{}", esc("#gone:here"));
        let alias = json!({ "room_id": self.chat });
        alice.ok(Method::PUT, &path, alias).await;
        alice.ok(Method::DELETE, &path, json!({})).await;
        let path = format!("/directory/list/room/{}", esc(&self.chat));
        for visibility in ["public", "private"] {
            let listed = json!({ "visibility": visibility });
            alice.ok(Method::PUT, &path, listed).await;
        }
    }

    /// Tokens that are used, and those that nobody uses; and something that is begun and not confirmed.
    async fn sessions(&mut self) {
        let alice = &self.alice;
        let begun = json!({ "devices": ["NONE"] });
        let begun = alice.call(Method::POST, "/delete_devices", Some(begun));
        let (status, answer) = begun.await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
        let body = json!({ "auth": password_of(alice) });
        ask(alice, "v1/login/get_token", Some(&alice.token), body).await;
        let path = format!("/user/{}/openid/request_token", esc(&alice.id));
        alice.ok(Method::POST, &path, json!({})).await;
        let body = json!({ "refresh_token": self.refresh });
        let renewed = ask(alice, "v3/refresh", None, body).await;
        // Used once, it takes the place of the one before it.
        let desk = User {
            token: renewed["access_token"].as_str().unwrap().to_owned(),
            ..alice.clone()
        };
        desk.read("/account/whoami").await;
        self.refresh = renewed["refresh_token"].clone();
    }

    /// Bob's client says with the second request that it has what came with the first.
    async fn reads(&mut self) {
        for _ in 0..2 {
            let told = self.bob.sync(Some(&self.since), "").await;
            self.since = next(&told);
        }
        self.slider.sync(&first(5)).await;
    }
}

async fn claim(user: &User, of: &Device) {
    let body = json!({ "one_time_keys": { &of.user.id: { &of.id: "signed_curve25519" } } });
    let answer = user.ok(Method::POST, "/keys/claim", body).await;
    let keys = &answer["one_time_keys"][&of.user.id][&of.id];
    assert!(keys.is_object(), "{answer}");
}
