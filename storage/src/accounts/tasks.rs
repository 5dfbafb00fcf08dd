//! Work that takes its time and goes on after a restart: a row each, which says what is to be done, how far that is, and
//! what has become of it. What the kinds do is others' to say.

use crate::engine::db::Tx;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Pos, Result, RoomNo, Store};

/// So many tasks that are over are kept for operators to look at.
const KEPT: i64 = 1_000;

/// What has become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It waits, or is under way.
    Open,
    /// It is done.
    Done,
    /// It couldn't be done.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
}

impl TaskState {
    fn column(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Done => 1,
            Self::Failed => 2,
            Self::Cancelled => 3,
        }
    }

    fn read(column: i64) -> Self {
        match column {
            0 => Self::Open,
            1 => Self::Done,
            2 => Self::Failed,
            _ => Self::Cancelled,
        }
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its number, which no other task gets.
    pub no: i64,
    /// What is to be done, …
    pub kind: String,
    /// … to whom or what.
    pub what: String,
    /// What has become of it.
    pub state: TaskState,
    /// How much is done, as its kind counts.
    pub progress: i64,
    /// Where it goes on, as its kind says; empty at first.
    pub place: String,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: i64,
    /// When something last became of it.
    pub changed_ms: i64,
    /// How far the log was when it was asked for last before it was begun.
    pub upto: Option<Pos>,
    /// What exactly is to be done, as JSON, if its kind and name don't say all of it.
    pub request: Option<String>,
    /// What has come of it so far, as JSON.
    pub result: Option<String>,
    /// The room that it has made.
    pub new_room: Option<RoomNo>,
}

/// Which tasks: all that is said holds of each.
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// Of this kind.
    pub kind: Option<String>,
    /// About this one.
    pub what: Option<String>,
    /// Of which this has become.
    pub state: Option<TaskState>,
    /// Those that are begun, or aren't.
    pub begun: Option<bool>,
    /// Of which something became last before then, in milliseconds since 1970.
    pub changed_before_ms: Option<i64>,
}

impl Store {
    /// Writes a task down, and gives its number: that of one for the same that isn't begun, if there is one. What has
    /// happened until now is part of it. Of those that are over the oldest go.
    pub async fn add_task(&self, kind: &str, what: &str) -> Result<i64> {
        let no = self.next_task_no().await?;
        let now_ms = self.clock().now_ms();
        let mut tx = self.begin().await?;
        let open = tx
            .sql(
                "SELECT no FROM task WHERE state = 0 AND place = '' AND kind = $1 AND what = $2 \
                 ORDER BY no LIMIT 1",
            )
            .bind(kind)
            .bind(what);
        let open = tx.rows(open).await?;
        if let Some(row) = open.first() {
            let open: i64 = row.get("no")?;
            let later = tx
                .sql(
                    "UPDATE task SET upto = (SELECT pos FROM counter WHERE id = 1) \
                     WHERE no = $1 AND state = 0 AND place = ''",
                )
                .bind(open);
            if tx.execute(later).await? == 1 {
                tx.commit().await?;
                self.core.tasks_added.notify_one();
                return Ok(open);
            }
        }
        write_task(&mut tx, no, (kind, what), now_ms).await?;
        tx.commit().await?;
        self.core.tasks_added.notify_one();
        self.forget_old_tasks().await?;
        Ok(no)
    }

    /// Of tasks that are over the oldest go.
    pub(super) async fn forget_old_tasks(&self) -> Result<()> {
        let old = self
            .sql(
                "DELETE FROM task WHERE state <> 0 AND no < (SELECT MIN(no) FROM \
                 (SELECT no FROM task WHERE state <> 0 ORDER BY no DESC LIMIT $1) AS newest)",
            )
            .bind(KEPT);
        self.execute(old).await.map(drop)
    }

    /// Waits until a task is written down in this process, or was since the last time.
    pub async fn task_added(&self) {
        self.core.tasks_added.notified().await;
    }

    /// The first open task after this number.
    pub async fn open_task(&self, after: i64) -> Result<Option<Task>> {
        let query = self
            .sql(
                "SELECT no, kind, what, state, progress, place, error, made_ms, changed_ms, upto, request, result, new_room FROM task \
                 WHERE state = 0 AND no > $1 ORDER BY no LIMIT 1",
            )
            .bind(after);
        self.row(query).await?.as_ref().map(read).transpose()
    }

