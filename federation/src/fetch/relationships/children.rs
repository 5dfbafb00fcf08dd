//! What is known of an event's children, here or elsewhere.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rhizome_storage::{RelatedChild, ToldChildren};
use ring::digest::{SHA256, digest};

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
