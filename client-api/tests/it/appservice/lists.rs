//! Directories of other networks.

use http::Method;
use rhizome_federation::testing::Network;
use ruma::server_name;
use serde_json::{Value, json};

use super::{Acting, IRC, PUPPETS, refuses, story};
use crate::harness::{Server, User, esc};

/// The rooms that a search finds.
async fn found(user: &User, search: Value) -> Vec<String> {
    let answer = user.ok(Method::POST, "/publicRooms", search).await;
    let rooms = answer["chunk"].as_array().unwrap().iter();
    let mut rooms: Vec<_> = rooms
        .map(|room| room["room_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(answer["total_room_count_estimate"], rooms.len());
    rooms.sort();
    rooms
}

fn path(network: &str, room: &str) -> String {
    format!("/directory/list/appservice/{}/{}", esc(network), esc(room))
}

#[tokio::test]
async fn a_room_is_found_in_the_directory_of_its_network() {
    story(&[IRC, PUPPETS], async |server| {
        let ada = server.register("ada").await;
        let public = ada.create(json!({ "visibility": "public" })).await;
        let bridged = ada.create(json!({ "name": "bridged" })).await;
        let irc = Acting::of(server, "irc-token");
        let list = async |service: &Acting, network: &str, room: &str, visibility: &str| {
            let body = json!({ "visibility": visibility });
            service.ok(Method::PUT, &path(network, room), body).await;
        };
        list(&irc, "net/one", &bridged, "public").await;
        let instance = json!({ "third_party_instance_id": "irc|net/one" });
        let all = json!({ "include_all_networks": true });
        let mut both = vec![public.clone(), bridged.clone()];
        both.sort();
        assert_eq!(found(&ada, json!({})).await, std::slice::from_ref(&public));
        assert_eq!(
            found(&ada, instance.clone()).await,
            std::slice::from_ref(&bridged)
        );
        assert_eq!(found(&ada, all.clone()).await, both);
        for other in ["irc|net/two", "puppets|net/one", "net/one", "irc"] {
            let search = json!({ "third_party_instance_id": other });
            assert_eq!(found(&ada, search).await, [""; 0], "{other}");
        }
        let named =
            json!({ "include_all_networks": true, "filter": { "generic_search_term": "BRIDGED" } });
        assert_eq!(found(&ada, named).await, std::slice::from_ref(&bridged));
        // Another service's directory is another one.
        let puppets = Acting::of(server, "puppets-token");
        list(&puppets, "net/one", &bridged, "private").await;
        assert_eq!(
            found(&ada, instance.clone()).await,
            std::slice::from_ref(&bridged)
        );
        list(&irc, "net/one", &bridged, "private").await;
        assert_eq!(found(&ada, instance).await, [""; 0]);
        assert_eq!(found(&ada, all).await, [public]);
    })
    .await;
}

#[tokio::test]
async fn only_services_keep_directories() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        let body = json!({ "visibility": "public" });
        let target = (Method::PUT, path("net", &room));
        let as_ada = (target.0.clone(), target.1.as_str());
        refuses(&ada, as_ada, body.clone(), (403, "M_FORBIDDEN")).await;
        for (token, code) in [(None, "M_MISSING_TOKEN"), (Some("x"), "M_UNKNOWN_TOKEN")] {
            let path = format!("/_matrix/client/v3{}", target.1);
            let body = Some(body.clone());
            let (status, error) = server.request(Method::PUT, &path, token, body).await;
            assert_eq!((status.as_u16(), &error["errcode"]), (401, &json!(code)));
        }
        let irc = Acting::of(server, "irc-token");
        let odd = (400, "M_INVALID_PARAM");
        for network in ["a|b", &"x".repeat(256)] {
            irc.refused(Method::PUT, &path(network, &room), body.clone(), odd)
                .await;
        }
        let unknown = path("net", "!unknown:here");
        irc.refused(Method::PUT, &unknown, body, (404, "M_NOT_FOUND"))
            .await;
        let wrong = json!({ "visibility": "half" });
        irc.refused(Method::PUT, &target.1, wrong, (400, "M_BAD_JSON"))
            .await;
    })
    .await;
}

#[tokio::test]
async fn other_servers_find_it_too() {
    rhizome_storage::testing::each_database(async |store: rhizome_storage::Store| {
        let network = Network::default();
        let federation = rhizome_federation::FederationConfig {
            services: Some(rhizome_appservice::Services::new(super::registrations(&[
                IRC,
            ]))),
            ..rhizome_federation::FederationConfig::default()
        };
        let name = server_name!("here");
        let here = Server::federating(name, 7, store.clone(), &network, federation, |_| {});
        rhizome_client_api::users::of_service(&store, ruma::user_id!("@ircbot:here"))
            .await
            .unwrap();
        let database = rhizome_storage::testing::TestDatabase::sqlite();
        let other = database.open().await;
        let there = Server::named(server_name!("there"), 8, other.clone(), &network, |_| {});
        let (ada, bob) = (here.register("ada").await, there.register("bob").await);
        let room = ada.create(json!({})).await;
        let body = json!({ "visibility": "public" });
        let irc = Acting::of(&here, "irc-token");
        irc.ok(Method::PUT, &path("net", &room), body).await;
        let ask = async |search: Value| {
            let path = "/publicRooms?server=here";
            let answer = bob.ok(Method::POST, path, search).await;
            answer["chunk"].as_array().unwrap().len()
        };
        let by_name = json!({ "generic_search_term": "" });
        assert_eq!(ask(json!({})).await, 0);
        assert_eq!(ask(json!({ "include_all_networks": true })).await, 1);
        assert_eq!(
            ask(json!({ "third_party_instance_id": "irc|net" })).await,
            1
        );
        assert_eq!(
            ask(json!({ "third_party_instance_id": "irc|ten" })).await,
            0
        );
        let filtered = json!({ "include_all_networks": true, "filter": by_name });
        assert_eq!(ask(filtered).await, 1);
        other.close().await;
        database.remove().await;
    })
    .await;
}
