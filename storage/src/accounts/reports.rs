//! What users have reported, as an inbox of the operator: plain rows, which are taken, done with, and go when they are
//! dismissed.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Result, Store, UserNo};

/// A report that comes.
#[derive(Debug, Clone)]
pub struct NewReport {
    /// Who reports.
    pub reporter: UserNo,
    /// The room, …
    pub room_id: Option<OwnedRoomId>,
    /// … the event in it, …
    pub event_id: Option<OwnedEventId>,
    /// … or the user; of an event, who sent it.
    pub user_id: Option<OwnedUserId>,
    /// The event's JSON text.
    pub event: Option<String>,
    /// Why.
    pub reason: String,
}

impl NewReport {
    /// Of nothing yet.
    pub fn of(reporter: UserNo, reason: String) -> Self {
        Self {
            reporter,
            room_id: None,
            event_id: None,
            user_id: None,
            event: None,
            reason,
        }
    }
}

/// What has become of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportState {
    /// It waits.
    Waits,
    /// Somebody has taken it.
    Taken,
    /// It is done with.
    Done,
}

impl ReportState {
    fn column(self) -> i64 {
        match self {
            Self::Waits => 0,
            Self::Taken => 1,
            Self::Done => 2,
        }
    }

    fn read(column: i64) -> Self {
        match column {
            0 => Self::Waits,
            1 => Self::Taken,
            _ => Self::Done,
        }
    }
}

/// So many reports that are done are kept for operators to look at.
const KEPT: i64 = 10_000;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its number, which no other report gets.
    pub no: i64,
    /// When it came, in milliseconds since 1970.
    pub received_ms: i64,
    /// Who reported.
    pub reporter: OwnedUserId,
    /// The room.
    pub room_id: Option<OwnedRoomId>,
    /// The event.
    pub event_id: Option<OwnedEventId>,
    /// The user.
    pub user_id: Option<OwnedUserId>,
    /// The event's JSON text, as it was then.
    pub event: Option<String>,
    /// Why.
    pub reason: String,
    /// What has become of it, …
    pub state: ReportState,
    /// … by whom, …
    pub handled_by: Option<String>,
    /// … and since when, in milliseconds since 1970.
    pub handled_ms: Option<i64>,
}

impl Store {
    /// Keeps a report and gives its number; `None` if so many of the same user aren't done with.
    ///
    /// Who reports again what isn't done with gives another reason; what an event said is kept as it was at first.
    pub async fn add_report(&self, report: &NewReport, most: i64) -> Result<Option<i64>> {
        if let Some(no) = self.same_report(report).await? {
            if !report.reason.is_empty() {
                let query = self
                    .sql("UPDATE report SET reason = $1 WHERE no = $2")
                    .bind(report.reason.as_str())
                    .bind(no);
                self.execute(query).await?;
            }
            return Ok(Some(no));
        }
        let no = self.next_report_no().await?;
        let query = self
            .sql(
                "INSERT INTO report (no, received_ms, reporter, room_id, event_id, user_id, event, reason) \
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8 \
                 WHERE (SELECT COUNT(*) FROM report WHERE reporter = $3 AND state < 2) < $9",
            )
            .bind(no)
            .bind(self.clock().now_ms())
            .bind(report.reporter)
            .bind(report.room_id.as_deref())
            .bind(report.event_id.as_deref())
            .bind(report.user_id.as_deref())
            .bind(report.event.as_deref())
            .bind(report.reason.as_str())
            .bind(most);
        let kept = self.execute(query).await?;
        Ok((kept == 1).then_some(no))
    }

    /// The number of the report by the same user of the same, if one waits.
    async fn same_report(&self, report: &NewReport) -> Result<Option<i64>> {
        let room = report.room_id.as_ref().map_or("", |id| id.as_str());
        let event = report.event_id.as_ref().map_or("", |id| id.as_str());
        let user = report.user_id.as_ref().map_or("", |id| id.as_str());
        let query = self
            .sql(
                "SELECT no FROM report WHERE reporter = $1 AND COALESCE(room_id, '') = $2 \
                 AND COALESCE(event_id, '') = $3 AND COALESCE(user_id, '') = $4 AND state < 2 \
                 ORDER BY no LIMIT 1",
            )
            .bind(report.reporter)
            .bind(room)
            .bind(event)
            .bind(user);
        let row = self.row(query).await?;
        row.map(|row| row.get("no")).transpose()
    }

    /// The oldest reports after the one with this number, without what was reported.
    pub async fn reports(&self, after: i64, limit: usize) -> Result<Vec<Report>> {
        let query = self
            .sql(
                "SELECT r.no, r.received_ms, u.user_id AS reporter, r.room_id, r.event_id, r.user_id, \
                 CAST(NULL AS TEXT) AS event, r.reason, r.state, r.handled_by, r.handled_ms FROM report r JOIN user_name u ON u.no = r.reporter \
                 WHERE r.no > $1 ORDER BY r.no LIMIT $2",
            )
            .bind(after)
            .bind(limit);
        self.rows(query).await?.iter().map(read).collect()
    }

    /// The report with this number.
    pub async fn report(&self, no: i64) -> Result<Option<Report>> {
        let query = self
            .sql(
                "SELECT r.no, r.received_ms, u.user_id AS reporter, r.room_id, r.event_id, r.user_id, \
                 r.event, r.reason, r.state, r.handled_by, r.handled_ms FROM report r JOIN user_name u ON u.no = r.reporter WHERE r.no = $1",
            )
            .bind(no);
        self.row(query).await?.as_ref().map(read).transpose()
    }

