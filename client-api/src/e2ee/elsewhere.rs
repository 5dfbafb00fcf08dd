//! Keys of users of other servers.

use std::time::Duration;

use rhizome_federation::devices::keys;
use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::UserNo;

use super::{claim, query};
use crate::{App, MatrixError};

impl query::Answer {
    /// Adds the keys of users of other servers: what is remembered of them, or what their servers say. They may take
    /// so many milliseconds.
    pub async fn elsewhere(
        &mut self,
        app: &App,
        viewer: UserNo,
        asked: query::Asked,
        timeout: Option<u64>,
    ) -> Result<(), MatrixError> {
        if asked.is_empty() {
            return Ok(());
        }
        let patience = keys::patience(timeout.map(Duration::from_millis));
        let found = keys::find(&app.federation, asked, patience).await?;
        self.stored(app, viewer, found.stored).await?;
        for (user, passed) in found.passed {
            for (usage, key) in passed.cross_signing {
                match usage {
                    KeyUsage::Master => drop(self.master_keys.insert(user.clone(), key)),
                    KeyUsage::SelfSigning => drop(self.self_signing_keys.insert(user.clone(), key)),
                    KeyUsage::UserSigning => {}
                }
            }
            self.device_keys.insert(user, passed.devices);
        }
        self.failures.extend(found.failures);
        Ok(())
    }
}

impl claim::Answer {
    /// Claims keys of devices of users of other servers, which may take so many milliseconds.
    pub async fn elsewhere(
        &mut self,
        app: &App,
        claims: claim::Claims,
        timeout: Option<u64>,
    ) -> Result<(), MatrixError> {
        if claims.is_empty() {
            return Ok(());
        }
        let patience = keys::patience(timeout.map(Duration::from_millis));
        let claimed = keys::claim(&app.federation, claims, patience).await?;
        self.one_time_keys.extend(claimed.one_time_keys);
        self.failures.extend(claimed.failures);
        Ok(())
    }
}
