//! Sessions begin, are refreshed and end: each a single write set, so that a device, its tokens and what
//! everybody is told of them change in one moment.

use ruma::{DeviceId, OwnedDeviceId};

use crate::engine::db::Columns as _;
use crate::{
    CommitError, Error, Fact, NewLogin, NewTokens, Plain, Result, Store, Token, UserNo, WriteSet,
};

/// How often a change is decided again when the account was changed in the meantime.
const ATTEMPTS: u32 = 5;

impl Store {
    /// Logs a device in; its older tokens end. `false` if its proof doesn't hold any more.
    pub async fn log_in(&self, login: &NewLogin) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let (user, device) = (login.user, &login.device_id);
            let known = self.device(user, device).await?.is_some();
            let fact = if known {
                Fact::TokenRevoked {
                    user,
                    device: Some(device.clone()),
                }
            } else {
                Fact::DeviceListChanged { user }
            };
            let login = login.clone();
            let plain = Plain::Login { login, known };
            if self.change(vec![plain], vec![fact]).await? {
                return Ok(true);
            }
            if known == self.device(user, device).await?.is_some() {
                return Ok(false);
            }
        }
        Err(busy())
    }

    /// Gives out new tokens for a refresh token; `false` if nobody has it. Tokens that were given out
    /// for the same one before, and never used, end.
    pub async fn refresh(&self, hash: &str, tokens: NewTokens) -> Result<bool> {
        let query = self
            .sql("SELECT user_no, device_id FROM refresh_token WHERE hash = $1")
            .bind(hash.to_owned());
        let Some(row) = self.row(query).await? else {
            return Ok(false);
        };
        let user = UserNo(row.int(0)?);
        let device: OwnedDeviceId = row.text(1)?.into();
        let fact = Fact::TokenRevoked {
            user,
            device: Some(device.clone()),
        };
        let plain = Plain::Refresh {
            user,
            device,
            hash: hash.to_owned(),
            tokens,
        };
        self.change(vec![plain], vec![fact]).await
    }

    /// A refreshed access token is used: the refresh token that it came of ends, with its access token.
    pub async fn confirm_refresh(&self, token: &Token) -> Result<()> {
        let Some(hash) = token.confirms_refresh.clone() else {
            return Ok(());
        };
        let user = token.user;
        let fact = Fact::TokenRevoked {
            user,
            device: Some(token.device_id.clone()),
        };
        let plain = Plain::ConfirmRefresh { user, hash };
        self.change(vec![plain], vec![fact]).await?;
        Ok(())
    }

    /// Names a device; `false` if there is none.
    pub async fn rename_device(&self, user: UserNo, id: &DeviceId, name: &str) -> Result<bool> {
        let plain = Plain::RenameDevice {
            user,
            device: id.to_owned(),
            name: name.to_owned(),
        };
        let fact = Fact::DeviceListChanged { user };
        self.change(vec![plain], vec![fact]).await
    }

    /// Removes devices with their tokens; those that aren't there are left out.
    pub async fn remove_devices(&self, user: UserNo, ids: &[OwnedDeviceId]) -> Result<()> {
        let mut devices = Vec::new();
        for device in self.devices(user).await? {
            if ids.contains(&device.device_id) {
                devices.push(device.device_id);
            }
        }
        if devices.is_empty() {
            return Ok(());
        }
        let mut facts = vec![Fact::DeviceListChanged { user }];
        facts.extend(devices.iter().map(|device| Fact::TokenRevoked {
            user,
            device: Some(device.clone()),
        }));
        let plain = Plain::RemoveDevices { user, devices };
        self.change(vec![plain], facts).await?;
        Ok(())
    }

    /// Removes all devices of a user but `except`, and their tokens with them.
    pub async fn end_sessions(&self, user: UserNo, except: Option<&DeviceId>) -> Result<()> {
        let (plain, facts) = ending(user, except);
        self.change(vec![plain], facts).await?;
        Ok(())
    }

    /// Sets what the password must match and, if `ends` names sessions, ends those in the same moment.
    pub async fn set_password(&self, user: UserNo, hash: &str, ends: Ends<'_>) -> Result<()> {
        let mut plain = vec![Plain::Password {
            user,
            hash: Some(hash.to_owned()),
        }];
        let mut facts = Vec::new();
        let except = match ends {
            Ends::Nothing => return self.change(plain, facts).await.map(drop),
            Ends::Others(device) => Some(device),
            Ends::All => None,
        };
        let (ending, told) = ending(user, except);
        plain.push(ending);
        facts.extend(told);
        self.change(plain, facts).await.map(drop)
    }

    /// Ends an account and all its sessions: its profile goes, its name stays taken, and its password opens nothing.
    /// With `erase`, what the user has sent is for those only who could see it until now.
    pub async fn deactivate_account(&self, user: UserNo, erase: bool) -> Result<()> {
        let (ending, facts) = ending(user, None);
        let erase = if erase {
            Some(self.log().refresh().await?)
        } else {
            None
        };
        let plain = vec![Plain::Deactivate { user, erase }, ending];
        self.change(plain, facts).await?;
        Ok(())
    }

    /// `false` if the account isn't what this was decided on.
    async fn change(&self, plain: Vec<Plain>, facts: Vec<Fact>) -> Result<bool> {
        let set = WriteSet {
            facts,
            plain,
            ..WriteSet::default()
        };
        match self.commit(set).await {
            Ok(_) => Ok(true),
            Err(CommitError::AccountMoved(_)) => Ok(false),
            Err(CommitError::Store(error)) => Err(error),
            Err(other) => Err(Error::broken(other.to_string())),
        }
    }
}

/// Which sessions end with an old password.
#[derive(Debug, Clone, Copy)]
pub enum Ends<'a> {
    /// None.
    Nothing,
    /// All but this device's.
    Others(&'a DeviceId),
    /// All.
    All,
}

fn ending(user: UserNo, except: Option<&DeviceId>) -> (Plain, Vec<Fact>) {
    let except = except.map(ToOwned::to_owned);
    // Of all devices: which they are is known only in the commit. A cache looks the one that stays up again.
    let facts = vec![
        Fact::DeviceListChanged { user },
        Fact::TokenRevoked { user, device: None },
    ];
    (Plain::EndSessions { user, except }, facts)
}

fn busy() -> Error {
    Error::Busy("the account is changed by many at once".into())
}
