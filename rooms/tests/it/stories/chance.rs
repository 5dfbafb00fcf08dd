//! What happens by chance.

use std::collections::BTreeSet;

use rhizome_protocol::draft::Draft;
use rhizome_rooms::{
    Rooms,
    receive::{self, Gathered, Received},
    send::{self, SendOptions},
};
use ruma::{OwnedEventId, RoomId};
use serde_json::json;

use crate::rig::*;

/// A small generator, so that a failing story can be told again by its number.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Something random that one of a server's users tries to do.
pub async fn act(
    rooms: &Rooms,
    room: &RoomId,
    who: &str,
    all: &BTreeSet<OwnedEventId>,
    dice: &mut Dice,
) -> Option<OwnedEventId> {
    let others = [
        "@alice:one",
        "@bob:two",
        "@carol:three",
        "@dave:one",
        "@erin:two",
    ];
    let other = others[dice.roll(others.len())];
    let value = dice.roll(1_000);
    let draft = match dice.roll(10) {
        0 | 1 => message(room, who, &format!("{value}")),
        2 => state(
            room,
            who,
            "m.room.topic",
            "",
            json!({ "topic": value.to_string() }),
        ),
        3 => state(
            room,
            who,
            "m.room.name",
            "",
            json!({ "name": value.to_string() }),
        ),
        4 => {
            let mut levels = content(rooms, room, "m.room.power_levels", "")
                .await
                .unwrap();
            levels["users"][other] = [0, 50, 60, 100][dice.roll(4)].into();
            state(room, who, "m.room.power_levels", "", levels)
        }
        5 => {
            let rule = ["public", "invite"][dice.roll(2)];
            state(
                room,
                who,
                "m.room.join_rules",
                "",
                json!({ "join_rule": rule }),
            )
        }
        6 => state(
            room,
            who,
            "m.room.member",
            other,
            json!({ "membership": "ban" }),
        ),
        7 => state(
            room,
            who,
            "m.room.member",
            other,
            json!({ "membership": "leave" }),
        ),
        8 => Draft {
            kind: "m.room.redaction".into(),
            redacts: Some(all.iter().nth(dice.roll(all.len().max(1)))?.clone()),
            content: rhizome_protocol::Object::new(),
            ..message(room, who, "")
        },
        _ => state(
            room,
            who,
            "m.room.member",
            who,
            json!({ "membership": "join", "n": value }),
        ),
    };
    send::send(rooms, draft, SendOptions::default())
        .await
        .ok()
        .map(|sent| sent.event_id)
}

/// Something that a server forges in the name of a user of its own, who needn't be in the room; now and then upon
/// what was refused.
pub async fn forge(
    rooms: &Rooms,
    room: &RoomId,
    who: &str,
    all: &BTreeSet<OwnedEventId>,
    dice: &mut Dice,
) -> Option<OwnedEventId> {
    let value = dice.roll(1_000);
    let draft = match dice.roll(3) {
        0 => message(room, who, &format!("forged {value}")),
        1 => state(
            room,
            who,
            "m.room.topic",
            "",
            json!({ "topic": value.to_string() }),
        ),
        _ => state(
            room,
            who,
            "m.room.member",
            who,
            json!({ "membership": "join", "n": value }),
        ),
    };
    let mut prevs = ends(rooms, room).await;
    let any = all.iter().nth(dice.roll(all.len().max(1)));
    if let Some(any) = any.filter(|_| dice.roll(2) == 0)
        && let Some(event) = rooms.store().event(any).await.unwrap()
        && event.state_after.is_some()
    {
        prevs = vec![any.clone()];
    }
    prevs.truncate(1 + dice.roll(2));
    let mut after = Vec::new();
    for prev in &prevs {
        after.push(pdu(rooms, prev).await);
    }
    let ts = after.iter().map(|pdu| pdu.origin_server_ts()).max()? + 1;
    let auth = auth_of(rooms, room, &draft).await;
    let event = forged(rooms, &draft, &after, &auth, ts);
    let id = event.event_id().to_owned();
    match receive::receive(rooms, event, &Gathered::default()).await {
        Ok(Received::Need(_)) | Err(_) => None,
        Ok(_) => Some(id),
    }
}
