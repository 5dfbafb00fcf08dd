use super::*;

const DAY: i64 = 24 * 60 * 60 * 1000;

fn answer(valid_until_ts: i64, current: &[(&str, u8)], old: &[(&str, u8, i64)]) -> ServerKeys {
    ServerKeys {
        server_name: "a.example".try_into().unwrap(),
        valid_until_ts,
        verify_keys: current
            .iter()
            .map(|(id, k)| ((*id).to_owned(), [*k; 32]))
            .collect(),
        old_verify_keys: old
            .iter()
            .map(|(id, k, at)| ((*id).to_owned(), ([*k; 32], *at)))
            .collect(),
    }
}

#[test]
fn validity_in_time() {
    let known = KnownKeys::default().joined_with(
        &answer(DAY, &[("ed25519:a", 1)], &[("ed25519:o", 2, 500)]),
        true,
        1000,
    );
    assert_eq!(known.lookup("ed25519:a", 0), KeyLookup::Found([1; 32]));
    assert_eq!(known.lookup("ed25519:a", DAY), KeyLookup::Found([1; 32]));
    assert_eq!(known.lookup("ed25519:a", DAY + 1), KeyLookup::Unknown);
    assert_eq!(known.lookup("ed25519:o", 500), KeyLookup::Found([2; 32]));
    assert_eq!(known.lookup("ed25519:o", 501), KeyLookup::Expired);
    assert_eq!(known.lookup("ed25519:x", 0), KeyLookup::Unknown);
}

#[test]
fn validity_is_capped_at_seven_days() {
    let known =
        KnownKeys::default().joined_with(&answer(i64::MAX, &[("ed25519:a", 1)], &[]), true, 0);
    assert_eq!(
        known.lookup("ed25519:a", 7 * DAY),
        KeyLookup::Found([1; 32])
    );
    assert_eq!(known.lookup("ed25519:a", 7 * DAY + 1), KeyLookup::Unknown);
}

#[test]
fn rotation_keeps_the_old_key_for_old_events() {
    let first = KnownKeys::default().joined_with(&answer(DAY, &[("ed25519:a", 1)], &[]), true, 0);
    let second = first.joined_with(
        &answer(2 * DAY, &[("ed25519:b", 2)], &[("ed25519:a", 1, 100)]),
        true,
        200,
    );
    assert_eq!(second.lookup("ed25519:a", 100), KeyLookup::Found([1; 32]));
    assert_eq!(second.lookup("ed25519:a", 101), KeyLookup::Expired);
    // One that vanished without a word stays valid as long as was said.
    let third = second.joined_with(&answer(3 * DAY, &[("ed25519:c", 3)], &[]), true, 300);
    assert_eq!(third.ends(), Some(3 * DAY));
    assert!(third.newest().eq(["ed25519:c"]));
    assert_eq!(KnownKeys::default().ends(), None);
    assert_eq!(
        third.lookup("ed25519:b", 2 * DAY),
        KeyLookup::Found([2; 32])
    );
    assert_eq!(third.lookup("ed25519:b", 2 * DAY + 1), KeyLookup::Unknown);
}

#[test]
fn rows_come_back_and_each_answer_makes_a_later_version() {
    let first = KnownKeys::default().joined_with(
        &answer(3 * DAY, &[("ed25519:a", 1)], &[("ed25519:o", 2, 5)]),
        true,
        9,
    );
    assert_eq!(first.fetched, 9);
    // Shorter validity takes nothing back.
    let known = first.joined_with(&answer(DAY, &[("ed25519:a", 1)], &[]), true, 9);
    assert_eq!(known.fetched, 10);
    assert_eq!(
        known.lookup("ed25519:a", 2 * DAY),
        KeyLookup::Found([1; 32])
    );
    assert_eq!(KnownKeys::stored(&known.rows(), 10), known);
}

#[test]
fn what_a_notary_passes_on_takes_nothing_back() {
    let told = answer(
        DAY,
        &[("ed25519:b", 2)],
        &[("ed25519:a", 1, 5), ("ed25519:o", 3, 1)],
    );
    let known = KnownKeys::default().joined_with(&told, true, 10);
    // From before the change, with a longer validity than what came after it.
    let late = answer(9 * DAY, &[("ed25519:a", 1)], &[("ed25519:o", 3, 4)]);
    let forged = answer(9 * DAY, &[("ed25519:b", 9), ("ed25519:z", 9)], &[]);
    assert!(known.gainsays(&late) && known.gainsays(&forged));
    for passed_on in [&late, &forged] {
        let after = known.joined_with(passed_on, false, 20);
        assert_eq!(after.lookup("ed25519:a", 6), KeyLookup::Expired);
        assert_eq!(after.lookup("ed25519:o", 2), KeyLookup::Expired);
        assert_eq!(after.lookup("ed25519:b", DAY), KeyLookup::Found([2; 32]));
        assert_eq!(after.lookup("ed25519:b", DAY + 1), KeyLookup::Unknown);
    }
    // It adds what isn't known, makes what is longer valid, and tells of what has gone out of use since.
    let newer = answer(2 * DAY, &[("ed25519:c", 4)], &[("ed25519:b", 2, 30)]);
    assert!(!known.gainsays(&newer));
    let after = known.joined_with(&newer, false, 40);
    assert_eq!(after.lookup("ed25519:c", DAY), KeyLookup::Found([4; 32]));
    assert_eq!(after.lookup("ed25519:b", 31), KeyLookup::Expired);
    let renewed = answer(2 * DAY, &[("ed25519:b", 2)], &[]);
    let after = known.joined_with(&renewed, false, 40);
    assert_eq!(
        after.lookup("ed25519:b", 2 * DAY),
        KeyLookup::Found([2; 32])
    );
    // An older one may not know yet that it is in use.
    let older = answer(DAY / 2, &[("ed25519:a", 1)], &[("ed25519:b", 2, 7)]);
    let after = known.joined_with(&older, false, 40);
    assert_eq!(after.lookup("ed25519:b", DAY), KeyLookup::Found([2; 32]));
    // Nor does one that says otherwise than the server put anything out of use.
    let stolen = answer(9 * DAY, &[("ed25519:a", 1)], &[("ed25519:b", 2, 0)]);
    let after = known.joined_with(&stolen, false, 40);
    assert_eq!(after.lookup("ed25519:b", DAY), KeyLookup::Found([2; 32]));
    // The server itself may take a key back into use.
    let after = known.joined_with(&late, true, 20);
    assert_eq!(after.lookup("ed25519:a", 6), KeyLookup::Found([1; 32]));
}