    /// Something becomes of reports, by somebody; says of how many. What is so already isn't said of. What was said in the
    /// event goes with those that are done, and of these the oldest go.
    pub async fn handle_reports(
        &self,
        nos: &[i64],
        state: ReportState,
        by: Option<&str>,
    ) -> Result<u64> {
        let mut tx = self.begin().await?;
        let query = tx
            .sql(
                "UPDATE report SET state = $2, handled_by = $3, handled_ms = $4 \
                 WHERE no IN NUMBERS($1) AND state <> $2",
            )
            .numbers(nos.iter().copied())
            .bind(state.column())
            .bind(by)
            .bind(self.clock().now_ms());
        let handled = tx.execute(query).await?;
        if state == ReportState::Done {
            let content = tx
                .sql("UPDATE report SET event = NULL WHERE no IN NUMBERS($1) AND state = 2")
                .numbers(nos.iter().copied());
            tx.execute(content).await?;
            let old = tx
                .sql(
                    "DELETE FROM report WHERE state = 2 AND no < (SELECT MIN(no) FROM \
                     (SELECT no FROM report WHERE state = 2 ORDER BY no DESC LIMIT $1) AS newest)",
                )
                .bind(KEPT);
            tx.execute(old).await?;
        }
        tx.commit().await?;
        Ok(handled)
    }

    /// Deletes reports; says how many there were.
    pub async fn dismiss_reports(&self, nos: &[i64]) -> Result<u64> {
        let query = self
            .sql("DELETE FROM report WHERE no IN NUMBERS($1)")
            .numbers(nos.iter().copied());
        self.execute(query).await
    }
}

pub(super) fn read(row: &ReadRow) -> Result<Report> {
    Ok(Report {
        no: row.get("no")?,
        received_ms: row.get("received_ms")?,
        reporter: row.get("reporter")?,
        room_id: row.get("room_id")?,
        event_id: row.get("event_id")?,
        user_id: row.get("user_id")?,
        event: row.get("event")?,
        reason: row.get("reason")?,
        state: ReportState::read(row.get("state")?),
        handled_by: row.get("handled_by")?,
        handled_ms: row.get("handled_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::testing::each_database;

    #[tokio::test]
    async fn reports_wait_until_they_are_dismissed() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let bob = store.user_no(user_id!("@bob:here")).await.unwrap();
            let report = |reporter, room: &str, reason: &str| NewReport {
                room_id: Some(room.try_into().unwrap()),
                event: Some("{\"a\":\"\u{0}\"}".into()),
                ..NewReport::of(reporter, reason.to_owned())
            };
            let add = async |report: NewReport| store.add_report(&report, 2).await.unwrap();
            let first = add(report(ada, "!r:here", "a")).await;
            let second = add(report(ada, "!s:here", "")).await;
            assert_eq!(add(report(ada, "!t:here", "")).await, None);
            // The same is one report.
            assert_eq!(add(report(ada, "!r:here", "a \u{0}")).await, first);
            assert_eq!(add(report(ada, "!r:here", "")).await, first);
            let third = add(report(bob, "!r:here", "c")).await;
            let nos = [first, second, third].map(Option::unwrap);
            let listed = store.reports(0, 10).await.unwrap();
            assert_eq!(listed.iter().map(|one| one.no).collect::<Vec<_>>(), nos);
            assert_eq!(listed[0].event, None);
            assert_eq!(store.reports(nos[0], 1).await.unwrap()[0].no, nos[1]);
            let one = store.report(nos[0]).await.unwrap().unwrap();
            assert_eq!(
                (one.reporter.as_str(), one.reason.as_str()),
                ("@ada:here", "a \u{0}")
            );
            assert_eq!(one.event.as_deref(), Some("{\"a\":\"\u{0}\"}"));
            assert_eq!((one.event_id, one.user_id), (None, None));
            assert_eq!((one.state, one.handled_by), (ReportState::Waits, None));
            // It is taken, then done with: reported again, it is another one.
            let handle =
                async |state, by| store.handle_reports(&nos[2..], state, by).await.unwrap();
            assert_eq!(handle(ReportState::Taken, Some("eve \u{0}")).await, 1);
            assert_eq!(handle(ReportState::Taken, Some("bob")).await, 0);
            assert_eq!(add(report(bob, "!r:here", "")).await, Some(nos[2]));
            let one = store.report(nos[2]).await.unwrap().unwrap();
            let taken = (
                one.state,
                one.handled_by.as_deref(),
                one.handled_ms.is_some(),
            );
            assert_eq!(taken, (ReportState::Taken, Some("eve \u{0}"), true));
            assert!(one.event.is_some());
            assert_eq!(handle(ReportState::Done, None).await, 1);
            // What was said isn't kept for longer than it is needed.
            let one = store.report(nos[2]).await.unwrap().unwrap();
            assert_eq!((one.state, one.event), (ReportState::Done, None));
            let another = add(report(bob, "!r:here", "")).await.unwrap();
            assert!(another > nos[2]);
            assert_eq!(store.dismiss_reports(&[another]).await.unwrap(), 1);
            assert_eq!(store.dismiss_reports(&nos[..2]).await.unwrap(), 2);
            assert_eq!(store.dismiss_reports(&nos[..2]).await.unwrap(), 0);
            assert_eq!(store.report(nos[0]).await.unwrap(), None);
            let again = add(report(ada, "!r:here", "")).await;
            assert!(again.unwrap() > nos[2]);
        })
        .await;
    }
}
