//! An event's children, page by page, in the order of the history or as they came.

use std::sync::Arc;

use ruma::OwnedEventId;

use crate::engine::sql::Columns as _;
use crate::{Direction, EventNo, HistoryToken, Pos, Result, RoomNo, Store, StoredEvent};

/// Children that are looked at for such as have children themselves.
const MOST_LOOKED_AT: usize = 5_000;

/// Which children are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Children<'a> {
    /// The events' room.
    pub room: RoomNo,
    /// Whose.
    pub parents: &'a [OwnedEventId],
    /// Those that relate so; `None`: however.
    pub rel_type: Option<&'a str>,
    /// Events of this type; `None`: of any.
    pub kind: Option<&'a str>,
}

/// From where on.
#[derive(Debug, Clone, Copy)]
pub enum Along {
    /// In the order of the history, from a place on; live ones after the position are left out.
    History(HistoryToken, Direction, Pos),
    /// As they came: after the first position, up to the second.
    Arrival(Pos, Pos),
}

/// The question by its parts. Every argument has to be in the text.
macro_rules! question {
    ($parents:literal, $types:literal, $along:literal) => {
        concat!(
            "SELECT r.child AS no FROM relation r WHERE r.room = $1 AND ",
            $parents,
            " AND ",
            $types,
            " AND r.kind = COALESCE($4, r.kind) AND ",
            $along,
            " LIMIT $8"
        )
    };
}

macro_rules! questions {
    ($along:literal) => {
        [
            [
                question!(
                    "r.parent = $2",
                    "r.rel_type = COALESCE($3, r.rel_type)",
                    $along
                ),
                question!("r.parent = $2", "r.rel_type = $3", $along),
            ],
            [
                question!(
                    "r.parent IN TEXTS($2)",
                    "r.rel_type = COALESCE($3, r.rel_type)",
                    $along
                ),
                question!("r.parent IN TEXTS($2)", "r.rel_type = $3", $along),
            ],
        ]
    };
}

/// By whether there are several parents, then by whether a type is wanted.
type Questions = [[&'static str; 2]; 2];

const BACKWARD: Questions =
    questions!("(r.depth, r.ord) <= ($5, $6) AND r.ord <= $7 ORDER BY r.depth DESC, r.ord DESC");
const FORWARD: Questions =
    questions!("(r.depth, r.ord) > ($5, $6) AND r.ord <= $7 ORDER BY r.depth, r.ord");
const ARRIVAL: Questions = questions!("r.ord > $5 AND r.ord > $6 AND r.ord <= $7 ORDER BY r.ord");

impl Store {
    /// At most `limit` children, along the way.
    pub async fn children(
        &self,
        of: Children<'_>,
        along: Along,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let (questions, from, upto) = match along {
            Along::History(from, Direction::Backward, upto) => (BACKWARD, from, upto),
            Along::History(from, Direction::Forward, upto) => (FORWARD, from, upto),
            Along::Arrival(after, upto) => {
                let after = after.0.max(0);
                let from = HistoryToken {
                    depth: after,
                    order: after,
                };
                (ARRIVAL, from, upto)
            }
        };
        let several = of.parents.len() != 1;
        let query = self
            .sql(questions[usize::from(several)][usize::from(of.rel_type.is_some())])
            .bind(of.room);
        let query = match of.parents {
            [parent] => query.bind(parent),
            parents => query.texts(parents.iter().map(|parent| parent.as_str())),
        };
        let query = query
            .bind(of.rel_type)
            .bind(of.kind)
            .bind(from.depth)
            .bind(from.order)
            .bind(upto)
            .bind(limit);
        let rows = self.rows(query).await?;
        let nos: Vec<EventNo> = rows
            .iter()
            .map(|row| row.get("no"))
            .collect::<Result<_>>()?;
        self.events_by_no(&nos).await
    }

    /// Those of the wanted children that have children themselves, at most `most`: of the newest that came up to a
    /// position.
    pub async fn children_with_children(
        &self,
        of: Children<'_>,
        upto: Pos,
        most: usize,
    ) -> Result<Vec<OwnedEventId>> {
        let query = self
            .sql(
                "SELECT e.event_id FROM (SELECT r.child, r.room FROM relation r \
                 WHERE r.room = $1 AND r.parent IN TEXTS($2) \
                 AND r.rel_type = COALESCE($3, r.rel_type) AND r.kind = COALESCE($4, r.kind) \
                 AND r.ord <= $5 ORDER BY r.depth DESC, r.ord DESC LIMIT $6) AS x \
                 JOIN event e ON e.no = x.child \
                 WHERE EXISTS (SELECT 1 FROM relation c WHERE c.room = x.room AND c.parent = e.event_id) \
                 LIMIT $7",
            )
            .bind(of.room)
            .texts(of.parents.iter().map(|parent| parent.as_str()))
            .bind(of.rel_type)
            .bind(of.kind)
            .bind(upto)
            .bind(MOST_LOOKED_AT)
            .bind(most);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("event_id")).collect()
    }
}
