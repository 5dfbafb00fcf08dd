//! Reports as an administrator looks through them: chosen, in the order in which they came, a page at a time.

use super::reports::{Report, read};
use crate::engine::db::literally;
use crate::engine::sql::{Columns as _, Query};
use crate::{Result, Store};

/// What was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reported {
    /// An event.
    #[default]
    Event,
    /// A user.
    User,
}

/// Which reports, of those that aren't done with: all that is said holds of each.
#[derive(Debug, Clone, Default)]
pub struct ReportQuery {
    /// Of what.
    pub of: Reported,
    /// The id of who reported has this in it.
    pub reporter_has: Option<String>,
    /// The id of the user, or of an event's sender, has.
    pub user_has: Option<String>,
    /// The id of the event's room has.
    pub room_has: Option<String>,
}

macro_rules! chosen {
    () => {
        "FROM report r JOIN user_name u ON u.no = r.reporter WHERE r.state < 2 \
         AND $1 = CASE WHEN r.event_id IS NOT NULL THEN 0 WHEN r.user_id IS NOT NULL THEN 1 ELSE 2 END \
         AND (CAST($2 AS TEXT) IS NULL OR u.user_id LIKE '%' || $2 || '%' ESCAPE '!') \
         AND (CAST($3 AS TEXT) IS NULL OR r.user_id LIKE '%' || $3 || '%' ESCAPE '!') \
         AND (CAST($4 AS TEXT) IS NULL OR r.room_id LIKE '%' || $4 || '%' ESCAPE '!') "
    };
}

macro_rules! page {
    ($direction:literal) => {
        concat!(
            "SELECT r.no, r.received_ms, u.user_id AS reporter, r.room_id, r.event_id, r.user_id, \
             CAST(NULL AS TEXT) AS event, r.reason, r.state, r.handled_by, r.handled_ms ",
            chosen!(),
            "ORDER BY r.no ",
            $direction,
            " LIMIT $5 OFFSET $6"
        )
    };
}

impl ReportQuery {
    /// As `$1` to `$4`.
    fn bind(&self, query: Query) -> Query {
        let of: i64 = match self.of {
            Reported::Event => 0,
            Reported::User => 1,
        };
        query
            .bind(of)
            .bind(self.reporter_has.as_deref().map(literally))
            .bind(self.user_has.as_deref().map(literally))
            .bind(self.room_has.as_deref().map(literally))
    }
}

impl Report {
    /// What was reported; `None`: a room.
    pub fn reported(&self) -> Option<Reported> {
        match (&self.event_id, &self.user_id) {
            (Some(_), _) => Some(Reported::Event),
            (None, Some(_)) => Some(Reported::User),
            (None, None) => None,
        }
    }
}

impl Store {
    /// A page of reports, without what was reported: `limit` of them after so many, the oldest first or, `backwards`, the newest;
    /// and how many there are in all.
    pub async fn report_page(
        &self,
        which: &ReportQuery,
        backwards: bool,
        (from, limit): (usize, usize),
    ) -> Result<(Vec<Report>, usize)> {
        let count = self.sql(concat!("SELECT COUNT(*) AS n ", chosen!()));
        let count = self.row(which.bind(count)).await?;
        let total = count.map_or(Ok(0), |row| row.get("n"))?;
        let query = self.sql(if backwards {
            page!("DESC")
        } else {
            page!("ASC")
        });
        let query = which.bind(query).bind(limit).bind(from);
        let rows = self.rows(query).await?;
        let reports = rows.iter().map(read).collect::<Result<_>>()?;
        Ok((reports, total))
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::each_database;
    use crate::{NewReport, ReportState};

    #[tokio::test]
    async fn reports_are_chosen_page_by_page() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let bob = store.user_no(user_id!("@bob:here")).await.unwrap();
            let event = |n: u8, by| NewReport {
                room_id: Some("!r:here".try_into().unwrap()),
                event_id: Some(format!("${n}").try_into().unwrap()),
                user_id: Some("@eve:there".try_into().unwrap()),
                event: Some("{}".into()),
                ..NewReport::of(by, "spam".into())
            };
            let user = NewReport {
                user_id: Some("@eve:there".try_into().unwrap()),
                ..NewReport::of(ada, String::new())
            };
            let room = NewReport {
                room_id: Some("!r:here".try_into().unwrap()),
                ..NewReport::of(ada, String::new())
            };
            let mut nos = Vec::new();
            for report in [event(1, ada), event(2, bob), event(3, ada), user, room] {
                let added = store.add_report(&report, 100).await;
                nos.push(added.unwrap().unwrap());
            }
            let found = async |which: &ReportQuery, backwards, page| {
                let page = store.report_page(which, backwards, page);
                let (page, total) = page.await.unwrap();
                let found: Vec<_> = page
                    .iter()
                    .map(|one| nos.iter().position(|no| *no == one.no).unwrap())
                    .collect();
                (found, total)
            };
            let events = ReportQuery::default();
            assert_eq!(found(&events, false, (0, 9)).await, (vec![0, 1, 2], 3));
            assert_eq!(found(&events, true, (1, 1)).await, (vec![1], 3));
            let users = ReportQuery {
                of: Reported::User,
                ..ReportQuery::default()
            };
            assert_eq!(found(&users, false, (0, 9)).await, (vec![3], 1));
            let by = |text: &str| ReportQuery {
                reporter_has: Some(text.into()),
                ..ReportQuery::default()
            };
            assert_eq!(found(&by("bob"), false, (0, 9)).await, (vec![1], 1));
            assert_eq!(found(&by("%"), false, (0, 9)).await, (vec![], 0));
            let of = |room: &str, user: &str| ReportQuery {
                room_has: Some(room.into()),
                user_has: Some(user.into()),
                ..ReportQuery::default()
            };
            assert_eq!(found(&of("!r:", "eve"), false, (0, 9)).await.1, 3);
            assert_eq!(found(&of("!s:", "eve"), false, (0, 9)).await.1, 0);
            assert_eq!(found(&of("!r:", "bob"), false, (0, 9)).await.1, 0);
            // What is done with isn't told of any more.
            let done = store.handle_reports(&nos[..1], ReportState::Done, None);
            assert_eq!(done.await.unwrap(), 1);
            assert_eq!(found(&events, false, (0, 9)).await, (vec![1, 2], 2));
            let kinds = async |at: usize| {
                let report = store.report(nos[at]).await.unwrap().unwrap();
                report.reported()
            };
            assert_eq!(kinds(0).await, Some(Reported::Event));
            assert_eq!(kinds(3).await, Some(Reported::User));
            assert_eq!(kinds(4).await, None);
        })
        .await;
    }
}
