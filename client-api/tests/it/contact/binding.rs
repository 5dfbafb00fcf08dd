//! Identity servers publish whose addresses these are.

use http::Method;
use rhizome_client_api::ClientConfig;
use ruma::server_name;
use serde_json::{Value, json};

use super::{
    World,
    directory::{Directory, NAME, TOKEN},
    each, each_with, password, refused,
};
use crate::harness::User;

async fn bind(user: &User, server: &str, token: &str, secret: &str) -> (u16, Value) {
    let body = json!({
        "id_server": server, "id_access_token": token, "sid": "ada=40example.org", "client_secret": secret,
    });
    let bound = user.call(Method::POST, "/account/3pid/bind", Some(body));
    let (status, answer) = bound.await;
    (status.as_u16(), answer)
}

async fn unbind(user: &User, more: Value) -> Value {
    let mut body = json!({ "medium": "email", "address": "Ada@example.org" });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    let told = user.ok(Method::POST, "/account/3pid/unbind", body).await;
    told["id_server_unbind_result"].clone()
}

#[tokio::test]
async fn what_is_bound_through_us_is_taken_back_by_our_word() {
    each(async |world| {
        let directory = Directory::attach(&world.network);
        let ada = world.server.register("ada").await;
        let fed = &world.server.federation;
        assert_eq!(bind(&ada, NAME, TOKEN, "secret").await, (200, json!({})));
        // It isn't an address of the account by that.
        assert!(super::addresses(&ada).await.is_empty());
        assert_eq!(unbind(&ada, json!({})).await, "success");
        assert_eq!(directory.unbound(fed), 1);
        // Nobody knows where else.
        assert_eq!(unbind(&ada, json!({})).await, "no-support");
        assert_eq!(directory.unbound(fed), 1);
        // There it isn't known.
        assert_eq!(unbind(&ada, json!({ "id_server": NAME })).await, "no-support");
        assert_eq!(directory.unbound(fed), 2);
        // As older clients do.
        let creds = json!({ "id_server": NAME, "id_access_token": TOKEN, "sid": "ada=40example.org", "client_secret": "secret" });
        let body = json!({ "three_pid_creds": creds });
        ada.ok(Method::POST, "/account/3pid", body.clone()).await;
        assert_eq!(unbind(&ada, json!({ "id_server": NAME })).await, "success");
        let mut wrong = body;
        wrong["three_pid_creds"]["client_secret"] = "guess".into();
        let (status, answer) = ada.call(Method::POST, "/account/3pid", Some(wrong)).await;
        refused((status.as_u16(), answer), 403, "M_THREEPID_AUTH_FAILED");
    })
    .await;
}

#[tokio::test]
async fn what_goes_wrong_there_logs_nobody_out_here() {
    each(async |world| {
        let directory = Directory::attach(&world.network);
        let ada = world.server.register("ada").await;
        refused(
            bind(&ada, NAME, "another token", "secret").await,
            403,
            "M_FORBIDDEN",
        );
        refused(
            bind(&ada, NAME, "no\ntoken", "secret").await,
            400,
            "M_INVALID_PARAM",
        );
        refused(
            bind(&ada, NAME, TOKEN, "guess").await,
            404,
            "M_NO_VALID_SESSION",
        );
        // Where nobody is, and where nobody may be led.
        for server in [
            "nobody.example",
            "127.0.0.1",
            "127.0.0.1:8008",
            "[::1]",
            "10.0.0.1:443",
        ] {
            let (status, answer) = bind(&ada, server, TOKEN, "secret").await;
            assert_eq!(status, 502, "{server}: {answer}");
            let said = answer["error"].as_str().unwrap();
            assert_eq!(said, "The identity server can't be reached");
        }
        for server in [
            "",
            "a b",
            "id.example/path",
            "https://id.example",
            "user@id.example",
            "id.example?x",
        ] {
            refused(
                bind(&ada, server, TOKEN, "secret").await,
                400,
                "M_INVALID_PARAM",
            );
        }
        assert_eq!(directory.unbound(&world.server.federation), 0);
        let asked = world.network.requests();
        assert!(
            asked.iter().all(|(to, _)| to != server_name!("127.0.0.1")),
            "{asked:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn the_operator_says_which_identity_servers_may_be_used() {
    let settings = |config: &mut ClientConfig| {
        config.identity.servers = Some(vec![server_name!("other.example").to_owned()]);
    };
    each_with(settings, async |world| {
        Directory::attach(&world.network);
        let ada = world.server.register("ada").await;
        refused(
            bind(&ada, NAME, TOKEN, "secret").await,
            400,
            "M_SERVER_NOT_TRUSTED",
        );
        assert!(world.network.requests().is_empty());
    })
    .await;
}

async fn end(user: &User) -> Value {
    let body = json!({ "auth": password(user) });
    let told = user.ok(Method::POST, "/account/deactivate", body).await;
    told["id_server_unbind_result"].clone()
}

async fn bound_at(world: &World, directory: &Directory, name: &str) -> User {
    let user = world.server.register(name).await;
    assert_eq!(bind(&user, NAME, TOKEN, "secret").await.0, 200);
    directory.binds("ada@example.org", &user.id);
    user
}

#[tokio::test]
async fn who_leaves_is_known_nowhere() {
    each(async |world| {
        let directory = Directory::attach(&world.network);
        let ada = bound_at(world, &directory, "ada").await;
        assert_eq!(end(&ada).await, "success");
        assert_eq!(directory.unbound(&world.server.federation), 1);
        // An address that was bound nowhere that we know of.
        let bob = world.user("bob", "bob@example.org", 0).await;
        assert_eq!(end(&bob).await, "no-support");
        // It is free.
        let eve = world.user("eve", "bob@example.org", 1).await;
        assert_eq!(super::addresses(&eve).await, ["bob@example.org"]);
        let nobody = world.server.register("nobody").await;
        assert_eq!(end(&nobody).await, "success");
        // An identity server that isn't there doesn't keep anybody.
        let dan = bound_at(world, &directory, "dan").await;
        world.network.cut(server_name!("id.example"));
        assert_eq!(end(&dan).await, "no-support");
        let (status, _) = dan.get("/account/whoami").await;
        assert_eq!(status.as_u16(), 401);
    })
    .await;
}
