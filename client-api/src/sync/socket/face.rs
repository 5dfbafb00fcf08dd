//! What a socket tells: a shape of sync, behind which the socket knows only frames.

use std::sync::Arc;

use crate::{
    App, MatrixError,
    sync::{
        Reader,
        sliding::{Stream, Wish},
    },
    view::filter::FilterDefinition,
};

/// A shape of sync.
pub(super) enum Face {
    /// Frames are answers of `/sync`.
    Sync(Box<SyncFace>),
    /// Frames are answers of sliding sync.
    Sliding(Box<Stream>),
}

/// What one look at the log gave.
pub(super) struct Turn {
    /// What is to be told, if anything is.
    pub(super) frame: Option<String>,
    /// There is more than that, at once.
    pub(super) more: bool,
}

/// What a client wants to be different from now on.
pub(super) enum Change {
    /// Another filter.
    Filter(Arc<FilterDefinition>),
    /// Other lists and subscriptions.
    Wish(Box<Wish>),
    /// Nothing, but it has the answer with this position.
    Has(String),
}

/// What a change has changed.
#[derive(PartialEq, Eq)]
pub(super) enum Changed {
    /// It is of another shape of sync.
    Refused,
    /// Nothing: it was so before.
    Nothing,
    /// There may be something to tell.
    Much,
}

/// A reader, and whether it still owes its first answer.
pub(super) struct SyncFace {
    reader: Reader,
    first: bool,
}

impl Face {
    /// Goes on from where the reader is.
    pub(super) fn sync(reader: Reader) -> Face {
        let first = !reader.has_position();
        Face::Sync(Box::new(SyncFace { reader, first }))
    }

    /// Before the first turn: what the client says that it has got is acknowledged.
    pub(super) async fn begin(&self, app: &App) {
        match self {
            Face::Sync(face) => {
                if let Some(acknowledging) = face.reader.acknowledge().await {
                    acknowledging.done(app).await;
                }
            }
            // Each of its requests says so by itself.
            Face::Sliding(_) => {}
        }
    }

    /// Looks at what is new; the position moves on.
    pub(super) async fn turn(&mut self) -> Result<Turn, MatrixError> {
        match self {
            Face::Sync(face) => face.turn().await,
            Face::Sliding(stream) => Ok(Turn {
                frame: stream.turn("sliding").await?,
                more: false,
            }),
        }
    }

    /// Waits until there may be something new. To be called after a turn.
    pub(super) async fn woken(&self) {
        match self {
            Face::Sync(face) => face.reader.woken().await,
            Face::Sliding(stream) => stream.woken().await,
        }
    }

    /// Whether the client waits for what it has just asked: then bursts aren't waited for.
    pub(super) fn hurries(&self) -> bool {
        match self {
            Face::Sync(_) => false,
            Face::Sliding(stream) => stream.owes(),
        }
    }

    /// Takes up a change: all later turns are of it. One of another shape is refused.
    ///
    /// # Errors
    /// The connection can't go on.
    pub(super) async fn change(&mut self, change: Change) -> Result<Changed, MatrixError> {
        match (self, change) {
            (Face::Sync(face), Change::Filter(filter)) => face.reader.set_filter(filter),
            (Face::Sliding(stream), Change::Wish(wish)) => stream.change(*wish).await?,
            (Face::Sliding(stream), Change::Has(pos)) => {
                if !stream.acknowledge(&pos).await? {
                    return Ok(Changed::Nothing);
                }
            }
            _ => return Ok(Changed::Refused),
        }
        Ok(Changed::Much)
    }
}

impl SyncFace {
    async fn turn(&mut self) -> Result<Turn, MatrixError> {
        let news = self.reader.pass().await?;
        let tells = self.first || !news.is_empty();
        self.first = false;
        Ok(Turn {
            frame: tells.then(|| self.reader.write(&news, Some("sync"))),
            more: news.next.is_behind(),
        })
    }
}
