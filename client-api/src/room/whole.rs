//! A room's state, told in pieces: however many events it has, no more of them are held than a piece.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use rhizome_edge::Content;
use rhizome_storage::{EventNo, Store, StoredEvent};

use crate::{
    App, MatrixError,
    view::{
        dress,
        json::Json,
        seen::{Style, Viewer},
    },
};

/// Events of a piece.
const PIECE: usize = 1_000;

/// What is told, and to whom.
pub struct Whole {
    store: Store,
    viewer: Viewer,
    /// The state's events, in the order in which they are told.
    events: Arc<[EventNo]>,
    /// Which of them.
    wanted: Box<dyn Fn(&StoredEvent) -> bool + Send + Sync>,
    /// What stands before and after the list's elements.
    around: (&'static str, &'static str),
}

impl Whole {
    /// All of the events, with what stands before and after the list's elements.
    pub fn new(
        app: &App,
        viewer: Viewer,
        events: Vec<EventNo>,
        around: (&'static str, &'static str),
    ) -> Whole {
        Whole {
            store: app.store.clone(),
            viewer,
            events: events.into(),
            wanted: Box::new(|_| true),
            around,
        }
    }

    /// Those of them that are wanted.
    #[must_use]
    pub fn filtered(self, wanted: impl Fn(&StoredEvent) -> bool + Send + Sync + 'static) -> Whole {
        Whole {
            wanted: Box::new(wanted),
            ..self
        }
    }

    /// The answer. What goes wrong before the first piece is there is an error like others, later the connection is
    /// cut.
    pub async fn tell(self) -> Result<Content, MatrixError> {
        let kind = HeaderValue::from_static("application/json");
        let mut comma = false;
        let first = self.piece(0, &mut comma).await?;
        if self.events.len() <= PIECE {
            return Ok(Content::of_bytes(kind, first));
        }
        let rest = stream::unfold((self, PIECE, comma), async |(whole, from, mut comma)| {
            if from >= whole.events.len() {
                return None;
            }
            let piece = whole.piece(from, &mut comma).await;
            // After an error there is nothing more.
            let next = piece.as_ref().map_or(usize::MAX, |_| from + PIECE);
            let piece = piece.map_err(|error| error.to_string());
            Some((piece, (whole, next, comma)))
        });
        let pieces = stream::iter([Ok(first)]).chain(rest);
        Ok(Content::streamed(kind, None, pieces))
    }

    /// The elements from one on; `comma` says whether there were some before.
    async fn piece(&self, from: usize, comma: &mut bool) -> Result<Bytes, MatrixError> {
        let upto = self.events.len().min(from + PIECE);
        let nos = self.events.get(from..upto).unwrap_or_default();
        let mut events = self.store.events_by_no(nos).await?;
        events.retain(|event| (self.wanted)(event));
        let mut text = String::with_capacity(512 * events.len() + 64);
        if from == 0 {
            text.push_str(self.around.0);
        }
        let now = self.store.clock().now_ms();
        for seen in dress::as_state(&self.store, events).await? {
            if std::mem::replace(comma, true) {
                text.push(',');
            }
            let mut json = Json::default();
            seen.write(&mut json, &self.viewer, now, &Style::ROOM);
            text.push_str(&json.finish());
        }
        if upto == self.events.len() {
            text.push_str(self.around.1);
        }
        Ok(text.into())
    }
}
