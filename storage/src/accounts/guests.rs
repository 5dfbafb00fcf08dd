//! Guests (client-server API, "Guest Access").

use crate::engine::sql::Columns as _;
use crate::{Result, RoomNo, Store, UserNo};

impl Store {
    /// Guests who are joined to a room, at most `most`.
    pub async fn guests_in(&self, room: RoomNo, most: usize) -> Result<Vec<UserNo>> {
        let query = self
            .sql(
                "SELECT m.user_no FROM guest g JOIN membership m ON m.user_no = g.user_no \
                 WHERE m.room = $1 AND m.membership = 1 ORDER BY m.user_no LIMIT $2",
            )
            .bind(room)
            .bind(most);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use crate::testing::each_database;
    use crate::{Admission, Medium, NewAccount, ThirdParty};

    /// All of it or nothing.
    #[tokio::test]
    async fn a_guest_whose_address_is_taken_stays_one() {
        each_database(async |store| {
            let mail = |address: &str| ThirdParty {
                medium: Medium::Email,
                address: address.to_owned(),
            };
            let ada = NewAccount {
                third_parties: vec![mail("a@x.example")],
                ..NewAccount::default()
            };
            let made = store.create_account(user_id!("@ada:here"), ada, None).await;
            made.unwrap().unwrap();
            let guest = NewAccount {
                is_guest: true,
                ..NewAccount::default()
            };
            let id = user_id!("@guest-1:here");
            let made = store.create_account(id, guest, None).await;
            let guest = made.unwrap().unwrap();
            let upgrade = async |addresses: &[ThirdParty]| {
                let admission = Admission::default();
                let upgraded = store.upgrade_guest(guest, "$x", addresses, admission);
                upgraded.await.unwrap()
            };
            assert!(!upgrade(&[mail("b@x.example"), mail("a@x.example")]).await);
            assert!(store.third_parties(guest).await.unwrap().is_empty());
            let account = store.account(id).await.unwrap().unwrap();
            assert_eq!(account.password_hash, None);
            assert!(upgrade(&[mail("b@x.example")]).await);
            assert_eq!(store.third_parties(guest).await.unwrap().len(), 1);
            assert!(!upgrade(&[]).await, "it is a guest's no more");
        })
        .await;
    }
}
