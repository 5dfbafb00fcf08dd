//! Rule 5: who joins, leaves, invites, bans and knocks.

use rhizome_protocol::sign::{KeyPair, sign_json};
use ruma::server_name;
use serde_json::json;

use super::{changed, each, no_knock, rule};
use crate::room::{ALICE, BOB, CARL, DORA, Room, VERSIONS, member, message, object, state};

#[test]
fn strangers_can_only_join() {
    each(|mut room, last| {
        assert_eq!(room.denied(&last, DORA, &message()), "auth 6");
        assert_eq!(
            room.denied(&last, DORA, &member(CARL, "leave")),
            "auth 5.5.2"
        );
        assert_eq!(room.denied(&last, DORA, &member(CARL, "ban")), "auth 5.6.1");
        assert_eq!(
            room.denied(&last, DORA, &member("@new:x.org", "invite")),
            "auth 5.4.2"
        );
        assert_eq!(
            room.denied(&last, DORA, &member(DORA, "leave")),
            "auth 5.5.1"
        );
        let no_knock = no_knock(&room);
        assert_eq!(room.denied(&last, DORA, &member(DORA, "knock")), no_knock);
        assert_eq!(room.denied(&last, DORA, &member(DORA, "dance")), "auth 5.8");
        assert_eq!(
            room.denied(&last, ALICE, &member(DORA, "join")),
            "auth 5.3.2"
        );
        let joined = room.send(&[last], DORA, &member(DORA, "join"));
        room.send(&[joined], DORA, &message());
    });
}

#[test]
fn the_banned_stay_out_until_unbanned() {
    each(|mut room, last| {
        let banned = room.send(&[last], BOB, &member(CARL, "ban"));
        assert_eq!(
            room.denied(&banned, CARL, &member(CARL, "join")),
            "auth 5.3.3"
        );
        assert_eq!(
            room.denied(&banned, CARL, &member(CARL, "leave")),
            "auth 5.5.1"
        );
        let no_knock = no_knock(&room);
        assert_eq!(room.denied(&banned, CARL, &member(CARL, "knock")), no_knock);
        assert_eq!(
            room.denied(&banned, ALICE, &member(CARL, "invite")),
            "auth 5.4.3"
        );
        assert_eq!(room.denied(&banned, CARL, &message()), "auth 6");
        let dora = room.send(&[banned], DORA, &member(DORA, "join"));
        assert_eq!(
            room.denied(&dora, DORA, &member(CARL, "leave")),
            "auth 5.5.3"
        );
        let unbanned = room.send(&[dora], BOB, &member(CARL, "leave"));
        room.send(&[unbanned], CARL, &member(CARL, "join"));
    });
}

#[test]
fn nobody_kicks_or_bans_upwards_or_sideways() {
    each(|mut room, last| {
        for (who, target) in [(BOB, ALICE), (BOB, BOB), (CARL, BOB), (CARL, ALICE)] {
            assert_eq!(
                room.denied(&last, who, &member(target, "ban")),
                "auth 5.6.3",
                "{who} {target}"
            );
            if who != target {
                assert_eq!(
                    room.denied(&last, who, &member(target, "leave")),
                    "auth 5.5.5"
                );
            }
        }
        room.send(&[last.clone()], ALICE, &member(BOB, "ban"));
        room.send(&[last], BOB, &member(CARL, "leave"));
    });
}

#[test]
fn invites_and_closed_rooms() {
    each(|mut room, last| {
        let closed = rule(&mut room, &last, "invite");
        assert_eq!(
            room.denied(&closed, DORA, &member(DORA, "join")),
            "auth 5.3.4"
        );
        assert_eq!(
            room.denied(&closed, ALICE, &member(BOB, "invite")),
            "auth 5.4.3"
        );
        let invited = room.send(&[closed], CARL, &member(DORA, "invite"));
        room.send(&[invited.clone()], DORA, &member(DORA, "leave"));
        let joined = room.send(&[invited], DORA, &member(DORA, "join"));
        let guarded = changed(&room, |content| content["invite"] = json!(50));
        let guarded = room.send(&[joined], ALICE, &guarded);
        assert_eq!(
            room.denied(&guarded, CARL, &member("@new:x.org", "invite")),
            "auth 5.4.5"
        );
        assert_eq!(
            room.denied(
                &guarded,
                CARL,
                &state("m.room.third_party_invite", "t", json!({}))
            ),
            "auth 7.1"
        );
        room.send(&[guarded.clone()], BOB, &member("@new:x.org", "invite"));
        let private = rule(&mut room, &guarded, "private");
        assert_eq!(
            room.denied(&private, DORA, &member(BOB, "join")),
            "auth 5.3.2"
        );
        let left = room.send(&[private], DORA, &member(DORA, "leave"));
        assert_eq!(
            room.denied(&left, DORA, &member(DORA, "join")),
            "auth 5.3.7"
        );
    });
}

