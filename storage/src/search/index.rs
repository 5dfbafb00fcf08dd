//! Writing the index: what messages say now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ruma::OwnedEventId;

use super::said::{Part, edit, said};
use super::words::words;
use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, rows};
use crate::rooms::relation::bundle::{Edited, Parent, SurelySeen};
use crate::{Dialect, EventNo, Pos, Result, RoomNo, Store, StoredEvent};

/// What has happened to events.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched {
    /// Came, or got their content.
    pub(super) events: HashSet<EventNo>,
    /// Were redacted, if they are here.
    pub(super) redacted: HashSet<OwnedEventId>,
}

impl Touched {
    /// Takes an event of the history.
    pub(super) fn take(&mut self, event: &StoredEvent) {
        if let Some(target) = event.pdu.redacts() {
            self.redacted.insert(target.to_owned());
        } else if said(&event.pdu).is_some() || edit(&event.pdu).is_some() {
            self.events.insert(event.no);
        }
    }
}

/// What the index is to say.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Instead of what it says of these.
    stale: Vec<i64>,
    new: Vec<Document>,
    edits: Vec<EditOf>,
}

rows! {
    struct Document {
        ord: i64,
        scope: String,
        words: String,
    }
}

rows! {
    struct EditOf {
        edit: EventNo,
        message: EventNo,
    }
}

/// What a message says now, and by which edit.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) event: Arc<StoredEvent>,
    /// By which it says what it says now.
    pub(super) edit: Option<Arc<StoredEvent>>,
}

impl Message {
    /// `None` if it says nothing that is searched.
    pub(super) fn said(&self) -> Option<(Part, std::borrow::Cow<'_, str>)> {
        // An edit says nothing of its own.
        if !self.event.is_history() || edit(&self.event.pdu).is_some() {
            return None;
        }
        let own = said(&self.event.pdu)?;
        let edited = self.edit.as_ref().and_then(|by| edit(&by.pdu));
        Some(edited.map_or(own, |(_, text)| (Part::Body, text.into())))
    }
}

