//! `rhizome user`: works on the database, so the server may run or not.

mod command;
mod limits;
mod password;

use std::io::IsTerminal as _;

use anyhow::bail;
use rhizome_client_api::{tasks, users};
use rhizome_storage::{Account, AccountFlag, Block, Store, UserNo};
use ruma::OwnedUserId;

use crate::config::{Config, DisplayName};
use crate::server;

use super::{ago, approval, clean, say};
pub(super) use command::UserCommand;
use command::{UserCreate, UserList, states};
use password::ask;

/// So many accounts are read at once.
const PIECE: usize = 500;

pub(super) fn user(config: &Config, command: UserCommand) -> anyhow::Result<()> {
    // What has to be asked is asked before the database is opened.
    let (UserCommand::Create(UserCreate { password, .. }) | UserCommand::Password { password, .. }) =
        &command
    else {
        return on_database(config, command, "");
    };
    if let UserCommand::Create(UserCreate { name: None, .. }) = &command {
        if !std::io::stdin().is_terminal() {
            bail!("give the name: rhizome user create NAME");
        }
        let name = ask("Name (the part before the colon): ")?;
        let password = password.read()?;
        let UserCommand::Create(create) = command else {
            return Ok(());
        };
        let create = UserCreate {
            name: Some(name),
            ..create
        };
        return on_database(config, UserCommand::Create(create), &password);
    }
    let password = password.read()?;
    on_database(config, command, &password)
}

fn on_database(config: &Config, command: UserCommand, password: &str) -> anyhow::Result<()> {
    super::block_on(async {
        server::make_data_dir(config)?;
        let store = server::open_store(config).await?;
        let desk = Desk {
            store: &store,
            config,
        };
        let done = desk.run(command, password).await;
        store.close().await;
        done
    })
}

/// What a command works with.
struct Desk<'a> {
    store: &'a Store,
    config: &'a Config,
}

