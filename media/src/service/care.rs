//! What operators do about files.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_storage::{MediaQuery, MediaRow, RoomNo};
use ruma::{MxcUri, OwnedUserId};
use serde_json::Value;

use super::{Media, Name};
use crate::error::MediaError;

/// So many at once.
const PIECE: usize = 500;
/// A room's events name so many files at most that are looked at.
const MOST_OF_ROOM: usize = 1_000_000;

impl Media {
    /// Files, by their names, after this one.
    pub async fn list(
        &self,
        which: &MediaQuery,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<MediaRow>, MediaError> {
        Ok(self.0.store.list_media(which, after, limit).await?)
    }

    /// What is known of a file.
    pub async fn row(&self, origin: &str, media_id: &str) -> Result<Option<MediaRow>, MediaError> {
        Ok(self.0.store.media(origin, media_id).await?)
    }

    /// Deletes files by their names, protected or not; gives their number. Nobody gets them from now on; their bytes go
    /// when nothing else refers to them and the grace period is over.
    pub async fn delete(&self, names: &[(&str, &str)]) -> Result<u64, MediaError> {
        let mut gone = 0;
        for names in names.chunks(PIECE) {
            gone += self.0.store.delete_media(names).await?;
        }
        Ok(gone)
    }

    /// Deletes all files of which this holds.
    pub async fn delete_all(&self, which: &MediaQuery) -> Result<u64, MediaError> {
        self.delete_told(which, &mut Vec::new(), 0).await
    }

    /// The same; `told` gets the ids of the first of them, so many at most.
    pub async fn delete_told(
        &self,
        which: &MediaQuery,
        told: &mut Vec<String>,
        most: usize,
    ) -> Result<u64, MediaError> {
        let mut gone = 0;
        let mut after: Name = Name::default();
        loop {
            let rows = self.list(which, (&after.0, &after.1), PIECE).await?;
            let names = rows.iter();
            let names = names.map(|row| (row.origin.as_str(), row.media_id.as_str()));
            gone += self.delete(&names.collect::<Vec<_>>()).await?;
            let left = most.saturating_sub(told.len());
            told.extend(rows.iter().take(left).map(|row| row.media_id.clone()));
            match rows.into_iter().next_back() {
                Some(last) => after = (last.origin.into(), last.media_id),
                None => return Ok(gone),
            }
        }
    }

    /// Sees to it that nobody gets the files of which this holds, nor others with the same bytes; gives how many of them are
    /// kept back now that weren't. Those that are protected are left alone.
    pub async fn quarantine_all(&self, which: &MediaQuery) -> Result<u64, MediaError> {
        let which = MediaQuery {
            protected: false,
            not_quarantined: true,
            ..which.clone()
        };
        let mut done = 0;
        let mut after: Name = Name::default();
        loop {
            let rows = self.list(&which, (&after.0, &after.1), PIECE).await?;
            for row in &rows {
                let name = (row.origin.as_str(), row.media_id.as_str());
                done += u64::from(self.quarantine(name, true).await?);
            }
            match rows.into_iter().next_back() {
                Some(last) => after = (last.origin.into(), last.media_id),
                None => return Ok(done),
            }
        }
    }

    /// The same with the files that a room's events name and that were sent to it by who has uploaded them.
    pub async fn quarantine_of_room(&self, room: RoomNo) -> Result<u64, MediaError> {
        let mut done = 0;
        for (origin, media_id) in self.of_room(room).await?.sent {
            let known = self.row(&origin, &media_id).await?;
            if known.is_none_or(|row| !row.quarantined && !row.protected) {
                let name = (origin.as_str(), media_id.as_str());
                done += u64::from(self.quarantine(name, true).await?);
            }
        }
        Ok(done)
    }

    /// Whether nobody gets a file, nor others with the same bytes. `false` if it is protected, or there is none.
    pub async fn quarantine(
        &self,
        (origin, media_id): (&str, &str),
        quarantined: bool,
    ) -> Result<bool, MediaError> {
        let remote = self.0.config.server.as_str() != origin;
        let name = (origin, media_id);
        Ok(self
            .0
            .store
            .quarantine_media(name, remote, quarantined)
            .await?)
    }

    /// Whether a file can't be quarantined, and isn't deleted by age.
    pub async fn protect(&self, name: (&str, &str), protected: bool) -> Result<bool, MediaError> {
        Ok(self.0.store.protect_media(name, protected).await?)
    }

    /// The files that a room's events name: what was sent to it, and its pictures; not those of its members.
    pub async fn of_room(&self, room: RoomNo) -> Result<OfRoom, MediaError> {
        let mut found = Found::new();
        let mut after = i64::MIN;
        loop {
            let events = self
                .0
                .store
                .events_that_name_media(room, after, PIECE)
                .await?;
            let Some((last, texts)) = events else { break };
            for text in texts {
                if let Ok(event) = serde_json::from_str::<Value>(&text) {
                    note(&event, &mut found);
                }
            }
            if found.len() > MOST_OF_ROOM {
                break;
            }
            after = last;
        }
        let mut of_room = OfRoom::default();
        for (name, senders) in found {
            if self.is_sent_by(&name, &senders).await? {
                of_room.sent.push(name);
            } else {
                of_room.mentioned.push(name);
            }
        }
        Ok(of_room)
    }

    /// Whether one of these has uploaded a file; of another server's nobody knows who there has.
    async fn is_sent_by(
        &self,
        (origin, media_id): &Name,
        senders: &BTreeSet<OwnedUserId>,
    ) -> Result<bool, MediaError> {
        if senders.is_empty() || self.0.config.server.as_str() != origin {
            return Ok(!senders.is_empty());
        }
        let row = self.0.store.media(origin, media_id).await?;
        let Some(owner) = row.and_then(|row| row.owner) else {
            return Ok(false);
        };
        let owner = self.0.store.user(owner).await?;
        Ok(senders.iter().any(|sender| *sender == *owner))
    }
}

/// Files that a room's events name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfRoom {
    /// By who has uploaded them: of ours the user, of others' one of the same server.
    pub sent: Vec<(String, String)>,
    /// Only by others: anybody can name any file, so nothing is done to these for it.
    pub mentioned: Vec<(String, String)>,
}