impl Store {
    /// The messages that these events are, or edit: each once.
    pub(super) async fn messages_of(
        &self,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<(Vec<Message>, Vec<(EventNo, EventNo)>)> {
        let mut messages = HashMap::new();
        let mut edits = Vec::new();
        for event in events {
            match edit(&event.pdu) {
                Some((parent, _)) => edits.push((parent.to_owned(), event.clone())),
                None => drop(messages.insert(event.no, event)),
            }
        }
        let parents: Vec<_> = edits.iter().map(|(parent, _)| parent.clone()).collect();
        let mut links = Vec::new();
        for parent in self.events(&parents).await? {
            for (_, event) in edits.iter().filter(|(id, _)| id == parent.pdu.event_id()) {
                let same = event.room == parent.room && event.pdu.sender() == parent.pdu.sender();
                if same && parent.is_history() {
                    links.push((event.no, parent.no));
                    messages.insert(parent.no, parent.clone());
                }
            }
        }
        let messages: Vec<_> = messages.into_values().collect();
        Ok((self.as_they_are_now(messages).await?, links))
    }

    /// Messages with their latest edits.
    pub(super) async fn as_they_are_now(
        &self,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Message>> {
        let senders: Vec<_> = events.iter().map(|event| event.pdu.sender()).collect();
        let senders = self.user_nos(&senders).await?;
        let asked: Vec<_> = events
            .iter()
            .zip(senders)
            // Nothing else can be edited.
            .filter(|(event, _)| matches!(said(&event.pdu), Some((Part::Body, _))))
            .map(|(event, sender)| (event.no, edited(event, sender)))
            .collect();
        let edits: Vec<_> = asked.iter().map(|(_, edited)| *edited).collect();
        let latest = self.latest_edits(&edits).await?;
        let nos: Vec<_> = latest.values().copied().collect();
        let found = self.events_by_no(&nos).await?;
        let found: HashMap<_, _> = found.into_iter().map(|event| (event.no, event)).collect();
        let by: HashMap<EventNo, Arc<StoredEvent>> = asked
            .iter()
            .enumerate()
            .filter_map(|(n, (no, _))| Some((*no, found.get(latest.get(&n)?)?.clone())))
            .collect();
        let message = |event: Arc<StoredEvent>| Message {
            edit: by.get(&event.no).cloned(),
            event,
        };
        Ok(events.into_iter().map(message).collect())
    }

    /// What the index is to say of what has been touched.
    pub(super) async fn documents(&self, touched: &Touched) -> Result<Documents> {
        let nos: Vec<_> = touched.events.iter().copied().collect();
        let mut events = self.events_by_no(&nos).await?;
        let redacted: Vec<_> = touched.redacted.iter().cloned().collect();
        let redacted = self.events(&redacted).await?;
        events.extend(self.edited_by(&redacted).await?);
        events.extend(redacted);
        let (messages, links) = self.messages_of(events).await?;
        let mut documents = Documents {
            edits: links
                .into_iter()
                .map(|(edit, message)| EditOf { edit, message })
                .collect(),
            ..Documents::default()
        };
        for message in &messages {
            let Some(ord) = message.event.order else {
                continue;
            };
            // Also one that came before its message.
            documents
                .edits
                .extend(message.edit.as_ref().map(|edit| EditOf {
                    edit: edit.no,
                    message: message.event.no,
                }));
            documents.stale.push(ord);
            if let Some((part, text)) = message.said() {
                documents
                    .new
                    .extend(self.document(ord, message.event.room, part, &text));
            }
        }
        documents.edits.sort_unstable_by_key(|edit| edit.edit);
        documents.edits.dedup_by_key(|edit| edit.edit);
        Ok(documents)
    }

    fn document(&self, ord: i64, room: RoomNo, part: Part, text: &str) -> Option<Document> {
        let words = words(text);
        let words: Vec<&str> = words.iter().map(|word| word.folded.as_str()).collect();
        let dialect = self.dialect();
        (!words.is_empty()).then(|| Document {
            ord,
            scope: dialect.search_scope(&[room_scope(room), part.scope()]),
            words: dialect.search_words(&words),
        })
    }

    /// The messages of which some events were edits when they were looked at.
    async fn edited_by(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Arc<StoredEvent>>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let query = self
            .sql("SELECT DISTINCT message FROM search_edit WHERE edit IN NUMBERS($1)")
            .numbers(events.iter().map(|event| event.no));
        let rows = self.rows(query).await?;
        let nos = rows.iter().map(|row| row.get("message"));
        self.events_by_no(&nos.collect::<Result<Vec<_>>>()?).await
    }
}

/// All edits of a message, whoever may see them.
fn edited(event: &StoredEvent, sender: crate::UserNo) -> Edited<'_> {
    Edited {
        parent: Parent {
            room: event.room,
            event: event.pdu.event_id(),
            seen: SurelySeen {
                since: Pos(i64::MIN),
                shared_upto: i64::MAX,
                upto: Pos(i64::MAX),
            },
        },
        sender,
        kind: event.pdu.kind(),
    }
}

/// A room as a word of the scope.
pub(super) fn room_scope(room: RoomNo) -> String {
    format!("r{}", room.0)
}

impl Documents {
    /// Writes them.
    pub(super) async fn write(&self, tx: &mut Tx, dialect: Dialect) -> Result<()> {
        let sql = dialect.search();
        if !self.stale.is_empty() {
            let query = tx.sql(sql.delete).numbers(self.stale.iter().copied());
            tx.execute(query).await?;
        }
        if !self.new.is_empty() {
            let query = tx.sql(sql.put).rows(&self.new);
            tx.execute(query).await?;
        }
        if !self.edits.is_empty() {
            let query = tx
                .sql(
                    "INSERT INTO search_edit (edit, message) SELECT x.edit, x.message \
                     FROM ROWS($1) AS x WHERE TRUE ON CONFLICT (edit) DO NOTHING",
                )
                .rows(&self.edits);
            tx.execute(query).await?;
        }
        Ok(())
    }
}