#[test]
fn hearsay_counts_where_it_fits_what_is_known() {
    let forged = answer(9 * DAY, &[("ed25519:a", 9)], &[]);
    let added = answer(9 * DAY, &[("ed25519:z", 9)], &[("ed25519:a", 1, 5)]);
    let revived = answer(9 * DAY, &[("ed25519:o", 2), ("ed25519:a", 1)], &[]);
    let changed = answer(9 * DAY, &[("ed25519:a", 1)], &[("ed25519:o", 9, DAY)]);
    let renewed = answer(9 * DAY, &[("ed25519:b", 3), ("ed25519:a", 1)], &[]);
    let first = answer(DAY, &[("ed25519:a", 1)], &[("ed25519:o", 2, 5)]);
    let known = KnownKeys::default().joined_with(&first, true, 0);
    for lie in [&forged, &added, &revived, &changed] {
        assert!(KnownKeys::default().agrees_with(lie));
        assert!(!known.agrees_with(lie), "{lie:?}");
    }
    assert!(known.agrees_with(&renewed));
}

#[test]
fn our_old_keys_count_until_they_expired() {
    let current = KeyPair::from_seed("new", &[1; 32]).unwrap();
    let old = |key_id: &str, public: &str| OldVerifyKey {
        key_id: key_id.to_owned(),
        public: public.to_owned(),
        expired_ts: 500,
    };
    let padded = format!("{}=", rhizome_protocol::hash::to_base64(&[7; 32]));
    let known = ours(&current, &[old("ed25519:old", &padded)]).unwrap();
    assert_eq!(known.lookup("ed25519:old", 500), KeyLookup::Found([7; 32]));
    assert_eq!(known.lookup("ed25519:old", 501), KeyLookup::Expired);
    let now = KeyLookup::Found(current.public());
    assert_eq!(known.lookup("ed25519:new", DAY), now);
    for (wrong, why) in [
        (vec![old("ed25519:old", "abc")], "no valid public key"),
        (vec![old("old", &padded)], "is no key id"),
        (vec![old("ed25519:new", &padded)], "is the key in use"),
        (vec![old("ed25519:old", &padded); 101], "more than 100"),
    ] {
        let error = ours(&current, &wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_server_with_endless_keys_is_bounded() {
    let ids: Vec<String> = (0..500).map(|n| format!("ed25519:{n}")).collect();
    let current: Vec<_> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    let known = KnownKeys::default().joined_with(&answer(DAY, &current, &[]), true, 0);
    assert_eq!(known.rows().len(), MAX_KEYS);
}

#[test]
fn a_key_in_use_takes_the_place_of_one_that_is_over() {
    let ids: Vec<String> = (0..MAX_KEYS).map(|n| format!("ed25519:{n}")).collect();
    let old = ids.iter().map(String::as_str).zip(1..);
    let old: Vec<_> = old.map(|(id, at)| (id, 1, at)).collect();
    // All at once, and one after the others.
    let all = KnownKeys::default().joined_with(&answer(DAY, &[("ed25519:new", 2)], &old), true, 0);
    let before =
        KnownKeys::default().joined_with(&answer(DAY, &[("ed25519:99", 1)], &old[..99]), true, 0);
    let after = before.joined_with(&answer(2 * DAY, &[("ed25519:new", 2)], &[]), true, 0);
    for known in [all, after] {
        assert_eq!(known.rows().len(), MAX_KEYS);
        assert_eq!(known.lookup("ed25519:new", 0), KeyLookup::Found([2; 32]));
        // The one that has been over for longest has gone.
        assert_eq!(known.lookup("ed25519:0", 0), KeyLookup::Unknown);
        assert_eq!(known.lookup("ed25519:1", 0), KeyLookup::Found([1; 32]));
    }
}

#[test]
fn what_a_notary_passes_on_crowds_out_no_key_in_use() {
    let known = KnownKeys::default().joined_with(
        &answer(DAY, &[("ed25519:b", 2)], &[("ed25519:a", 1, 5)]),
        true,
        10,
    );
    let ids: Vec<String> = (0..MAX_KEYS).map(|n| format!("ed25519:x{n}")).collect();
    let many: Vec<(&str, u8)> = ids.iter().map(|id| (id.as_str(), 9)).collect();
    let many = answer(9 * DAY, &many, &[]);
    let after = known.joined_with(&many, false, 20);
    assert_eq!(after.lookup("ed25519:b", DAY), KeyLookup::Found([2; 32]));
    assert_eq!(after.lookup("ed25519:a", 5), KeyLookup::Unknown);
    assert_eq!(after.keys.len(), MAX_KEYS);
    let after = known.joined_with(&many, true, 20);
    assert_eq!(after.lookup("ed25519:b", DAY), KeyLookup::Unknown);
}
