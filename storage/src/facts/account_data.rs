//! Account data of users, global and of rooms: the last content per (user, room, type).

mod several;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use self::several::DataSize;
use super::decision::Decision;
use super::{Audience, Kind, Logged, LoggedKind, Stored, last_of_each};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Pos, Result, RoomNo, Store, UserNo};

/// One type of a user's account data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountData {
    /// Whose.
    pub user: UserNo,
    /// Of which room, or global.
    pub room: Option<RoomNo>,
    /// Its type.
    pub kind: String,
    /// The content's JSON text, as received.
    pub content: Arc<str>,
}

/// Account data that changes.
#[derive(Debug, Clone)]
pub struct DataChange {
    /// What it is from now on.
    pub data: AccountData,
    /// The position of what this was decided on, 0 for nothing; refused with
    /// [`CommitError::DataMoved`] if something else is there by now. `None` replaces whatever is there.
    pub expect: Option<Pos>,
}

/// What a user says of the invites that they want: as specified, as it was proposed (MSC4380), and by rules (MSC4155).
pub const INVITE_RULES: [&str; 3] = [
    "m.invite_permission_config",
    "org.matrix.msc4380.invite_permission_config",
    "org.matrix.msc4155.invite_permission_config",
];

const PUSH_RULES: &str = "m.push_rules";
const IGNORED: &str = "m.ignored_user_list";

/// The types on which it depends what a user is notified of.
const NOTIFYING: [&str; 5] = [
    PUSH_RULES,
    IGNORED,
    INVITE_RULES[0],
    INVITE_RULES[1],
    INVITE_RULES[2],
];

/// On what it depends what a user is notified of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notifying {
    /// Their push rules, if they ever changed one.
    pub rules: Option<Arc<Logged<AccountData>>>,
    /// Whom they ignore.
    pub ignored: Option<Arc<Logged<AccountData>>>,
    /// Whose invites they want.
    pub invites: Vec<Arc<Logged<AccountData>>>,
}

impl Notifying {
    /// Where the last change stands of what messages are judged by.
    pub fn pos(&self) -> Pos {
        let of_messages = self.rules.iter().chain(&self.ignored);
        of_messages.map(|data| data.pos).max().unwrap_or(Pos(0))
    }

    /// Where the last change of any of it stands.
    pub fn last(&self) -> Pos {
        self.all().map(|data| data.pos).max().unwrap_or(Pos(0))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Logged<AccountData>>> {
        let one = self.rules.iter().chain(&self.ignored);
        one.chain(&self.invites)
    }
}

/// User, room and type.
type Key = (UserNo, i64, String);

/// What stands for no room in the database.
const GLOBAL: i64 = 0;

fn room_column(room: Option<RoomNo>) -> i64 {
    room.map_or(GLOBAL, |room| room.0)
}

impl DataChange {
    fn key(&self) -> Key {
        let room = room_column(self.data.room);
        (self.data.user, room, self.data.kind.clone())
    }
}

rows! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Asked<'a> {
        user_no: UserNo,
        room: i64,
        kind: &'a str,
    }
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        room: i64,
        kind: &'a str,
        content: &'a str,
        pos: i64,
    }
}

impl Kind for DataChange {
    /// Where the data stands that changes only as decided on; `None` once this group has written it.
    type Basis = HashMap<Key, Option<Pos>>;

    fn locks(&self) -> Option<UserNo> {
        self.expect.map(|_| self.data.user)
    }

    async fn look_up(held: &mut Self::Basis, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let expecting = facts.iter().filter(|change| change.expect.is_some());
        let wanted: BTreeSet<_> = expecting
            .map(|change| Asked {
                user_no: change.data.user,
                room: room_column(change.data.room),
                kind: &change.data.kind,
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let query = tx
            .sql(
                "SELECT d.user_no, d.room, d.kind, d.pos FROM ROWS($1) AS x JOIN account_data d \
                 ON d.user_no = x.user_no AND d.room = x.room AND d.kind = x.kind",
            )
            .rows(&wanted.into_iter().collect::<Vec<_>>());
        for row in tx.rows(query).await? {
            let key = (row.get("user_no")?, row.get("room")?, row.get("kind")?);
            held.insert(key, Some(row.get("pos")?));
        }
        Ok(())
    }

    fn check(&self, held: &Self::Basis, _retried: bool) -> Option<Decision> {
        let expect = self.expect?;
        let now = held.get(&self.key()).copied().unwrap_or(Some(Pos(0)));
        (now != Some(expect)).then(|| {
            Decision::Refuse(CommitError::DataMoved {
                user: self.data.user,
                kind: self.data.kind.clone(),
            })
        })
    }

    fn apply(&self, held: &mut Self::Basis) -> bool {
        held.insert(self.key(), None);
        true
    }

    fn write(facts: &[(i64, &Self)], _: &Self::Basis, statements: &mut Statements) -> Result<()> {
        let rows = last_of_each(facts, Self::key, |pos, change| Row {
            user_no: change.data.user,
            room: room_column(change.data.room),
            kind: &change.data.kind,
            content: &change.data.content,
            pos,
        });
        statements.after(
            "INSERT INTO account_data (user_no, room, kind, content, pos) \
             SELECT user_no, room, kind, content, pos + $2 FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, room, kind) \
             DO UPDATE SET content = excluded.content, pos = excluded.pos",
            &rows,
        )
    }
}

impl LoggedKind for DataChange {
    type Entry = AccountData;

    fn entry(&self) -> AccountData {
        self.data.clone()
    }

    fn audience(data: &AccountData) -> Audience {
        Audience::User(data.user)
    }

    fn room(data: &AccountData) -> Option<RoomNo> {
        data.room
    }

    fn weight(data: &AccountData) -> usize {
        data.content.len()
    }

    fn forget(data: &AccountData, store: &Store) {
        store.forget_delivery(data);
        if data.room.is_none() && NOTIFYING.contains(&data.kind.as_str()) {
            store.core.caches.notifying.remove(&data.user);
        }
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            data: AccountData {
                user: world.user,
                room: None,
                kind: "m.a\u{0}b".to_owned(),
                content: "{\"a\":1}".into(),
            },
            expect: Some(Pos(0)),
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let data = store.account_data(world.user, None, "m.a\u{0}b").await?;
        Ok(format!("{data:?}"))
    }
}

impl Store {
    /// A user's account data of this type.
    pub async fn account_data(
        &self,
        user: UserNo,
        room: Option<RoomNo>,
        kind: &str,
    ) -> Result<Option<Arc<Logged<AccountData>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE user_no = $1 AND room = $2 AND kind = $3",
            )
            .bind(user)
            .bind(room_column(room))
            .bind(kind);
        self.row(query)
            .await?
            .as_ref()
            .map(Logged::read)
            .transpose()
    }

