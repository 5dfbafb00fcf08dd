//! What a server tells of a large room, in pieces, is what it was told itself.

use std::collections::BTreeSet;

use http::Method;
use rhizome_protocol::{Object, RoomRules, draft};
use ruma::{EventId, OwnedEventId};
use serde_json::{Value, json};

use crate::{
    crowd::{self, Crowd, Told},
    large::{enter, ids_of, offer, small, texts},
    support::key,
    world::{Server, each, enc, json_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_streamed_is_what_was_told() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in ["10", "12"] {
            let told = Crowd {
                others: 600,
                ..small(version, "streamed")
            }
            .tell();
            offer(&world, &told);
            enter(a, &alice, &told).await.unwrap();
            let head = a.store().room(&told.room_id).await.unwrap().unwrap();
            let hers = head.extremities[0].event_id.clone();
            b.join(&bob, &told.room_id, a).await.unwrap();

            let auth_chain = the_state_is_told(a, b, &told, &hers).await;
            the_auth_chain_of_one_event_is_told(a, b, &told, &hers).await;
            let since = who_joins_is_told_the_room(a, b, &told, &auth_chain).await;
            assert_eq!(since, 2, "alice and bob have come");
            before_the_first_byte_an_error_is_an_error(a, b, &told).await;
        }
    })
    .await;
}

/// The room as it was before an event. Gives the auth chain.
async fn the_state_is_told(
    a: &Server,
    b: &Server,
    told: &Told,
    before: &EventId,
) -> BTreeSet<String> {
    let version = &*told.version;
    let path = format!("{}?event_id={}", enc(&told.room_id), enc(before));
    let at = |what: &str| format!("/_matrix/federation/v1/{what}/{path}");
    let whole = b.get(a, &at("state")).await.unwrap();
    assert_eq!(texts(&whole["pdus"]), texts_of(&told.state));
    let ids = b.get(a, &at("state_ids")).await.unwrap();
    let strings = |ids: BTreeSet<OwnedEventId>| -> BTreeSet<String> {
        ids.iter().map(|id| json!(id).to_string()).collect()
    };
    assert_eq!(
        texts(&ids["pdu_ids"]),
        strings(ids_of(version, &told.state))
    );
    let (auth_chain, chain) = (texts(&whole["auth_chain"]), texts_of(&told.auth_chain));
    if version == "12" {
        // Nothing names the create event, which the room's id implies.
        let create = |text: &String| text.contains("m.room.create");
        let without: BTreeSet<_> = chain.iter().filter(|text| !create(text)).cloned().collect();
        assert!(auth_chain.is_superset(&without));
    } else {
        assert_eq!(auth_chain, chain);
        assert_eq!(
            texts(&ids["auth_chain_ids"]),
            strings(ids_of(version, &told.auth_chain))
        );
    }
    auth_chain
}

async fn the_auth_chain_of_one_event_is_told(a: &Server, b: &Server, told: &Told, of: &EventId) {
    let path = format!(
        "/_matrix/federation/v1/event_auth/{}/{}",
        enc(&told.room_id),
        enc(of)
    );
    let auth = b.get(a, &path).await.unwrap();
    assert!(texts(&auth["auth_chain"]).is_subset(&texts_of(&told.auth_chain)));
    assert!(auth["auth_chain"].as_array().unwrap().len() >= 2);
}

/// Another user of b joins, by both versions of the endpoint. Gives how much the state has that wasn't told first.
async fn who_joins_is_told_the_room(
    a: &Server,
    b: &Server,
    told: &Told,
    auth_chain: &BTreeSet<String>,
) -> usize {
    let (room, version, carol) = (&told.room_id, &*told.version, b.user("carol"));
    let path = format!(
        "/_matrix/federation/v1/make_join/{}/{}?ver={version}",
        enc(room),
        enc(&carol)
    );
    let made = b.get(a, &path).await.unwrap();
    let mut event: Object = made["event"].as_object().unwrap().clone();
    event.insert("origin_server_ts".to_owned(), crowd::now().into());
    let rules = RoomRules::named(version).unwrap();
    let event = draft::finish(rules, event, &b.name, &key(2)).unwrap();
    let path = format!(
        "/_matrix/federation/v2/send_join/{}/{}",
        enc(room),
        enc(event.event_id())
    );
    let body = Some(json_of(&event));
    let answer = b
        .request(a, Method::PUT, &path, body.clone())
        .await
        .unwrap();
    let (state, first) = (texts(&answer["state"]), texts_of(&told.state));
    assert!(state.is_superset(&first));
    assert!(texts(&answer["auth_chain"]).is_superset(auth_chain));
    assert_eq!(answer["event"], json_of(&event));
    assert_eq!(answer["members_omitted"], false);
    assert_eq!(answer["origin"], json!(a.name));
    assert_eq!(answer["servers_in_room"].as_array().unwrap().len(), 5);
    let older = path.replace("/v2/", "/v1/");
    let again = b.request(a, Method::PUT, &older, body).await.unwrap();
    assert_eq!(again, json!([200, answer]));
    state.difference(&first).count()
}

async fn before_the_first_byte_an_error_is_an_error(a: &Server, b: &Server, told: &Told) {
    let path = format!("{}?event_id={}", enc(&told.room_id), enc("$nowhere"));
    for what in ["state", "state_ids"] {
        let path = format!("/_matrix/federation/v1/{what}/{path}");
        let error = b.get(a, &path).await.unwrap_err();
        assert_eq!(
            (error.status.as_u16(), &*error.errcode),
            (404, "M_NOT_FOUND")
        );
    }
}

/// Events as `serde_json` writes them.
fn texts_of(events: &[String]) -> BTreeSet<String> {
    events
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap().to_string())
        .collect()
}
