//! Notifications that wait to be told.
//!
//! The reader that finds them writes them down with how far it has read ([`Store::queue_pushes`]), so that none is
//! written twice whatever happens to it; who tells them deletes them once they are acknowledged.

use crate::engine::sql::{Columns as _, rows};
use crate::facts::Stored as _;
use crate::facts::pusher::{Pusher, PusherKey};
use crate::log::reader::stands_at;
use crate::{EventNo, Lease, Pos, Result, RoomNo, Store, UserNo};

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// An event.
    Event(EventNo),
    /// An invite to a room that this server isn't in.
    Invite,
    /// That the pusher has to say that it is there.
    Activation,
    /// Nothing: only the number of what is unread may have changed.
    Badge,
}

impl About {
    /// As it stands in its column.
    fn column(self) -> Option<i64> {
        match self {
            Self::Event(event) => Some(event.0),
            Self::Invite => Some(0),
            Self::Activation => Some(-1),
            Self::Badge => None,
        }
    }

    fn read(column: Option<i64>) -> Self {
        match column {
            Some(0) => Self::Invite,
            Some(-1) => Self::Activation,
            Some(event) => Self::Event(EventNo(event)),
            None => Self::Badge,
        }
    }
}

/// A notification that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// Where what it is about stands in the log.
    pub pos: Pos,
    /// In which room.
    pub room: RoomNo,
    /// Of what.
    pub about: About,
    /// Whether it is highlighted.
    pub highlight: bool,
    /// Since when it waits, milliseconds since 1970.
    pub since_ms: i64,
}

/// A pusher for which something waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Which.
    pub pusher: Pusher,
    /// The number that it was told last, if it was.
    pub badge: Option<i64>,
    /// The mails that it got.
    pub mails: Mails,
    /// The first that wait, in the order of the log.
    pub pushes: Vec<Push>,
}

/// What mails a pusher got that gets mails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mails {
    /// When the last one was, milliseconds since 1970.
    pub last_ms: Option<i64>,
    /// How many there were since its user last read something.
    pub in_a_row: u32,
}

/// A user is to be notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPush {
    /// Whom.
    pub user: UserNo,
    /// Where what it is about stands in the log.
    pub pos: Pos,
    /// In which room.
    pub room: RoomNo,
    /// Of what.
    pub about: About,
    /// Whether it is highlighted.
    pub highlight: bool,
}

rows! {
    struct NewRow {
        user_no: UserNo,
        pos: Pos,
        room: RoomNo,
        event: Option<i64>,
        highlight: bool,
    }
}

/// What a pusher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub pusher: PusherKey,
    /// Up to where.
    pub pos: Pos,
    /// The number of what is unread, if it was told.
    pub badge: Option<i64>,
}

rows! {
    struct ToldRow<'a> {
        user_no: UserNo,
        app_id: &'a str,
        pushkey: &'a str,
        pos: Pos,
        badge: Option<i64>,
    }
}

impl NewRow {
    fn of(push: &NewPush) -> Self {
        Self {
            user_no: push.user,
            pos: push.pos,
            room: push.room,
            event: push.about.column(),
            highlight: push.highlight,
        }
    }
}

impl<'a> ToldRow<'a> {
    fn of(told: &'a Told) -> Self {
        Self {
            user_no: told.pusher.user,
            app_id: &told.pusher.app_id,
            pushkey: &told.pusher.pushkey,
            pos: told.pos,
            badge: told.badge,
        }
    }
}

