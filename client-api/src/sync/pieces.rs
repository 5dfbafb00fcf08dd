//! What all forms of sync write alike.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_storage::{AccountData, KeyCounts, Logged, Receipt, WaitingMessage};
use ruma::OwnedUserId;

use super::Devices;
use crate::view::json::Json;

/// Whose devices changed, if anybody's did.
pub fn device_lists(json: &mut Json, (changed, left): &Devices) {
    if !changed.is_empty() || !left.is_empty() {
        json.key("device_lists").open();
        users(json.key("changed"), changed);
        users(json.key("left"), left);
        json.close();
    }
}

/// An `m.typing`.
pub fn typing(json: &mut Json, typing: &[OwnedUserId]) {
    json.open()
        .key("type")
        .string("m.typing")
        .key("content")
        .open();
    users(json.key("user_ids"), typing);
    json.close().close();
}

/// An `m.receipt`: event id → kind → user → receipt. Of several receipts of a user at one event (in several threads)
/// the form holds only one: the one without a thread, which says the most (MSC4102), or the last.
pub fn receipts(json: &mut Json, receipts: &[(OwnedUserId, Arc<Logged<Receipt>>)]) {
    json.open().key("type").string("m.receipt").key("content");
    receipts_content(json, receipts);
    json.close();
}

/// Its content.
pub fn receipts_content(json: &mut Json, receipts: &[(OwnedUserId, Arc<Logged<Receipt>>)]) {
    let mut sorted: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, _>>> = BTreeMap::new();
    for (user, receipt) in receipts {
        let kinds = sorted.entry(receipt.event_id.as_str()).or_default();
        let users = kinds.entry(&receipt.kind).or_default();
        let told = users.entry(user.as_str()).or_insert(receipt);
        if told.thread.is_some() {
            *told = receipt;
        }
    }
    json.open();
    for (event_id, kinds) in sorted {
        json.key(event_id).open();
        for (kind, users) in kinds {
            json.key(kind).open();
            for (user, receipt) in users {
                json.key(user).open().key("ts").number(receipt.ts);
                if let Some(thread) = &receipt.thread {
                    json.key("thread_id").string(thread);
                }
                json.close();
            }
            json.close();
        }
        json.close();
    }
    json.close();
}

/// Users as a list of their names.
pub fn users<'a>(json: &mut Json, users: impl IntoIterator<Item = &'a OwnedUserId>) {
    json.open_list();
    for user in users {
        json.string(user.as_str());
    }
    json.close_list();
}

/// Account data as a list of events.
pub fn account_data_list(json: &mut Json, data: &[Arc<Logged<AccountData>>]) {
    json.open_list();
    for one in data {
        json.open()
            .key("type")
            .string(&one.kind)
            .key("content")
            .raw(&one.content)
            .close();
    }
    json.close_list();
}

/// What a device has to give out.
pub fn key_counts(json: &mut Json, keys: &KeyCounts) {
    json.key("device_one_time_keys_count").open();
    for (algorithm, count) in &keys.one_time {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        json.key(algorithm).number(count);
    }
    json.close();
    json.key("device_unused_fallback_key_types").open_list();
    for algorithm in &keys.unused_fallback {
        json.string(algorithm);
    }
    json.close_list();
}

/// Messages for a device as a list.
pub fn to_device_list(json: &mut Json, messages: &[WaitingMessage]) {
    json.open_list();
    for message in messages {
        json.open()
            .key("content")
            .raw(&message.content)
            .key("sender")
            .string(message.sender.as_str())
            .key("type")
            .string(&message.kind)
            .close();
    }
    json.close_list();
}