    /// The newest tasks before this number, newest first.
    pub async fn tasks(&self, before: i64, limit: usize) -> Result<Vec<Task>> {
        let query = self
            .sql(
                "SELECT no, kind, what, state, progress, place, error, made_ms, changed_ms, upto, request, result, new_room FROM task \
                 WHERE no < $1 ORDER BY no DESC LIMIT $2",
            )
            .bind(before)
            .bind(limit);
        self.rows(query).await?.iter().map(read).collect()
    }

    /// The newest tasks of which this holds, newest first.
    pub async fn tasks_of(&self, which: &TaskQuery, limit: usize) -> Result<Vec<Task>> {
        let query = self
            .sql(
                "SELECT no, kind, what, state, progress, place, error, made_ms, changed_ms, upto, request, result, new_room FROM task \
                 WHERE (CAST($1 AS TEXT) IS NULL OR kind = $1) AND (CAST($2 AS TEXT) IS NULL OR what = $2) \
                 AND (CAST($3 AS BIGINT) IS NULL OR state = $3) \
                 AND (CAST($4 AS BIGINT) IS NULL OR $4 = CASE WHEN place = '' THEN 0 ELSE 1 END) \
                 AND (CAST($5 AS BIGINT) IS NULL OR changed_ms < $5) ORDER BY no DESC LIMIT $6",
            )
            .bind(which.kind.as_deref())
            .bind(which.what.as_deref())
            .bind(which.state.map(TaskState::column))
            .bind(which.begun)
            .bind(which.changed_before_ms)
            .bind(limit);
        self.rows(query).await?.iter().map(read).collect()
    }

    /// The task with this number.
    pub async fn task(&self, no: i64) -> Result<Option<Task>> {
        let query = self
            .sql(
                "SELECT no, kind, what, state, progress, place, error, made_ms, changed_ms, upto, request, result, new_room FROM task \
                 WHERE no = $1",
            )
            .bind(no);
        self.row(query).await?.as_ref().map(read).transpose()
    }

    /// Writes a task down that says more exactly what is to be done, and gives its number: another one, whatever there is
    /// already. Nothing is written, and nothing given, if `alone` and one of this kind about the same is open.
    pub async fn add_task_of(
        &self,
        (kind, what): (&str, &str),
        request: &str,
        alone: bool,
    ) -> Result<Option<i64>> {
        let no = self.next_task_no().await?;
        let query = self
            .sql(
                "INSERT INTO task (no, kind, what, state, progress, place, error, made_ms, changed_ms, upto, request) \
                 SELECT $1, $2, $3, 0, 0, '', NULL, $4, $4, (SELECT pos FROM counter WHERE id = 1), $5 \
                 WHERE $6 = 0 OR NOT EXISTS (SELECT 1 FROM task WHERE state = 0 AND kind = $2 AND what = $3)",
            )
            .bind(no)
            .bind(kind)
            .bind(what)
            .bind(self.clock().now_ms())
            .bind(request)
            .bind(alone);
        if self.execute(query).await? == 0 {
            return Ok(None);
        }
        self.core.tasks_added.notify_one();
        self.forget_old_tasks().await?;
        Ok(Some(no))
    }

    /// Notes what has come of a task so far.
    pub async fn task_result(&self, no: i64, result: &str) -> Result<()> {
        let query = self
            .sql("UPDATE task SET result = $2 WHERE no = $1")
            .bind(no)
            .bind(result);
        self.execute(query).await.map(drop)
    }

    /// Something of a task is done; `false` if it isn't open any more.
    pub async fn task_goes_on(&self, no: i64, progress: i64, place: &str) -> Result<bool> {
        let query = self
            .sql("UPDATE task SET progress = $2, place = $3, changed_ms = $4 WHERE no = $1 AND state = 0")
            .bind(no)
            .bind(progress)
            .bind(place)
            .bind(self.clock().now_ms());
        Ok(self.execute(query).await? == 1)
    }

    /// A task is over; `false` if it was already.
    pub async fn end_task(&self, no: i64, state: TaskState, error: Option<&str>) -> Result<bool> {
        let query = self
            .sql("UPDATE task SET state = $2, error = $3, changed_ms = $4 WHERE no = $1 AND state = 0")
            .bind(no)
            .bind(state.column())
            .bind(error)
            .bind(self.clock().now_ms());
        Ok(self.execute(query).await? == 1)
    }
}

/// Writes a task down with something else.
pub(super) async fn write_task(
    tx: &mut Tx,
    no: i64,
    (kind, what): (&str, &str),
    now_ms: i64,
) -> Result<()> {
    let add = tx
        .sql(
            "INSERT INTO task (no, kind, what, state, progress, place, error, made_ms, changed_ms, upto) \
             VALUES ($1, $2, $3, 0, 0, '', NULL, $4, $4, (SELECT pos FROM counter WHERE id = 1))",
        )
        .bind(no)
        .bind(kind)
        .bind(what)
        .bind(now_ms);
    tx.execute(add).await?;
    Ok(())
}

