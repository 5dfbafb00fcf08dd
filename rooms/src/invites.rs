//! Whose invites users want: none at all (client-server API, "Invite permission"), or by rules about users and servers
//! ([MSC4155](https://github.com/matrix-org/matrix-spec-proposals/pull/4155)). They say it in their account data.
//!
//! An invite that is refused is never made; one that is only hidden stands in its room, and its user isn't told of it.

use std::{collections::HashSet, sync::Arc};

use rhizome_protocol::{Membership, draft::Draft, glob::Glob};
use rhizome_storage::{AccountData, INVITE_RULES, Notifying, Store};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Rooms, error::Result};

/// The most bytes of account data with rules.
const MAX_BYTES: usize = 64 << 10;
/// The most patterns with wildcards in it: each is held against who invites.
const MAX_PATTERNS: usize = 1_000;

/// What becomes of an invite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The user is told of it.
    #[default]
    Shown,
    /// The user isn't told of it, and who invites doesn't hear of that.
    Hidden,
    /// It isn't made.
    Refused,
}

/// Whose invites a user wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InviteRules {
    refuses_all: bool,
    rules: Option<Arc<Rules>>,
}

/// Rules about who invites, in the order in which they are asked: the first one that matches counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    users: [(Patterns, Verdict); 3],
    servers: [(Patterns, Verdict); 3],
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Patterns {
    names: HashSet<String>,
    globs: Vec<Glob>,
}

/// The content of the account data as MSC4155 has it. What is of another type makes all of it count for nothing.
#[derive(Deserialize)]
struct Config {
    enabled: Option<bool>,
    allowed_users: Option<Vec<String>>,
    ignored_users: Option<Vec<String>>,
    blocked_users: Option<Vec<String>>,
    allowed_servers: Option<Vec<String>>,
    ignored_servers: Option<Vec<String>>,
    blocked_servers: Option<Vec<String>>,
}

impl InviteRules {
    /// What a user's account data says; types that say nothing of invites are passed over.
    pub fn of<'a>(data: impl IntoIterator<Item = &'a AccountData>) -> Self {
        let mut rules = Self::default();
        for data in data {
            let content = &data.content;
            match INVITE_RULES.iter().position(|kind| **kind == data.kind) {
                Some(2) => rules.rules = Rules::parse(content).map(Arc::new),
                Some(_) => rules.refuses_all |= blocks_all(content),
                None => {}
            }
        }
        rules
    }

    /// What becomes of an invite by this user, whom the invited one doesn't ignore.
    pub fn judge(&self, inviter: &UserId) -> Verdict {
        if self.refuses_all {
            return Verdict::Refused;
        }
        let rules = self.rules.as_ref();
        rules.map_or(Verdict::Shown, |rules| rules.judge(inviter))
    }
}

fn blocks_all(content: &str) -> bool {
    let content: Option<Value> = serde_json::from_str(content).ok();
    content.is_some_and(|content| content.get("default_action") == Some(&"block".into()))
}

impl Rules {
    /// `None`: it says nothing.
    fn parse(content: &str) -> Option<Self> {
        let config: Config = serde_json::from_str(content).ok()?;
        if config.enabled == Some(false) {
            return None;
        }
        let mut left = MAX_PATTERNS;
        let mut of = |patterns: Option<Vec<String>>, verdict, by_case| {
            (Patterns::of(patterns, by_case, &mut left), verdict)
        };
        Some(Self {
            users: [
                of(config.allowed_users, Verdict::Shown, true),
                of(config.ignored_users, Verdict::Hidden, true),
                of(config.blocked_users, Verdict::Refused, true),
            ],
            servers: [
                of(config.allowed_servers, Verdict::Shown, false),
                of(config.ignored_servers, Verdict::Hidden, false),
                of(config.blocked_servers, Verdict::Refused, false),
            ],
        })
    }

