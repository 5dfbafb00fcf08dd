//! Files as an administrator looks through them.

use super::*;
use crate::UserNo;

/// Two files of Alice's, one of Bob's, and one of another server's; all have the same bytes.
async fn files(store: &Store, clock: &Clock) -> (UserNo, UserNo) {
    let ids = ["@alice:here.example", "@bob:here.example"];
    let mut users = Vec::new();
    for id in ids {
        let id = <&ruma::UserId>::try_from(id).unwrap();
        users.push(store.user_no(id).await.unwrap());
    }
    let bytes = blob("k1", "aa");
    for (n, (id, owner)) in [("one", users[0]), ("two", users[0]), ("three", users[1])]
        .into_iter()
        .enumerate()
    {
        let new = NewMedia {
            owner: Some(owner),
            name: None,
            size: 5 + n as u64,
            ..file(id)
        };
        let keep = if n == 0 {
            Keep::New(&bytes)
        } else {
            Keep::Known("k1")
        };
        store.add_media(&new, keep).await.unwrap();
        clock.advance(std::time::Duration::from_millis(10));
    }
    let far = remote("four");
    store.add_media(&far, Keep::Known("k1")).await.unwrap();
    (users[0], users[1])
}

#[tokio::test]
async fn a_users_files_are_put_in_order() {
    each_with_clock(async |store, clock: Clock| {
        let (alice, _) = files(&store, &clock).await;
        let page = async |order, page| {
            let (page, total) = store.media_page(alice, order, page).await.unwrap();
            let ids = page.into_iter().map(|one| one.media_id);
            (ids.collect::<Vec<_>>().join(" "), total)
        };
        for order in [
            MediaOrder::Id,
            MediaOrder::Name,
            MediaOrder::Created,
            MediaOrder::Accessed,
            MediaOrder::Size,
            MediaOrder::ContentType,
            MediaOrder::Quarantined,
            MediaOrder::Protected,
        ] {
            let (ids, total) = page((order, false), (0, 9)).await;
            assert_eq!((&*ids, total), ("one two", 2), "{order:?}");
        }
        let newest = (MediaOrder::Created, true);
        assert_eq!(page(newest, (0, 9)).await.0, "two one");
        assert_eq!(page(newest, (1, 1)).await, ("one".to_owned(), 2));
        assert_eq!(page((MediaOrder::Size, true), (0, 1)).await.0, "two");
        // Who deletes a page after the other isn't held up by what is deleted.
        let quarantined = store.quarantine_media((OURS, "two"), false, true);
        assert!(quarantined.await.unwrap());
        assert_eq!(page(newest, (0, 9)).await, ("two one".to_owned(), 2));
        assert_eq!(store.delete_media(&[(OURS, "two")]).await.unwrap(), 1);
        assert_eq!(page(newest, (0, 9)).await, ("one".to_owned(), 1));
    })
    .await;
}

#[tokio::test]
async fn who_has_uploaded_what_is_counted() {
    each_with_clock(async |store, clock: Clock| {
        let begin = store.clock().now_ms();
        let (alice, bob) = files(&store, &clock).await;
        let page = async |which: &UploaderQuery, order| {
            let page = store.uploader_page(which, order, (0, 9)).await.unwrap();
            assert_eq!(page.0.len(), page.1);
            let users = page.0.into_iter();
            users
                .map(|one| (one.user, one.files, one.bytes))
                .collect::<Vec<_>>()
        };
        let all = UploaderQuery::default();
        let both = [(alice, 2, 11), (bob, 1, 7)];
        for order in [
            (UploaderOrder::UserId, false),
            (UploaderOrder::Name, false),
            (UploaderOrder::Files, true),
            (UploaderOrder::Bytes, true),
        ] {
            assert_eq!(page(&all, order).await, both, "{order:?}");
        }
        let by_id = (UploaderOrder::UserId, false);
        let some = UploaderQuery {
            has: Some("BOB".into()),
            ..UploaderQuery::default()
        };
        assert_eq!(page(&some, by_id).await, both[1..]);
        let late = UploaderQuery {
            from_ms: Some(begin + 10),
            until_ms: Some(begin + 10),
            ..UploaderQuery::default()
        };
        assert_eq!(page(&late, by_id).await, [(alice, 1, 6)]);
    })
    .await;
}

#[tokio::test]
async fn files_are_left_out() {
    each_with_clock(async |store, clock: Clock| {
        files(&store, &clock).await;
        let list = async |which: &MediaQuery| {
            let rows = store.list_media(which, ("", ""), 9).await.unwrap();
            let ids = rows.into_iter().map(|row| row.media_id);
            ids.collect::<Vec<_>>().join(" ")
        };
        let larger = MediaQuery {
            larger_than: Some(5),
            ..MediaQuery::default()
        };
        assert_eq!(list(&larger).await, "three two");
        store.protect_media((OURS, "two"), true).await.unwrap();
        let quarantined = store.quarantine_media((OURS, "three"), false, true);
        assert!(quarantined.await.unwrap());
        let free = MediaQuery {
            protected: true,
            not_quarantined: true,
            no_pictures: true,
            ..MediaQuery::default()
        };
        // The others have the same bytes.
        assert_eq!(list(&free).await, "two");
    })
    .await;
}
