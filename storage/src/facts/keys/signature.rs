//! Signatures that are added to keys after those were uploaded.

use crate::engine::sql::rows;
use crate::engine::sql::statement::Statements;
use crate::facts::Kind;
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
