//! The two ways through a room's history that a page goes.

use std::sync::Arc;

use rhizome_storage::{Direction, Pos, StoredEvent};

use crate::{
    MatrixError,
    history::pager::Pager,
    place::point::HistoryPoint,
    view::scan::{Course, Place},
};

/// Towards the past, by depth.
pub struct Past<'a> {
    pager: &'a Pager<'a>,
    /// Where it goes on.
    pub at: HistoryPoint,
    to: Option<HistoryPoint>,
    reached: bool,
}

impl<'a> Past<'a> {
    /// From a place, to before another.
    pub fn new(pager: &'a Pager<'a>, at: HistoryPoint, to: Option<HistoryPoint>) -> Past<'a> {
        Past {
            pager,
            at,
            to,
            reached: false,
        }
    }
}

impl Course for Past<'_> {
    async fn chunk(&self, size: usize) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        self.pager.stored(self.at, Direction::Backward, size).await
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
pub struct Future<'a> {
    pager: &'a Pager<'a>,
    /// Where it goes on.
    pub at: HistoryPoint,
    to: Option<HistoryPoint>,
}

impl<'a> Future<'a> {
    /// From a place, up to another.
    pub fn new(pager: &'a Pager<'a>, at: HistoryPoint, to: Option<HistoryPoint>) -> Future<'a> {
        Future { pager, at, to }
    }
}

impl Course for Future<'_> {
    async fn chunk(&self, size: usize) -> Result<Vec<Arc<StoredEvent>>, MatrixError> {
        self.pager.stored(self.at, Direction::Forward, size).await
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
