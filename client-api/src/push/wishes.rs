//! What users want to be notified of, ready to be asked: their compiled rules, and whom they ignore.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rhizome_storage::{AccountData, Cache, Notifying, Pos, Store, UserNo};
use ruma::{OwnedUserId, UserId};

use super::{evaluate::RuleSet, rules};
use crate::{
    MatrixError,
    view::ignored::{self, Unwanted},
};

/// Users whose wishes are remembered.
const MAX_USERS: usize = 50_000;
/// Sets of rules that are shared; beyond it all are forgotten, and who has one keeps it.
const MAX_SETS: usize = 10_000;

/// What a user wants to be notified of.
#[derive(Debug)]
pub struct Wishes {
    /// Who.
    pub user_id: OwnedUserId,
    /// Their rules; those of everybody who has the same are one.
    pub rules: Arc<Shared>,
    /// Whom they ignore, and whose invites.
    pub ignored: Unwanted,
    /// Where the last change stands of what messages are judged by.
    pub pos: Pos,
    /// Where that of anything stands.
    last: Pos,
}

/// Rules that many may have.
#[derive(Debug)]
pub struct Shared {
    /// What they are remembered by.
    pub id: u64,
    /// The rules.
    pub set: RuleSet,
}

/// The wishes of users, compiled once.
#[derive(Debug)]
pub struct Compiled {
    wishes: Cache<UserNo, Arc<Wishes>>,
    defaults: OnceLock<Arc<Shared>>,
    sets: Mutex<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    known: HashMap<RuleSet, Arc<Shared>>,
    /// The last set's number.
    last: u64,
}

/// Whether account data says what its user wants to be notified of: their rules, or whom they ignore. What it says holds
/// also for what they haven't read yet.
pub fn are_in(data: &AccountData) -> bool {
    data.room.is_none() && [rules::KIND, ignored::KIND].contains(&data.kind.as_str())
}

/// Whether account data has its user's rules.
pub fn has_rules(data: &AccountData) -> bool {
    data.room.is_none() && data.kind == rules::KIND
}

impl Default for Compiled {
    fn default() -> Self {
        Self {
            wishes: Cache::new(MAX_USERS),
            defaults: OnceLock::new(),
            sets: Mutex::default(),
        }
    }
}

impl Compiled {
    /// The wishes of some users, in their order. Where they haven't changed nothing is read.
    pub async fn of(
        &self,
        store: &Store,
        users: &[UserNo],
    ) -> Result<Vec<Arc<Wishes>>, MatrixError> {
        let data = store.notifying(users).await?;
        let known = self.wishes.get_all(users).into_iter().zip(&data);
        let known = known.map(|(known, data)| known.filter(|known| known.last == data.last()));
        let known: Vec<_> = known.collect();
        let news = users
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none());
        let news: Vec<UserNo> = news.map(|(user, _)| *user).collect();
        let mut names = store.users(&news).await?.into_iter();
        let all = users.iter().zip(&data).zip(known);
        let all = all.map(|((user, data), known)| {
            if let Some(known) = known {
                return Ok(known);
            }
            let name = names.next().ok_or_else(MatrixError::internal)?;
            Ok(self.compile(name, *user, data))
        });
        all.collect()
    }

    fn compile(&self, user_id: OwnedUserId, user: UserNo, data: &Notifying) -> Arc<Wishes> {
        let wishes = Arc::new(Wishes {
            rules: self.rules(&user_id, data),
            ignored: Unwanted::of(data.ignored.iter().chain(&data.invites)),
            pos: data.pos(),
            last: data.last(),
            user_id,
        });
        self.wishes.insert(user, wishes.clone());
        wishes
    }

    fn rules(&self, user_id: &UserId, data: &Notifying) -> Arc<Shared> {
        // With such an id the rules that name the user are patterns of their own.
        let ordinary = !user_id.as_str().contains(['*', '?']);
        let stored = data.rules.as_deref();
        if stored.is_none()
            && ordinary
            && let Some(defaults) = self.defaults.get()
        {
            return defaults.clone();
        }
        // What can't be read notifies like the defaults.
        let rules = rules::parsed(user_id, stored).or_else(|_| rules::parsed(user_id, None));
        let rules = rules.unwrap_or_default();
        let shared = self.share(RuleSet::of(&rules, user_id));
        if stored.is_none() && ordinary {
            // Another may have been as fast, with the same.
            let _ = self.defaults.set(shared.clone());
        }
        shared
    }

    fn share(&self, set: RuleSet) -> Arc<Shared> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sets.known.get(&set) {
            return known.clone();
        }
        if sets.known.len() >= MAX_SETS {
            sets.known.clear();
        }
        sets.last += 1;
        let id = sets.last;
        let shared = Arc::new(Shared {
            id,
            set: set.clone(),
        });
        sets.known.insert(set, shared.clone());
        shared
    }
}
