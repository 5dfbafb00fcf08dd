//! Other networks: none without somebody who reaches them, and one of these tests' own.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use rhizome_client_api::{Network, Networks};
use rhizome_storage::testing::each_database;
use ruma::{
    RoomAliasId, UserId, room_alias_id,
    thirdparty::{Location, Protocol, User},
    user_id,
};
use serde_json::{Value, json};

use crate::harness::{Server, story};

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_who_reaches_them_there_are_no_networks() {
    story(async |server| {
        let ada = server.register("ada").await;
        let protocols = ada.read("/thirdparty/protocols").await;
        assert_eq!(protocols, json!({}));
        for path in [
            "/thirdparty/protocol/irc",
            "/thirdparty/location/irc?network=example&channel=%23matrix",
            "/thirdparty/location/irc",
            "/thirdparty/user/irc?nickname=ada",
            "/thirdparty/location?alias=%23room%3Ahere",
            "/thirdparty/user?userid=%40ada%3Ahere",
        ] {
            let (status, answer) = ada.get(path).await;
            assert_eq!(status, 404, "{path}: {answer}");
            assert_eq!(answer["errcode"], "M_NOT_FOUND", "{path}");
        }
        for path in ["/thirdparty/location?alias=x", "/thirdparty/user"] {
            let (status, answer) = ada.get(path).await;
            assert_eq!(status, 400, "{path}: {answer}");
        }
    })
    .await;
}

/// A network of one channel and one user.
#[derive(Debug)]
struct Chat;

fn protocol() -> Value {
    json!({
        "user_fields": ["nickname"], "location_fields": ["channel"], "icon": "mxc://here/chat",
        "field_types": {
            "nickname": { "regexp": "[a-z]+", "placeholder": "ada" },
            "channel": { "regexp": "#.+", "placeholder": "#well" },
        },
        "instances": [{ "desc": "Chat", "fields": {}, "network_id": "chat" }],
    })
}

fn channel() -> Location {
    let fields = BTreeMap::from([("channel".to_owned(), "#well".to_owned())]);
    Location::new(
        room_alias_id!("#chat_well:here").to_owned(),
        "chat".into(),
        fields,
    )
}

fn ada() -> User {
    let fields = BTreeMap::from([("nickname".to_owned(), "ada".to_owned())]);
    User::new(user_id!("@chat_ada:here").to_owned(), "chat".into(), fields)
}

fn found<'a, T: Send + 'a>(one: T, is_it: bool) -> BoxFuture<'a, Vec<T>> {
    async move { Vec::from_iter(is_it.then_some(one)) }.boxed()
}

impl Network for Chat {
    fn protocols(&self) -> BTreeMap<String, Protocol> {
        let protocol = serde_json::from_value(protocol()).unwrap();
        BTreeMap::from([("chat".to_owned(), protocol)])
    }

    fn locations<'a>(
        &'a self,
        protocol: &'a str,
        fields: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Vec<Location>> {
        assert_eq!(protocol, "chat");
        let one = channel();
        let is_it = *fields == one.fields;
        found(one, is_it)
    }

    fn users<'a>(
        &'a self,
        protocol: &'a str,
        fields: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Vec<User>> {
        assert_eq!(protocol, "chat");
        let one = ada();
        let is_it = *fields == one.fields;
        found(one, is_it)
    }

    fn locations_of<'a>(&'a self, alias: &'a RoomAliasId) -> BoxFuture<'a, Vec<Location>> {
        let one = channel();
        let is_it = one.alias == *alias;
        found(one, is_it)
    }

    fn users_of<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Vec<User>> {
        let one = ada();
        let is_it = one.userid == *user;
        found(one, is_it)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_reaches_is_told() {
    each_database(async |store| {
        let server = Server::with(store, |config| {
            config.networks = Networks::of(vec![Arc::new(Chat)]);
        });
        let user = server.register("ada").await;
        let all = user.read("/thirdparty/protocols").await;
        assert_eq!(all, json!({ "chat": protocol() }));
        assert_eq!(user.read("/thirdparty/protocol/chat").await, protocol());
        let (place, person) = (json!([channel()]), json!([ada()]));
        for (path, expected) in [
            ("/thirdparty/location/chat?channel=%23well", &place),
            ("/thirdparty/location?alias=%23chat_well%3Ahere", &place),
            ("/thirdparty/user/chat?nickname=ada", &person),
            ("/thirdparty/user?userid=%40chat_ada%3Ahere", &person),
        ] {
            assert_eq!(user.read(path).await, *expected, "{path}");
        }
        for path in [
            "/thirdparty/protocol/irc",
            "/thirdparty/location/irc?channel=%23well",
            "/thirdparty/location/chat?channel=%23other",
            "/thirdparty/user/chat",
            "/thirdparty/user?userid=%40ada%3Ahere",
        ] {
            let (status, answer) = user.get(path).await;
            assert_eq!(
                (status.as_u16(), &answer["errcode"]),
                (404, &json!("M_NOT_FOUND"))
            );
        }
        let fields: Vec<String> = (0..40).map(|n| format!("f{n}=x")).collect();
        let path = format!("/thirdparty/user/chat?{}", fields.join("&"));
        assert_eq!(user.get(&path).await.0, 400);
    })
    .await;
}
