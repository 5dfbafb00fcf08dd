//! What a user says of their presence: told at once, and written down.

use std::sync::Arc;

use ruma::DeviceId;

use crate::{CommitError, Error, Pos, PresenceState, Result, StatusMessage, Store, UserNo};

impl Store {
    /// A user says what a device is, and something of it; an empty text is nothing.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_presence(
        &self,
        user: UserNo,
        device: &DeviceId,
        state: PresenceState,
        message: Option<String>,
    ) -> Result<()> {
        if !self.has_presence() {
            return Ok(());
        }
        let message: Option<Arc<str>> = message.filter(|text| !text.is_empty()).map(Into::into);
        let said = if self.said_before(user).await? == message {
            None
        } else {
            let pos = self.write_status_message(user, message.clone()).await?;
            Some((message, pos))
        };
        self.say_presence(user, device, state, said).await
    }

    async fn said_before(&self, user: UserNo) -> Result<Option<Arc<str>>> {
        // What has just been said to another process may not have been heard yet.
        match self.presence().of(user) {
            Some(status) if !self.core.positions.has_others() => Ok(status.message),
            _ => self.status_message(user).await,
        }
    }

    /// Its place in the log.
    async fn write_status_message(&self, user: UserNo, message: Option<Arc<str>>) -> Result<Pos> {
        let fact = StatusMessage { user, message };
        let committed = self.commit(vec![fact.into()].into()).await;
        let committed = committed.map_err(|error| match error {
            CommitError::Store(error) => error,
            other => Error::broken(other.to_string()),
        })?;
        Ok(committed.last)
    }
}
