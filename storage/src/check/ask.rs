//! Questions that a database answers alone: nothing should come of them.

use super::CheckProgress;
use super::finding::{EXAMPLES, Fault, Findings};
use super::moment::Moment;
use crate::Result;
use crate::engine::sql::Columns as _;

/// A question. The statement gives rows of `example`, at most `$1`, each with the number of all (`total`).
pub(super) struct Question {
    pub(super) fault: Fault,
    pub(super) sql: &'static str,
}

/// Asks one after another.
pub(super) async fn all(
    moment: &mut Moment,
    questions: &'static [Question],
    progress: &CheckProgress,
) -> Result<Findings> {
    progress.begin(questions.len() as u64);
    let mut found = Findings::default();
    for question in questions {
        found = found.and(one(moment, question).await?);
        progress.add(1);
    }
    Ok(found)
}

pub(super) async fn one(moment: &mut Moment, question: &'static Question) -> Result<Findings> {
    let query = moment.sql(question.sql).bind(EXAMPLES);
    let rows = moment.rows(query).await?;
    let Some(first) = rows.first() else {
        return Ok(Findings::default());
    };
    let total = first.get("total")?;
    let examples = rows.iter().map(|row| row.get("example"));
    let examples = examples.collect::<Result<Vec<String>>>()?;
    Ok(Findings {
        wrong: vec![question.fault.found(total, examples)],
        ..Findings::default()
    })
}
