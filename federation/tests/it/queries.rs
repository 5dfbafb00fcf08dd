//! What servers ask each other without being in a room together.

use http::Method;
use rhizome_federation::query::{self, directory::theirs};
use rhizome_rooms::create::{
    create,
    plan::{CreateRoom, Preset},
};
use ruma::{
    OwnedRoomAliasId, RoomVersionId,
    directory::{Filter, RoomNetwork},
};
use serde_json::json;

use crate::world::{Server, each, enc};

#[tokio::test]
async fn a_profile_is_told_whole_and_by_field() {
    each(2, async |world| {
        let (a, b) = world.two();
        let bob = b.user("bob");
        let no = b.store().known_user(&bob).await.unwrap().unwrap();
        for (field, value) in [("displayname", "Bob"), ("avatar_url", "mxc://b.example/x")] {
            let set = b.store().set_profile_field(no, field, Some(value.into()));
            set.await.unwrap();
        }
        let whole = query::profile(&a.fed, &bob, None).await.unwrap();
        let expected = json!({ "displayname": "Bob", "avatar_url": "mxc://b.example/x" });
        assert_eq!(serde_json::Value::from(whole), expected);
        let name = query::profile(&a.fed, &bob, Some("displayname"))
            .await
            .unwrap();
        assert_eq!(
            serde_json::Value::from(name),
            json!({ "displayname": "Bob" })
        );
        let nobody = query::profile(&a.fed, &b.user("nobody"), None).await;
        assert_eq!(nobody.unwrap_err().errcode, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn an_alias_leads_to_its_room_and_a_search_finds_it() {
    each(2, async |world| {
        let (a, b) = world.two();
        let alias: OwnedRoomAliasId = "#well:b.example".try_into().unwrap();
        let request = CreateRoom {
            public: true,
            name: Some("The well".to_owned()),
            alias: Some(alias.clone()),
            ..Server::request_of(&b.user("bob"), &RoomVersionId::V12, Preset::PublicChat)
        };
        let room = create(b.fed.rooms(), &request).await.unwrap().room_id;
        b.create_listed(&b.user("bea"), &RoomVersionId::V12).await;
        let (found, servers) = query::alias(&a.fed, &alias).await.unwrap();
        assert_eq!((found, servers), (room.clone(), vec![b.name.clone()]));
        let path = format!(
            "/_matrix/federation/v1/query/directory?room_alias={}",
            enc("#no:b.example")
        );
        let none = a.request(b, Method::GET, &path, None).await;
        assert_eq!(none.unwrap_err().errcode, "M_NOT_FOUND");
        let list = async |term: Option<&str>| {
            let mut filter = Filter::new();
            filter.generic_search_term = term.map(ToOwned::to_owned);
            let list = theirs(&a.fed, &b.name, None, None, filter, RoomNetwork::Matrix).await;
            list.unwrap()["chunk"].clone()
        };
        assert_eq!(list(None).await.as_array().unwrap().len(), 2);
        let wells = list(Some("well")).await;
        assert_eq!(wells.as_array().unwrap().len(), 1, "{wells}");
        assert_eq!(wells[0]["room_id"], room.as_str());
    })
    .await;
}