    /// Those of these types of a user's global account data of which there is something.
    pub(crate) async fn global_kinds_of(
        &self,
        user: UserNo,
        kinds: &[String],
    ) -> Result<Vec<String>> {
        let query = self
            .sql(
                "SELECT kind FROM account_data WHERE user_no = $1 AND room = 0 \
                 AND kind IN TEXTS($2) AND content <> '{}'",
            )
            .bind(user)
            .texts(kinds.iter().map(String::as_str));
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("kind")).collect()
    }

    /// On what it depends what users are notified of, in their order; cached while it doesn't change.
    pub async fn notifying(&self, users: &[UserNo]) -> Result<Vec<Arc<Notifying>>> {
        let cache = &self.core.caches.notifying;
        let moment = cache.moment();
        let held = cache.get_all(users);
        let missing = users.iter().zip(&held).filter(|(_, held)| held.is_none());
        let mut read: HashMap<UserNo, Notifying> = missing
            .map(|(user, _)| (*user, Notifying::default()))
            .collect();
        if !read.is_empty() {
            let query = self
                .sql(
                    "SELECT pos, user_no, room, kind, content FROM account_data \
                     WHERE user_no IN NUMBERS($1) AND room = 0 AND kind IN TEXTS($2)",
                )
                .numbers(read.keys().copied())
                .texts(NOTIFYING);
            for row in self.rows(query).await? {
                let data: Arc<Logged<AccountData>> = Logged::read(&row)?;
                let of = read.entry(data.user).or_default();
                match data.kind.as_str() {
                    PUSH_RULES => of.rules = Some(data),
                    IGNORED => of.ignored = Some(data),
                    _ => of.invites.push(data),
                }
            }
        }
        let mut found: HashMap<UserNo, Arc<Notifying>> = HashMap::with_capacity(read.len());
        for (user, of) in read {
            let of = Arc::new(of);
            let bytes: usize = of.all().map(|data| data.content.len()).sum();
            let weight = 1 + bytes / 256;
            cache.insert_since(moment, user, of.clone(), weight);
            found.insert(user, of);
        }
        let all = users.iter().zip(held);
        let of = |(user, held): (&UserNo, Option<Arc<Notifying>>)| {
            held.or_else(|| found.get(user).cloned())
                .unwrap_or_default()
        };
        Ok(all.map(of).collect())
    }

    /// The user's account data of these rooms, and, with `global`, what is of none, up to a position, ascending by it.
    pub async fn account_data_of(
        &self,
        user: UserNo,
        rooms: &[RoomNo],
        global: bool,
        upto: Pos,
    ) -> Result<Vec<Arc<Logged<AccountData>>>> {
        let rooms = rooms.iter().map(|room| room.0);
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE user_no = $1 AND room IN NUMBERS($2) AND pos <= $3 ORDER BY pos",
            )
            .bind(user)
            .numbers(rooms.chain(global.then_some(GLOBAL)))
            .bind(upto);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// The user's account data of this type in all rooms.
    pub async fn account_data_of_kind(
        &self,
        user: UserNo,
        kind: &str,
    ) -> Result<Vec<Arc<Logged<AccountData>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE user_no = $1 AND room <> 0 AND kind = $2 ORDER BY pos",
            )
            .bind(user)
            .bind(kind);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }

    /// All of the user's account data, of rooms and global, that changed with `after < pos ≤ upto`,
    /// ascending by position.
    pub async fn account_data_since(
        &self,
        user: UserNo,
        after: Pos,
        upto: Pos,
    ) -> Result<Vec<Arc<Logged<AccountData>>>> {
        let query = self
            .sql(
                "SELECT pos, user_no, room, kind, content FROM account_data \
                 WHERE user_no = $1 AND pos > $2 AND pos <= $3 ORDER BY pos",
            )
            .bind(user)
            .bind(after)
            .bind(upto);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }
}

impl Stored for AccountData {
    const TABLE: &'static str = "account_data";
    const COLUMNS: &'static str = "pos, user_no, room, kind, content";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            room: Some(row.get("room")?).filter(|room: &RoomNo| room.0 != GLOBAL),
            kind: row.get("kind")?,
            content: row.get("content")?,
        })
    }
}
