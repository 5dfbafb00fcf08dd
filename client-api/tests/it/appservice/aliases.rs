//! Aliases of services.

use http::Method;
use serde_json::{Value, json};

use super::{Acting, IRC, PUPPETS, refuses, story};
use crate::harness::esc;

fn path(alias: &str) -> String {
    format!("/directory/room/{}", esc(alias))
}

#[tokio::test]
async fn people_neither_make_nor_delete_aliases_of_a_services() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        let exclusive = (400, "M_EXCLUSIVE");
        let body = json!({ "room_id": room });
        refuses(
            &ada,
            (Method::PUT, &path("#irc_x:here")),
            body.clone(),
            exclusive,
        )
        .await;
        let with = json!({ "room_alias_name": "irc_x" });
        refuses(&ada, (Method::POST, "/createRoom"), with, exclusive).await;
        let irc = Acting::of(server, "irc-token");
        // Whoever is in the room: the namespace is the service's.
        irc.ok(Method::PUT, &path("#irc_x:here"), body.clone())
            .await;
        let (_, found) = ada.get(&path("#irc_x:here")).await;
        assert_eq!(found["room_id"], room.as_str());
        // She may change the canonical alias of her room, and yet.
        refuses(
            &ada,
            (Method::DELETE, &path("#irc_x:here")),
            json!({}),
            exclusive,
        )
        .await;
        ada.ok(Method::PUT, &path("#mine:here"), body).await;
        ada.ok(Method::DELETE, &path("#mine:here"), json!({})).await;
    })
    .await;
}

#[tokio::test]
async fn a_service_keeps_to_its_aliases() {
    story(&[IRC, PUPPETS], async |server| {
        let ada = server.register("ada").await;
        let room = ada.create(json!({ "room_alias_name": "yard" })).await;
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        let body = json!({ "room_id": room });
        let exclusive = (400, "M_EXCLUSIVE");
        irc.refused(Method::PUT, &path("#other:here"), body.clone(), exclusive)
            .await;
        irc.refused(Method::DELETE, &path("#yard:here"), Value::Null, exclusive)
            .await;
        let with = json!({ "room_alias_name": "other" });
        ann.refused(Method::POST, "/createRoom", with, exclusive)
            .await;
        let puppet = Acting::of(server, "puppets-token").as_user(&ada.id);
        puppet
            .refused(Method::PUT, &path("#irc_y:here"), body.clone(), exclusive)
            .await;
        let unknown = json!({ "room_id": "!unknown:here" });
        irc.refused(
            Method::PUT,
            &path("#irc_y:here"),
            unknown,
            (404, "M_NOT_FOUND"),
        )
        .await;
        let there = (400, "M_INVALID_PARAM");
        irc.refused(Method::PUT, &path("#irc_y:there"), body, there)
            .await;

        // What one of its users has made, another may do away with.
        let made = json!({ "room_alias_name": "irc_z" });
        let room = ann.ok(Method::POST, "/createRoom", made).await;
        let found = irc.read(&path("#irc_z:here")).await;
        assert_eq!(found["room_id"], room["room_id"]);
        irc.ok(Method::DELETE, &path("#irc_z:here"), json!({}))
            .await;
        irc.refused(
            Method::GET,
            &path("#irc_z:here"),
            Value::Null,
            (404, "M_NOT_FOUND"),
        )
        .await;
    })
    .await;
}
