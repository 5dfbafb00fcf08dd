//! What is known of an event's children, here or elsewhere.

use std::collections::BTreeMap;

use crate::MatrixError;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rhizome_storage::{RelatedChild, ToldChildren};
use ring::digest::{SHA256, digest};
use serde_json::value::{RawValue, to_raw_value};

/// What is known of an event's children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    /// How many, by how they relate.
    pub counts: BTreeMap<String, i64>,
    /// Of their ids.
    pub hash: String,
}

impl Children {
    pub(super) fn of(children: &[&RelatedChild]) -> Self {
        let mut counts = BTreeMap::new();
        for child in children {
            *counts.entry(child.rel_type.clone()).or_default() += 1;
        }
        let mut ids: Vec<&str> = children.iter().map(|child| child.event.as_str()).collect();
        ids.sort_unstable();
        let hash = digest(&SHA256, ids.concat().as_bytes());
        Self {
            counts,
            hash: STANDARD_NO_PAD.encode(hash),
        }
    }

    /// An event's JSON with what is known of its children. All else stays to the letter: a number that is read and written
    /// again may be another, and then the event's hash is wrong.
    pub fn told_in(&self, event: &str) -> Result<Box<RawValue>, MatrixError> {
        self.spliced(event).map_err(|error| {
            tracing::error!(%error, "an event isn't JSON");
            MatrixError::internal()
        })
    }

    fn spliced(&self, event: &str) -> serde_json::Result<Box<RawValue>> {
        type Fields = BTreeMap<String, Box<RawValue>>;
        let mut fields: Fields = serde_json::from_str(event)?;
        let unsigned = fields.get("unsigned").map(|unsigned| unsigned.get());
        let unsigned = unsigned.and_then(|text| serde_json::from_str::<Fields>(text).ok());
        let mut unsigned = unsigned.unwrap_or_default();
        unsigned.insert("children".into(), to_raw_value(&self.counts)?);
        unsigned.insert("children_hash".into(), to_raw_value(&self.hash)?);
        fields.insert("unsigned".into(), to_raw_value(&unsigned)?);
        to_raw_value(&fields)
    }

    fn total(&self) -> i64 {
        self.counts.values().sum()
    }

    /// What another server says, if that is more.
    pub(super) fn or_told(self, told: Option<&ToldChildren>) -> Self {
        match told {
            Some(told) if told.total > self.total() => Self {
                counts: serde_json::from_str(&told.children).unwrap_or_default(),
                hash: told.hash.clone(),
            },
            _ => self,
        }
    }

    /// Whether another server knows of children that aren't here, and wasn't asked about them.
    pub(super) fn is_unexplored(&self, told: &ToldChildren) -> bool {
        let differs = told.total > self.total()
            || (told.total == self.total() && told.hash != self.hash && told.total > 0);
        differs && told.explored.as_ref() != Some(&told.hash)
    }
}

#[cfg(test)]
mod tests {
    use rhizome_storage::EventNo;
    use ruma::{EventId, event_id};

    use super::*;

    #[test]
    fn what_is_told_leaves_the_rest_as_it_is() {
        let children = Children {
            counts: BTreeMap::from([("m.reference".into(), 2)]),
            hash: "h".into(),
        };
        let told = |event: &str| children.told_in(event).unwrap().get().to_owned();
        let with = r#""children":{"m.reference":2},"children_hash":"h"}"#;
        for unsigned in ["", r#","unsigned":7"#, r#","unsigned":{"children":1}"#] {
            let event = format!(r#"{{"content":{{"n":1.0e2,"m":-0,"x":1E400}}{unsigned}}}"#);
            let expected =
                format!(r#"{{"content":{{"n":1.0e2,"m":-0,"x":1E400}},"unsigned":{{{with}}}"#);
            assert_eq!(told(&event), expected);
        }
        let kept = format!(r#"{{"unsigned":{{"age":1,{with}}}"#);
        assert_eq!(told(r#"{"unsigned":{"age":1}}"#), kept);
        assert!(children.told_in("[]").is_err());
    }

    #[test]
    fn children_are_counted_and_hashed_in_order() {
        let child = |id: &EventId, rel_type: &str| RelatedChild {
            parent: event_id!("$AAA").to_owned(),
            no: EventNo(1),
            event: id.to_owned(),
            rel_type: rel_type.to_owned(),
            ts: 0,
        };
        let all = [
            child(event_id!("$DDD"), "custom"),
            child(event_id!("$BBB"), "m.reference"),
            child(event_id!("$CCC"), "m.reference"),
        ];
        let found = Children::of(&all.iter().collect::<Vec<_>>());
        assert_eq!(
            found.counts,
            BTreeMap::from([("custom".into(), 1), ("m.reference".into(), 2)])
        );
        let hash = digest(&SHA256, b"$BBB$CCC$DDD");
        assert_eq!(found.hash, STANDARD_NO_PAD.encode(hash));
        let told = |total, hash: &str| ToldChildren {
            parent: event_id!("$AAA").to_owned(),
            total,
            children: r#"{"m.reference":9}"#.into(),
            hash: hash.into(),
            explored: None,
        };
        assert!(found.is_unexplored(&told(4, "x")) && found.is_unexplored(&told(3, "x")));
        assert!(!found.is_unexplored(&told(3, &found.hash)) && !found.is_unexplored(&told(2, "x")));
        let explored = ToldChildren {
            explored: Some("x".into()),
            ..told(4, "x")
        };
        assert!(!found.is_unexplored(&explored));
        assert_eq!(found.clone().or_told(Some(&told(9, "x"))).total(), 9);
        assert_eq!(found.clone().or_told(Some(&told(3, "x"))), found);
        assert_eq!(found.clone().or_told(None), found);
    }
}
