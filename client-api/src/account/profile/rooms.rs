//! A user's profile in their rooms: what member events say of it.

use rhizome_protocol::Object;
use rhizome_rooms::membership::restricted::AUTHORISED_VIA;
use rhizome_storage::{Pos, Spread};
use serde_json::Value;

/// What has changed before a position, as far as the profile says so still: told where it was so a moment ago.
pub(super) fn meanwhile(spreads: Vec<Spread>, at: Pos, profile: &Object) -> Vec<Spread> {
    let mut found = Vec::new();
    for mut spread in spreads {
        let says = profile.get(&spread.field).and_then(Value::as_str);
        if spread.pos < at && says == spread.value.as_deref() {
            spread.was = Some(std::mem::take(&mut spread.earlier));
            found.push(spread);
        }
    }
    found
}

/// A member event's content as it is to be; `None` if it says all that already.
pub(super) fn changed(content: &Object, spreads: &[Spread]) -> Option<Object> {
    let mut new = content.clone();
    for spread in spreads {
        let field = spread.field.as_str();
        let told = new.get(field).unwrap_or(&Value::Null);
        if spread.was.as_ref().is_some_and(|was| !was.contains(told)) {
            continue;
        }
        match &spread.value {
            Some(value) => new.insert(field.to_owned(), value.as_str().into()),
            None => new.remove(field),
        };
    }
    if new == *content {
        return None;
    }
    // These belong to the one act of joining, not to the membership.
    new.remove(AUTHORISED_VIA);
    new.remove("reason");
    Some(new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spread(field: &str, value: Option<&str>, was: Option<&Value>) -> Spread {
        Spread {
            pos: Pos(1),
            field: field.to_owned(),
            value: value.map(ToOwned::to_owned),
            was: was.map(|was| vec![json!("another"), was.clone()]),
            earlier: vec![Value::Null, "A".into()],
        }
    }

    fn after(content: &Value, spreads: &[Spread]) -> Option<Value> {
        changed(content.as_object().unwrap(), spreads).map(Value::Object)
    }

    #[test]
    fn a_room_is_told_what_it_does_not_know() {
        let content =
            json!({ "membership": "join", "displayname": "A", "reason": "x", "org.x": 1 });
        let named = json!({ "membership": "join", "displayname": "B", "org.x": 1 });
        assert_eq!(after(&content, &[]), None);
        assert_eq!(
            after(&content, &[spread("displayname", Some("A"), None)]),
            None
        );
        assert_eq!(
            after(&content, &[spread("displayname", Some("B"), None)]),
            Some(named)
        );
        let both = [
            spread("displayname", None, None),
            spread("avatar_url", Some("mxc://a/b"), None),
        ];
        let told = json!({ "membership": "join", "avatar_url": "mxc://a/b", "org.x": 1 });
        assert_eq!(after(&content, &both), Some(told));
    }

    #[test]
    fn a_room_with_a_name_of_its_own_is_left_alone_if_that_is_wanted() {
        let content = json!({ "membership": "join", "displayname": "A" });
        let without = json!({ "membership": "join" });
        let unchanged = |was: Value| [spread("displayname", Some("B"), Some(&was))];
        assert!(after(&content, &unchanged("A".into())).is_some());
        assert_eq!(after(&content, &unchanged("C".into())), None);
        assert_eq!(after(&content, &unchanged(Value::Null)), None);
        assert!(after(&without, &unchanged(Value::Null)).is_some());
        assert_eq!(after(&without, &unchanged("A".into())), None);
    }

    #[test]
    fn who_has_come_with_what_was_so_a_moment_ago_is_told() {
        let profile = json!({ "displayname": "B" });
        let profile = profile.as_object().unwrap();
        let joined = |name: &str, value: &str, at| {
            let spreads = vec![spread("displayname", Some(value), None)];
            let content = json!({ "membership": "join", "displayname": name });
            after(&content, &meanwhile(spreads, at, profile)).is_some()
        };
        assert!(joined("A", "B", Pos(2)));
        assert!(!joined("Own", "B", Pos(2)), "a name for this room");
        assert!(!joined("A", "B", Pos(1)), "it is told by itself");
        assert!(!joined("A", "C", Pos(2)), "no room is to know it");
    }
}
