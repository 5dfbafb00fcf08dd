//! Sessions begin and end: each a single write set, so that a device, its tokens and what
//! everybody is told of them change in one moment.

use ruma::{DeviceId, OwnedDeviceId};

use crate::facts::Fact;
use crate::facts::account::{AccountChange, AccountFlag, NewDevice};
use crate::facts::account_data::{AccountData, DataChange};
use crate::facts::device_list::DeviceList;
use crate::facts::revocation::TokenRevoked;
use crate::log::presence::Ended;
use crate::{
    Admission, CommitError, Error, NewLogin, NewTask, Result, StatusMessage, Store, ThirdParty,
    ThirdPartyChange, UserNo, WriteSet,
};

/// How often a change is decided again when the account was changed in the meantime.
const ATTEMPTS: u32 = 5;
/// What types of account data begin with that end in the id of the device that they are of.
const DEVICE_SETTINGS: [&str; 2] = [
    "org.matrix.msc3890.local_notification_settings.",
    "m.local_notification_settings.",
];

impl Store {
    /// Logs a device in; its older tokens end. `false` if its proof doesn't hold any more.
    pub async fn log_in(&self, login: &NewLogin) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let (user, device) = (login.user, &login.device_id);
            let known = self.device(user, device).await?.is_some();
            let told = if known {
                revoked(user, Some(device))
            } else {
                changed(user, device)
            };
            let login = login.clone();
            let change = AccountChange::Login { login, known };
            if self.change(vec![change.into(), told]).await? {
                return Ok(true);
            }
            if known == self.device(user, device).await?.is_some() {
                return Ok(false);
            }
        }
        Err(busy())
    }

    /// The operator makes something of an account, or takes that back; `false` if there is none, or it has ended.
    pub async fn set_account_flag(
        &self,
        user: UserNo,
        flag: AccountFlag,
        on: bool,
    ) -> Result<bool> {
        let change = AccountChange::Flag { user, flag, on };
        // What caches know of its tokens is stale, here and in other processes, and who waits wakes.
        if !self
            .change(vec![change.into(), revoked(user, None)])
            .await?
        {
            return Ok(false);
        }
        if on && flag == AccountFlag::Locked {
            self.sessions_end(user, Ended::AllBut(None));
        }
        Ok(true)
    }

    /// Makes a device that has no tokens, for an application service to act as, or for its user to log in as. `ip`: from where
    /// its user, or who acts for them, was there. `false` if it is there already, or the account isn't.
    pub async fn add_device(
        &self,
        user: UserNo,
        id: &DeviceId,
        name: Option<String>,
        ip: Option<String>,
    ) -> Result<bool> {
        let device = id.to_owned();
        let told = changed(user, &device);
        let change = AccountChange::AddDevice(NewDevice {
            user,
            device,
            name,
            ip,
            now_ms: self.clock().now_ms(),
        });
        self.change(vec![change.into(), told]).await
    }

    /// Names a device; `false` if there is none.
    pub async fn rename_device(&self, user: UserNo, id: &DeviceId, name: &str) -> Result<bool> {
        let change = AccountChange::RenameDevice {
            user,
            device: id.to_owned(),
            name: name.to_owned(),
        };
        self.change(vec![change.into(), changed(user, &id.to_owned())])
            .await
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
        let lists = devices.iter().map(|device| changed(user, device));
        let mut facts: Vec<Fact> = lists.collect();
        facts.extend(devices.iter().map(|device| revoked(user, Some(device))));
        let gone = devices.clone();
        facts.extend(self.settings_of(user, &devices).await?);
        facts.push(AccountChange::RemoveDevices { user, devices }.into());
        self.change(facts).await?;
        for device in &gone {
            self.sessions_end(user, Ended::Device(device));
        }
        Ok(())
    }

    /// The end of account data that is of these devices (MSC3890): as other devices hear of a deletion (MSC3391).
    async fn settings_of(&self, user: UserNo, devices: &[OwnedDeviceId]) -> Result<Vec<Fact>> {
        let kinds = devices
            .iter()
            .flat_map(|device| DEVICE_SETTINGS.map(|kind| format!("{kind}{device}")));
        let kinds: Vec<String> = kinds.collect();
        let known = self.global_kinds_of(user, &kinds).await?;
        let gone = known.into_iter().map(|kind| {
            Fact::AccountData(DataChange {
                data: AccountData {
                    user,
                    room: None,
                    kind,
                    content: "{}".into(),
                },
                expect: None,
            })
        });
        Ok(gone.collect())
    }

    /// Removes all devices of a user but `except`, and their tokens with them.
    pub async fn end_sessions(&self, user: UserNo, except: Option<&DeviceId>) -> Result<()> {
        self.end_with(user, except, Vec::new()).await
    }

    /// Ends a user's sessions but that of `except`, together with other facts that nothing stands against.
    async fn end_with(
        &self,
        user: UserNo,
        except: Option<&DeviceId>,
        with: Vec<Fact>,
    ) -> Result<()> {
        if self.end(user, except, with).await? {
            Ok(())
        } else {
            Err(busy())
        }
    }

    /// Ends a user's sessions but that of `except`, together with other facts; `false` if those are refused.
    async fn end(&self, user: UserNo, except: Option<&DeviceId>, with: Vec<Fact>) -> Result<bool> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let devices = self.devices(user).await?.into_iter();
            let devices = devices.map(|device| device.device_id);
            let devices: Vec<_> = devices.filter(|device| Some(&**device) != except).collect();
            // No other device stood in the way.
            if last.as_ref() == Some(&devices) {
                return Ok(false);
            }
            let mut facts = with.clone();
            facts.extend(devices.iter().map(|device| changed(user, device)));
            facts.extend(self.settings_of(user, &devices).await?);
            let ending = AccountChange::EndSessions {
                user,
                except: except.map(ToOwned::to_owned),
                devices: devices.clone(),
            };
            // Tokens of all devices: a cache looks those of the one that stays up again.
            facts.extend([ending.into(), revoked(user, None)]);
            if self.change(facts).await? {
                self.sessions_end(user, Ended::AllBut(except));
                return Ok(true);
            }
            last = Some(devices);
        }
        Err(busy())
    }

    /// Sets what the password must match and, if `ends` names sessions, ends those in the same moment.
    pub async fn set_password(&self, user: UserNo, hash: &str, ends: Ends<'_>) -> Result<()> {
        self.change_password(user, hash, ends, None).await.map(drop)
    }

    /// The same for who has shown, in the session `sid`, that an address of the account is theirs, which is good for one
    /// password; `false` if it isn't good any more, or the account is a guest's or has ended.
    pub async fn reset_password(
        &self,
        user: UserNo,
        hash: &str,
        ends: Ends<'_>,
        sid: &str,
    ) -> Result<bool> {
        self.change_password(user, hash, ends, Some(sid)).await
    }

    async fn change_password(
        &self,
        user: UserNo,
        hash: &str,
        ends: Ends<'_>,
        proof: Option<&str>,
    ) -> Result<bool> {
        let password = AccountChange::Password {
            user,
            hash: Some(hash.to_owned()),
            proof: proof.map(ToOwned::to_owned),
        };
        let facts = vec![password.into()];
        match ends {
            Ends::Nothing => self.change(facts).await,
            Ends::Others(device) => self.end(user, Some(device), facts).await,
            Ends::All => self.end(user, None, facts).await,
        }
    }

    /// Makes a guest's account one like others, which its password opens and which has these identifiers; the guest's
    /// sessions end. `false`, and nothing of it, if it isn't a guest's any more, another account has an identifier, or what
    /// admits it is used up.
    pub async fn upgrade_guest(
        &self,
        user: UserNo,
        hash: &str,
        third_parties: &[ThirdParty],
        admission: Admission,
    ) -> Result<bool> {
        let now_ms = self.clock().now_ms();
        let own = third_parties.iter().map(|third_party| ThirdPartyChange {
            user,
            third_party: third_party.clone(),
            since_ms: Some((now_ms, now_ms)),
        });
        let mut facts: Vec<Fact> = own.map(Fact::from).collect();
        let upgrade = AccountChange::Upgrade {
            user,
            hash: hash.to_owned(),
            admission,
            now_ms,
        };
        facts.push(upgrade.into());
        self.end(user, None, facts).await
    }

    /// Ends an account and all its sessions: its profile goes, its name stays taken, and its password opens nothing.
    /// With `erase`, what the user has sent is for those only who could see it until now.
    pub async fn deactivate_account(&self, user: UserNo, erase: bool) -> Result<()> {
        self.deactivate(user, erase, None).await
    }

    /// The same, and writes down in the same moment what is to be done then: a task of this kind, to whom or what. Gives
    /// its number.
    pub async fn deactivate_account_then(
        &self,
        user: UserNo,
        erase: bool,
        (kind, what): (&str, &str),
    ) -> Result<i64> {
        let no = self.next_task_no().await?;
        let task = NewTask {
            no,
            kind: kind.to_owned(),
            what: what.to_owned(),
            now_ms: self.clock().now_ms(),
        };
        self.deactivate(user, erase, Some(task)).await?;
        self.core.tasks_added.notify_one();
        self.forget_old_tasks().await?;
        Ok(no)
    }

    async fn deactivate(&self, user: UserNo, erase: bool, task: Option<NewTask>) -> Result<()> {
        let erase = if erase {
            Some(self.log().refresh().await?)
        } else {
            None
        };
        // The cross-signing keys go, too.
        let keys = DeviceList { user, device: None };
        let status = StatusMessage {
            user,
            message: None,
        };
        let end = AccountChange::Deactivate { user, erase, task };
        let facts = vec![end.into(), keys.into(), status.into()];
        self.end_with(user, None, facts).await?;
        // Backups of keys can be large, so they don't go in the commit.
        self.purge_soon();
        Ok(())
    }

    /// `false` if the account isn't what this was decided on.
    pub(super) async fn change(&self, facts: Vec<Fact>) -> Result<bool> {
        match self.commit(WriteSet::from(facts)).await {
            Ok(_) => Ok(true),
            Err(CommitError::AccountMoved(_) | CommitError::ThirdPartyTaken(_)) => Ok(false),
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

/// What everybody is told of a device that comes, changes or goes.
pub(super) fn changed(user: UserNo, device: &OwnedDeviceId) -> Fact {
    let device = Some(device.clone());
    DeviceList { user, device }.into()
}

pub(super) fn revoked(user: UserNo, device: Option<&OwnedDeviceId>) -> Fact {
    let device = device.cloned();
    TokenRevoked { user, device }.into()
}

pub(super) fn busy() -> Error {
    Error::Busy("the account is changed by many at once".into())
}
