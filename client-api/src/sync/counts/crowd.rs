//! Many users who are asked about the same events, by their rules: of thousands only those are asked for themselves to
//! whom an event may do something.

use std::{collections::HashMap, sync::Arc};

use rhizome_storage::{Store, StoredEvent, UserNo};

use super::{Counting, event::Effect, question::Question};
use crate::{MatrixError, push::wishes::Shared};

/// Users who are looked at together.
const TOGETHER: usize = 500;

/// See the module. What they want is as it was when the crowd was made.
#[derive(Debug, Default)]
pub struct Crowd {
    groups: Vec<Group>,
    /// Those who can't be found by how an event names them.
    others: Vec<UserNo>,
}

/// Those who have the same rules.
#[derive(Debug)]
struct Group {
    rules: Arc<Shared>,
    /// In the order of their numbers.
    users: Vec<UserNo>,
}

impl Counting {
    /// These users.
    pub async fn crowd(&self, store: &Store, users: &[UserNo]) -> Result<Crowd, MatrixError> {
        let (mut groups, mut others) = (HashMap::new(), Vec::new());
        for some in users.chunks(TOGETHER) {
            let wishes = self.compiled.of(store, some).await?;
            for (user, wishes) in some.iter().zip(wishes) {
                let id = wishes.user_id.as_str();
                if id.bytes().any(|b| !b.is_ascii() || b.is_ascii_uppercase()) {
                    others.push(*user);
                    continue;
                }
                let group = groups.entry(wishes.rules.id).or_insert_with(|| Group {
                    rules: wishes.rules.clone(),
                    users: Vec::new(),
                });
                group.users.push(*user);
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        for group in &mut groups {
            group.users.sort_unstable();
        }
        Ok(Crowd { groups, others })
    }

    /// As [`Counting::effects`] on all of a crowd.
    pub async fn effects_on(
        &self,
        store: &Store,
        crowd: &Crowd,
        event: &Arc<StoredEvent>,
    ) -> Result<Vec<(UserNo, Effect)>, MatrixError> {
        let mut asked = crowd.others.clone();
        let mut question = Question::new(&self.alerts, store, event);
        for group in &crowd.groups {
            let is_here = |user: &UserNo| group.users.binary_search(user).is_ok();
            match question.concerned(&group.rules).await? {
                None => asked.extend(&group.users),
                Some(users) => asked.extend(users.into_iter().filter(is_here)),
            }
        }
        let mut effects = Vec::new();
        for some in asked.chunks(TOGETHER) {
            effects.extend(self.effects(store, some, event).await?);
        }
        Ok(effects)
    }
}
