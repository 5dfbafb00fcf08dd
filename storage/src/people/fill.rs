//! Those who were there before anybody wrote down what they are called.

use ruma::ServerName;

use super::reader::PIECE;
use crate::engine::sql::Columns as _;
use crate::{Error, Lease, Pos, Result, Store, UserNo};

/// Users of so many rooms together are taken at once, or one alone who is in more.
const ROOMS: i64 = 5_000;

struct Filled {
    begun: i64,
    upto: UserNo,
    done: bool,
}

impl Store {
    /// Takes everybody, piece by piece, if that isn't done: it goes on where it was left. What happens from the position
    /// on that this gives, the log says.
    pub(super) async fn fill_people(&self, lease: &Lease, here: &ServerName) -> Result<Pos> {
        let mut filled = self.people_filled().await?;
        if filled.begun < 0 {
            filled.begun = self.log().head().0;
            self.people_fill_step(lease, &filled).await?;
        }
        while !filled.done {
            let query = self
                .sql(
                    "SELECT u.no, (SELECT COUNT(*) FROM membership m \
                     WHERE m.user_no = u.no AND m.membership = 1) AS rooms \
                     FROM user_name u WHERE u.no > $1 ORDER BY u.no LIMIT $2",
                )
                .bind(filled.upto)
                .bind(PIECE);
            let (mut users, mut rooms): (Vec<UserNo>, i64) = (Vec::new(), 0);
            for row in self.rows(query).await? {
                rooms += row.get::<i64>("rooms")?;
                if rooms > ROOMS && !users.is_empty() {
                    break;
                }
                users.push(row.get("no")?);
            }
            if !self.write_people(lease, here, &users, None, false).await? {
                return Err(Error::Busy("another process goes through all users".into()));
            }
            match users.last() {
                Some(last) => filled.upto = *last,
                None => filled.done = true,
            }
            self.people_fill_step(lease, &filled).await?;
        }
        Ok(Pos(filled.begun))
    }

    async fn people_filled(&self) -> Result<Filled> {
        let query = self.sql("SELECT begun, upto, done FROM people_fill WHERE id = 1");
        let row = self.row(query).await?;
        let row = row.ok_or_else(|| Error::broken("people_fill has no row"))?;
        Ok(Filled {
            begun: row.get("begun")?,
            upto: row.get("upto")?,
            done: row.get("done")?,
        })
    }

    async fn people_fill_step(&self, lease: &Lease, filled: &Filled) -> Result<()> {
        let mut tx = self.begin().await?;
        if !lease.hold(&mut tx).await? {
            tx.rollback().await;
            return Err(Error::Busy("another process goes through all users".into()));
        }
        let query = tx
            .sql("UPDATE people_fill SET begun = $1, upto = $2, done = $3 WHERE id = 1")
            .bind(filled.begun)
            .bind(filled.upto)
            .bind(filled.done);
        tx.execute(query).await?;
        tx.commit().await?;
        Ok(())
    }
}
