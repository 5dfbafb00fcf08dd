//! Keys with the signatures that others have added.

use std::collections::BTreeMap;

use ruma::UserId;
use serde_json::{Value, json};

use crate::{Object, sign::json_text};

/// Whether a key that somebody has signed is the one that is kept, but for signatures.
pub fn is_same_key(signed: &Object, kept: &Object) -> bool {
    match (json_text(signed), json_text(kept)) {
        (Ok(signed), Ok(kept)) => signed == kept,
        _ => false,
    }
}

/// A key that is kept, as whoever asks for it sees it: with signatures that were added (by user, key id), and with the
/// name that its device has.
pub fn shown<'a>(
    kept: &str,
    added: impl IntoIterator<Item = (&'a UserId, &'a str, &'a str)>,
    display_name: Option<&str>,
) -> Option<String> {
    let mut added = added.into_iter().peekable();
    if added.peek().is_none() {
        let Some(name) = display_name else {
            return Some(kept.to_owned());
        };
        // Nothing but that comes after what is kept, which is an object with something in it.
        let object = kept.strip_suffix('}')?;
        let unsigned = json!({ "device_display_name": name });
        return Some(format!("{object},\"unsigned\":{unsigned}}}"));
    }
    let mut object: Object = serde_json::from_str(kept).ok()?;
    let empty = || Value::Object(Object::new());
    for (user, key_id, signature) in added {
        let all = object.entry("signatures").or_insert_with(empty);
        let theirs = all.as_object_mut()?.entry(user.as_str());
        let theirs = theirs.or_insert_with(empty).as_object_mut()?;
        theirs.insert(key_id.to_owned(), signature.into());
    }
    if let Some(name) = display_name {
        object.insert("unsigned".into(), json!({ "device_display_name": name }));
    }
    serde_json::to_string(&object).ok()
}

/// The signatures of an object that `user` has made, by key id.
pub fn signatures_of<'a>(object: &'a Object, user: &UserId) -> BTreeMap<&'a str, &'a str> {
    let theirs = object
        .get("signatures")
        .and_then(|all| all.get(user.as_str()))
        .and_then(Value::as_object);
    let texts = theirs.into_iter().flatten();
    texts
        .filter_map(|(key_id, signature)| Some((key_id.as_str(), signature.as_str()?)))
        .collect()
}