fn read(row: &ReadRow) -> Result<Task> {
    Ok(Task {
        no: row.get("no")?,
        kind: row.get("kind")?,
        what: row.get("what")?,
        state: TaskState::read(row.get("state")?),
        progress: row.get("progress")?,
        place: row.get("place")?,
        error: row.get("error")?,
        made_ms: row.get("made_ms")?,
        changed_ms: row.get("changed_ms")?,
        upto: row.get("upto")?,
        request: row.get("request")?,
        result: row.get("result")?,
        new_room: row.get("new_room")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::each_database;

    #[tokio::test]
    async fn tasks_that_say_more_are_found_by_what_holds_of_them() {
        each_database(async |store| {
            let add = async |what: &str, alone| {
                let added = store.add_task_of(("shut", what), r#"{"a":"\u0000"}"#, alone);
                added.await.unwrap()
            };
            let one = add("!r:here", true).await.unwrap();
            assert_eq!(add("!r:here", true).await, None);
            let two = add("!r:here", false).await.unwrap();
            let three = add("!s:here", true).await.unwrap();
            assert!(store.task_goes_on(one, 1, "x").await.unwrap());
            store.task_result(one, "{}").await.unwrap();
            let task = store.task(one).await.unwrap().unwrap();
            assert_eq!(task.request.as_deref(), Some(r#"{"a":"\u0000"}"#));
            assert_eq!((task.result.as_deref(), task.new_room), (Some("{}"), None));
            assert_eq!(store.task(three + 1_000_000).await.unwrap(), None);
            let done = store.end_task(one, TaskState::Done, None);
            assert!(done.await.unwrap());
            let found = async |which: TaskQuery| {
                let found = store.tasks_of(&which, 10).await.unwrap();
                found.iter().map(|task| task.no).collect::<Vec<_>>()
            };
            assert_eq!(found(TaskQuery::default()).await, [three, two, one]);
            let what = TaskQuery {
                kind: Some("shut".into()),
                what: Some("!r:here".into()),
                ..TaskQuery::default()
            };
            assert_eq!(found(what.clone()).await, [two, one]);
            let open = TaskQuery {
                state: Some(TaskState::Open),
                begun: Some(false),
                ..what
            };
            assert_eq!(found(open).await, [two]);
            let never = TaskQuery {
                changed_before_ms: Some(0),
                ..TaskQuery::default()
            };
            assert!(found(never).await.is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn a_task_is_open_until_it_is_over() {
        each_database(async |store| {
            let first = store.add_task("leave", "@a:here").await.unwrap();
            assert_eq!(store.add_task("leave", "@a:here").await.unwrap(), first);
            let second = store.add_task("leave", "@b:here").await.unwrap();
            let open = store.open_task(0).await.unwrap().unwrap();
            assert_eq!((open.no, open.place.as_str()), (first, ""));
            assert!(store.task_goes_on(first, 5, "\u{0}").await.unwrap());
            let open = store.open_task(0).await.unwrap().unwrap();
            assert_eq!((open.progress, open.place.as_str()), (5, "\u{0}"));
            // What is asked for when it is begun has to be done, too.
            let later = store.add_task("leave", "@a:here").await.unwrap();
            assert!(later > second);
            let cancelled = store.end_task(later, TaskState::Cancelled, None);
            assert!(cancelled.await.unwrap());
            let end = async |no, state, error| store.end_task(no, state, error).await.unwrap();
            assert!(end(first, TaskState::Cancelled, None).await);
            assert!(!end(first, TaskState::Done, None).await);
            assert!(!store.task_goes_on(first, 6, "").await.unwrap());
            let open = store.open_task(0).await.unwrap().unwrap();
            assert_eq!(open.no, second);
            assert_eq!(store.open_task(second).await.unwrap(), None);
            assert!(end(second, TaskState::Failed, Some("why")).await);
            let all = store.tasks(i64::MAX, 10).await.unwrap();
            let all: Vec<_> = all.iter().map(|task| (task.no, task.state)).collect();
            let cancelled = TaskState::Cancelled;
            let expected = [
                (later, cancelled),
                (second, TaskState::Failed),
                (first, cancelled),
            ];
            assert_eq!(all, expected);
            // What is over doesn't keep it from being done again.
            let again = store.add_task("leave", "@a:here").await.unwrap();
            assert!(again > later);
        })
        .await;
    }
}
