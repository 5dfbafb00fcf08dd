//! Accounts, and what belongs to users and rooms.
//!
//! What may be left for a while, as it is written by whoever doesn't hold the user's lock, isn't asked for: messages to
//! devices that have just gone, pushers of sessions that have just ended. The purge takes the former.

use super::ask::Question;
use super::finding::{Fault, LEFT_OVER, RESTORE};

const BROKEN: &str = "What these rows say can't be shown, or fails where it is asked for.";

/// A question about rows of a table `t` that belong to what isn't there.
macro_rules! orphans {
    ($what:literal, $means:expr, $next:expr, $example:literal from $from:literal) => {
        Question {
            fault: Fault {
                what: $what,
                means: $means,
                next: $next,
            },
            sql: concat!(
                "SELECT ",
                $example,
                " AS example, COUNT(*) OVER () AS total FROM ",
                $from,
                " ORDER BY 1 LIMIT $1"
            ),
        }
    };
}

pub(super) static QUESTIONS: &[Question] = &[
    orphans!(
        "users belong to servers that have no name", BROKEN, RESTORE,
        "t.user_id" from "user_name t LEFT JOIN server_name s ON s.no = t.server WHERE s.no IS NULL"
    ),
    orphans!(
        "accounts belong to users that have no name", BROKEN, RESTORE,
        "'user number ' || t.user_no" from
        "account t LEFT JOIN user_name u ON u.no = t.user_no WHERE u.no IS NULL"
    ),
    orphans!(
        "devices belong to users without an account",
        "Nobody can log them out.", LEFT_OVER,
        "COALESCE(u.user_id, 'user number ' || t.user_no) || ' ' || t.device_id" from
        "device t LEFT JOIN account a ON a.user_no = t.user_no LEFT JOIN user_name u ON u.no = t.user_no \
         WHERE a.user_no IS NULL"
    ),
    orphans!(
        "access tokens belong to devices that aren't there",
        "Whoever has one may still be let in, and nobody sees the session.",
        "Run `rhizome user logout` for these users.",
        "COALESCE(u.user_id, 'user number ' || t.user_no) || ' ' || t.device_id" from
        "access_token t LEFT JOIN device d ON d.user_no = t.user_no AND d.device_id = t.device_id \
         LEFT JOIN user_name u ON u.no = t.user_no WHERE d.user_no IS NULL"
    ),
    orphans!(
        "refresh tokens belong to devices that aren't there",
        "Whoever has one may still be let in, and nobody sees the session.",
        "Run `rhizome user logout` for these users.",
        "COALESCE(u.user_id, 'user number ' || t.user_no) || ' ' || t.device_id" from
        "refresh_token t LEFT JOIN device d ON d.user_no = t.user_no AND d.device_id = t.device_id \
         LEFT JOIN user_name u ON u.no = t.user_no WHERE d.user_no IS NULL"
    ),
    orphans!(
        "keys belong to devices that aren't there",
        "Others may encrypt for devices that nobody has.", LEFT_OVER,
        "COALESCE(u.user_id, 'user number ' || t.user_no) || ' ' || t.device_id" from
        "(SELECT user_no, device_id FROM one_time_key UNION SELECT user_no, device_id FROM fallback_key \
         UNION SELECT k.user_no, k.device_id FROM device_keys k JOIN account o ON o.user_no = k.user_no \
         UNION SELECT user_no, device_id FROM dehydrated_device) AS t \
         LEFT JOIN device d ON d.user_no = t.user_no AND d.device_id = t.device_id \
         LEFT JOIN user_name u ON u.no = t.user_no WHERE d.user_no IS NULL"
    ),
    orphans!(
        "pushers belong to users without an account",
        "Nobody is told anything by them.", LEFT_OVER,
        "COALESCE(u.user_id, 'user number ' || t.user_no) || ' ' || t.app_id" from
        "pusher t LEFT JOIN account a ON a.user_no = t.user_no LEFT JOIN user_name u ON u.no = t.user_no \
         WHERE a.user_no IS NULL"
    ),
    orphans!(
        "addresses belong to users without an account",
        "Nobody else can add them, and nobody can log in with them.", LEFT_OVER,
        "t.medium || ' of user number ' || t.user_no" from
        "third_party t LEFT JOIN account a ON a.user_no = t.user_no WHERE a.user_no IS NULL"
    ),
    orphans!(
        "backups of keys belong to users without an account",
        "Nobody can get them.", LEFT_OVER,
        "COALESCE(u.user_id, 'user number ' || t.user_no) || ' version ' || t.version" from
        "backup t LEFT JOIN account a ON a.user_no = t.user_no LEFT JOIN user_name u ON u.no = t.user_no \
         WHERE a.user_no IS NULL"
    ),
    orphans!(
        "receipts are of users or rooms that nobody knows", BROKEN, LEFT_OVER,
        "t.event_id || ' of ' || COALESCE(u.user_id, 'user number ' || t.user_no) || ' in ' \
         || COALESCE(r.room_id, 'room number ' || t.room)" from
        "receipt t LEFT JOIN user_name u ON u.no = t.user_no LEFT JOIN room r ON r.no = t.room \
         WHERE u.no IS NULL OR r.no IS NULL"
    ),
    orphans!(
        "account data is of users or rooms that nobody knows", BROKEN, LEFT_OVER,
        "t.kind || ' of ' || COALESCE(u.user_id, 'user number ' || t.user_no) || ' in ' \
         || COALESCE(r.room_id, 'room number ' || t.room)" from
        "account_data t LEFT JOIN user_name u ON u.no = t.user_no LEFT JOIN room r ON r.no = t.room \
         WHERE u.no IS NULL OR (r.no IS NULL AND t.room <> 0)"
    ),
    orphans!(
        "memberships are of users or rooms that nobody knows", BROKEN, RESTORE,
        "COALESCE(u.user_id, 'user number ' || t.user_no) || ' in ' \
         || COALESCE(r.room_id, 'room number ' || t.room)" from
        "membership t LEFT JOIN user_name u ON u.no = t.user_no LEFT JOIN room r ON r.no = t.room \
         WHERE u.no IS NULL OR r.no IS NULL"
    ),
    orphans!(
        "aliases lead to rooms that nobody knows",
        "Nobody can join by them, and nobody else can have them.", LEFT_OVER,
        "t.alias" from "room_alias t LEFT JOIN room r ON r.no = t.room WHERE r.no IS NULL"
    ),
    orphans!(
        "directories of other networks hold rooms that nobody knows",
        "They aren't shown.", LEFT_OVER,
        "'room number ' || t.room || ' of ' || t.instance" from
        "network_listing t LEFT JOIN room r ON r.no = t.room WHERE r.no IS NULL"
    ),
];
