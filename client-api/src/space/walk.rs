//! The way through a space: depth first, children in their order, each space once.

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedRoomId, RoomId};

use super::{
    known::{Found, Known, Node, Wanted},
    place::{MAX_SHOWN, Place, Short},
};
use crate::MatrixError;

/// How many rooms are passed in search of those that have to be looked up.
const MAX_PASSED: usize = 5_000;

/// What comes next.
pub enum Step {
    /// This room.
    Show(Arc<Node>),
    /// A room that has to be looked up first.
    Unknown,
    /// Nothing.
    End,
}

/// A space on the way down, and how many of its children were looked at.
struct Level {
    space: Arc<Node>,
    looked_at: usize,
}

/// How much of a space is walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Whether only what spaces suggest.
    pub suggested_only: bool,
    /// How many levels below the root.
    pub max_depth: u8,
}

/// Somebody on their way through a space.
pub struct Walk {
    root: Short,
    extent: Extent,
    levels: Vec<Level>,
    /// What this page shows.
    shown: HashSet<OwnedRoomId>,
    /// Spaces that were shown, on this page and before it.
    spaces: Vec<Short>,
    before: HashSet<Short>,
}

impl Walk {
    /// From the beginning: the root itself has been shown.
    pub fn begin(root: Arc<Node>, extent: Extent) -> Self {
        let short = Short::of(&root.entry.room_id);
        let mut walk = Self {
            root: short,
            extent,
            levels: Vec::new(),
            shown: [root.entry.room_id.clone()].into(),
            spaces: Vec::new(),
            before: HashSet::new(),
        };
        walk.enter(root);
        walk
    }

    /// From where a page ended. Where the space has changed on the way there, it goes on as near to it as can be
    /// found.
    pub async fn resume(
        known: &mut Known<'_>,
        root: Arc<Node>,
        place: Place,
    ) -> Result<Self, MatrixError> {
        let mut walk = Self::begin(
            root,
            Extent {
                suggested_only: place.suggested_only,
                max_depth: place.max_depth,
            },
        );
        walk.before = place.shown.iter().copied().collect();
        walk.spaces = place.shown;
        let mut way = place.way.into_iter().peekable();
        while let (Some(step), Some(level)) = (way.next(), walk.levels.last_mut()) {
            let Some(step) = step else { break };
            let children = &level.space.entry.children;
            // The child may be gone: then its space begins anew.
            let found = children
                .iter()
                .position(|child| Short::of(&child.room_id) == step);
            let Some(index) = found else { break };
            level.looked_at = index + 1;
            if way.peek().is_none() {
                break;
            }
            let (parent, child) = (level.space.clone(), children[index].clone());
            if let Found::Unknown = known.find(&child.room_id) {
                let wanted = Wanted {
                    room_id: child.room_id.clone(),
                    via: child.via,
                    parent: Some(parent),
                };
                known.look_up(vec![wanted]).await?;
            }
            match known.find(&child.room_id) {
                Found::Room(node) if node.entry.is_space => walk.enter(node.clone()),
                // There was no time left: the same page may be asked for once more.
                Found::Unknown => return Err(MatrixError::busy()),
                Found::Room(_) | Found::Nothing => break,
            }
        }
        Ok(walk)
    }

    /// Whether one more space can be remembered as shown. What others hold isn't gone into: they could lead round and
    /// round.
    fn has_room(&self) -> bool {
        self.spaces.len() < MAX_SHOWN
    }

    /// Goes down into a space that is shown.
    fn enter(&mut self, space: Arc<Node>) {
        if !space.entry.is_space {
            return;
        }
        let short = Short::of(&space.entry.room_id);
        if !self.has_room() && !self.before.contains(&short) {
            return;
        }
        if self.before.insert(short) {
            self.spaces.push(short);
        }
        if self.levels.len() < usize::from(self.extent.max_depth) {
            self.levels.push(Level {
                space,
                looked_at: 0,
            });
        }
    }

    /// Whether this page shows the room, or it is a space that was shown on one before.
    fn is_shown(&self, room: &RoomId) -> bool {
        self.shown.contains(room) || self.before.contains(&Short::of(room))
    }

    /// The next room, which counts as shown then.
    pub fn step(&mut self, known: &Known<'_>) -> Step {
        while let Some(level) = self.levels.last() {
            let Some(child) = level.space.entry.children.get(level.looked_at) else {
                self.levels.pop();
                continue;
            };
            let is_wanted = child.suggested || !self.extent.suggested_only;
            let node = if !is_wanted || self.is_shown(&child.room_id) {
                None
            } else {
                match known.find(&child.room_id) {
                    Found::Unknown => return Step::Unknown,
                    Found::Nothing => None,
                    Found::Room(node) => Some(node.clone()),
                }
            };
            if let Some(level) = self.levels.last_mut() {
                level.looked_at += 1;
            }
            if let Some(node) = node {
                self.shown.insert(node.entry.room_id.clone());
                self.enter(node.clone());
                return Step::Show(node);
            }
        }
        Step::End
    }

    /// Whether there surely is nothing more.
    pub fn is_at_end(&self) -> bool {
        self.levels
            .iter()
            .all(|level| level.looked_at >= level.space.entry.children.len())
    }

    /// The next rooms that have to be looked up, at most `most`, in the order in which they come.
    pub fn unknown(&self, known: &Known<'_>, most: usize) -> Vec<Wanted> {
        let mut search = Search {
            walk: self,
            known,
            most,
            passed: 0,
            seen: HashSet::new(),
            wanted: Vec::new(),
        };
        for (index, level) in self.levels.iter().enumerate().rev() {
            search.below(&level.space, level.looked_at, index + 1);
        }
        search.wanted
    }

    /// Where the page ends; `None` at the end of all.
    pub fn place(&self) -> Option<Place> {
        if self.levels.is_empty() {
            return None;
        }
        let last = |level: &Level| {
            let index = level.looked_at.checked_sub(1)?;
            Some(Short::of(&level.space.entry.children.get(index)?.room_id))
        };
        Some(Place {
            root: self.root,
            suggested_only: self.extent.suggested_only,
            max_depth: self.extent.max_depth,
            way: self.levels.iter().map(last).collect(),
            shown: self.spaces.clone(),
        })
    }
}

/// The search for what has to be looked up.
struct Search<'a, 'k> {
    walk: &'a Walk,
    known: &'a Known<'k>,
    most: usize,
    passed: usize,
    seen: HashSet<&'a RoomId>,
    wanted: Vec<Wanted>,
}

impl<'a> Search<'a, '_> {
    /// Among what a space holds that stands `depth` levels above it.
    fn below(&mut self, space: &'a Arc<Node>, from: usize, depth: usize) {
        let extent = self.walk.extent;
        for child in space.entry.children.iter().skip(from) {
            if self.wanted.len() >= self.most || self.passed >= MAX_PASSED {
                return;
            }
            self.passed += 1;
            let is_wanted = child.suggested || !extent.suggested_only;
            if !is_wanted || self.walk.is_shown(&child.room_id) || !self.seen.insert(&child.room_id)
            {
                continue;
            }
            match self.known.find(&child.room_id) {
                Found::Unknown => self.wanted.push(Wanted {
                    room_id: child.room_id.clone(),
                    via: child.via.clone(),
                    parent: Some(space.clone()),
                }),
                Found::Room(node)
                    if depth < usize::from(extent.max_depth) && self.walk.has_room() =>
                {
                    self.below(node, 0, depth + 1);
                }
                Found::Room(_) | Found::Nothing => {}
            }
        }
    }
}
