//! By what an account came to be: the token that let its owner register, what they accepted, and whether it waits for the
//! operator's approval.

use std::collections::{BTreeSet, HashMap};

use ring::digest;

use super::AccountChange;
use crate::engine::db::{self, Tx};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{Result, UserNo};

/// What is written of a registration together with its account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// The use of a token that it took.
    pub token: Option<TokenUse>,
    /// The policies that were accepted, with their versions.
    pub terms: Vec<(String, String)>,
    /// Whether nobody may log in until the operator has approved the account.
    pub awaits_approval: bool,
    /// The session of user-interactive authentication that it came of: what was proved in that has served.
    pub session: Option<String>,
}

/// A use of a registration token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// The session that has it reserved.
    pub session: String,
    /// The token.
    pub token: String,
}

/// The uses of registration tokens that accounts may take.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Of which token, by its hash, a session has one.
    reserved: HashMap<String, String>,
    /// How many are left of tokens; `None`: any number.
    left: HashMap<String, Option<i64>>,
}

impl Uses {
    /// Reads what is left. Until the commit nobody else takes a use of the same tokens.
    pub(super) async fn look_up(
        &mut self,
        tx: &mut Tx,
        changes: &[&AccountChange],
    ) -> Result<(), Trouble> {
        let of = |change: &&AccountChange| change.admission()?.token.clone();
        let used: Vec<TokenUse> = changes.iter().filter_map(of).collect();
        if used.is_empty() {
            return Ok(());
        }
        let now_ms = changes.iter().map(|change| match change {
            AccountChange::Create { account, .. } => account.created_ms,
            AccountChange::Upgrade { now_ms, .. } => *now_ms,
            _ => 0,
        });
        let now_ms = now_ms.max().unwrap_or_default();
        let hashes: BTreeSet<String> = used.iter().map(|one| hash(&one.token)).collect();
        let lock = tx
            .sql("UPDATE registration_token SET completed = completed WHERE hash IN TEXTS($1)")
            .texts(&hashes);
        tx.execute(lock).await?;
        let query = tx
            .sql("SELECT session, hash FROM registration_token_pending WHERE session IN TEXTS($1)")
            .texts(used.iter().map(|one| &one.session));
        for row in tx.rows(query).await? {
            self.reserved.insert(row.get("session")?, row.get("hash")?);
        }
        // Those count as well whose session has expired, as long as nobody else was given theirs.
        let query = tx
            .sql(
                "SELECT t.hash, t.uses_allowed, t.completed + (SELECT COUNT(*) \
                 FROM registration_token_pending p WHERE p.hash = t.hash) AS taken \
                 FROM registration_token t WHERE t.hash IN TEXTS($1) \
                 AND (t.expires_ms IS NULL OR t.expires_ms > $2)",
            )
            .texts(&hashes)
            .bind(now_ms);
        for row in tx.rows(query).await? {
            let taken: i64 = row.get("taken")?;
            let allowed: Option<i64> = row.get("uses_allowed")?;
            let left = allowed.map(|allowed| allowed.saturating_sub(taken));
            self.left.insert(row.get("hash")?, left);
        }
        Ok(())
    }

    /// Whether a use can be taken: the session has one, or one is left.
    pub(super) fn admit(&self, used: &TokenUse) -> bool {
        let hash = hash(&used.token);
        self.reserved.get(&used.session) == Some(&hash)
            || (self.left.get(&hash)).is_some_and(|left| left.is_none_or(|left| left > 0))
    }

    /// It is taken.
    pub(super) fn take(&mut self, used: &TokenUse) {
        let hash = hash(&used.token);
        if self.reserved.remove(&used.session).as_ref() != Some(&hash)
            && let Some(Some(left)) = self.left.get_mut(&hash)
        {
            *left -= 1;
        }
    }
}

rows! {
    struct Used<'a> {
        session: &'a str,
        hash: String,
    }
}

rows! {
    struct Served<'a> {
        id: &'a str,
    }
}

rows! {
    struct Accepted<'a> {
        user_no: UserNo,
        policy: &'a str,
        version: &'a str,
        now_ms: i64,
    }
}

rows! {
    struct Awaiting {
        user_no: UserNo,
        now_ms: i64,
    }
}

rows! {
    struct Ended {
        user_no: UserNo,
    }
}

/// What stands for a password's hash where that itself needn't be: it says whether the password is still the same.
pub fn password_mark(password_hash: &str) -> String {
    hash(password_hash)
}

/// By what a token is looked up: how long that takes says nothing about the token.
pub(crate) fn hash(token: &str) -> String {
    db::hex(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
}

pub(super) fn write(changes: &[(i64, &AccountChange)], statements: &mut Statements) -> Result<()> {
    let (mut used, mut accepted, mut awaiting) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ended, mut served) = (Vec::new(), Vec::new());
    for (_, change) in changes {
        let (user_no, admission, now_ms) = match change {
            AccountChange::Create { user, account } => {
                (*user, &account.admission, account.created_ms)
            }
            AccountChange::Upgrade {
                user,
                admission,
                now_ms,
                ..
            } => (*user, admission, *now_ms),
            AccountChange::Deactivate { user, .. } => {
                ended.push(Ended { user_no: *user });
                continue;
            }
            _ => continue,
        };
        used.extend(admission.token.as_ref().map(|one| Used {
            session: &one.session,
            hash: hash(&one.token),
        }));
        served.extend(admission.session.as_ref().map(|id| Served { id }));
        accepted.extend(admission.terms.iter().map(|(policy, version)| Accepted {
            user_no,
            policy,
            version,
            now_ms,
        }));
        let waits = admission.awaits_approval;
        awaiting.extend(waits.then_some(Awaiting { user_no, now_ms }));
    }
    statements.before(
        "UPDATE registration_token SET completed = registration_token.completed + x.uses \
         FROM (SELECT hash, COUNT(*) AS uses FROM ROWS($1) AS y GROUP BY hash) AS x \
         WHERE registration_token.hash = x.hash",
        &used,
    )?;
    statements.before(
        "DELETE FROM registration_token_pending WHERE session IN (SELECT session FROM ROWS($1) AS x)",
        &used,
    )?;
    statements.before(
        "UPDATE uia_session SET completed = '[]' WHERE id IN (SELECT id FROM ROWS($1) AS x)",
        &served,
    )?;
    statements.before(
        "INSERT INTO accepted_terms (user_no, policy, version, accepted_ms) \
         SELECT user_no, policy, version, now_ms FROM ROWS($1) AS x WHERE true \
         ON CONFLICT (user_no, policy) DO UPDATE SET \
         version = excluded.version, accepted_ms = excluded.accepted_ms",
        &accepted,
    )?;
    statements.before(
        "INSERT INTO awaiting_approval (user_no, since_ms) \
         SELECT user_no, now_ms FROM ROWS($1) AS x WHERE true ON CONFLICT (user_no) DO NOTHING",
        &awaiting,
    )?;
    statements.before(
        "DELETE FROM awaiting_approval WHERE user_no IN (SELECT user_no FROM ROWS($1) AS x)",
        &ended,
    )
}
