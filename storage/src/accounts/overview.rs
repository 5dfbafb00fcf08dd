//! Accounts as an administrator looks through them: chosen, in an order, a page at a time.
//!
//! What people are called is looked for where the user directory keeps it (`people_name`), which may be a moment behind; what
//! is told of them is read from their profiles.

use ruma::{OwnedUserId, UserId};

use crate::engine::db::literally;
use crate::engine::sql::{Columns as _, Query, ReadRow};
use crate::{Result, Store, UserNo};

/// An account, as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountOverview {
    /// The user's number.
    pub user: UserNo,
    /// Their id.
    pub user_id: OwnedUserId,
    /// Whether it administers the server.
    pub admin: bool,
    /// Whether it has ended.
    pub deactivated: bool,
    /// Whether what its user has sent is for those only who saw it.
    pub erased: bool,
    /// Whether it can do nothing but log out.
    pub locked: bool,
    /// Whether it can only read.
    pub suspended: bool,
    /// Whether what its user sends is shown to nobody.
    pub shadow_banned: bool,
    /// Whether it is a guest's.
    pub is_guest: bool,
    /// Whether nobody may log in until it is approved.
    pub awaits_approval: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// When one of its devices was seen last, if it has any.
    pub last_seen_ms: Option<i64>,
}

/// Which accounts: all that is said holds of each.
#[derive(Debug, Clone, Default)]
pub struct AccountQuery {
    /// Their ids have this in them …
    pub id_has: Option<String>,
    /// … before the colon, …
    pub only_localpart: bool,
    /// … or they are called so.
    pub or_name_has: Option<String>,
    /// Guests', or nobody's who is one.
    pub guests: Option<bool>,
    /// Those that have ended, or haven't.
    pub deactivated: Option<bool>,
    /// Administrators', or nobody's who is one.
    pub admins: Option<bool>,
    /// Those that are locked, or aren't.
    pub locked: Option<bool>,
    /// Those that wait for approval, or don't.
    pub awaiting: Option<bool>,
}

/// By what accounts are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in AccountOverview")]
pub enum AccountOrder {
    UserId,
    IsGuest,
    Admin,
    Deactivated,
    ShadowBanned,
    Locked,
    /// What the user is called.
    Name,
    /// Their picture's address.
    Avatar,
    CreatedMs,
    LastSeenMs,
}

macro_rules! columns {
    () => {
        "SELECT a.user_no AS user_no, u.user_id AS user_id, a.admin AS admin, a.deactivated AS deactivated, \
         a.locked AS locked, a.suspended AS suspended, a.created_ms AS created_ms, \
         CASE WHEN g.user_no IS NULL THEN 0 ELSE 1 END AS is_guest, \
         CASE WHEN e.user_no IS NULL THEN 0 ELSE 1 END AS erased, \
         CASE WHEN w.user_no IS NULL THEN 0 ELSE 1 END AS awaits, \
         CASE WHEN b.what IS NULL THEN 0 ELSE 1 END AS shadow_banned, \
         (SELECT MAX(d.last_seen_ms) FROM device d WHERE d.user_no = a.user_no) AS last_seen_ms, \
         COALESCE(LOWER(p.name), '') AS called, COALESCE(p.avatar, '') AS avatar "
    };
}

macro_rules! tables {
    () => {
        "FROM account a JOIN user_name u ON u.no = a.user_no \
         LEFT JOIN guest g ON g.user_no = a.user_no \
         LEFT JOIN erasure e ON e.user_no = a.user_no \
         LEFT JOIN awaiting_approval w ON w.user_no = a.user_no \
         LEFT JOIN people_name p ON p.user_no = a.user_no AND p.n = 0 \
         LEFT JOIN block b ON b.kind = 'shadow' AND b.what = u.user_id AND b.blocked = 1 "
    };
}

macro_rules! chosen {
    () => {
        "WHERE (CAST($1 AS TEXT) IS NULL OR LOWER(u.user_id) LIKE LOWER($1) ESCAPE '!' \
         OR (CAST($2 AS TEXT) IS NOT NULL AND LOWER(p.name) LIKE LOWER($2) ESCAPE '!')) \
         AND (CAST($3 AS BIGINT) IS NULL OR $3 = CASE WHEN g.user_no IS NULL THEN 0 ELSE 1 END) \
         AND (CAST($4 AS BIGINT) IS NULL OR a.deactivated = $4) \
         AND (CAST($5 AS BIGINT) IS NULL OR a.admin = $5) \
         AND (CAST($6 AS BIGINT) IS NULL OR a.locked = $6) \
         AND (CAST($7 AS BIGINT) IS NULL OR $7 = CASE WHEN w.user_no IS NULL THEN 0 ELSE 1 END) "
    };
}

