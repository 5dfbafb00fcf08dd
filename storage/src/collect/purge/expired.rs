//! Sessions and tokens that say themselves when they end. Whoever begins one takes away what has expired; this is for
//! a server on which nobody does.

use super::{Pass, Purged};
use crate::Result;

const PIECE: usize = 1_000;

/// Deletes up to `$2` rows that have expired at `$1`.
const EXPIRED: [&str; 6] = [
    "DELETE FROM uia_session WHERE expires_ms <= $1 AND id IN \
     (SELECT id FROM uia_session WHERE expires_ms <= $1 LIMIT $2)",
    "DELETE FROM validation WHERE expires_ms <= $1 AND sid IN \
     (SELECT sid FROM validation WHERE expires_ms <= $1 LIMIT $2)",
    "DELETE FROM login_token WHERE expires_ms <= $1 AND hash IN \
     (SELECT hash FROM login_token WHERE expires_ms <= $1 LIMIT $2)",
    "DELETE FROM login_as WHERE expires_ms <= $1 AND hash IN \
     (SELECT hash FROM login_as WHERE expires_ms <= $1 LIMIT $2)",
    "DELETE FROM openid_token WHERE expires_ms <= $1 AND hash IN \
     (SELECT hash FROM openid_token WHERE expires_ms <= $1 LIMIT $2)",
    "DELETE FROM registration_token_pending WHERE expires_ms <= $1 AND session IN \
     (SELECT session FROM registration_token_pending WHERE expires_ms <= $1 LIMIT $2)",
];

impl Pass<'_> {
    /// `false` if another process has the lease.
    pub(super) async fn expired(&self, purged: &mut Purged) -> Result<bool> {
        let now = self.store.clock().now_ms();
        for text in EXPIRED {
            loop {
                let query = self.store.sql(text).bind(now).bind(PIECE);
                let deleted = self.store.execute(query).await?;
                if !self.goes_on(purged, deleted).await? {
                    return Ok(false);
                }
                if deleted < PIECE as u64 {
                    break;
                }
            }
        }
        Ok(true)
    }
}
