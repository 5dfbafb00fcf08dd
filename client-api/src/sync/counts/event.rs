//! What one event is to users, for who tells them of it.

use std::sync::Arc;

use rhizome_storage::{MembershipRow, Store, StoredEvent, UserNo};

use super::{
    Counting,
    alerts::Whose,
    question::Question,
    tally::{Step, Tally},
};
use crate::MatrixError;

/// What an event does to what a user hasn't read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// They are notified of it.
    Notifies {
        /// Whether it is highlighted.
        highlight: bool,
    },
    /// Their counts may be others.
    Recounts {
        /// Whether they may be higher: what somebody read by a message of their own isn't any more.
        may_rise: bool,
    },
}

impl Counting {
    /// What an event does to these users' counts; those are left out for whom it does nothing.
    pub async fn effects(
        &self,
        store: &Store,
        users: &[UserNo],
        event: &Arc<StoredEvent>,
    ) -> Result<Vec<(UserNo, Effect)>, MatrixError> {
        let wishes = self.compiled.of(store, users).await?;
        let (mut steps, mut effects) = (Vec::new(), Vec::new());
        let mut question = Question::new(&self.alerts, store, event);
        for (user, wishes) in users.iter().zip(&wishes) {
            let whose = Whose {
                user: *user,
                wishes,
            };
            question.steps(whose, &mut steps).await?;
            let mut effect = None;
            for step in steps.drain(..) {
                effect = Some(match (step, effect) {
                    (Step::Unread { highlight, .. }, _) => Effect::Notifies { highlight },
                    (_, Some(notifies @ Effect::Notifies { .. })) => notifies,
                    (step, before) => {
                        let rose = before == Some(Effect::Recounts { may_rise: true });
                        let may_rise = rose || step == Step::Anew;
                        Effect::Recounts { may_rise }
                    }
                });
            }
            effects.extend(effect.map(|effect| (*user, effect)));
        }
        Ok(effects)
    }

    /// What the rules of a user want to be done about somebody else's event, as a JSON array; empty if nothing.
    pub async fn actions(
        &self,
        store: &Store,
        user: UserNo,
        event: &Arc<StoredEvent>,
    ) -> Result<String, MatrixError> {
        let wishes = self.wishes(store, user).await?;
        let whose = Whose {
            user,
            wishes: &wishes,
        };
        let mut question = Question::new(&self.alerts, store, event);
        let found = question.notification(whose).await?;
        Ok(found.map_or_else(|| "[]".to_owned(), |(_, actions)| actions.to_owned()))
    }

    /// Whether an event is among those that a user, who is joined to its room by this row, hasn't read and is notified
    /// of, as of now or of when their counts were asked for last.
    pub async fn is_unread(
        &self,
        store: &Store,
        user: UserNo,
        row: &MembershipRow,
        event: &Arc<StoredEvent>,
    ) -> Result<bool, MatrixError> {
        let Some(pos) = event.pos() else {
            return Ok(false);
        };
        let thread = self.alerts.thread(store, event).await?;
        let has = |tally: &Tally| tally.has(pos, &thread);
        let upto = store.log().head();
        let found = self.look(store, user, &[row], upto, has).await?;
        Ok(found.into_values().any(|has| has))
    }
}
