//! Rooms that let in whom their rules say: members of other rooms, and those who knock.

use rhizome_federation::{MatrixError, membership::join};
use rhizome_protocol::{Membership, Object};
use rhizome_rooms::membership::Action;
use ruma::{OwnedServerName, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::world::{Server, each, eventually, same_state};

pub async fn rule(server: &Server, who: &UserId, room: &RoomId, rule: &str, allow: &[&RoomId]) {
    let condition = |room: &&RoomId| json!({ "type": "m.room_membership", "room_id": room });
    let mut allow: Vec<Value> = allow.iter().map(condition).collect();
    // What nobody can make sense of is no condition.
    allow.extend([json!(1), json!({ "type": "org.example.moon" })]);
    let content = json!({ "join_rule": rule, "allow": allow });
    server
        .send(who, room, "m.room.join_rules", Some(""), content)
        .await
        .unwrap();
}

pub async fn levels(server: &Server, who: &UserId, room: &RoomId, changed: Value) {
    let id = &server.state(room).await[&("m.room.power_levels".into(), String::new())];
    let mut content = server.event(id).await.unwrap().pdu.content().clone();
    content.extend(changed.as_object().unwrap().clone());
    server
        .send(who, room, "m.room.power_levels", Some(""), content.into())
        .await
        .unwrap();
}

/// What one server says to another's user who wants in.
pub async fn make_join(from: &Server, to: &Server, room: &RoomId, user: &UserId) -> MatrixError {
    let version = to.store().room(room).await.unwrap().unwrap().rules.id();
    let path = format!("/_matrix/federation/v1/make_join/{room}/{user}?ver={version}");
    from.get(to, &path).await.unwrap_err()
}

pub async fn own_event(server: &Server, room: &RoomId, user: &UserId) -> Value {
    let id = &server.state(room).await[&("m.room.member".into(), user.to_string())];
    serde_json::from_str(server.event(id).await.unwrap().pdu.json()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn restricted_rooms_let_members_of_other_rooms_in() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let alice = a.user("alice");
        for (version, join_rule) in [
            (RoomVersionId::V8, "restricted"),
            (RoomVersionId::V9, "restricted"),
            (RoomVersionId::V11, "knock_restricted"),
            (RoomVersionId::V12, "restricted"),
        ] {
            let club = a.create(&alice, &RoomVersionId::V12).await;
            let den = a.create(&alice, &version).await;
            levels(a, &alice, &den, json!({ "invite": 50 })).await;
            rule(a, &alice, &den, join_rule, &[&club]).await;
            strangers_stay_out(a, b, &den).await;
            members_come_in(a, b, &club, &den).await;
            who_cannot_grant_leaves_it_to_who_can(a, b, c, &club, &den).await;
            // A room that b isn't in.
            let cellar = a.create(&alice, &RoomVersionId::V12).await;
            rule(a, &alice, &den, join_rule, &[&cellar]).await;
            who_cannot_tell_says_so(a, b, c, &den).await;
        }
    })
    .await;
}

/// Who isn't in the other room stays out; that holds for users of this server too.
async fn strangers_stay_out(a: &Server, b: &Server, den: &RoomId) {
    let refused = b.join(&b.user("bob"), den, a).await.unwrap_err();
    assert_eq!(
        (refused.status.as_u16(), &*refused.errcode),
        (403, "M_FORBIDDEN")
    );
    let refused = a.join(&a.user("ann"), den, a).await.unwrap_err();
    assert_eq!(refused.errcode, "M_FORBIDDEN");
}

/// Who has come into the club comes in; of another server's user, who let them in signs that.
async fn members_come_in(a: &Server, b: &Server, club: &RoomId, den: &RoomId) {
    let (alice, ann, bob) = (a.user("alice"), a.user("ann"), b.user("bob"));
    b.join(&bob, club, a).await.unwrap();
    b.join(&bob, den, a).await.unwrap();
    same_state(a, b, den).await;
    let join = own_event(b, den, &bob).await;
    assert_eq!(
        join["content"]["join_authorised_via_users_server"],
        alice.as_str()
    );
    let signers: Vec<_> = join["signatures"].as_object().unwrap().keys().collect();
    assert_eq!(signers, ["a.example", "b.example"]);
    a.join(&ann, club, a).await.unwrap();
    a.join(&ann, den, a).await.unwrap();
}