impl Desk<'_> {
    async fn run(&self, command: UserCommand, password: &str) -> anyhow::Result<()> {
        match command {
            UserCommand::Create(create) => self.create(create, password).await,
            UserCommand::List(list) => self.list(&list).await,
            UserCommand::Waiting => approval::waiting(self.store).await,
            UserCommand::Approve { users } => {
                approval::approve(self.store, self.config, &users).await
            }
            UserCommand::Show { user } => self.show(&user).await,
            UserCommand::Password { user, .. } => self.password(&user, password).await,
            UserCommand::Admin { user, remove } => {
                let said = if remove {
                    "is no administrator any more"
                } else {
                    "is an administrator"
                };
                self.flag(&user, AccountFlag::Admin, !remove, said).await
            }
            UserCommand::Lock { user } => {
                self.flag(&user, AccountFlag::Locked, true, "is locked")
                    .await
            }
            UserCommand::Unlock { user } => {
                self.flag(&user, AccountFlag::Locked, false, "is unlocked")
                    .await
            }
            UserCommand::Suspend { user } => {
                self.flag(&user, AccountFlag::Suspended, true, "is suspended")
                    .await
            }
            UserCommand::Unsuspend { user } => {
                self.flag(
                    &user,
                    AccountFlag::Suspended,
                    false,
                    "is suspended no longer",
                )
                .await
            }
            UserCommand::ShadowBan { user, reason, undo } => {
                self.shadow_ban(&user, reason, undo).await
            }
            UserCommand::Limits { user, set, clear } => {
                let (user_id, _) = if set.is_empty() {
                    self.find(&user).await?
                } else {
                    self.alive(&user).await?
                };
                limits::limits(self.store, self.config, &user_id, (&set, clear)).await
            }
            UserCommand::Deactivate {
                user,
                erase,
                erase_media,
            } => self.deactivate(&user, erase, erase_media).await,
            UserCommand::Logout { user, devices } => self.log_out(&user, &devices).await,
            UserCommand::Devices { user } => self.devices(&user).await,
            UserCommand::Redact { user } => {
                let (user_id, _) = self.find(&user).await?;
                self.task(tasks::REDACT, &user_id).await
            }
        }
    }

    /// The account that a name or an id names.
    async fn find(&self, name: &str) -> anyhow::Result<(OwnedUserId, Account)> {
        let found = users::find(self.store, &self.config.server.name, name).await;
        found.map_err(|error| anyhow::anyhow!("{}", error.message))
    }

    /// The same, unless it has ended.
    async fn alive(&self, name: &str) -> anyhow::Result<(OwnedUserId, Account)> {
        let (user_id, account) = self.find(name).await?;
        if account.deactivated {
            bail!("the account {user_id} has been deactivated, which can't be undone");
        }
        Ok((user_id, account))
    }

    async fn create(&self, create: UserCreate, password: &str) -> anyhow::Result<()> {
        let server = &self.config.server.name;
        let name = create.name.unwrap_or_default();
        // People write the whole id; the rest of it is ours to check.
        let name = name.trim().trim_start_matches('@');
        let name = match name.split_once(':') {
            Some((local, of)) if of == server.as_str() => local,
            Some((_, of)) => bail!(
                "`{of}` is not this server's name, which is `{server}`; give only the part before the colon"
            ),
            None => name,
        };
        let services = self.config.appservices.load(server)?;
        if let Ok(user) = users::user_id(server, name)
            && let Some(owner) = services.exclusive_owner_of_user(&user)
        {
            bail!(
                "{user} is in a namespace of the application service {}, which alone makes such users; choose another name",
                clean(&owner.id)
            );
        }
        let cost = server::client_config(self.config).password_cost;
        let made = users::create(self.store, server, name, password, create.admin, cost).await;
        if self.config.registration.default_display_name == DisplayName::None
            && let Ok(user) = &made
        {
            let no = self.store.user_no(user).await?;
            self.store
                .set_profile_field(no, "displayname", None)
                .await?;
        }
        let user =
            made.map_err(|error| anyhow::anyhow!("{name} was not created: {}", error.message))?;
        say(format_args!("created {user}"));
        Ok(())
    }

    async fn list(&self, wanted: &UserList) -> anyhow::Result<()> {
        let mut after = UserNo(i64::MIN);
        loop {
            let page = self.store.accounts(after, PIECE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.user;
            for account in page.iter().filter(|account| wanted.wants(account)) {
                let made = ago(self.store, account.created_ms);
                let seen = match account.last_seen_ms {
                    Some(seen) => format!("seen {} ago", ago(self.store, seen)),
                    None => "not logged in".to_owned(),
                };
                let is = states(account);
                let user = &account.user_id;
                say(format_args!("{user}  made {made} ago, {seen}{is}"));
            }
        }
    }

    async fn show(&self, name: &str) -> anyhow::Result<()> {
        let (user_id, account) = self.find(name).await?;
        say(format_args!("user: {user_id}"));
        let made = ago(self.store, account.created_ms);
        say(format_args!("made: {made} ago"));
        let before = UserNo(account.user.0 - 1);
        let listed = self.store.accounts(before, 1).await?;
        let listed = listed.iter().find(|one| one.user == account.user);
        let waiting = self.store.awaiting_approval(before, 1).await?;
        let shadow = self.store.blocks().await?.user(&user_id);
        for (what, is_so) in [
            ("administrator", account.admin),
            ("locked", account.locked),
            ("suspended", account.suspended),
            ("shadow-banned", shadow),
            ("guest", listed.is_some_and(|one| one.is_guest)),
            (
                "waiting for approval",
                waiting.iter().any(|one| one.user == account.user),
            ),
            ("deactivated", account.deactivated),
            ("has a password", account.password_hash.is_some()),
        ] {
            say(format_args!("{what}: {}", if is_so { "yes" } else { "no" }));
        }
        for one in self.store.third_parties(account.user).await? {
            let address = one.third_party.address.escape_debug().to_string();
            say(format_args!("address: {address}"));
        }
        for line in limits::lines(self.store, self.config, &user_id) {
            say(format_args!("{line}"));
        }
        let profile = self.store.profile(&user_id).await?.unwrap_or_default();
        for (field, value) in &profile {
            // A terminal must not do what they say of themselves.
            let value = value.to_string();
            let (field, value) = (field.escape_debug(), value.escape_debug());
            say(format_args!("profile {field}: {value}"));
        }
        let rooms = self.store.memberships_of(account.user).await?;
        let joined = rooms.iter().filter(|row| row.membership.as_str() == "join");
        say(format_args!("rooms: {}", joined.count()));
        let devices = self.store.devices(account.user).await?;
        say(format_args!("devices: {}", devices.len()));
        Ok(())
    }

    async fn password(&self, name: &str, password: &str) -> anyhow::Result<()> {
        let (user_id, _) = self.alive(name).await?;
        let cost = server::client_config(self.config).password_cost;
        let (server, local) = (&self.config.server.name, user_id.localpart());
        let set = users::set_password(self.store, server, local, password, cost).await;
        set.map_err(|error| anyhow::anyhow!("the password was not set: {}", error.message))?;
        say(format_args!(
            "the password of {user_id} is set, and all sessions have ended"
        ));
        Ok(())
    }

    async fn flag(
        &self,
        name: &str,
        flag: AccountFlag,
        on: bool,
        said: &str,
    ) -> anyhow::Result<()> {
        let (user_id, account) = self.alive(name).await?;
        if !self.store.set_account_flag(account.user, flag, on).await? {
            bail!("the account {user_id} has been deactivated meanwhile");
        }
        say(format_args!("{user_id} {said}"));
        Ok(())
    }

    async fn shadow_ban(&self, name: &str, reason: String, undo: bool) -> anyhow::Result<()> {
        if undo {
            let (user_id, _) = self.find(name).await?;
            if !self.store.unblock(Block::SHADOW, user_id.as_str()).await? {
                bail!("{user_id} isn't shadow-banned");
            }
            say(format_args!("{user_id} is shadow-banned no longer"));
            return Ok(());
        }
        let (user_id, _) = self.alive(name).await?;
        let block = Block {
            kind: Block::SHADOW.to_owned(),
            what: user_id.to_string(),
            way: String::new(),
            reason,
            since_ms: self.store.clock().now_ms(),
            blocked: true,
        };
        self.store.block(block).await?;
        say(format_args!("{user_id} is shadow-banned"));
        Ok(())
    }

    async fn deactivate(&self, name: &str, erase: bool, media: bool) -> anyhow::Result<()> {
        let (user_id, account) = self.find(name).await?;
        // Again for one that has ended: perhaps a part of it is still to do.
        users::end(self.store, &user_id, account.user, erase).await?;
        if media {
            let deleted = super::media::delete_of(self.store, self.config, &user_id).await?;
            say(format_args!("{deleted} files deleted"));
        }
        say(format_args!(
            "{user_id} is deactivated; the server lets them leave their rooms"
        ));
        Ok(())
    }

    async fn log_out(&self, name: &str, devices: &[String]) -> anyhow::Result<()> {
        let (user_id, account) = self.find(name).await?;
        if devices.is_empty() {
            self.store.end_sessions(account.user, None).await?;
            say(format_args!("{user_id} is logged out everywhere"));
            return Ok(());
        }
        let known = self.store.devices(account.user).await?;
        let known: Vec<_> = known.into_iter().map(|one| one.device_id).collect();
        let mut gone = Vec::new();
        for name in devices {
            let Some(device) = known.iter().find(|known| known.as_str() == name) else {
                let name = name.escape_debug();
                bail!("{user_id} has no device {name}; `rhizome user devices` lists them");
            };
            gone.push(device.clone());
        }
        self.store.remove_devices(account.user, &gone).await?;
        say(format_args!("{user_id}: {} devices logged out", gone.len()));
        Ok(())
    }

    async fn devices(&self, name: &str) -> anyhow::Result<()> {
        let (_, account) = self.find(name).await?;
        for device in self.store.devices(account.user).await? {
            let seen = ago(self.store, device.last_seen_ms);
            let from = device.last_seen_ip.unwrap_or_else(|| "unknown".into());
            let called = device.name.unwrap_or_default();
            let id = device.device_id.as_str().escape_debug();
            let called = called.escape_debug();
            say(format_args!("{id}  seen {seen} ago from {from}  {called}"));
        }
        Ok(())
    }

    async fn task(&self, kind: &str, user_id: &OwnedUserId) -> anyhow::Result<()> {
        let no = self.store.add_task(kind, user_id.as_str()).await?;
        say(format_args!(
            "task {no}: the server does it while it runs; `rhizome task list` says how far it is"
        ));
        Ok(())
    }
}
