//! What servers have answered about their keys over time, as far as a notary needs it.
//!
//! The newest answer is kept, and of those before it the ones that have a key which no newer one has: the server
//! has changed it since, but events that it signed with it are still about.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_protocol::{Object, canonical};
use rhizome_storage::KeyResponse;
use serde_json::Value;

/// How many answers of one server are kept besides the newest.
const MAX_FORMER: usize = 10;

/// The keys that a notary is asked for by id, each with the time until which it should be valid (ms).
pub(super) type Criteria = BTreeMap<String, i64>;

/// How new an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// The server has just given it itself: it is the newest, whatever it says of its validity.
    Newest,
    /// It was passed on, and goes by its validity.
    Unknown,
    /// It was passed on, and says otherwise than what is known: it isn't the newest, whatever it says.
    Former,
}

/// The answers that are worth keeping, newest first, with one more.
pub(super) fn with(
    mut answers: Vec<KeyResponse>,
    answer: KeyResponse,
    age: Age,
) -> Vec<KeyResponse> {
    let later = |known: &&KeyResponse| known.valid_until >= answer.valid_until;
    let place = match age {
        Age::Newest => 0,
        Age::Unknown => answers.iter().take_while(later).count(),
        Age::Former => answers.iter().take_while(later).count().max(1),
    };
    let place = place.min(answers.len());
    answers.insert(place, answer);
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for answer in answers {
        let keys = Keys::of(&answer).all();
        if kept.is_empty() || !keys.is_subset(&seen) {
            seen.extend(keys);
            kept.push(answer);
        }
    }
    kept.truncate(1 + MAX_FORMER);
    kept
}

/// Which of these answers (the newest first) meet the criteria, by index; and whether they all do, so that the
/// server needn't be asked. Without ids, all answers are meant, and the newest should be valid at `at`.
pub(super) fn chosen(
    answers: &[KeyResponse],
    wanted: &Criteria,
    at: i64,
) -> (BTreeSet<usize>, bool) {
    if wanted.is_empty() {
        let met = answers
            .first()
            .is_some_and(|newest| newest.valid_until >= at);
        return ((0..answers.len()).collect(), met);
    }
    let keys: Vec<Keys> = answers.iter().map(Keys::of).collect();
    let mut met = true;
    let mut chosen = BTreeSet::new();
    for (id, at) in wanted {
        let has = |index: &usize| {
            keys[*index].current.contains_key(id) || keys[*index].old.contains_key(id)
        };
        // A key out of use doesn't become more valid by asking again.
        let is_enough =
            |index: &usize| keys[*index].old.contains_key(id) || answers[*index].valid_until >= *at;
        let having: Vec<usize> = (0..answers.len()).filter(has).collect();
        let best = having.iter().copied().find(is_enough);
        met &= best.is_some();
        chosen.extend(best.or(having.first().copied()));
    }
    if chosen.is_empty() && !answers.is_empty() {
        // It tells at least that the server has no such key.
        chosen.insert(0);
    }
    (chosen, met)
}

/// The keys of one answer: id and public key, which have been verified.
struct Keys {
    current: BTreeMap<String, String>,
    old: BTreeMap<String, String>,
}

impl Keys {
    fn of(answer: &KeyResponse) -> Self {
        let object = canonical::parse_object(answer.response.as_bytes()).unwrap_or_default();
        let keys = |member: &str| -> BTreeMap<String, String> {
            let keys = object.get(member).and_then(Value::as_object);
            let pair = |(id, key): (&String, &Value)| {
                Some((id.clone(), key.get("key")?.as_str()?.to_owned()))
            };
            keys.into_iter()
                .flat_map(Object::iter)
                .filter_map(pair)
                .collect()
        };
        Self {
            current: keys("verify_keys"),
            old: keys("old_verify_keys"),
        }
    }

    fn all(self) -> BTreeSet<(String, String)> {
        self.current.into_iter().chain(self.old).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(valid_until: i64, current: &[&str], old: &[&str]) -> KeyResponse {
        let keys = |ids: &[&str]| -> Object {
            let key = |id: &&str| ((*id).to_owned(), json!({ "key": format!("of {id}") }));
            ids.iter().map(key).collect()
        };
        KeyResponse {
            server: "a.example".try_into().unwrap(),
            response: json!({ "verify_keys": keys(current), "old_verify_keys": keys(old) })
                .to_string(),
            valid_until,
            fetched: 1,
        }
    }

    #[test]
    fn what_has_keys_of_its_own_is_kept() {
        let first = answer(10, &["a"], &[]);
        let renewed = answer(20, &["a"], &[]);
        let changed = answer(30, &["b"], &[]);
        let told = answer(40, &["b"], &["a"]);
        let kept = with(Vec::new(), first.clone(), Age::Newest);
        assert_eq!(kept, std::slice::from_ref(&first));
        let kept = with(kept, renewed.clone(), Age::Newest);
        assert_eq!(kept, std::slice::from_ref(&renewed));
        let kept = with(kept, changed.clone(), Age::Newest);
        assert_eq!(kept, [changed.clone(), renewed.clone()]);
        // What a notary gives late doesn't become the newest, and adds nothing.
        let kept = with(kept, first.clone(), Age::Unknown);
        assert_eq!(kept, [changed.clone(), renewed]);
        let other = answer(25, &["c"], &[]);
        assert_eq!(with(kept.clone(), other.clone(), Age::Unknown)[1], other);
        assert_eq!(with(kept, told.clone(), Age::Newest).len(), 1);
        // One that the server gives itself is the newest even so.
        let short = answer(5, &["d"], &[]);
        assert_eq!(
            with(vec![told.clone()], short.clone(), Age::Newest),
            [short, told]
        );
        let mut kept = Vec::new();
        for number in 0..50 {
            kept = with(
                kept,
                answer(number, &[&format!("k{number}")], &[]),
                Age::Newest,
            );
        }
        assert_eq!(kept.len(), 1 + MAX_FORMER);
    }

    #[test]
    fn answers_are_chosen_by_what_was_asked_for() {
        let answers = [answer(30, &["b"], &["o"]), answer(20, &["a", "b"], &[])];
        let by = |wanted: &[(&str, i64)], at| {
            let wanted = wanted
                .iter()
                .map(|(id, at)| ((*id).to_owned(), *at))
                .collect();
            let (chosen, met) = chosen(&answers, &wanted, at);
            (chosen.into_iter().collect::<Vec<_>>(), met)
        };
        assert_eq!(by(&[], 30), (vec![0, 1], true));
        assert_eq!(by(&[], 31), (vec![0, 1], false));
        assert_eq!(by(&[("a", 20)], 99), (vec![1], true));
        assert_eq!(by(&[("a", 21)], 0), (vec![1], false));
        assert_eq!(by(&[("b", 0), ("o", 99)], 0), (vec![0], true));
        assert_eq!(by(&[("a", 0), ("b", 30)], 0), (vec![0, 1], true));
        assert_eq!(by(&[("none", 0)], 0), (vec![0], false));
        assert_eq!(chosen(&[], &Criteria::new(), 0), (BTreeSet::new(), false));
    }
}
