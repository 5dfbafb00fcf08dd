//! The keys that a server publishes at `/_matrix/key/v2/server`.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, ServerName};

use crate::{
    Object,
    canonical::JsonError,
    sign::{KeyPair, SignatureError},
};

/// A server's published keys, their self-signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKeys {
    /// Whose keys.
    pub server_name: OwnedServerName,
    /// Until when `verify_keys` may be used, in milliseconds since 1970.
    pub valid_until_ts: i64,
    /// Keys in use, by key id.
    pub verify_keys: BTreeMap<String, [u8; 32]>,
    /// Keys out of use, by key id, and when they expired in milliseconds since 1970.
    pub old_verify_keys: BTreeMap<String, ([u8; 32], i64)>,
}

/// Our own answer: `keys` are in use and sign it, `old` are `(key id, public key, expired_ts)`.
pub fn build(
    _server: &ServerName,
    _keys: &[&KeyPair],
    _old: &[(String, [u8; 32], i64)],
    _valid_until_ts: i64,
) -> Result<Object, JsonError> {
    unimplemented!()
}

/// Reads another server's answer (also one that a notary passed on): it must be `server`'s and bear
/// its own signature with each key in use; keys that it doesn't sign with are left out.
pub fn verify(_object: &Object, _server: &ServerName) -> Result<ServerKeys, SignatureError> {
    unimplemented!()
}
