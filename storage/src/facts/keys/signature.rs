//! Signatures that are added to keys after those were uploaded.

use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::facts::table::table;
use crate::facts::{Audience, Kind, LoggedKind};
use crate::{Result, UserNo};

/// A signature, verified, that is added to a device's keys or to a cross-signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySignature {
    /// Whose key is signed.
    pub target_user: UserNo,
    /// Which: a device's id, or the public key of a cross-signing key.
    pub target_id: String,
    /// Whether it is a device's. If that has gone meanwhile, nothing is written.
    pub is_device: bool,
    /// Who signs.
    pub signer: UserNo,
    /// With which key, as `signatures` names it.
    pub signer_key: String,
    /// The signature.
    pub signature: String,
}

rows! {
    struct Row<'a> {
        target_user: UserNo,
        target_id: &'a str,
        is_device: bool,
        signer: UserNo,
        signer_key: &'a str,
        signature: &'a str,
    }
}

impl Kind for KeySignature {
    type Basis = ();

    fn locks(&self) -> Option<UserNo> {
        self.is_device.then_some(self.target_user)
    }

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let key = |one: &Self| {
            let target = (one.target_user, one.target_id.clone());
            (target, one.signer, one.signer_key.clone())
        };
        let rows = crate::facts::last_of_each(facts, key, |_, one| Row {
            target_user: one.target_user,
            target_id: &one.target_id,
            is_device: one.is_device,
            signer: one.signer,
            signer_key: &one.signer_key,
            signature: &one.signature,
        });
        statements.before(
            "INSERT INTO key_signature (target_user, target_id, signer, signer_key, signature) \
             SELECT target_user, target_id, signer, signer_key, signature FROM ROWS($1) AS x \
             WHERE x.is_device = 0 OR EXISTS (SELECT 1 FROM device_keys d \
             WHERE d.user_no = x.target_user AND d.device_id = x.target_id) \
             ON CONFLICT (target_user, target_id, signer, signer_key) \
             DO UPDATE SET signature = excluded.signature",
            &rows,
        )
    }
}

table! {
    /// A user has signed another's key. Nobody else gets to see that; the signer's devices look at the other's keys
    /// again.
    #[derive(Copy)]
    pub struct UserSigned in user_signed {
        key {
            /// Who.
            signer: UserNo = signer,
            /// Whose key.
            user: UserNo = user_no,
        }
    }
}

impl Kind for UserSigned {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        Self::put(facts, statements)
    }
}

impl LoggedKind for UserSigned {
    type Entry = Self;
    const TELLS: bool = true;

    fn entry(&self) -> Self {
        *self
    }

    fn audience(signed: &Self) -> Audience {
        Audience::User(signed.signer)
    }

    #[cfg(test)]
    fn sample(world: &crate::facts::tests::World) -> Self {
        let (signer, user) = (world.user, UserNo(99));
        Self { signer, user }
    }

    #[cfg(test)]
    async fn view(world: &crate::facts::tests::World, store: &crate::Store) -> Result<String> {
        let signatures = store
            .key_signatures(&[UserNo(99)], Some(world.user))
            .await?;
        Ok(format!("{signatures:?}"))
    }
}