/// Server b, which is in both rooms, knows who may come in, but has nobody who may let them; a has.
async fn who_cannot_grant_leaves_it_to_who_can(
    a: &Server,
    b: &Server,
    c: &Server,
    club: &RoomId,
    den: &RoomId,
) {
    let (bea, carol) = (b.user("bea"), c.user("carol"));
    c.join(&carol, club, a).await.unwrap();
    comes_to_be(b, club, &carol, Membership::Join).await;
    let unable = make_join(c, b, den, &carol).await;
    assert_eq!(
        (unable.status.as_u16(), &*unable.errcode),
        (400, "M_UNABLE_TO_GRANT_JOIN")
    );
    let via: [OwnedServerName; 2] = [b.name.clone(), a.name.clone()];
    join::join(&c.fed, &carol, den.into(), &via, Object::new())
        .await
        .unwrap();
    // So for a user of its own, b goes through a, though it is in the room.
    b.join(&bea, club, b).await.unwrap();
    comes_to_be(a, club, &bea, Membership::Join).await;
    b.join(&bea, den, a).await.unwrap();
    for server in [a, c] {
        comes_to_be(server, den, &bea, Membership::Join).await;
    }
}

/// The members of a room that b isn't in may come in now. It can't tell who is in there; a can. An invite is as good
/// as ever.
async fn who_cannot_tell_says_so(a: &Server, b: &Server, c: &Server, den: &RoomId) {
    let (alice, dora) = (a.user("alice"), c.user("dora"));
    same_state(a, b, den).await;
    let unable = make_join(c, b, den, &dora).await;
    assert_eq!(unable.errcode, "M_UNABLE_TO_AUTHORISE_JOIN");
    assert_eq!(make_join(c, a, den, &dora).await.errcode, "M_FORBIDDEN");
    a.change(&alice, den, &dora, Action::Invite).await.unwrap();
    comes_to_be(c, den, &dora, Membership::Invite).await;
    c.join(&dora, den, a).await.unwrap();
}

/// The server hears where a user stands in a room.
async fn comes_to_be(server: &Server, room: &RoomId, user: &UserId, membership: Membership) {
    let what = format!("{} hears of {user}: {}", server.name, membership.as_str());
    eventually(&what, async || {
        server.membership(room, user).await == Some(membership)
    })
    .await;
}

/// Only who authorised a join in its template signs it: not what strangers write into a join of theirs.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_their_own_letter_of_introduction() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let club = a.create(&alice, &RoomVersionId::V12).await;
        let den = a.create(&alice, &RoomVersionId::V11).await;
        b.join(&bob, &club, a).await.unwrap();
        // While the room is open, b gets a template that holds for any join.
        let path = format!("/_matrix/federation/v1/make_join/{den}/{bob}?ver=11");
        let mut event = b.get(a, &path).await.unwrap()["event"].clone();
        rule(a, &alice, &den, "restricted", &[]).await;
        event["content"]["join_authorised_via_users_server"] = json!(alice);
        let rules = rhizome_protocol::RoomRules::named("11").unwrap();
        let key = crate::support::key(2);
        let event = rhizome_protocol::draft::finish(
            rules,
            event.as_object().unwrap().clone(),
            &b.name,
            &key,
        )
        .unwrap();
        let path = format!(
            "/_matrix/federation/v2/send_join/{den}/{}",
            event.event_id()
        );
        let body = serde_json::from_str(event.json()).unwrap();
        let refused = b
            .request(a, http::Method::PUT, &path, Some(body))
            .await
            .unwrap_err();
        assert_eq!(refused.errcode, "M_FORBIDDEN");
        assert_eq!(a.membership(&den, &bob).await, None);
    })
    .await;
}

/// Whoever names servers goes through those; who names nobody but us is taken to servers that we know.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_goes_through_the_servers_that_were_named() {
    each(3, async |world| {
        let (a, b) = world.two();
        let c = world.server(2);
        let (alice, carol) = (a.user("alice"), c.user("carol"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        rule(a, &alice, &room, "public", &[]).await;
        let through = async |via: &[OwnedServerName]| {
            let content = Object::new();
            join::join(&c.fed, &carol, (&*room).into(), via, content).await
        };
        let leaves = async || {
            c.leave(&carol, &room).await.unwrap();
            comes_to_be(a, &room, &carol, Membership::Leave).await;
        };
        through(std::slice::from_ref(&a.name)).await.unwrap();
        leaves().await;
        // The other server isn't in the room. That ours was, with one that is, is no way around it.
        let refused = through(std::slice::from_ref(&b.name)).await.unwrap_err();
        assert_eq!(refused.status, 404, "{refused:?}");
        assert_eq!(a.membership(&room, &carol).await, Some(Membership::Leave));
        through(&[b.name.clone(), a.name.clone()]).await.unwrap();
        for nobody in [&[][..], std::slice::from_ref(&c.name)] {
            leaves().await;
            through(nobody).await.unwrap();
        }
        assert_eq!(a.membership(&room, &carol).await, Some(Membership::Join));
    })
    .await;
}
