//! What a server tells of itself, read as it is written by this very program.

use std::time::Duration;

/// What was told at one moment: names, what stands in braces, values.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures(Vec<(String, String, f64)>);

/// What happened between two moments, and what was so at the later one.
#[derive(Debug)]
pub(super) struct Between {
    before: Figures,
    now: Figures,
    seconds: f64,
}

/// How long some things took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Took {
    /// Half of them no longer than so many seconds, …
    pub(super) half: f64,
    /// … and 99 of 100. Infinite: longer than is told apart.
    pub(super) most: f64,
}

impl Figures {
    /// Reads what it was told; what isn't a figure is passed over.
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let figures = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let value = match value {
                "+Inf" => f64::INFINITY,
                value => value.parse().ok()?,
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some((name.to_owned(), labels.to_owned(), value))
        });
        Self(figures.collect())
    }

    fn sum(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        let all = self.0.iter();
        let found = all.filter(|(of, labels, _)| of == name && wanted(labels));
        found.map(|(_, _, value)| value).sum()
    }
}

/// The value of a label.
fn label<'a>(labels: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{key}=\""))?;
    rest.split('"').next()
}

impl Between {
    /// All that happened since the server was started.
    pub(super) fn since_start(now: Figures) -> Self {
        let any = |_: &str| true;
        let began = now.sum("process_start_time_seconds", any);
        Self {
            seconds: (now.sum("rhizome_time_seconds", any) - began).max(1.0),
            before: Figures::default(),
            now,
        }
    }

    /// What happened since it told this, so long ago. If it was started again meanwhile, since then.
    pub(super) fn two(before: Figures, now: Figures, took: Duration) -> Self {
        let start = |of: &Figures| of.sum("process_start_time_seconds", |_| true);
        if start(&before) < start(&now) {
            return Self::since_start(now);
        }
        Self {
            before,
            now,
            seconds: took.as_secs_f64(),
        }
    }

    /// What is so now: the sum of all whose labels hold this text.
    pub(super) fn now(&self, name: &str, holding: &str) -> f64 {
        self.now.sum(name, |labels| labels.contains(holding))
    }

    /// The same of each, by a label.
    pub(super) fn each(&self, name: &str, key: &str) -> Vec<(&str, f64)> {
        let all = self.now.0.iter();
        let found = all.filter(|(of, _, _)| of == name);
        found
            .filter_map(|(_, labels, value)| Some((label(labels, key)?, *value)))
            .collect()
    }

    /// How much more it has become.
    pub(super) fn counted(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        self.now.sum(name, &wanted) - self.before.sum(name, &wanted)
    }

    /// The same of a second.
    pub(super) fn per_second(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        self.counted(name, wanted) / self.seconds
    }

    /// How long those took of which a histogram tells; `None`: there were none.
    pub(super) fn took(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Option<Took> {
        let name = format!("{name}_bucket");
        let mut ends: Vec<(f64, &str)> = Vec::new();
        for (of, labels, _) in &self.now.0 {
            if *of == name
                && let Some(text) = label(labels, "le")
                && ends.iter().all(|(_, known)| *known != text)
            {
                let end = if text == "+Inf" {
                    f64::INFINITY
                } else {
                    text.parse().ok()?
                };
                ends.push((end, text));
            }
        }
        ends.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let buckets = ends.iter().map(|(end, text)| {
            let up_to = |labels: &str| label(labels, "le") == Some(*text) && wanted(labels);
            (*end, self.counted(&name, up_to))
        });
        let buckets: Vec<(f64, f64)> = buckets.collect();
        let (_, all) = *buckets.last()?;
        let within = |part: f64| {
            let mut found = buckets.iter();
            found.find(|(_, count)| *count >= all * part)
        };
        if all < 1.0 {
            return None;
        }
        Some(Took {
            half: within(0.5)?.0,
            most: within(0.99)?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# TYPE t_seconds histogram\nprocess_start_time_seconds 100.0\nrhizome_time_seconds 200.0\n\
        t_seconds_bucket{a=\"x\",le=\"0.1\"} 90\nt_seconds_bucket{a=\"x\",le=\"1.0\"} 100\n\
        t_seconds_bucket{a=\"x\",le=\"+Inf\"} 100\nt_seconds_count{a=\"x\"} 100\n";
    const NOW: &str = "process_start_time_seconds 100.0\nrhizome_time_seconds 210.0\nno figure\n\
        t_seconds_bucket{a=\"x\",le=\"0.1\"} 91\nt_seconds_bucket{a=\"x\",le=\"1.0\"} 104\n\
        t_seconds_bucket{a=\"x\",le=\"+Inf\"} 105\nt_seconds_count{a=\"x\"} 105\n\
        t_seconds_bucket{a=\"y\",le=\"0.1\"} 7\nt_seconds_bucket{a=\"y\",le=\"1.0\"} 7\n\
        t_seconds_bucket{a=\"y\",le=\"+Inf\"} 7\nt_seconds_count{a=\"y\"} 7\n";

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn what_happened_is_told_since_the_start_or_the_last_look() {
        let all = Between::since_start(Figures::read(BEFORE));
        assert!(near(all.per_second("t_seconds_count", |_| true), 1.0));
        let x = |labels: &str| labels.contains("a=\"x\"");
        let took = Took {
            half: 0.1,
            most: 1.0,
        };
        assert_eq!(all.took("t_seconds", x), Some(took));
        let look = Figures::read(NOW);
        let ten = Duration::from_secs(10);
        let two = Between::two(Figures::read(BEFORE), look.clone(), ten);
        assert!(near(two.per_second("t_seconds_count", |_| true), 1.2));
        let took = Took {
            half: 1.0,
            most: f64::INFINITY,
        };
        assert_eq!(two.took("t_seconds", x), Some(took));
        assert_eq!(two.took("t_seconds", |labels| labels.contains('z')), None);
        let each: Vec<_> = two.each("t_seconds_count", "a");
        assert_eq!(each.len(), 2);
        assert_eq!(each[1].0, "y");
        // Started again meanwhile: what was counted before is gone.
        let again = NOW.replace("start_time_seconds 100", "start_time_seconds 205");
        let two = Between::two(look, Figures::read(&again), ten);
        assert!(near(two.counted("t_seconds_count", |_| true), 112.0));
        assert!(near(two.seconds, 5.0));
    }
}
