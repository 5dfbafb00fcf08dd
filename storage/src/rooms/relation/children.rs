//! An event's children, page by page, in the order of the history or as they came.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId};

use crate::engine::sql::{Columns as _, rows};
use crate::{Direction, EventNo, HistoryToken, Pos, Result, RoomNo, Store, StoredEvent, UserNo};

/// Children that are looked at for such as have children themselves.
const MOST_LOOKED_AT: usize = 5_000;
/// Of each event, however many there are.
const LEAST_LOOKED_AT: usize = 20;

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

rows! {
    struct ParentRow<'a> {
        parent: &'a EventId,
    }
}

/// Whose children are wanted, as rows.
fn parents<'a>(of: &Children<'a>) -> Vec<ParentRow<'a>> {
    let parents = of.parents.iter();
    parents.map(|parent| ParentRow { parent }).collect()
}

/// Whether a row is one of the wanted children: by type, then by the events' type.
macro_rules! wanted {
    ("any") => {
        "r.rel_type = COALESCE($3, r.rel_type) AND r.kind = COALESCE($4, r.kind)"
    };
    ("type") => {
        "r.rel_type = $3 AND r.kind = COALESCE($4, r.kind)"
    };
    ("kind") => {
        "r.rel_type = $3 AND r.kind = $4"
    };
}

/// The children of one event. Every argument has to be in the text.
macro_rules! of_one {
    ($wanted:tt, $along:literal, $order:literal) => {
        concat!(
            "SELECT r.child AS no FROM relation r WHERE r.room = $1 AND r.parent = $2 AND ",
            wanted!($wanted),
            " AND ",
            $along,
            " ORDER BY ",
            $order,
            " LIMIT $8"
        )
    };
}

/// One column of the child of the event `x` that comes so many places after its next.
macro_rules! nth {
    ($column:literal, $wanted:tt, $along:literal, $order:literal, $offset:literal) => {
        concat!(
            "(SELECT r.",
            $column,
            " FROM relation r WHERE r.room = $1 AND r.parent = x.parent AND ",
            wanted!($wanted),
            " AND ",
            $along,
            " ORDER BY ",
            $order,
            " LIMIT 1",
            $offset,
            ")"
        )
    };
}

/// The children of several. An index tells the next child of each; of those events whose next come first, where the last
/// that may be wanted lies; what lies before is put in order.
macro_rules! of_several {
    ($wanted:tt, $along:literal, $order:literal, $first:literal, $before:literal) => {
        concat!(
            "WITH head AS MATERIALIZED (SELECT x.parent, ",
            nth!("depth", $wanted, $along, $order, ""),
            " AS depth, ",
            nth!("ord", $wanted, $along, $order, ""),
            " AS ord FROM ROWS($2) AS x), \
             first AS MATERIALIZED (SELECT h.parent FROM head h WHERE h.ord IS NOT NULL ORDER BY ",
            $first,
            " LIMIT $8), last AS MATERIALIZED (SELECT x.parent, ",
            nth!("depth", $wanted, $along, $order, " OFFSET $8 - 1"),
            " AS depth, ",
            nth!("ord", $wanted, $along, $order, " OFFSET $8 - 1"),
            " AS ord FROM first x) \
             SELECT r.child AS no FROM last x JOIN relation r ON r.room = $1 AND r.parent = x.parent AND ",
            wanted!($wanted),
            " AND ",
            $along,
            " AND ",
            $before,
            " ORDER BY ",
            $order,
            " LIMIT $8"
        )
    };
}

macro_rules! questions {
    ($along:literal, $order:literal, $first:literal, $before:literal) => {
        [
            [
                of_one!("any", $along, $order),
                of_one!("type", $along, $order),
                of_one!("kind", $along, $order),
            ],
            [
                of_several!("any", $along, $order, $first, $before),
                of_several!("type", $along, $order, $first, $before),
                of_several!("kind", $along, $order, $first, $before),
            ],
        ]
    };
}

