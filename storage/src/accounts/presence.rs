//! What a user says of their presence: told at once, and written down.

use ruma::DeviceId;

use crate::{CommitError, Error, PresenceState, Result, StatusMessage, Store, UserNo};

impl Store {
    /// A user says what a device is, and something of it.
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
        let before = match self.presence().of(user) {
            Some(status) => status.message.as_deref().map(str::to_owned),
            None => self.status_message(user).await?,
        };
        if before != message {
            let message = message.clone();
            let fact = StatusMessage { user, message };
            let committed = self.commit(vec![fact.into()].into()).await;
            committed.map_err(|error| match error {
                CommitError::Store(error) => error,
                other => Error::broken(other.to_string()),
            })?;
        }
        self.say_presence(user, device, state, message).await
    }
}
