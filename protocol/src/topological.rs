//! Putting what has parents into an order in which each comes after its parents.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::Hash,
    sync::Arc,
};

use crate::Pdu;

/// Sorts events that came together so that each can be decided: after those of its `prev_events` that are
/// among them. Of those that may come next the one with the smaller depth goes first, then the one with the
/// smaller id. Depths come from strangers and decide nothing but these ties.
pub fn by_prev_events(events: &[Arc<Pdu>]) -> Vec<Arc<Pdu>> {
    let sorted = parents_first(
        events,
        |event| event.event_id(),
        |event| event.prev_events().iter().map(|id| &**id),
        |event| (event.depth(), event.event_id()),
    );
    sorted.into_iter().cloned().collect()
}

/// Sorts `items` so that each comes after those of its parents that are among them.
///
/// Items are small and copied: ids, references or indexes. `id` says how `parents` name an item; parents that
/// aren't among the items don't matter, nor does one that is named twice. Of items that may come next the one
/// with the smallest `rank` goes first (Kahn's algorithm with a heap), among equals the one that was given
/// first: where ranks are unique, the order of the input is all the same.
///
/// Of an id that is given twice the first item counts. What is on a cycle, or comes after one, is left out:
/// ids that are hashes know none, others must not be trusted to.
///
/// The time is linear in items and parents, but for the heap.
pub fn parents_first<Item, Id, Parents, Rank>(
    items: impl IntoIterator<Item = Item>,
    id: impl Fn(Item) -> Id,
    parents: impl Fn(Item) -> Parents,
    rank: impl Fn(Item) -> Rank,
) -> Vec<Item>
where
    Item: Copy,
    Id: Eq + Hash,
    Parents: IntoIterator<Item = Id>,
    Rank: Ord,
{
    let items = items.into_iter();
    let mut indexes: HashMap<Id, usize> = HashMap::with_capacity(items.size_hint().0);
    let mut nodes: Vec<Waiting<Item>> = Vec::with_capacity(items.size_hint().0);
    for item in items {
        indexes.entry(id(item)).or_insert_with(|| {
            nodes.push(Waiting {
                item,
                waits_for: 0,
                children: Vec::new(),
            });
            nodes.len() - 1
        });
    }
    let mut among = Vec::new();
    let mut ready = BinaryHeap::new();
    for at in 0..nodes.len() {
        let item = nodes[at].item;
        among.clear();
        among.extend(parents(item).into_iter().filter_map(|id| indexes.get(&id)));
        among.sort_unstable();
        among.dedup();
        nodes[at].waits_for = among.len();
        for &&parent in &among {
            nodes[parent].children.push(at);
        }
        if among.is_empty() {
            ready.push(Reverse((rank(item), at)));
        }
    }
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(Reverse((_, at))) = ready.pop() {
        sorted.push(nodes[at].item);
        for child in std::mem::take(&mut nodes[at].children) {
            let node = &mut nodes[child];
            node.waits_for -= 1;
            if node.waits_for == 0 {
                ready.push(Reverse((rank(node.item), child)));
            }
        }
    }
    sorted
}

struct Waiting<Item> {
    item: Item,
    /// How many of its parents haven't come yet.
    waits_for: usize,
    children: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::EventId;
    use serde_json::{Value, json};

    use super::*;
    use crate::RoomRules;

    /// An item: its name, its rank, its parents.
    type Named = (&'static str, i64, &'static [&'static str]);

    fn sorted(items: &[Named]) -> Vec<&'static str> {
        parents_first(
            items,
            |(name, ..)| *name,
            |(.., parents)| parents.iter().copied(),
            |(name, rank, _)| (*rank, *name),
        )
        .into_iter()
        .map(|(name, ..)| *name)
        .collect()
    }

    #[test]
    fn parents_come_first_whatever_the_ranks_claim() {
        let items: [Named; 3] = [
            ("c", 1, &["b", "b"]),
            ("b", 2, &["a", "elsewhere"]),
            ("a", 99, &[]),
        ];
        assert_eq!(sorted(&items), ["a", "b", "c"]);
    }

    #[test]
    fn ties_go_by_rank_then_place_and_repeats_go() {
        let items: [Named; 4] = [
            ("z", 1, &[]),
            ("b", 2, &[]),
            ("a", 2, &[]),
            ("z", 1, &["a"]),
        ];
        assert_eq!(sorted(&items), ["z", "a", "b"]);
        let equal = parents_first([3, 1, 2, 1], |n| n, |_| None, |_| ());
        assert_eq!(equal, [3, 1, 2]);
    }

    #[test]
    fn a_cycle_is_left_out_with_what_follows_it() {
        let items: [Named; 5] = [
            ("a", 1, &["b"]),
            ("b", 1, &["a"]),
            ("c", 1, &["c"]),
            ("after", 1, &["a", "d"]),
            ("d", 1, &[]),
        ];
        assert_eq!(sorted(&items), ["d"]);
    }

    #[test]
    fn events_go_by_their_prevs_then_depth_then_id() {
        let rules = RoomRules::named("1").unwrap();
        let event = |id: &str, depth: i64, prev: &[&str]| {
            let prev: Vec<Value> = prev.iter().map(|id| json!([id, {}])).collect();
            let json = json!({"type": "x", "sender": "@a:b", "room_id": "!r:b", "content": {},
                "depth": depth, "origin_server_ts": 1, "prev_events": prev, "auth_events": []});
            let id = EventId::parse(id).unwrap();
            Arc::new(Pdu::from_stored(rules, id, json.to_string().into()).unwrap())
        };
        let events = [
            event("$late:b", 1, &["$b:b", "$elsewhere:b"]),
            event("$b:b", 5, &[]),
            event("$a:b", 5, &[]),
            event("$first:b", 4, &[]),
        ];
        let sorted = by_prev_events(&events);
        let ids: Vec<_> = sorted.iter().map(|event| event.event_id()).collect();
        assert_eq!(ids, ["$first:b", "$a:b", "$b:b", "$late:b"]);
    }

    proptest! {
        #[test]
        fn each_once_after_its_parents_and_the_input_is_all_the_same(
            parents in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..40),
            shuffle in any::<prop::sample::Index>(),
        ) {
            // The parents of each are among those before it.
            let parents: Vec<Vec<usize>> = parents
                .iter()
                .enumerate()
                .map(|(at, of)| of.iter().filter(|_| at > 0).map(|index| index.index(at.max(1))).collect())
                .collect();
            let sort = |items: &[usize]| {
                parents_first(items.iter().copied(), |n| n, |n| parents[n].iter().copied(), |n| (n % 3, n))
            };
            let mut items: Vec<usize> = (0..parents.len()).collect();
            let once = sort(&items);
            prop_assert_eq!(once.len(), items.len());
            let place: HashMap<usize, usize> = once.iter().enumerate().map(|(at, n)| (*n, at)).collect();
            for (n, of) in parents.iter().enumerate() {
                prop_assert!(of.iter().all(|parent| place[parent] < place[&n]));
            }
            let middle = shuffle.index(items.len());
            items.rotate_left(middle);
            items[..middle].reverse();
            prop_assert_eq!(sort(&items), once);
        }
    }
}
