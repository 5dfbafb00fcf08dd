use rhizome_rooms::{
    Error,
    create::{
        self,
        plan::{InitialState, Preset},
    },
};
use rhizome_storage::{Clock, Options, Pos, Store, testing::TestDatabase};
use serde_json::json;

use crate::rig::*;

#[tokio::test]
async fn a_room_of_each_version_and_preset() {
    each(|[one]: [_; 1]| async move {
        for version in VERSIONS {
            for preset in [
                Preset::PrivateChat,
                Preset::TrustedPrivateChat,
                Preset::PublicChat,
            ] {
                let mut request = request("@alice:one", version, preset);
                request.name = Some("Den".into());
                request.topic = Some("Foxes".into());
                request.invite = vec![user("@bob:one"), user("@carol:two")];
                request.is_direct = true;
                let created = create::create(&one, &request).await.unwrap();
                let room = created.room_id;
                assert_eq!(room.as_str().contains(':'), version != "12");
                let create = content(&one, &room, "m.room.create", "").await.unwrap();
                assert_eq!(create["room_version"], version);
                assert_eq!(
                    create.get("creator").is_some(),
                    !["11", "12"].contains(&version)
                );
                let rule = if preset == Preset::PublicChat {
                    "public"
                } else {
                    "invite"
                };
                let rules = content(&one, &room, "m.room.join_rules", "").await.unwrap();
                assert_eq!(rules, json!({ "join_rule": rule }));
                let name = content(&one, &room, "m.room.name", "").await.unwrap();
                assert_eq!(name, json!({ "name": "Den" }));
                let bob = content(&one, &room, "m.room.member", "@bob:one")
                    .await
                    .unwrap();
                assert_eq!(bob, json!({ "membership": "invite", "is_direct": true }));
                assert_eq!(
                    content(&one, &room, "m.room.member", "@carol:two").await,
                    None
                );
                assert_eq!(created.remote_invites.len(), 1);
                assert_eq!(created.remote_invites[0].room_id.as_deref(), Some(&*room));

                let head = one.store().room(&room).await.unwrap().unwrap();
                assert_eq!((head.joined, head.invited), (1, 1));
                assert_eq!(head.extremities.len(), 1);
                // One line from the create event on.
                let log = log_of(&one, &room).await;
                assert!(log[0].is_state("m.room.create", ""));
                assert_eq!(log[0].room_id(), &*room);
                for pair in log.windows(2) {
                    assert_eq!(pair[1].prev_events(), [pair[0].event_id().to_owned()]);
                    assert_eq!(pair[1].depth(), pair[0].depth() + 1);
                }
                say(&one, &room, "@alice:one", "hello").await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_that_contradicts_itself_is_not_made_at_all() {
    each(|[one]: [_; 1]| async move {
        let before = one.store().log().head();
        let mut nameless = request("@alice:one", "11", Preset::PrivateChat);
        nameless.name = Some("Den".into());
        nameless.power_level_content_override =
            object(json!({ "users": { "@alice:one": 0 }, "events": { "m.room.name": 60 } }));
        let error = create::create(&one, &nameless).await.unwrap_err();
        assert!(matches!(error, Error::InvalidRoomState(_)), "{error}");

        let mut member = request("@alice:one", "12", Preset::PrivateChat);
        member.initial_state = vec![InitialState {
            kind: "m.room.member".into(),
            state_key: "@bob:one".into(),
            content: object(json!({ "membership": "join" })),
        }];
        let error = create::create(&one, &member).await.unwrap_err();
        assert_eq!(
            (error.status(), error.errcode()),
            (400, "M_INVALID_ROOM_STATE")
        );

        let mut levels = request("@alice:one", "12", Preset::PrivateChat);
        levels.power_level_content_override = object(json!({ "users": { "@alice:one": 100 } }));
        assert!(create::create(&one, &levels).await.is_err());

        let odd = request("@alice:one", "org.example.99", Preset::PrivateChat);
        let error = create::create(&one, &odd).await.unwrap_err();
        assert_eq!(error.errcode(), "M_UNSUPPORTED_ROOM_VERSION");
        assert_eq!(one.store().log().head(), before);
    })
    .await;
}

#[tokio::test]
async fn an_alias_is_given_once_and_a_room_without_it_is_not_made() {
    each(|[one]: [_; 1]| async move {
        let mut request = request("@alice:one", "12", Preset::PublicChat);
        request.alias = Some("#den:one".try_into().unwrap());
        request.public = true;
        let room = create::create(&one, &request).await.unwrap().room_id;
        let alias = content(&one, &room, "m.room.canonical_alias", "")
            .await
            .unwrap();
        assert_eq!(alias, json!({ "alias": "#den:one" }));
        assert!(one.store().room(&room).await.unwrap().unwrap().public);

        let before: Pos = one.store().log().head();
        let error = create::create(&one, &request).await.unwrap_err();
        assert_eq!((error.status(), error.errcode()), (400, "M_ROOM_IN_USE"));
        assert_eq!(one.store().log().head(), before);
    })
    .await;
}

#[tokio::test]
async fn the_same_request_at_the_same_moment_makes_two_rooms() {
    for database in TestDatabase::both().await {
        let options = Options {
            clock: Clock::manual(1_700_000_000_000),
            ..database.options()
        };
        let one = server(Store::open(options).await.unwrap(), 0);
        let request = request("@alice:one", "12", Preset::PublicChat);
        let (first, second) = tokio::join!(
            create::create(&one, &request),
            create::create(&one, &request)
        );
        assert_ne!(first.unwrap().room_id, second.unwrap().room_id);
        one.store().close().await;
        database.remove().await;
    }
}
