//! Keys of users of other servers, and others that aren't stored here.

use std::{collections::BTreeMap, time::Duration};

use rhizome_federation::devices::keys::{self, Passed};
use rhizome_protocol::device_keys::KeyUsage;
use rhizome_storage::UserNo;
use ruma::OwnedUserId;

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
        self.said(app, viewer, found.passed).await?;
        self.failures.extend(found.failures);
        Ok(())
    }

    /// Adds keys that aren't stored here, over those that are.
    pub async fn said(
        &mut self,
        app: &App,
        viewer: UserNo,
        said: BTreeMap<OwnedUserId, Passed>,
    ) -> Result<(), MatrixError> {
        if said.is_empty() {
            return Ok(());
        }
        let users: Vec<OwnedUserId> = said.keys().cloned().collect();
        let known = app.store.known_users(&users).await?;
        let mut masters = BTreeMap::new();
        for (user, mut passed) in said {
            if let Some(key) = passed.cross_signing.remove(&KeyUsage::Master) {
                match known.get(&user) {
                    Some(no) => drop(masters.insert(*no, key)),
                    None => drop(self.master_keys.insert(user.clone(), key)),
                }
            }
            let own = passed.cross_signing.remove(&KeyUsage::SelfSigning);
            let own = own.map(|key| (user.clone(), key));
            self.self_signing_keys.extend(own);
            self.device_keys
                .entry(user)
                .or_default()
                .extend(passed.devices);
        }
        let mut masters = app.store.with_signatures(masters, viewer).await?;
        for (user, no) in known {
            let master = masters.remove(&no).map(|key| (user, key));
            self.master_keys.extend(master);
        }
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