impl Store {
    /// Writes down what waits to be told all pushers of its users that were set before it, or by it, if they have to say that
    /// they are there; and that a reader of the log
    /// has come to `upto` by that. Gives whose pushers have something that waits now; `None` if the reader's lease is
    /// another's.
    pub async fn queue_pushes(
        &self,
        lease: &Lease,
        upto: Pos,
        pushes: &[NewPush],
    ) -> Result<Option<Vec<PusherKey>>> {
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Ok(None);
        }
        let rows: Vec<NewRow> = pushes.iter().map(NewRow::of).collect();
        let query = tx
            .sql(
                "INSERT INTO push (user_no, app_id, pushkey, pos, room, event, highlight, since_ms) \
                 SELECT p.user_no, p.app_id, p.pushkey, x.pos, x.room, x.event, x.highlight, $2 \
                 FROM ROWS($1) AS x JOIN pusher p ON p.user_no = x.user_no AND p.enabled = 1 \
                 AND NOT EXISTS (SELECT 1 FROM account a WHERE a.user_no = p.user_no AND a.locked = 1) \
                 AND (p.pos < x.pos AND p.ack IS NULL OR p.pos = x.pos AND p.ack IS NOT NULL) \
                 WHERE true ON CONFLICT (user_no, app_id, pushkey, pos) DO NOTHING \
                 RETURNING user_no, app_id, pushkey",
            )
            .rows(&rows)
            .bind(self.clock().now_ms());
        let rows = tx.rows(query).await?;
        let keys: Result<Vec<PusherKey>> = rows.iter().map(PusherKey::read).collect();
        let mut keys = keys?;
        keys.sort_unstable();
        keys.dedup();
        if !stands_at(lease, &mut tx, upto).await? {
            tx.rollback().await;
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(keys))
    }

    /// Where the first of all pushers was set, of those that there are: before it nobody could be told of anything.
    pub async fn first_pusher(&self) -> Result<Option<Pos>> {
        let query = self.sql("SELECT pos FROM pusher ORDER BY pos LIMIT 1");
        let row = self.row(query).await?;
        row.map(|row| row.get("pos")).transpose()
    }

    /// Pushers for which something waits, in their order, after this one.
    pub async fn pushers_waiting(&self, after: &PusherKey, limit: usize) -> Result<Vec<PusherKey>> {
        let query = self
            .sql(
                "SELECT DISTINCT user_no, app_id, pushkey FROM push \
                 WHERE (user_no, app_id, pushkey) > ($1, $2, $3) \
                 ORDER BY user_no, app_id, pushkey LIMIT $4",
            )
            .bind(after.user)
            .bind(&after.app_id)
            .bind(&after.pushkey)
            .bind(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(PusherKey::read).collect()
    }

    /// What waits for a pusher, the first `limit` of it. `None`: nothing does, or there is no such pusher.
    pub async fn waiting_pushes(&self, key: &PusherKey, limit: usize) -> Result<Option<Waiting>> {
        let query = self
            .sql(
                "SELECT w.pos AS at, w.room, w.event, w.highlight, w.since_ms, \
                 p.pos, p.user_no, p.app_id, p.pushkey, p.device_id, p.kind, p.enabled, p.app_name, \
                 p.device_name, p.profile_tag, p.lang, p.data, p.set_ms, p.ack, p.ack_until_ms, p.badge, \
                 p.mailed_ms, p.mails FROM push w JOIN pusher p ON p.user_no = w.user_no AND p.app_id = w.app_id \
                 AND p.pushkey = w.pushkey WHERE w.user_no = $1 AND w.app_id = $2 AND w.pushkey = $3 \
                 ORDER BY w.pos LIMIT $4",
            )
            .bind(key.user)
            .bind(&key.app_id)
            .bind(&key.pushkey)
            .bind(limit);
        let rows = self.rows(query).await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let mails: Option<i64> = first.get("mails")?;
        let pushes = rows.iter().map(|row| {
            Ok(Push {
                pos: row.get("at")?,
                room: row.get("room")?,
                about: About::read(row.get("event")?),
                highlight: row.get("highlight")?,
                since_ms: row.get("since_ms")?,
            })
        });
        Ok(Some(Waiting {
            pusher: Pusher::read(first)?,
            badge: first.get("badge")?,
            mails: Mails {
                last_ms: first.get("mailed_ms")?,
                in_a_row: mails.and_then(|mails| mails.try_into().ok()).unwrap_or(0),
            },
            pushes: pushes.collect::<Result<_>>()?,
        }))
    }

    /// These were told, or needn't be any more.
    pub async fn pushes_told(&self, told: &[Told]) -> Result<()> {
        if told.is_empty() {
            return Ok(());
        }
        let told: Vec<ToldRow<'_>> = told.iter().map(ToldRow::of).collect();
        let mut tx = self.begin().await?;
        let query = tx
            .sql(
                // By the key: whoever asks of each row that waits whether it was told asks too often.
                "DELETE FROM push WHERE (user_no, app_id, pushkey, pos) IN \
                 (SELECT p.user_no, p.app_id, p.pushkey, p.pos FROM ROWS($1) AS x JOIN push p \
                 ON p.user_no = x.user_no AND p.app_id = x.app_id AND p.pushkey = x.pushkey \
                 AND p.pos <= x.pos)",
            )
            .rows(&told);
        tx.execute(query).await?;
        let query = tx
            .sql(
                "UPDATE pusher SET badge = x.badge FROM ROWS($1) AS x WHERE pusher.user_no = x.user_no \
                 AND pusher.app_id = x.app_id AND pusher.pushkey = x.pushkey AND x.badge IS NOT NULL",
            )
            .rows(&told);
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What waited up to there was told by mail, or needn't be any more.
    pub async fn mails_told(&self, of: &PusherKey, upto: Pos, mails: Mails) -> Result<()> {
        let mut tx = self.begin().await?;
        let query = tx
            .sql("DELETE FROM push WHERE user_no = $1 AND app_id = $2 AND pushkey = $3 AND pos <= $4")
            .bind(of.user)
            .bind(&of.app_id)
            .bind(&of.pushkey)
            .bind(upto);
        tx.execute(query).await?;
        let query = tx
            .sql(
                "UPDATE pusher SET mailed_ms = $4, mails = $5 \
                 WHERE user_no = $1 AND app_id = $2 AND pushkey = $3",
            )
            .bind(of.user)
            .bind(&of.app_id)
            .bind(&of.pushkey)
            .bind(mails.last_ms)
            .bind(i64::from(mails.in_a_row));
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(())
    }
}