    fn judge(&self, inviter: &UserId) -> Verdict {
        let user = (inviter.as_str(), inviter.as_str().to_lowercase());
        // The port doesn't count, as in server ACLs.
        let server = inviter.server_name().host().to_lowercase();
        let of_user = self.users.iter().find(|(of, _)| of.have(user.0, &user.1));
        let of_server = || (self.servers.iter()).find(|(of, _)| of.have(&server, &server));
        of_user
            .or_else(of_server)
            .map_or(Verdict::Shown, |(_, verdict)| *verdict)
    }
}

impl Patterns {
    /// Those of a list, of which so many may still have wildcards.
    fn of(patterns: Option<Vec<String>>, by_case: bool, left: &mut usize) -> Self {
        let mut all = Self::default();
        for pattern in patterns.unwrap_or_default() {
            if pattern.contains(['*', '?']) {
                if *left > 0 {
                    *left -= 1;
                    all.globs.push(Glob::parse(&pattern));
                }
            } else if by_case {
                all.names.insert(pattern);
            } else {
                all.names.insert(pattern.to_lowercase());
            }
        }
        all
    }

    /// Whether they have a name, which is also given in lower case.
    fn have(&self, name: &str, lower: &str) -> bool {
        self.names.contains(name) || self.globs.iter().any(|glob| glob.matches(lower))
    }
}

/// What is wrong with account data that says whose invites its user wants, if it is such data: it is a sentence for them.
pub fn fault(kind: &str, content: &str) -> Option<String> {
    if !INVITE_RULES.contains(&kind) {
        return None;
    }
    if content.len() > MAX_BYTES {
        return Some(format!("{kind} has at most {MAX_BYTES} bytes"));
    }
    let rules = Rules::parse(content).filter(|_| kind == INVITE_RULES[2])?;
    let lists = rules.users.iter().chain(&rules.servers);
    let globs: Vec<&Glob> = lists.flat_map(|(of, _)| &of.globs).collect();
    if globs.len() >= MAX_PATTERNS {
        return Some(format!(
            "{kind} has fewer than {MAX_PATTERNS} patterns with wildcards"
        ));
    }
    let too_long = globs.contains(&&Glob::TooLong);
    too_long.then(|| format!("{kind} has a pattern with wildcards that is too long to be used"))
}

/// Makes sure that an event, if it is an invite of a user of this server, is one that they accept.
///
/// # Errors
///
/// [`Error::InviteBlocked`]
pub async fn require_wanted(rooms: &Rooms, draft: &Draft) -> Result<()> {
    let membership = draft.content.get("membership").and_then(Value::as_str);
    let invited = draft.state_key.as_deref();
    let invited = invited.and_then(|user| OwnedUserId::try_from(user).ok());
    let invited = invited.filter(|user| rooms.is_local(user));
    match invited {
        Some(user)
            if draft.kind == "m.room.member" && membership == Some(Membership::Invite.as_str()) =>
        {
            require_wanted_of(rooms.store(), &draft.sender, &[user]).await
        }
        _ => Ok(()),
    }
}

/// Makes sure that these users of this server accept an invite by `inviter`.
///
/// # Errors
///
/// [`Error::InviteBlocked`] for one who doesn't.
pub async fn require_wanted_of(
    store: &Store,
    inviter: &UserId,
    invited: &[OwnedUserId],
) -> Result<()> {
    let known = store.known_users(invited).await?;
    let (users, numbers): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    let wishes = store.notifying(&numbers).await?;
    for (user, wishes) in users.into_iter().zip(wishes) {
        if judge(&wishes, inviter) == Verdict::Refused {
            return Err(Error::InviteBlocked(user));
        }
    }
    Ok(())
}

/// What becomes of an invite of this user of this server.
pub async fn verdict(store: &Store, inviter: &UserId, invited: &UserId) -> Result<Verdict> {
    let Some(user) = store.known_user(invited).await? else {
        return Ok(Verdict::Shown);
    };
    let wishes = store.notifying(&[user]).await?;
    let verdict = wishes.first().map(|wishes| judge(wishes, inviter));
    Ok(verdict.unwrap_or_default())
}