macro_rules! page {
    ($key:literal, $direction:literal) => {
        concat!(
            "SELECT * FROM (",
            columns!(),
            tables!(),
            chosen!(),
            ") AS x ORDER BY ",
            $key,
            $direction,
            // Where that is the same, by id.
            ", x.user_id LIMIT $8 OFFSET $9"
        )
    };
}

macro_rules! both {
    ($key:literal) => {
        [page!($key, ""), page!($key, " DESC")]
    };
}

impl AccountOrder {
    /// The statement for a page, forwards and backwards.
    fn statements(self) -> [&'static str; 2] {
        match self {
            Self::UserId => both!("x.user_id"),
            Self::IsGuest => both!("x.is_guest"),
            Self::Admin => both!("x.admin"),
            Self::Deactivated => both!("x.deactivated"),
            Self::ShadowBanned => both!("x.shadow_banned"),
            Self::Locked => both!("x.locked"),
            Self::Name => both!("x.called"),
            Self::Avatar => both!("x.avatar"),
            Self::CreatedMs => both!("x.created_ms"),
            Self::LastSeenMs => both!("COALESCE(x.last_seen_ms, 0)"),
        }
    }
}

const COUNT: &str = concat!("SELECT COUNT(*) AS n ", tables!(), chosen!());
const ONE: &str = concat!(columns!(), tables!(), "WHERE a.user_no = $1");

impl AccountQuery {
    /// As `$1` to `$7`.
    fn bind(&self, query: Query) -> Query {
        let has = |text: &Option<String>| text.as_deref().map(literally);
        let id = has(&self.id_has).map(|text| {
            if self.only_localpart {
                format!("@%{text}%:%")
            } else {
                format!("%{text}%")
            }
        });
        let name = has(&self.or_name_has).map(|text| format!("%{text}%"));
        query
            .bind(id)
            .bind(name)
            .bind(self.guests)
            .bind(self.deactivated)
            .bind(self.admins)
            .bind(self.locked)
            .bind(self.awaiting)
    }
}

impl Store {
    /// A page of accounts in this order: `limit` of them after so many; and how many there are in all.
    pub async fn account_page(
        &self,
        which: &AccountQuery,
        (order, backwards): (AccountOrder, bool),
        (from, limit): (usize, usize),
    ) -> Result<(Vec<AccountOverview>, usize)> {
        let count = self.row(which.bind(self.sql(COUNT))).await?;
        let total = count.map_or(Ok(0), |row| row.get("n"))?;
        let [forwards, back] = order.statements();
        let query = self.sql(if backwards { back } else { forwards });
        let query = which.bind(query).bind(limit).bind(from);
        let rows = self.rows(query).await?;
        let accounts = rows.iter().map(read).collect::<Result<_>>()?;
        Ok((accounts, total))
    }

    /// The user's account, if there is one.
    pub async fn account_overview(&self, user: &UserId) -> Result<Option<AccountOverview>> {
        let Some(no) = self.known_user(user).await? else {
            return Ok(None);
        };
        let row = self.row(self.sql(ONE).bind(no)).await?;
        row.as_ref().map(read).transpose()
    }
}