#[test]
fn knocking() {
    each(|mut room, last| {
        for join_rule in ["knock", "knock_restricted"] {
            let open = rule(&mut room, &last, join_rule);
            let known = match join_rule {
                "knock" => room.rules.auth.knock,
                _ => room.rules.auth.knock_restricted,
            };
            if !known {
                // A rule that the version doesn't have lets nobody in, invited or not.
                let no_knock = no_knock(&room);
                assert_eq!(room.denied(&open, DORA, &member(DORA, "knock")), no_knock);
                let invited = room.send(&[open], CARL, &member(DORA, "invite"));
                let joins = member(DORA, "join");
                assert_eq!(room.denied(&invited, DORA, &joins), "auth 5.3.7");
                continue;
            }
            let knocked = room.send(&[open.clone()], DORA, &member(DORA, "knock"));
            assert_eq!(
                room.denied(&open, CARL, &member(DORA, "knock")),
                "auth 5.7.2"
            );
            assert_eq!(
                room.denied(&open, CARL, &member(CARL, "knock")),
                "auth 5.7.4"
            );
            let denied = room.denied(&knocked, DORA, &member(DORA, "join"));
            assert!(["auth 5.3.4", "auth 5.3.5"].contains(&denied));
            room.send(&[knocked.clone()], DORA, &member(DORA, "leave"));
            room.send(&[knocked.clone()], BOB, &member(DORA, "leave"));
            let invited = room.send(&[knocked], CARL, &member(DORA, "invite"));
            assert_eq!(
                room.denied(&invited, DORA, &member(DORA, "knock")),
                "auth 5.7.4"
            );
            room.send(&[invited], DORA, &member(DORA, "join"));
        }
    });
}

#[test]
fn restricted_rooms() {
    each(|mut room, last| {
        let via = |user: &str| {
            let mut join = member(DORA, "join");
            join.content["join_authorised_via_users_server"] = json!(user);
            join
        };
        for join_rule in ["restricted", "knock_restricted"] {
            let open = rule(&mut room, &last, join_rule);
            let known = match join_rule {
                "restricted" => room.rules.auth.restricted,
                _ => room.rules.auth.knock_restricted,
            };
            if !known {
                assert_eq!(room.denied(&open, DORA, &via(ALICE)), "auth 5.3.7");
                continue;
            }
            let guarded = changed(&room, |content| content["invite"] = json!(50));
            let guarded = room.send(&[open], ALICE, &guarded);
            for (user, allowed) in [
                (ALICE, true),
                (BOB, true),
                (CARL, false),
                (DORA, false),
                ("@x:y", false),
                ("nobody", false),
            ] {
                match room.try_send(&[guarded.clone()], DORA, &via(user)) {
                    Ok(joined) => {
                        assert!(allowed, "{user}");
                        // Once in, a new name needs no leave.
                        room.send(&[joined], DORA, &member(DORA, "join"));
                    }
                    Err(rejection) => assert!(
                        !allowed && rejection.rule == "auth 5.3.5",
                        "{user}: {rejection}"
                    ),
                }
            }
            assert_eq!(
                room.denied(&guarded, DORA, &member(DORA, "join")),
                "auth 5.3.5"
            );
        }
    });
}

#[test]
fn third_party_invites() {
    let key = KeyPair::from_seed("0", &[5; 32]).unwrap();
    let invite = |mxid: &str, token: &str, key: &KeyPair| {
        let mut signed = object(json!({"mxid": mxid, "token": token}));
        sign_json(&mut signed, server_name!("id.org"), key).unwrap();
        let mut invite = member(DORA, "invite");
        invite.content["third_party_invite"] = json!({"display_name": "d", "signed": signed});
        invite
    };
    each(|mut room, last| {
        for keys in [
            json!({"public_key": key.public_base64()}),
            json!({"public_keys": [{"x": 1}, {"public_key": key.public_base64()}]}),
        ] {
            let known = room.send(
                &[last.clone()],
                CARL,
                &state("m.room.third_party_invite", "tok", keys),
            );
            let closed = rule(&mut room, &known, "invite");
            let invited = room.send(&[closed.clone()], CARL, &invite(DORA, "tok", &key));
            room.send(&[invited], DORA, &member(DORA, "join"));

            assert_eq!(
                room.denied(&closed, BOB, &invite(DORA, "tok", &key)),
                "auth 5.4.1.6"
            );
            assert_eq!(
                room.denied(&closed, CARL, &invite(DORA, "other", &key)),
                "auth 5.4.1.5"
            );
            assert_eq!(
                room.denied(&closed, CARL, &invite(BOB, "tok", &key)),
                "auth 5.4.1.4"
            );
            let forger = KeyPair::from_seed("0", &[6; 32]).unwrap();
            assert_eq!(
                room.denied(&closed, CARL, &invite(DORA, "tok", &forger)),
                "auth 5.4.1.8"
            );
            for (odd, rule) in [
                (json!({}), "auth 5.4.1.2"),
                (json!(1), "auth 5.4.1.2"),
                (json!({"signed": {"token": 1}}), "auth 5.4.1.3"),
            ] {
                let mut bad = member(DORA, "invite");
                bad.content["third_party_invite"] = odd;
                assert_eq!(room.denied(&closed, CARL, &bad), rule);
            }
            let banned = room.send(&[closed], BOB, &member(DORA, "ban"));
            assert_eq!(
                room.denied(&banned, CARL, &invite(DORA, "tok", &key)),
                "auth 5.4.1.1"
            );
        }
    });
}

#[test]
fn only_the_creator_joins_right_after_the_create_event() {
    for version in VERSIONS {
        let mut room = Room::bare(version, json!({}));
        let create = room.create.clone();
        assert_eq!(
            room.denied(&create, BOB, &member(BOB, "join")),
            "auth 5.3.4"
        );
        let joined = room.send(&[create], ALICE, &member(ALICE, "join"));
        let left = room.send(&[joined], ALICE, &member(ALICE, "leave"));
        assert_eq!(
            room.denied(&left, ALICE, &member(ALICE, "join")),
            "auth 5.3.4"
        );
    }
}
