//! Networks that services reach, and keys that they keep themselves.

use http::Method;
use serde_json::{Value, json};

use super::{Acting, World, each, irc};
use crate::{
    e2ee::signer::{Device, query},
    harness::User,
};

fn protocol() -> Value {
    json!({
        "user_fields": ["nickname"], "location_fields": ["channel"], "icon": "mxc://here/irc",
        "field_types": {
            "nickname": { "regexp": "[a-z]+", "placeholder": "ada" },
            "channel": { "regexp": "#.+", "placeholder": "#well" },
        },
        "instances": [{ "desc": "Libera", "fields": {}, "network_id": "libera" }],
    })
}

#[tokio::test]
async fn what_services_say_of_their_networks_is_told() {
    each(&[irc], async |world| {
        let ada = world.server.register("ada").await;
        // It says nothing of it yet.
        assert_eq!(ada.read("/thirdparty/protocols").await, json!({}));
        world.clock.advance(std::time::Duration::from_secs(6));
        world
            .irc()
            .says("v1/thirdparty/protocol/irc", 200, protocol());
        let mut told = protocol();
        told["instances"][0]["instance_id"] = "irc|libera".into();
        assert_eq!(
            ada.read("/thirdparty/protocols").await,
            json!({ "irc": told })
        );
        assert_eq!(ada.read("/thirdparty/protocol/irc").await, told);
        assert_eq!(ada.get("/thirdparty/protocol/icq").await.0, 404);
        let asked = world.irc().asked("v1/thirdparty/protocol/irc").len();
        assert_eq!(asked, 2, "it is asked once in a while");

        let place = json!({
            "alias": "#irc_well:here", "protocol": "irc", "fields": { "channel": "#well" },
        });
        let found = json!([place, { "alias": 7 }, "nonsense"]);
        world
            .irc()
            .says("v1/thirdparty/location/irc?channel=%23well", 200, found);
        let path = "/thirdparty/location/irc?channel=%23well";
        assert_eq!(ada.read(path).await, json!([place]));
        let user = json!({
            "userid": "@irc_ann:here", "protocol": "irc", "fields": { "nickname": "ann" },
        });
        world
            .irc()
            .says("v1/thirdparty/user/irc?nickname=ann", 200, json!([user]));
        assert_eq!(
            ada.read("/thirdparty/user/irc?nickname=ann").await,
            json!([user])
        );
        assert_eq!(ada.get("/thirdparty/user/irc?nickname=bob").await.0, 404);
        assert_eq!(ada.get("/thirdparty/user/icq?nickname=ann").await.0, 404);
        world.irc().says(
            "v1/thirdparty/location?alias=%23irc_well%3Ahere",
            200,
            json!([place]),
        );
        let path = "/thirdparty/location?alias=%23irc_well%3Ahere";
        assert_eq!(ada.read(path).await, json!([place]));
        world.irc().says(
            "v1/thirdparty/user?userid=%40irc_ann%3Ahere",
            200,
            json!([user]),
        );
        let path = "/thirdparty/user?userid=%40irc_ann%3Ahere";
        assert_eq!(ada.read(path).await, json!([user]));
    })
    .await;
}

const QUERY: &str = "unstable/org.matrix.msc3984/keys/query";
const CLAIM: &str = "unstable/org.matrix.msc3983/keys/claim";
const GHOST: &str = "@irc_ann:here";

/// The bridge's user, with a device that signs.
async fn ghost(world: &World) -> (Acting, Device) {
    let (_, ann) = world.bridge().await;
    let body = json!({ "display_name": "bridge" });
    ann.ok(Method::PUT, "/devices/BRIDGE", body).await;
    let user = User {
        server: world.server.clone(),
        id: GHOST.to_owned(),
        token: String::new(),
    };
    (
        ann.and("device_id=BRIDGE"),
        Device::named(&user, "BRIDGE", 3),
    )
}

#[tokio::test]
async fn devices_that_a_service_keeps_are_merged_with_those_that_are_here() {
    each(&[irc], async |world| {
        let (ann, device) = ghost(world).await;
        let ada = world.server.register("ada").await;
        let body = json!({ "device_keys": device.keys() });
        ann.ok(Method::POST, "/keys/upload", body).await;
        let other = Device::named(&device.user, "OTHER", 4);
        let mut forged = Device::named(&device.user, "FORGED", 5).keys();
        forged["algorithms"] = json!(["m.other"]);
        let said = json!({ "device_keys": { GHOST: {
            "OTHER": other.keys(), "FORGED": forged, "WRONG": other.keys(),
        }, &ada.id: { "HERS": other.keys() } } });
        world.irc().says(QUERY, 200, said);
        let told = query(&ada, json!({ GHOST: [], &ada.id: [] })).await;
        let devices = told["device_keys"][GHOST].as_object().unwrap();
        assert_eq!(devices.keys().collect::<Vec<_>>(), ["BRIDGE", "OTHER"]);
        assert_eq!(devices["OTHER"]["keys"], other.keys()["keys"]);
        assert!(told["device_keys"][&ada.id].as_object().unwrap().is_empty());
        assert_eq!(world.irc().asked(QUERY), [json!({ GHOST: [] })]);
    })
    .await;
}

#[tokio::test]
async fn one_time_keys_come_from_the_service_where_none_is_left() {
    each(&[irc], async |world| {
        let (ann, device) = ghost(world).await;
        let ada = world.server.register("ada").await;
        let claim = async || {
            let wanted = json!({ "one_time_keys": { GHOST: { "BRIDGE": "signed_curve25519" } } });
            let answer = ada.ok(Method::POST, "/keys/claim", wanted).await;
            let keys = answer["one_time_keys"][GHOST]["BRIDGE"]
                .as_object()
                .cloned();
            keys.unwrap_or_default().keys().cloned().collect::<Vec<_>>()
        };
        let body = json!({
            "device_keys": device.keys(),
            "one_time_keys": device.one_time(&["here"]),
            "fallback_keys": device.fallback("last"),
        });
        ann.ok(Method::POST, "/keys/upload", body).await;
        let given =
            |name: &str, device: &Device| json!({ GHOST: { "BRIDGE": device.one_time(&[name]) } });
        world.irc().says(CLAIM, 200, given("there", &device));
        assert_eq!(claim().await, ["signed_curve25519:here"]);
        assert!(world.irc().asked(CLAIM).is_empty());
        assert_eq!(claim().await, ["signed_curve25519:there"]);
        let asked = json!({ GHOST: { "BRIDGE": ["signed_curve25519"] } });
        assert_eq!(world.irc().asked(CLAIM), [asked]);
        // One that somebody else has signed isn't taken, nor is there one if it doesn't answer.
        let stranger = Device::named(&device.user, "BRIDGE", 9);
        world.irc().says(CLAIM, 200, given("forged", &stranger));
        assert_eq!(claim().await, ["signed_curve25519:last"]);
        world.irc().says(CLAIM, 500, json!({}));
        assert_eq!(claim().await, ["signed_curve25519:last"]);
        // For a while it isn't asked again.
        world.irc().says(CLAIM, 200, given("late", &device));
        let asked = world.irc().asked(CLAIM).len();
        assert_eq!(claim().await, ["signed_curve25519:last"]);
        assert_eq!(world.irc().asked(CLAIM).len(), asked);
        world.clock.advance(std::time::Duration::from_secs(31));
        assert_eq!(claim().await, ["signed_curve25519:late"]);
    })
    .await;
}