fn read(row: &ReadRow) -> Result<AccountOverview> {
    Ok(AccountOverview {
        user: row.get("user_no")?,
        user_id: row.get("user_id")?,
        admin: row.get("admin")?,
        deactivated: row.get("deactivated")?,
        erased: row.get("erased")?,
        locked: row.get("locked")?,
        suspended: row.get("suspended")?,
        shadow_banned: row.get("shadow_banned")?,
        is_guest: row.get("is_guest")?,
        awaits_approval: row.get("awaits")?,
        created_ms: row.get("created_ms")?,
        last_seen_ms: row.get("last_seen_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::each_database;
    use crate::{AccountFlag, Block, NewAccount};

    async fn account(store: &Store, name: &str, created_ms: i64, is_guest: bool) -> UserNo {
        let new = NewAccount {
            created_ms,
            is_guest,
            ..NewAccount::default()
        };
        let user = UserId::parse(format!("@{name}:here")).unwrap();
        let made = store.create_account(&user, new, None).await;
        made.unwrap().unwrap()
    }

    async fn names(
        store: &Store,
        which: &AccountQuery,
        order: (AccountOrder, bool),
        page: (usize, usize),
    ) -> (Vec<String>, usize) {
        let (page, total) = store.account_page(which, order, page).await.unwrap();
        let names = page.iter().map(|one| one.user_id.localpart().to_owned());
        (names.collect(), total)
    }

    /// An administrator, one who is locked and shadow-banned, a guest, and one whose account has ended.
    async fn people(store: &Store) {
        let ada = account(store, "ada", 3, false).await;
        let bob = account(store, "bob", 1, false).await;
        account(store, "guest_1", 2, true).await;
        let gone = account(store, "gone", 4, false).await;
        let set = async |user, flag| store.set_account_flag(user, flag, true).await.unwrap();
        assert!(set(ada, AccountFlag::Admin).await);
        assert!(set(bob, AccountFlag::Locked).await);
        store.deactivate_account(gone, true).await.unwrap();
        let shadow = Block {
            kind: Block::SHADOW.into(),
            what: "@bob:here".into(),
            way: String::new(),
            reason: String::new(),
            since_ms: 1,
            blocked: true,
        };
        store.block(shadow).await.unwrap();
    }

    const BY_ID: (AccountOrder, bool) = (AccountOrder::UserId, false);

    #[tokio::test]
    async fn accounts_are_put_in_order_and_counted() {
        each_database(async |store| {
            people(&store).await;
            let all = AccountQuery::default();
            let (of_all, total) = names(&store, &all, BY_ID, (0, 10)).await;
            assert_eq!(of_all, ["ada", "bob", "gone", "guest_1"]);
            assert_eq!(total, 4);
            let (page, total) = names(&store, &all, BY_ID, (1, 2)).await;
            assert_eq!((page.join(" "), total), ("bob gone".into(), 4));
            let newest = (AccountOrder::CreatedMs, true);
            let (page, _) = names(&store, &all, newest, (0, 2)).await;
            assert_eq!(page, ["gone", "ada"]);
            for order in [
                AccountOrder::UserId,
                AccountOrder::IsGuest,
                AccountOrder::Admin,
                AccountOrder::Deactivated,
                AccountOrder::ShadowBanned,
                AccountOrder::Locked,
                AccountOrder::Name,
                AccountOrder::Avatar,
                AccountOrder::CreatedMs,
                AccountOrder::LastSeenMs,
            ] {
                for backwards in [false, true] {
                    let (page, _) = names(&store, &all, (order, backwards), (0, 10)).await;
                    assert_eq!(page.len(), 4, "{order:?}");
                }
            }
            let (page, _) = names(&store, &all, (AccountOrder::Locked, true), (0, 1)).await;
            assert_eq!(page, ["bob"]);
        })
        .await;
    }

    #[tokio::test]
    async fn accounts_are_chosen() {
        each_database(async |store| {
            people(&store).await;
            let some = async |which: AccountQuery| {
                let (page, total) = names(&store, &which, BY_ID, (0, 10)).await;
                assert_eq!(page.len(), total);
                page.join(" ")
            };
            let id_has = |text: &str, only_localpart| AccountQuery {
                id_has: Some(text.into()),
                only_localpart,
                ..AccountQuery::default()
            };
            assert_eq!(some(id_has("A", true)).await, "ada");
            assert_eq!(some(id_has("here", true)).await, "");
            assert_eq!(some(id_has("here", false)).await, "ada bob gone guest_1");
            // What stands for anything elsewhere stands for itself.
            assert_eq!(some(id_has("_", true)).await, "guest_1");
            assert_eq!(some(id_has("%", true)).await, "");
            let users = AccountQuery {
                guests: Some(false),
                deactivated: Some(false),
                ..AccountQuery::default()
            };
            let admins = AccountQuery {
                admins: Some(true),
                ..AccountQuery::default()
            };
            let free = AccountQuery {
                locked: Some(false),
                ..users.clone()
            };
            let waiting = AccountQuery {
                awaiting: Some(true),
                ..AccountQuery::default()
            };
            for (which, expected) in [
                (users, "ada bob"),
                (admins, "ada"),
                (free, "ada"),
                (waiting, ""),
            ] {
                assert_eq!(some(which).await, expected);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn an_account_says_what_it_is() {
        each_database(async |store| {
            people(&store).await;
            let one = async |name: &str| {
                let user = UserId::parse(format!("@{name}:here")).unwrap();
                store.account_overview(&user).await.unwrap()
            };
            let bob = one("bob").await.unwrap();
            assert!(bob.locked && bob.shadow_banned && !bob.erased && !bob.deactivated);
            let gone = one("gone").await.unwrap();
            assert!(gone.deactivated && gone.erased && !gone.shadow_banned);
            assert_eq!(one("nobody").await, None);
        })
        .await;
    }
}