/// Files, and who may have uploaded them of those who named them.
type Found = BTreeMap<Name, BTreeSet<OwnedUserId>>;

/// Notes the files that an event names. Only users of the server that gave a file its id can have uploaded it.
fn note(event: &Value, found: &mut Found) {
    let sender = event.get("sender").and_then(Value::as_str);
    let sender = sender.and_then(|sender| OwnedUserId::try_from(sender).ok());
    named(event.get("content"), &mut |name| {
        let sender = sender.clone();
        let sender = sender.filter(|sender| sender.server_name().as_str() == name.0);
        found.entry(name).or_default().extend(sender);
    });
}

/// The files that an event's content names: `url` and `thumbnail_url`, wherever they stand. (Events are no deeper than
/// what reads them bears.)
fn named(content: Option<&Value>, found: &mut impl FnMut(Name)) {
    match content {
        Some(Value::Object(content)) => {
            for (key, value) in content {
                match value {
                    Value::String(url) if key == "url" || key == "thumbnail_url" => {
                        let url = <&MxcUri>::from(url.as_str());
                        if let Ok((server, id)) = url.parts() {
                            found((server.to_string(), id.to_owned()));
                        }
                    }
                    value => named(Some(value), found),
                }
            }
        }
        Some(Value::Array(values)) => values.iter().for_each(|value| named(Some(value), found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_names_a_file_of_another_server_has_not_uploaded_it() {
        let mut found = Found::new();
        for (sender, url) in [
            ("@eve:b", "mxc://a/1"),
            ("@alice:a", "mxc://a/2"),
            ("@eve:b", "mxc://a/2"),
            ("nobody", "mxc://a/3"),
        ] {
            note(
                &json!({"sender": sender, "content": {"url": url}}),
                &mut found,
            );
        }
        let may = found.iter().map(|((_, id), who)| (id.as_str(), who.len()));
        assert_eq!(may.collect::<Vec<_>>(), [("1", 0), ("2", 1), ("3", 0)]);
    }

    #[test]
    fn contents_name_files() {
        let content = json!({
            "body": "mxc://a/body",
            "url": "mxc://a/1",
            "avatar_url": "mxc://a/face",
            "file": {"url": "mxc://b/2"},
            "info": {"thumbnail_url": "mxc://a/3", "thumbnail_file": {"url": "mxc://a/4"}},
            "m.new_content": {"url": "mxc://a/5"},
            "many": [{"url": "mxc://a/6"}, {"url": "https://a/7"}, {"url": "mxc://a"}],
        });
        let mut found = Vec::new();
        named(Some(&content), &mut |(server, id)| {
            found.push(format!("{server}/{id}"));
        });
        found.sort();
        assert_eq!(found, ["a/1", "a/3", "a/4", "a/5", "a/6", "b/2"]);
    }
}