/// By whether there are several parents, then by what is wanted.
type Questions = [[&'static str; 3]; 2];

const BACKWARD: Questions = questions!(
    "(r.depth, r.ord) <= ($5, $6) AND +r.ord <= $7",
    "r.depth DESC, r.ord DESC",
    "h.depth DESC, h.ord DESC",
    "(r.depth, r.ord) >= (COALESCE(x.depth, -9223372036854775807), COALESCE(x.ord, -9223372036854775807))"
);
const FORWARD: Questions = questions!(
    "(r.depth, r.ord) > ($5, $6) AND +r.ord <= $7",
    "r.depth, r.ord",
    "h.depth, h.ord",
    "(r.depth, r.ord) <= (COALESCE(x.depth, 9223372036854775807), COALESCE(x.ord, 9223372036854775807))"
);
const ARRIVAL: Questions = questions!(
    "r.ord > $5 AND r.ord > $6 AND r.ord <= $7",
    "r.ord",
    "h.ord",
    "r.ord <= COALESCE(x.ord, 9223372036854775807)"
);

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
        let wanted = match (of.rel_type, of.kind) {
            (None, _) => 0,
            (Some(_), None) => 1,
            (Some(_), Some(_)) => 2,
        };
        let query = self
            .sql(questions[usize::from(several)][wanted])
            .bind(of.room);
        let query = match of.parents {
            [parent] => query.bind(parent),
            _ => query.rows(&parents(&of)),
        };
        let query = query
            .bind(of.rel_type)
            .bind(of.kind)
            .bind(from.depth)
            .bind(from.order)
            .bind(upto)
            .bind(limit);
        self.listed(query).await
    }

    /// At most `limit` of one user's children of an event, by their numbers, after one of them.
    pub async fn children_by(
        &self,
        (room, parent): (RoomNo, &EventId),
        sender: UserNo,
        rel_type: Option<&str>,
        after: EventNo,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let query = self
            .sql(
                "SELECT r.child AS no FROM relation r WHERE r.room = $1 AND r.parent = $2 \
                 AND r.sender = $3 AND r.rel_type = COALESCE($4, r.rel_type) AND +r.child > $5 \
                 ORDER BY r.child LIMIT $6",
            )
            .bind(room)
            .bind(parent)
            .bind(sender)
            .bind(rel_type)
            .bind(after)
            .bind(limit);
        self.listed(query).await
    }

    /// Those of the wanted children that have children themselves, at most `most`: of the newest of each that came up to
    /// a position.
    pub async fn children_with_children(
        &self,
        of: Children<'_>,
        upto: Pos,
        most: usize,
    ) -> Result<Vec<OwnedEventId>> {
        if of.parents.is_empty() {
            return Ok(Vec::new());
        }
        let each = (MOST_LOOKED_AT / of.parents.len()).max(LEAST_LOOKED_AT);
        let query = self
            .sql(concat!(
                "WITH last AS MATERIALIZED (SELECT x.parent, ",
                nth!(
                    "depth",
                    "any",
                    "+r.ord <= $5",
                    "r.depth DESC, r.ord DESC",
                    " OFFSET $6"
                ),
                " AS depth, ",
                nth!(
                    "ord",
                    "any",
                    "+r.ord <= $5",
                    "r.depth DESC, r.ord DESC",
                    " OFFSET $6"
                ),
                " AS ord FROM ROWS($2) AS x), \
                 found AS MATERIALIZED (SELECT r.child, r.room, r.depth, r.ord FROM last x \
                 JOIN relation r ON r.room = $1 AND r.parent = x.parent AND ",
                wanted!("any"),
                " AND +r.ord <= $5 AND (r.depth, r.ord) >= (COALESCE(x.depth, -9223372036854775807), \
                 COALESCE(x.ord, -9223372036854775807))) \
                 SELECT e.event_id FROM found x JOIN event e ON e.no = x.child \
                 WHERE EXISTS (SELECT 1 FROM relation c WHERE c.room = x.room AND c.parent = e.event_id) \
                 ORDER BY x.depth DESC, x.ord DESC LIMIT $7"
            ))
            .bind(of.room)
            .rows(&parents(&of))
            .bind(of.rel_type)
            .bind(of.kind)
            .bind(upto)
            .bind(each - 1)
            .bind(most);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("event_id")).collect()
    }
}
