//! The report in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::passing::Passing;
use super::run::{Tally, TestId, Verdict};

/// Slow tests that are named.
const SLOWEST: usize = 10;
/// The longest error that is printed whole.
const WIDTH: usize = 160;

/// The text, and how many listed tests failed.
pub(super) fn report(results: &BTreeMap<TestId, Tally>, list: &Passing) -> (String, usize) {
    let mut out = String::new();
    packages(&mut out, results);
    slowest(&mut out, results);
    let lost = changes(&mut out, results, list);
    failures(&mut out, results);
    (out, lost)
}

fn packages(out: &mut String, results: &BTreeMap<TestId, Tally>) {
    let mut rows: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut all = [0; 3];
    for ((package, _), result) in results {
        let column = match result.verdict {
            Verdict::Pass => 0,
            Verdict::Fail => 1,
            Verdict::Skip => 2,
        };
        rows.entry(package).or_default()[column] += 1;
        all[column] += 1;
    }
    let mut row = |name: &str, [passed, failed, skipped]: [usize; 3]| {
        let _ = writeln!(out, "{name:<24} {passed:>7} {failed:>7} {skipped:>7}");
    };
    row("all", all);
    for (package, counts) in rows {
        row(package, counts);
    }
    out.insert_str(
        0,
        &format!(
            "{:<24} {:>7} {:>7} {:>7}\n",
            "package", "passed", "failed", "skipped"
        ),
    );
}

fn slowest(out: &mut String, results: &BTreeMap<TestId, Tally>) {
    let mut by_time: Vec<_> = results.iter().collect();
    by_time.sort_by(|a, b| b.1.elapsed.total_cmp(&a.1.elapsed));
    out.push_str("\nslowest\n");
    for ((package, test), result) in by_time.into_iter().take(SLOWEST) {
        let _ = writeln!(out, "{:>7.1} s  {package} {test}", result.elapsed);
    }
}

/// What differs from the list; how many listed tests failed.
fn changes(out: &mut String, results: &BTreeMap<TestId, Tally>, list: &Passing) -> usize {
    let mut lost = 0;
    let mut section = |title: &str, tests: Vec<String>| {
        if !tests.is_empty() {
            let _ = writeln!(out, "\n{title} ({})", tests.len());
            for test in tests {
                let _ = writeln!(out, "  {test}");
            }
        }
    };
    let mut broken = Vec::new();
    let mut new = Vec::new();
    let mut unsteady = Vec::new();
    for (id, result) in results {
        let listed = list.tests.contains(id);
        let name = format!("{} {}", id.0, id.1);
        if listed && result.verdict != Verdict::Pass {
            lost += 1;
            broken.push(name.clone());
        }
        if !listed && result.verdict == Verdict::Pass {
            new.push(format!(
                "{name} ({} of {} runs)",
                result.passes, result.runs
            ));
        }
        if result.verdict != Verdict::Pass && result.passes > 0 {
            unsteady.push(format!(
                "{name} ({} of {} runs)",
                result.passes, result.runs
            ));
        }
    }
    section("listed as passing, but failed", broken);
    section("passing, but not listed", new);
    section("passing only sometimes", unsteady);
    lost
}

fn failures(out: &mut String, results: &BTreeMap<TestId, Tally>) {
    let mut groups: BTreeMap<String, Vec<(String, &str)>> = BTreeMap::new();
    for ((package, test), result) in results {
        if result.verdict == Verdict::Fail {
            let name = format!("{package} {test}");
            let group = groups.entry(kind(&result.error)).or_default();
            group.push((name, &result.error));
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    out.push_str("\nfailures by their first error\n");
    for group in groups {
        let example = group.first().map_or("", |(_, error)| error);
        let _ = writeln!(out, "{:>4} × {}", group.len(), cut(example));
        for (name, _) in &group {
            let _ = writeln!(out, "       {name}");
        }
    }
}

fn cut(text: &str) -> String {
    let short: String = text.chars().take(WIDTH).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// An error without what differs from run to run: identifiers, numbers, ports.
fn kind(error: &str) -> String {
    let words = error.split_whitespace().map(|word| {
        let bare = word.trim_start_matches(['"', '\'', '(', '[']);
        if bare.starts_with(['!', '$', '@', '#']) {
            return "ID".to_owned();
        }
        let mut out = String::new();
        for char in word.chars() {
            match char {
                '0'..='9' if out.ends_with('0') => {}
                '0'..='9' => out.push('0'),
                other => out.push(other),
            }
        }
        out
    });
    cut(&words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::run::{merge, tests::run};
    use super::*;

    #[test]
    fn errors_that_differ_in_names_are_of_one_kind() {
        let one = "GET http://127.0.0.1:32771/x for !abc:hs1 returned 404";
        let other = "GET http://127.0.0.1:5/x for !defg:hs1 returned 404";
        assert_eq!(kind(one), kind(other));
        assert_ne!(kind(one), kind("POST http://127.0.0.1:5/x"));
    }

    #[test]
    fn a_listed_test_that_fails_is_told_first_and_counted() {
        let results = merge(&[run(&[
            ("run", "TestA", ""),
            ("output", "TestA", "    a_test.go:1: no such thing\n"),
            ("fail", "TestA", ""),
            ("run", "TestB", ""),
            ("pass", "TestB", ""),
        ])]);
        let mut list = Passing::default();
        list.tests
            .insert(("tests/a".to_owned(), "TestA".to_owned()));
        let (text, lost) = report(&results, &list);
        assert_eq!(lost, 1);
        for part in [
            "all                            1       1       0",
            "listed as passing, but failed (1)\n  tests/a TestA",
            "passing, but not listed (1)\n  tests/a TestB",
            "1 × no such thing\n       tests/a TestA",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }
}
