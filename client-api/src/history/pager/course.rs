//! The two ways through a room's history that a page goes.

use std::sync::Arc;

use rhizome_storage::{Direction, Pos, StoredEvent};

use crate::{
    MatrixError,
    place::point::HistoryPoint,
    view::scan::{Course, Place},
};

/// Where events come from: all of a room's history, or some of it.
pub trait Stored {
    /// Stored events from a place on.
    fn stored(
        &self,
        at: HistoryPoint,
        direction: Direction,
        size: usize,
    ) -> impl std::future::Future<Output = Result<Vec<Arc<StoredEvent>>, MatrixError>> + Send;
}

/// Towards the past, by depth.
pub struct Past<'a, S> {
    source: &'a S,
    /// Where it goes on.
    pub at: HistoryPoint,
    to: Option<HistoryPoint>,
    reached: bool,
}

impl<'a, S> Past<'a, S> {
    /// From a place, to before another.
    pub fn new(source: &'a S, at: HistoryPoint, to: Option<HistoryPoint>) -> Past<'a, S> {
        Past {
            source,
            at,
            to,
            reached: false,
        }
    }
}

impl<S: Stored + Sync> Course for Past<'_, S> {
    async fn chunk(&self, size: usize) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        self.source.stored(self.at, Direction::Backward, size).await
    }

    fn place_of(&mut self, event: &StoredEvent) -> Place {
        let Some(to) = self.to else {
            return Place::Within;
        };
        let reaches = to.reaches(event);
        self.reached |= reaches == Some(true);
        if reaches.unwrap_or(self.reached) {
            Place::Beside
        } else {
            Place::Within
        }
    }

    fn pass(&mut self, event: &StoredEvent) {
        self.at = self.at.just_before(event);
    }

    fn is_over(&self) -> bool {
        self.reached
    }
}

/// Towards the present: by depth, or from a position in the order in which things came here.
pub struct Future<'a, S> {
    source: &'a S,
    /// Where it goes on.
    pub at: HistoryPoint,
    to: Option<HistoryPoint>,
}

impl<'a, S> Future<'a, S> {
    /// From a place, up to another.
    pub fn new(source: &'a S, at: HistoryPoint, to: Option<HistoryPoint>) -> Future<'a, S> {
        Future { source, at, to }
    }
}

impl<S: Stored + Sync> Course for Future<'_, S> {
    async fn chunk(&self, size: usize) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        self.source.stored(self.at, Direction::Forward, size).await
    }

    fn place_of(&mut self, event: &StoredEvent) -> Place {
        if self.to.and_then(|to| to.reaches(event)) == Some(false) {
            Place::Beyond
        } else {
            Place::Within
        }
    }

    fn pass(&mut self, event: &StoredEvent) {
        self.at = match self.at.place {
            None => HistoryPoint::at(event.pos().unwrap_or(self.at.upto)),
            Some(_) => HistoryPoint::after(event, Pos(i64::MAX)),
        };
    }
}