fn judge(wishes: &Notifying, inviter: &UserId) -> Verdict {
    let rules = InviteRules::of(wishes.invites.iter().map(|data| &***data));
    if rules.refuses_all {
        return Verdict::Refused;
    }
    let list: Option<Value> =
        (wishes.ignored.as_ref()).and_then(|ignored| serde_json::from_str(&ignored.content).ok());
    let is_ignored = (list.as_ref())
        .and_then(|list| list.get("ignored_users")?.get(inviter.as_str()))
        .is_some();
    if is_ignored {
        Verdict::Hidden
    } else {
        rules.judge(inviter)
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::UserNo;
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    fn rules(kind: usize, content: &Value) -> InviteRules {
        InviteRules::of(&[AccountData {
            user: UserNo(1),
            room: None,
            kind: INVITE_RULES[kind].to_owned(),
            content: content.to_string().into(),
        }])
    }

    #[test]
    fn all_are_refused_or_none() {
        for kind in [0, 1] {
            for (content, verdict) in [
                (json!({ "default_action": "block" }), Verdict::Refused),
                (json!({ "default_action": "allow" }), Verdict::Shown),
                (json!({ "default_action": ["block"] }), Verdict::Shown),
                (json!({}), Verdict::Shown),
            ] {
                let found = rules(kind, &content).judge(user_id!("@a:there"));
                assert_eq!(found, verdict, "{content}");
            }
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        use Verdict::{Hidden, Refused, Shown};
        let all = json!({
            "allowed_users": ["@good:bad.org"],
            "ignored_users": ["@good:bad.org", "@dull*:*", "@Odd:bad.org"],
            "blocked_users": ["@dull:here", "@evil?:*"],
            "allowed_servers": ["good.org"],
            "ignored_servers": ["*.spam.org"],
            "blocked_servers": ["BAD.org", "*.org"],
        });
        for (by, verdict) in [
            ("@good:bad.org", Shown),
            ("@dull:here", Hidden),
            ("@dullest:good.org", Hidden),
            ("@evil1:good.org", Refused),
            ("@evil:good.org", Shown),
            ("@a:good.org:8448", Shown),
            ("@a:a.spam.org", Hidden),
            ("@a:bad.org:1", Refused),
            ("@odd:bad.org", Refused),
            ("@a:other.org", Refused),
            ("@a:here", Shown),
        ] {
            let by = <&UserId>::try_from(by).unwrap();
            assert_eq!(rules(2, &all).judge(by), verdict, "{by}");
        }
    }

    #[test]
    fn what_is_switched_off_or_no_list_of_texts_says_nothing() {
        let by = user_id!("@a:there");
        for content in [
            json!({ "enabled": false, "blocked_servers": ["*"] }),
            json!({ "enabled": "true", "blocked_servers": ["*"] }),
            json!({ "blocked_servers": ["*"], "allowed_users": "@b:there" }),
            json!({ "blocked_servers": ["*", 1] }),
            json!({ "blocked_servers": null, "blocked_users": null }),
        ] {
            assert_eq!(rules(2, &content).judge(by), Verdict::Shown, "{content}");
        }
        let content = json!({ "enabled": null, "allowed_users": null, "blocked_servers": ["*"] });
        assert_eq!(rules(2, &content).judge(by), Verdict::Refused);
    }

    #[test]
    fn rules_are_bounded() {
        let kind = INVITE_RULES[2];
        let many = |count: usize| {
            let globs: Vec<String> = (0..count).map(|n| format!("{n}*")).collect();
            json!({ "blocked_servers": globs }).to_string()
        };
        assert_eq!(fault(kind, &many(MAX_PATTERNS - 1)), None);
        assert!(fault(kind, &many(MAX_PATTERNS)).is_some());
        assert!(
            fault(
                kind,
                &json!({ "ignored_users": ["a".repeat(MAX_BYTES)] }).to_string()
            )
            .is_some()
        );
        let long = json!({ "ignored_users": ["a".repeat(200) + "*"] }).to_string();
        assert!(fault(kind, &long).is_some());
        assert_eq!(fault("m.other", &long), None);
        assert_eq!(fault(kind, "{}"), None);
    }
}
