//! Whom a nameless room is named by.

use rhizome_storage::{EventNo, RoomNo, Store, UserNo};
use ruma::OwnedUserId;

use crate::MatrixError;

/// Somebody whom a room is named by.
#[derive(Debug)]
pub struct Hero {
    /// Who.
    pub user: OwnedUserId,
    /// What they are called there.
    pub name: Option<String>,
    /// Their avatar there.
    pub avatar: Option<String>,
}

/// The first `count` members besides the user, with their names.
pub async fn of(
    store: &Store,
    room: RoomNo,
    except: UserNo,
    count: usize,
) -> Result<Vec<Hero>, MatrixError> {
    let members = store.heroes(room, except, count).await?;
    let nos: Vec<EventNo> = members.iter().filter_map(|member| member.event).collect();
    let events = store.events_by_no(&nos).await?;
    let mut heroes = Vec::new();
    for member in members {
        let event = events.iter().find(|event| Some(event.no) == member.event);
        let text = |field: &str| {
            let text = event?.pdu.content().get(field)?.as_str()?;
            Some(text.to_owned())
        };
        heroes.push(Hero {
            user: store.user(member.user).await?,
            name: text("displayname"),
            avatar: text("avatar_url"),
        });
    }
    Ok(heroes)
}
