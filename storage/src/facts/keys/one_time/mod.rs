//! One-time and fallback keys: uploaded in an order, given out in it, each once.
//!
//! What is there is read under the lock of the user whose keys they are, for a whole group: however many claims
//! meet in it, on however many processes, each gets a key of its own and all of them one disk sync.

mod claim;
mod upload;

use std::collections::HashSet;

use ruma::OwnedDeviceId;

use crate::engine::db::Tx;
use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::engine::trouble::Trouble;
use crate::facts::decision::Decision;
use crate::facts::table::table;
use crate::facts::{Audience, Kind, LoggedKind};
use crate::{Result, Store, UserNo};

pub use claim::{KeyClaim, OneTimeKey};
pub use upload::{DecidedOn, KeyUpload};

/// One-time keys come, or are given out.
#[derive(Debug, Clone)]
pub enum OneTimeKeys {
    /// A device uploads some.
    Upload(KeyUpload),
    /// Somebody claims one.
    Claim(KeyClaim),
}

table! {
    /// How many one-time keys a device has, or which fallback keys are unused, has changed. It is of no use to
    /// wake anybody for: who claims a key sends a message with it.
    pub struct KeyCount in key_count {
        key {
            /// Whose.
            user: UserNo = user_no,
            /// Which device.
            device: OwnedDeviceId = device_id,
        }
    }
}

rows! {
    /// The name of a key.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Named<'a> {
        user_no: UserNo,
        device_id: &'a OwnedDeviceId,
        algorithm: &'a str,
        key_id: &'a str,
    }
}

/// Which keys: whose, of which device, of which algorithm.
type Which = (UserNo, OwnedDeviceId, String);

/// What a group's uploads and claims are decided on, and what they come to.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    claims: claim::Claims,
    uploads: upload::Uploads,
    /// Devices of which it is said already that their number of keys changes.
    told: HashSet<(UserNo, OwnedDeviceId)>,
}

impl OneTimeKeys {
    fn device(&self) -> (UserNo, &OwnedDeviceId) {
        match self {
            Self::Upload(upload) => (upload.user, &upload.device),
            Self::Claim(claim) => (claim.user, &claim.device),
        }
    }

    fn of(&self) -> (UserNo, OwnedDeviceId) {
        let (user, device) = self.device();
        (user, device.clone())
    }
}

impl Kind for OneTimeKeys {
    type Basis = Stock;

    fn locks(&self) -> Option<UserNo> {
        Some(self.device().0)
    }

    async fn look_up(held: &mut Stock, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let (mut claims, mut uploads) = (Vec::new(), Vec::new());
        for fact in facts {
            match fact {
                Self::Claim(claim) => claims.push(claim),
                Self::Upload(upload) => uploads.push(upload),
            }
        }
        held.claims.look_up(tx, &claims).await?;
        held.uploads.look_up(tx, &uploads).await
    }

    fn check(&self, held: &Stock, retried: bool) -> Option<Decision> {
        match self {
            Self::Upload(upload) if held.uploads.has_taken(upload) => Some(Decision::Defer),
            // What the group has given of it would be written of keys of the same names that it brings.
            Self::Upload(upload) if upload.anew && held.claims.is_touched(&self.of()) => {
                Some(Decision::Defer)
            }
            Self::Upload(upload) => held.uploads.refuse(upload, retried).map(Decision::Refuse),
            Self::Claim(claim) if retried && held.claims.has_given(claim) => {
                Some(Decision::Done(None))
            }
            // What was looked up for it is another identity's.
            Self::Claim(_) => held.uploads.is_anew(&self.of()).then_some(Decision::Defer),
        }
    }

    /// One of a group that says that a device's number of keys has changed is enough, and all are written.
    fn apply(&self, held: &mut Stock) -> bool {
        let changed = match self {
            Self::Upload(upload) => held.uploads.take(upload),
            Self::Claim(claim) => held.claims.give(claim),
        };
        changed && held.told.insert(self.of())
    }

    fn write(facts: &[(i64, &Self)], held: &Stock, statements: &mut Statements) -> Result<()> {
        held.uploads.write(statements)?;
        held.claims.write(statements)?;
        let counts: Vec<_> = facts
            .iter()
            .map(|(pos, fact)| (*pos, fact.entry()))
            .collect();
        let counts: Vec<_> = counts.iter().map(|(pos, count)| (*pos, count)).collect();
        KeyCount::put(&counts, statements)
    }
}

impl LoggedKind for OneTimeKeys {
    type Entry = KeyCount;
    const TELLS: bool = true;

    fn entry(&self) -> KeyCount {
        let (user, device) = self.device();
        KeyCount {
            user,
            device: device.clone(),
        }
    }

    fn audience(_: &KeyCount) -> Audience {
        Audience::Nobody
    }

    fn forget(count: &KeyCount, store: &Store) {
        store.forget_key_counts(count.user);
    }

    #[cfg(test)]
    fn sample(world: &crate::facts::tests::World) -> Self {
        Self::Upload(KeyUpload {
            user: world.user,
            device: "PHONE".into(),
            expect_device: false,
            decided_on: DecidedOn::Anything,
            keys: None,
            anew: false,
            one_time: vec![OneTimeKey {
                algorithm: "signed_curve25519".to_owned(),
                key_id: "a\u{0}".to_owned(),
                key: "{\"key\":\"\u{1}\"}".into(),
            }],
            fallback: Vec::new(),
        })
    }

    #[cfg(test)]
    async fn view(world: &crate::facts::tests::World, store: &Store) -> Result<String> {
        let counts = store.key_counts(world.user, "PHONE".into()).await?;
        Ok(format!("{counts:?}"))
    }
}
