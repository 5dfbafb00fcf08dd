//! By what an account came to be: the token that let its owner register, what they accepted, and whether it waits for the
//! operator's approval.

use ring::digest;

use super::AccountChange;
use crate::engine::db;
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
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
}

/// A use of a registration token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// The session that has it reserved.
    pub session: String,
    /// The token.
    pub token: String,
}

rows! {
    struct Used<'a> {
        session: &'a str,
        hash: String,
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

/// By what a token is looked up: how long that takes says nothing about the token.
pub(crate) fn hash(token: &str) -> String {
    db::hex(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
}

pub(super) fn write(changes: &[(i64, &AccountChange)], statements: &mut Statements) -> Result<()> {
    let (mut used, mut accepted, mut awaiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut ended = Vec::new();
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
