//! Many users who are asked about the same events, by their rules: of thousands only those are asked for themselves to
//! whom an event may do something.

use std::{collections::HashMap, sync::Arc};

use rhizome_storage::{Store, StoredEvent, UserNo};
use ruma::OwnedServerName;

use super::{
    Counting,
    event::Effect,
    question::{Concerned, Question},
};
use crate::{MatrixError, push::wishes::Shared};

/// Users who are looked at together.
const TOGETHER: usize = 500;

/// See the module. Whose rules change is moved; the rest of what they want is looked up when they are asked.
#[derive(Debug, Default, Clone)]
pub struct Crowd {
    /// By the number of their rules.
    groups: HashMap<u64, Group>,
    /// In which group somebody is.
    of: HashMap<UserNo, u64>,
    /// Those who can't be found by how an event names them.
    others: Vec<UserNo>,
    /// Of which they all are.
    server: Option<OwnedServerName>,
}

/// Those who have the same rules.
#[derive(Debug, Clone)]
struct Group {
    rules: Arc<Shared>,
    /// In the order of their numbers.
    users: Vec<UserNo>,
}

impl Crowd {
    /// Whether a user of the crowd had other rules until now.
    pub fn would_move(&self, user: UserNo, rules: &Shared) -> bool {
        self.of.get(&user).is_some_and(|id| *id != rules.id)
    }

    /// Puts a user to those who have these rules, if they are in the crowd.
    pub fn move_to(&mut self, user: UserNo, rules: &Arc<Shared>) {
        let Some(id) = self.of.get_mut(&user) else {
            return;
        };
        let before = std::mem::replace(id, rules.id);
        if let Some(group) = self.groups.get_mut(&before) {
            if let Ok(at) = group.users.binary_search(&user) {
                group.users.remove(at);
            }
            if group.users.is_empty() {
                self.groups.remove(&before);
            }
        }
        let users = &mut self.group(rules).users;
        if let Err(at) = users.binary_search(&user) {
            users.insert(at, user);
        }
    }

    fn group(&mut self, rules: &Arc<Shared>) -> &mut Group {
        self.groups.entry(rules.id).or_insert_with(|| Group {
            rules: rules.clone(),
            users: Vec::new(),
        })
    }

    /// Those whom an event may do something to.
    async fn concerned(&self, question: &mut Question<'_>) -> Result<Vec<UserNo>, MatrixError> {
        let mut asked = Vec::new();
        // Groups of which only some are asked, and whether also those who follow the thread.
        let mut some = HashMap::new();
        for (id, group) in &self.groups {
            match question.concerned(&group.rules).await? {
                Concerned::Any => asked.extend(&group.users),
                Concerned::Named { followers } => {
                    some.insert(*id, followers);
                }
            }
        }
        if let Some(server) = self.server.as_ref().filter(|_| !some.is_empty()) {
            if let Some(named) = question.named_users(server).await? {
                let is_asked = |user: &UserNo| {
                    let id = self.of.get(user);
                    id.is_some_and(|id| some.contains_key(id))
                };
                asked.extend(named.into_iter().filter(is_asked));
            } else {
                let groups = some.keys().filter_map(|id| self.groups.get(id));
                asked.extend(groups.flat_map(|group| &group.users));
            }
        }
        if some.values().any(|followers| *followers) {
            let is_asked = |user: &&UserNo| {
                let id = self.of.get(*user);
                id.is_some_and(|id| some.get(id) == Some(&true))
            };
            let followers = question.followers().await?;
            asked.extend(followers.iter().filter(is_asked));
        }
        asked.extend(&self.others);
        asked.sort_unstable();
        asked.dedup();
        Ok(asked)
    }
}

impl Counting {
    /// These users.
    pub async fn crowd(&self, store: &Store, users: &[UserNo]) -> Result<Crowd, MatrixError> {
        let mut crowd = Crowd::default();
        for some in users.chunks(TOGETHER) {
            let wishes = self.compiled.of(store, some).await?;
            for (user, wishes) in some.iter().zip(wishes) {
                if crowd.server.is_none() {
                    crowd.server = Some(wishes.user_id.server_name().to_owned());
                }
                let id = wishes.user_id.as_str();
                if id.bytes().any(|b| !b.is_ascii() || b.is_ascii_uppercase()) {
                    crowd.others.push(*user);
                    continue;
                }
                crowd.of.insert(*user, wishes.rules.id);
                crowd.group(&wishes.rules).users.push(*user);
            }
        }
        for group in crowd.groups.values_mut() {
            group.users.sort_unstable();
        }
        Ok(crowd)
    }

    /// As [`Counting::effects`] on all of a crowd.
    pub async fn effects_on(
        &self,
        store: &Store,
        crowd: &Crowd,
        event: &Arc<StoredEvent>,
    ) -> Result<Vec<(UserNo, Effect)>, MatrixError> {
        let mut question = Question::new(&self.alerts, store, event);
        let asked = crowd.concerned(&mut question).await?;
        let mut effects = Vec::new();
        for some in asked.chunks(TOGETHER) {
            effects.extend(self.effects(store, some, event).await?);
        }
        Ok(effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::{evaluate::RuleSet, rules::Rules};

    #[test]
    fn who_has_other_rules_is_with_those_who_have_the_same() {
        let rules = |id| {
            Arc::new(Shared {
                id,
                set: RuleSet::of(&Rules::default(), ruma::user_id!("@a:here")),
            })
        };
        let (one, two) = (rules(1), rules(2));
        let mut crowd = Crowd::default();
        for user in [3, 5] {
            crowd.of.insert(UserNo(user), 1);
            crowd.group(&one).users.push(UserNo(user));
        }
        assert!(!crowd.would_move(UserNo(3), &one));
        assert!(!crowd.would_move(UserNo(4), &two));
        assert!(crowd.would_move(UserNo(3), &two));
        crowd.move_to(UserNo(3), &two);
        crowd.move_to(UserNo(4), &two);
        assert_eq!(crowd.groups[&1].users, [UserNo(5)]);
        assert_eq!(crowd.groups[&2].users, [UserNo(3)]);
        crowd.move_to(UserNo(5), &two);
        assert!(!crowd.groups.contains_key(&1));
        assert_eq!(crowd.groups[&2].users, [UserNo(3), UserNo(5)]);
    }
}
