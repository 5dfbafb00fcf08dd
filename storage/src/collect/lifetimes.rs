//! How long the rows of each table live: nothing in the database grows with time alone. A table that isn't in the list
//! fails a test, and so does one that docs/growth.md tells otherwise.

/// How it comes that the rows of a table end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// They stay: there are as many as there are things that they are about, and none comes by time alone.
    Stays,
    /// They go with what they belong to, with what takes their place, or by their own task.
    Goes,
    /// The collecting pass deletes them.
    Collected,
}

/// How long the rows of a table live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// Which table.
    pub table: &'static str,
    /// How it comes that they end.
    pub ends: Ends,
    /// For how long they live, in words.
    pub rule: &'static str,
}

macro_rules! lifetimes {
    ($($table:ident $ends:ident $rule:literal)*) => {
        /// Of each table.
        pub const LIFETIMES: &[Lifetime] = &[$(Lifetime {
            table: stringify!($table),
            ends: Ends::$ends,
            rule: $rule,
        }),*];
    };
}

lifetimes! {
    meta Stays "a few facts about the database"
    counter Stays "one row"
    lease_block Stays "one row for each kind of number"
    lease Stays "one row for each kind of work that one process does"
    sender_lease Stays "one row, of processes of an older version"
    reader Stays "one row for each reader of the log"
    relation_fill Stays "one row until it is done"
    search_upto Stays "one row"
    people_fill Stays "one row"
    media_store Stays "one row for each configured store"
    server_name Stays "as many as there are servers that were ever named"
    user_name Stays "as many as there are users who were ever named"
    state_key Stays "as many as there are types of state with their keys"
    room Stays "as many as there are rooms that were ever named; rooms aren't deleted"
    event Stays "as long as its room: it is its history, what was refused included"
    event_auth Stays "as long as its event"
    missing_auth Stays "as long as its room, or until the event comes"
    missing_prev Stays "as long as its room, or until the event comes"
    pending_redaction Stays "as long as its room, or until the event comes"
    state_change Stays "as long as its room: sync tokens have no age, and states at old moments are made of them"
    current_state Stays "as long as the entry is in the room's state; names, spaces and lists of rooms are read from it"
    membership Stays "as long as its room"
    room_server Stays "as long as its room: whoever was in it is told from strangers, whose keys go"
    room_summary Stays "as long as its room"
    partial_room Stays "one for each room of which not all members are known"
    partial_server Stays "10,000 at most for each such room"
    partial_event Stays "as long as its event, or until the room's members are known"
    members_known Stays "as long as its room"
    invite Stays "one for each user and room; of one that is gone it is known that it was"
    unread Stays "one for each user and room"
    restored Stays "as long as its event: readers of the log go by it"
    relation Stays "as long as its event, unless that is redacted"
    relationship Stays "as long as its event"
    relationship_told Stays "as long as its room"
    related_redaction Stays "as long as its room, or until it is called off"
    thread Stays "as long as its room"
    search Stays "as long as its event, unless that is redacted"
    search_edit Stays "as long as its event"
    people_name Stays "as long as somebody is called so in a room, or has an account"
    people_word Stays "as long as its name"
    people_member Stays "as long as the user is in the room"
    people_room Stays "as long as its room"
    device_list Stays "one for each user whose devices were seen"
    account Stays "for ever: nobody else gets the name"
    erasure Stays "as long as the account"
    accepted_terms Stays "as long as the account, one for each policy"
    notice_room Stays "as long as the account"
    status_message Stays "one for each account that ever said something"
    backup Stays "as long as the account; of deleted ones the last keeps the count"
    media Stays "of users here until they are deleted; of others by the operator's rules (media sweep)"
    block Stays "one for each thing that was ever kept out"
    user_limit Stays "one for each limit that was ever set"
    appservice_pause Stays "one for each application service that was ever paused"
    registration_token Stays "until the operator deletes it"
    server_key Stays "of servers that were ever in a room here for ever: old events are signed by them; of others 7 days"
    server_key_response Stays "one for each server; of one that was never in a room here 7 days"
    server_key_former Stays "as long as no later answer of the server has its keys"

    room_alias Goes "when it is deleted"
    network_listing Goes "when its application service takes the room out of the directory"
    account_data Goes "when it is deleted, or the account erased"
    thread_subscription Goes "when the account is erased"
    profile Goes "with the account"
    profile_change Goes "with the account; of fields that are gone the newest few"
    profile_spread Goes "with the account; one for each field"
    third_party Goes "with the account, or when it is taken away"
    third_party_bound Goes "with the account, or when it is unbound"
    cross_signing_key Goes "with the account, or what is remembered of the user"
    key_signature Goes "with the account, the device or the key"
    guest Goes "when the guest becomes a user; else as long as the account"
    awaiting_approval Goes "when the operator has decided"
    device Goes "with its session, or unseen for `server.expire_devices_after`"
    access_token Goes "with its device, or what replaces it: whoever has an expired one is told that the session lives"
    refresh_token Goes "with its device, or what replaces it: by an expired one a stolen one is known"
    device_keys Goes "with its device, or what is remembered of the user"
    one_time_key Goes "with its device; claimed ones when it brings others"
    fallback_key Goes "with its device, or what replaces it"
    dehydrated_device Goes "with its device"
    pusher Goes "with its session, or refused by who is to be told"
    push Goes "when it is told, or with its pusher"
    sliding_room Goes "with its connection"
    sliding_version Goes "with its connection, or when a later one is confirmed"
    remote_devices Goes "an hour or so after nobody here shares a room with the user any more"
    inbox Goes "when it is decided, or after 3 days"
    inbound_txn Goes "after 3 days"
    sent_join Goes "when we are in the room, or it is taken back"
    profile_untold Goes "when the room is told"
    task Goes "of those that are over the newest 1,000 stay"
    report Goes "when it is dismissed; of those that are done the newest 10,000 stay"
    media_blob Goes "when nothing refers to it (media sweep)"
    media_thumbnail Goes "with the file that it is of (media sweep)"
    media_upload Goes "when it is done, or nothing has come of it for long (media sweep)"
    media_upload_part Goes "with its upload"
    url_preview Goes "when it has expired (media sweep)"
    url_preview_picture Goes "a while after its preview (media sweep)"

    state_snapshot Collected "a day after nothing needs it any more"
    snapshot_candidate Collected "with its snapshot, or when something needs that again"
    revocation Collected "when every process has heard of it"
    device_change Collected "when every process has heard of it"
    key_count Collected "when every process has heard of it"
    user_signed Collected "when every process has heard of it"
    forgotten Collected "when every process has heard of it"
    listing Collected "when every process has heard of it"
    directive Collected "when every process has heard of it"
    aliases_changed Collected "when every process has heard of it"
    appservice_reload Collected "when every process has heard of it"
    appservice Collected "60 days after it was registered last"
    appservice_txn Collected "when it is acknowledged, or with its service"
    sticky Collected "when it is sticky no longer"
    delayed_event Collected "a week after it is over; of a user's the newest 1,000 stay"
    backup_session Collected "with its backup"
    backup_gone Collected "when nothing is left of the backup"
    sliding_connection Collected "30 days after it was used last, or with its device"
    to_device Collected "when its device has it, with the device, or after 60 days"
    to_device_out Collected "when it has arrived, or after 60 days"
    to_device_txn Collected "after 7 days, or with its session"
    to_device_seen Collected "after 14 days"
    destination_state Collected "a day after the server is in no room, failed last, and nothing waits for it"
    inbound_seen Collected "30 days after the server was there last"
    client_transaction Collected "after 7 days"
    receipt Collected "when its user has left the room"
    outbound Collected "when all servers have it; for one that is away 30 days, the newest of a room 180 days"
    outbound_last Collected "with its set"
    set_member Collected "with its set"
    destination_set Collected "a day after it is retired, which is 30 days after it was used last"
    client_filter Collected "180 days after it was used last; a user's newest stays"
    log_time Collected "after 200 days"
    uia_session Collected "when it has expired"
    validation Collected "when it has expired, or the password is changed"
    login_token Collected "when it has expired, is used, or with its device"
    login_as Collected "when it has expired, is logged out, or with the rights or all sessions of who asked for it; of an administrator's the newest 10,000 stay"
    openid_token Collected "when it has expired, or with its device"
    registration_token_pending Collected "when it has expired, or is used"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Dialect;
    use crate::engine::sql::Columns as _;
    use crate::testing::each_database;

    /// What SQLite keeps a search index in, beside the table `search`.
    const OF_SEARCH: [&str; 5] = ["config", "content", "data", "docsize", "idx"];

    #[tokio::test]
    async fn every_table_says_how_long_its_rows_live() {
        each_database(async |store| {
            let tables = match store.dialect() {
                Dialect::Sqlite => {
                    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
                }
                Dialect::Postgres => {
                    "SELECT CAST(table_name AS TEXT) AS name FROM information_schema.tables \
                     WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
                }
            };
            let rows = store.rows(store.sql(tables)).await.unwrap();
            let mut there: BTreeSet<String> =
                rows.iter().map(|row| row.get("name").unwrap()).collect();
            there.remove("_sqlx_migrations");
            for part in OF_SEARCH {
                there.remove(&format!("search_{part}"));
            }
            let listed: BTreeSet<String> =
                LIFETIMES.iter().map(|one| one.table.to_owned()).collect();
            assert_eq!(listed.len(), LIFETIMES.len(), "none stands there twice");
            assert_eq!(listed, there);
        })
        .await;
    }

    #[test]
    fn the_documentation_says_the_same() {
        let page = include_str!("../../../docs/growth.md");
        let told: BTreeSet<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let rows = LIFETIMES.iter();
        let rows: BTreeSet<String> = rows
            .map(|one| format!("| `{}` | {} |", one.table, one.rule))
            .collect();
        let rows: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
        assert_eq!(told, rows);
    }
}
