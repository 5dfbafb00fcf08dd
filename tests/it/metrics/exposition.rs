//! What a server tells Prometheus, read strictly: the text format, version 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// Labels, in their order.
type Labels = Vec<(String, String)>;

/// All that was told at once.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// The kind of each family.
    pub(super) families: BTreeMap<String, String>,
    /// The value of each series.
    series: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Reads it; fails at whatever Prometheus wouldn't read, or would read otherwise than it was meant.
    pub(super) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end");
        let (mut read, mut family) = (Self::default(), String::new());
        let mut helped = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(helped.contains(name), "no help: {line}");
                assert!(is_name(name), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let before = read.families.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "twice: {line}");
                name.clone_into(&mut family);
            } else {
                let (name, labels, value) = sample(line);
                let suffix = name.strip_prefix(family.as_str()).expect(line);
                let parts: &[&str] = match read.families[&family].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(parts.contains(&suffix), "not of {family}: {line}");
                let before = read.series.insert((name, labels), value);
                assert!(before.is_none(), "twice: {line}");
            }
        }
        read.histograms_are_whole();
        read
    }

    /// The value of a series, 0 if there is none: a sum over all that have these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &Labels| {
            let mut each = labels.iter();
            each.all(|(key, value)| {
                of.iter()
                    .any(|(k, v)| (k.as_str(), v.as_str()) == (*key, *value))
            })
        };
        let series = self.series.iter();
        let found = series.filter(|((of, labels), _)| of == name && has(labels));
        found.map(|(_, value)| value).sum()
    }

    /// How many series there are of this name.
    pub(super) fn count(&self, name: &str) -> usize {
        self.series.keys().filter(|(of, _)| of == name).count()
    }

    /// The names of all series.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.series.keys().map(|(name, _)| name.as_str()).collect()
    }

    /// Each histogram's buckets rise to the count.
    fn histograms_are_whole(&self) {
        let histograms = self
            .families
            .iter()
            .filter(|(_, kind)| *kind == "histogram");
        for (family, _) in histograms {
            let counts = format!("{family}_count");
            let buckets = format!("{family}_bucket");
            for ((_, labels), count) in self.series.iter().filter(|((name, _), _)| *name == counts)
            {
                let mut of: Vec<(f64, f64)> = Vec::new();
                for ((name, with), value) in &self.series {
                    let (end, rest): (Labels, Labels) =
                        with.iter().cloned().partition(|(key, _)| key == "le");
                    if *name == buckets && rest == *labels {
                        of.push((number(&end[0].1), *value));
                    }
                }
                of.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(
                    of.is_sorted_by(|one, other| one.1 <= other.1),
                    "{family} {of:?}"
                );
                let (end, last) = of.last().expect("there are buckets");
                assert!(end.is_infinite(), "{family} {of:?}");
                assert!((last - count).abs() < f64::EPSILON, "{family} {of:?}");
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        text => text.parse().expect(text),
    }
}

/// `name{key="value",…} number`
fn sample(line: &str) -> (String, Labels, f64) {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').expect(line);
        assert!(is_name(name), "{line}");
        return (name.to_owned(), Vec::new(), number(value));
    };
    assert!(is_name(name), "{line}");
    let (mut labels, mut rest) = (Vec::new(), rest);
    loop {
        let (key, after) = rest.split_once("=\"").expect(line);
        assert!(is_name(key), "{line}");
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next().expect(line) {
                (at, '"') => break at + 1,
                (_, '\\') => match letters.next().expect(line).1 {
                    'n' => value.push('\n'),
                    letter @ ('\\' | '"') => value.push(letter),
                    other => panic!("\\{other} in {line}"),
                },
                (_, letter) => value.push(letter),
            }
        };
        labels.push((key.to_owned(), value));
        rest = &after[end..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    let value = rest.strip_prefix("} ").expect(line);
    (name.to_owned(), labels, number(value))
}

#[test]
fn what_prometheus_would_not_read_is_refused() {
    let good = "# HELP a_total A\n# TYPE a_total counter\na_total{b=\"x\\\"\\n\",c=\"{}, \"} 2\na_total 1\n";
    let read = Exposition::read(good);
    assert_eq!(read.sum("a_total", &[]), 3.0);
    assert_eq!(read.sum("a_total", &[("b", "x\"\n"), ("c", "{}, ")]), 2.0);
    for bad in [
        "a 1\n",
        "# TYPE a gauge\na 1\n",
        "# HELP a A\n# TYPE a counter\na 1\n",
        "# HELP a A\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a A\n# TYPE a gauge\nb 1\n",
        "# HELP a A\n# TYPE a gauge\na x\n",
        "# HELP a A\n# TYPE a gauge\na{b=\"} 1\n",
        "# HELP a A\n# TYPE a gauge\na 1",
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
    ] {
        assert!(
            std::panic::catch_unwind(|| Exposition::read(bad)).is_err(),
            "{bad}"
        );
    }
}
