//! What accounts and logins are made of.

use ruma::OwnedDeviceId;

use crate::{Admission, ThirdParty, UserNo};

/// An account to be made.
#[derive(Debug, Clone, Default)]
pub struct NewAccount {
    /// A PHC string; `None`: no password opens it.
    pub password_hash: Option<String>,
    /// Whether it may administrate the server.
    pub admin: bool,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
    /// Whether it is a guest's.
    pub is_guest: bool,
    /// The third-party identifiers that it has, which were found to be its user's.
    pub third_parties: Vec<ThirdParty>,
    /// What its owner is called at first.
    pub display_name: Option<String>,
    /// By what it comes to be.
    pub admission: Admission,
}

/// A new pair of tokens, as the database may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTokens {
    /// Hash of the access token.
    pub access_hash: String,
    /// Hash of the refresh token, if there is one. What stands before a point in it, all of the session have in common; a
    /// number after that counts them.
    pub refresh_hash: Option<String>,
    /// When the access token ends, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// When the refresh token does, likewise.
    pub refresh_expires_ms: Option<i64>,
}

/// A login.
#[derive(Debug, Clone)]
pub struct NewLogin {
    /// Who.
    pub user: UserNo,
    /// As which device, made if it isn't there.
    pub device_id: OwnedDeviceId,
    /// The device's name, if it is made.
    pub device_name: Option<String>,
    /// From where.
    pub ip: String,
    /// When, in milliseconds since 1970.
    pub now_ms: i64,
    /// Its tokens; the device's older ones end.
    pub tokens: NewTokens,
    /// What the password that it came with was found to match: if the account has another one by now, or
    /// has ended, nobody is logged in.
    pub proof: Option<String>,
    /// Whether whose it is was proved by the password, which is good for a while.
    pub proved: bool,
}
