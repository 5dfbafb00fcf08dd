//! Pushers: by which a user's notifications are told (client-server API, "Push Notifications").

use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::table::table;
use super::{Audience, Kind, Logged, LoggedKind};
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::{Pos, Result, RoomNo, Store, UserNo};

table! {
    /// A pusher is set.
    pub struct Pusher in pusher {
        key {
            /// Whose.
            user: UserNo = user_no,
            /// Of which app.
            app_id: String = app_id,
            /// By which the app's gateway knows the device.
            pushkey: String = pushkey,
        }
        /// The session that has set it.
        device: Option<OwnedDeviceId> = device_id,
        /// How it is told.
        kind: String = kind,
        /// Whether anything is told it.
        enabled: bool = enabled,
        /// What the app is called.
        app_name: String = app_name,
        /// What the device is called.
        device_name: String = device_name,
        /// By which the device's push rules are known.
        profile_tag: Option<String> = profile_tag,
        /// The language of what is told.
        lang: String = lang,
        /// What the client says beside that, as JSON.
        data: String = data,
        /// When it was set, milliseconds since 1970.
        set_ms: i64 = set_ms,
        /// By which it has to say that it is there, before it is told anything.
        ack: Option<String> = ack,
        /// Until when it may, milliseconds since 1970.
        ack_until_ms: Option<i64> = ack_until_ms,
    }
}

/// What names a pusher.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PusherKey {
    /// Whose.
    pub user: UserNo,
    /// Of which app.
    pub app_id: String,
    /// By which the app's gateway knows the device.
    pub pushkey: String,
}

impl PusherKey {
    pub(crate) fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            app_id: row.get("app_id")?,
            pushkey: row.get("pushkey")?,
        })
    }
}

impl Pusher {
    /// What names it.
    pub fn key(&self) -> PusherKey {
        PusherKey {
            user: self.user,
            app_id: self.app_id.clone(),
            pushkey: self.pushkey.clone(),
        }
    }
}

/// A pusher is set, or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PusherChange {
    /// What it is from now on.
    pub pusher: Pusher,
    /// Pushers of other users with the same app and key stay.
    pub append: bool,
}

/// A pusher has said that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PusherActivated {
    /// Which.
    pub key: PusherKey,
    /// By which it said so: if it has another by now, nothing happens.
    pub ack: String,
}

/// A pusher goes, with all that waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PusherGone(pub PusherKey);

rows! {
    struct Key<'a> {
        user_no: UserNo,
        app_id: &'a str,
        pushkey: &'a str,
        pos: i64,
    }
}

/// The pushers of others with the same key, as they were before. Each row of the bound ones looks for its own: the other
/// way round all pushers there are would be gone through.
macro_rules! others {
    () => {
        "(SELECT p.user_no, p.app_id, p.pushkey FROM ROWS($1) AS x JOIN pusher p \
         ON p.app_id = x.app_id AND p.pushkey = x.pushkey \
         AND p.user_no <> x.user_no AND p.pos < $2 + x.pos)"
    };
}

impl Kind for PusherChange {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let set: Vec<_> = facts.iter().map(|(pos, set)| (*pos, &set.pusher)).collect();
        Pusher::put(&set, statements)?;
        let alone = facts.iter().filter(|(_, set)| !set.append);
        let alone = alone.map(|(pos, set)| Key {
            user_no: set.pusher.user,
            app_id: &set.pusher.app_id,
            pushkey: &set.pusher.pushkey,
            pos: *pos,
        });
        let alone = alone.collect::<Vec<_>>();
        // Of those that a group sets the last one stays.
        statements.after(
            concat!(
                "DELETE FROM push WHERE (user_no, app_id, pushkey) IN ",
                others!()
            ),
            &alone,
        )?;
        statements.after(
            concat!(
                "DELETE FROM pusher WHERE (user_no, app_id, pushkey) IN ",
                others!()
            ),
            &alone,
        )
    }
}

impl LoggedKind for PusherChange {
    type Entry = Pusher;

    fn entry(&self) -> Pusher {
        self.pusher.clone()
    }

    fn audience(_: &Pusher) -> Audience {
        Audience::Nobody
    }

    fn weight(pusher: &Pusher) -> usize {
        pusher.pushkey.len() + pusher.data.len() + 200
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            pusher: Pusher {
                user: world.user,
                app_id: "app".into(),
                pushkey: "key".into(),
                device: None,
                kind: "http".into(),
                enabled: true,
                app_name: "App".into(),
                device_name: "Phone".into(),
                profile_tag: None,
                lang: "en".into(),
                data: "{}".into(),
                set_ms: 1,
                ack: None,
                ack_until_ms: None,
            },
            append: false,
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let pushers = store.pushers(world.user).await?;
        Ok(format!("{pushers:?}"))
    }
}

impl Kind for PusherGone {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let keys = facts.iter().map(|(pos, PusherGone(gone))| Key {
            user_no: gone.user,
            app_id: &gone.app_id,
            pushkey: &gone.pushkey,
            pos: *pos,
        });
        let keys: Vec<_> = keys.collect();
        for text in [
            "DELETE FROM push WHERE (user_no, app_id, pushkey) IN \
             (SELECT user_no, app_id, pushkey FROM ROWS($1) AS x)",
            "DELETE FROM pusher WHERE (user_no, app_id, pushkey) IN \
             (SELECT user_no, app_id, pushkey FROM ROWS($1) AS x)",
        ] {
            statements.before(text, &keys)?;
        }
        Ok(())
    }
}

rows! {
    struct Activated<'a> {
        user_no: UserNo,
        app_id: &'a str,
        pushkey: &'a str,
        ack: &'a str,
    }
}

impl Kind for PusherActivated {
    type Basis = ();

    fn write(facts: &[(i64, &Self)], (): &(), statements: &mut Statements) -> Result<()> {
        let rows = facts.iter().map(|(_, activated)| Activated {
            user_no: activated.key.user,
            app_id: &activated.key.app_id,
            pushkey: &activated.key.pushkey,
            ack: &activated.ack,
        });
        statements.before(
            "UPDATE pusher SET ack = NULL, ack_until_ms = NULL WHERE (user_no, app_id, pushkey, ack) IN \
             (SELECT user_no, app_id, pushkey, ack FROM ROWS($1) AS x)",
            &rows.collect::<Vec<_>>(),
        )
    }
}

impl Store {
    /// A user's pushers, in the order in which they were set.
    pub async fn pushers(&self, user: UserNo) -> Result<Vec<Arc<Logged<Pusher>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, app_id, pushkey, device_id, kind, enabled, app_name, device_name, \
                 profile_tag, lang, data, set_ms, ack, ack_until_ms FROM pusher WHERE user_no = $1 ORDER BY pos",
            )
            .bind(user);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// Who is joined to a room and has pushers, switched off or not, and since when they are in it.
    pub async fn members_with_pushers(&self, room: RoomNo) -> Result<Vec<(UserNo, Pos)>> {
        let query = self
            .sql(
                "SELECT m.user_no, m.since FROM membership m WHERE m.room = $1 AND m.membership = 1 \
                 AND EXISTS (SELECT 1 FROM pusher p WHERE p.user_no = m.user_no)",
            )
            .bind(room);
        let rows = self.rows(query).await?;
        let rows = rows.iter();
        rows.map(|row| Ok((row.get("user_no")?, row.get("since")?)))
            .collect()
    }

    /// Which users of this server have pushers.
    pub async fn users_with_pushers(&self) -> Result<Vec<UserNo>> {
        let query = self.sql("SELECT DISTINCT user_no FROM pusher");
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }
}
