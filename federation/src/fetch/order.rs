//! Putting events that arrived together into an order in which they can be decided.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use ruma::{EventId, OwnedEventId};

/// Sorts `items` so that each comes after those of its parents that are among them.
///
/// Among events that are ready at once the smaller `depth` goes first, then the smaller id, so the
/// result doesn't depend on the order of the input. Depths come from strangers and decide nothing
/// but these ties. Repeated ids are dropped. Events on a cycle (impossible where ids are hashes) are
/// dropped as well.
pub(crate) fn parents_first<T, P>(
    items: Vec<T>,
    id: impl Fn(&T) -> &EventId,
    depth: impl Fn(&T) -> i64,
    parents: P,
) -> Vec<T>
where
    P: Fn(&T) -> Vec<OwnedEventId>,
{
    let mut index: HashMap<OwnedEventId, usize> = HashMap::with_capacity(items.len());
    let mut slots: Vec<Option<T>> = Vec::with_capacity(items.len());
    for item in items {
        if !index.contains_key(id(&item)) {
            index.insert(id(&item).to_owned(), slots.len());
            slots.push(Some(item));
        }
    }
    let mut waiting = vec![0_usize; slots.len()];
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); slots.len()];
    let mut ready = BinaryHeap::new();
    for (at, item) in slots.iter().enumerate() {
        let Some(item) = item else { continue };
        let mut inside: Vec<usize> = parents(item)
            .iter()
            .filter_map(|parent| index.get(parent).copied())
            .collect();
        inside.sort_unstable();
        inside.dedup();
        for parent in &inside {
            children[*parent].push(at);
        }
        waiting[at] = inside.len();
        if inside.is_empty() {
            ready.push(Reverse((depth(item), id(item).to_owned(), at)));
        }
    }
    let mut sorted = Vec::with_capacity(slots.len());
    while let Some(Reverse((_, _, at))) = ready.pop() {
        for &child in &children[at] {
            waiting[child] -= 1;
            if waiting[child] == 0
                && let Some(item) = &slots[child]
            {
                ready.push(Reverse((depth(item), id(item).to_owned(), child)));
            }
        }
        sorted.extend(slots[at].take());
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(events: &[(&str, i64, &[&str])]) -> Vec<String> {
        let items: Vec<(OwnedEventId, i64, Vec<OwnedEventId>)> = events
            .iter()
            .map(|(id, depth, parents)| {
                let owned = |id: &&str| OwnedEventId::try_from(format!("${id}")).unwrap();
                (owned(id), *depth, parents.iter().map(owned).collect())
            })
            .collect();
        parents_first(items, |item| &item.0, |item| item.1, |item| item.2.clone())
            .into_iter()
            .map(|item| item.0.as_str()[1..].to_owned())
            .collect()
    }

    #[test]
    fn parents_come_first_whatever_the_depths_claim() {
        assert_eq!(
            sorted(&[
                ("c", 1, &["b"]),
                ("b", 2, &["a", "elsewhere"]),
                ("a", 99, &[])
            ]),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn ties_go_by_depth_then_id_and_repeats_go() {
        assert_eq!(
            sorted(&[("z", 1, &[]), ("b", 2, &[]), ("a", 2, &[]), ("z", 1, &[])]),
            ["z", "a", "b"]
        );
    }

    #[test]
    fn a_cycle_is_dropped() {
        assert_eq!(
            sorted(&[
                ("a", 1, &["b"]),
                ("b", 1, &["a"]),
                ("c", 1, &["c"]),
                ("d", 1, &[])
            ]),
            ["d"]
        );
    }
}
