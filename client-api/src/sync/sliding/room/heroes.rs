//! Whom a nameless room is named by.

use rhizome_storage::{EventNo, RoomNo};
use ruma::OwnedUserId;

use super::Teller;
use crate::MatrixError;

/// How many there are.
const HEROES: usize = 5;

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

impl Teller<'_> {
    /// The first members besides the user, with their names.
    pub(super) async fn heroes(&self, room: RoomNo) -> Result<Vec<Hero>, MatrixError> {
        let store = self.loader.store;
        let members = store.heroes(room, self.loader.viewer.user, HEROES).await?;
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
}
