//! One run, and several laid over each other.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use serde::Deserialize;

/// A top-level test: package (from the suite's root) and name.
pub(super) type TestId = (String, String);

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// One test in one run.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// Seconds.
    pub(super) elapsed: f64,
    /// Of a failure: the first error of the first part that failed.
    pub(super) error: String,
}

/// What `go test -json` prints, a line each.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    action: String,
    #[serde(default)]
    package: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    output: String,
    #[serde(default)]
    elapsed: f64,
}

/// The verdicts of one run.
pub(super) struct Run {
    tests: BTreeMap<TestId, Outcome>,
}

/// What a test or a part of one has said so far.
#[derive(Default)]
struct Said {
    /// The first line marked as an error.
    marked: Option<String>,
    /// The last line that names a place in the source: what ended a test that has no marked line.
    last: Option<String>,
    panic: Option<String>,
}

impl Said {
    fn hear(&mut self, output: &str) {
        let text = output.trim_end();
        if text.starts_with("panic: ") {
            self.panic.get_or_insert_with(|| text.to_owned());
        }
        // Only lines of the form `    file.go:12: text` begin a message.
        let Some((place, message)) = text.trim_start().split_once(": ") else {
            return;
        };
        if !place.contains(".go:") || place.contains(' ') {
            return;
        }
        if message.contains("\u{1b}[31m") {
            self.marked.get_or_insert_with(|| plain(message));
        }
        self.last = Some(plain(message));
    }

    fn error(self) -> Option<String> {
        self.panic.or(self.marked).or(self.last)
    }
}

impl Run {
    /// Reads the lines; what isn't JSON (a compiler's words) is passed over.
    pub(super) fn read(input: impl BufRead) -> anyhow::Result<Self> {
        let mut said: HashMap<(String, String), Said> = HashMap::new();
        let mut errors: HashMap<TestId, String> = HashMap::new();
        let mut tests = BTreeMap::new();
        for line in input.lines() {
            let Ok(line) = serde_json::from_str::<Line>(&line?) else {
                continue;
            };
            if line.test.is_empty() {
                continue;
            }
            let package = shorten(&line.package);
            let top = line.test.split('/').next().unwrap_or_default().to_owned();
            let id = (package.clone(), top);
            let part = (package, line.test.clone());
            match line.action.as_str() {
                // Without a verdict, the package ended early.
                "run" if part == id => {
                    tests.insert(id, Outcome::failed("no verdict: the run ended early"));
                }
                "output" => said.entry(part).or_default().hear(&line.output),
                "pass" | "skip" if part == id => {
                    let verdict = if line.action == "pass" {
                        Verdict::Pass
                    } else {
                        Verdict::Skip
                    };
                    let outcome = Outcome {
                        verdict,
                        elapsed: line.elapsed,
                        error: String::new(),
                    };
                    tests.insert(id, outcome);
                }
                "fail" => {
                    // Parts are reported before the whole: the first one's error is the cause.
                    let error = said.remove(&part).unwrap_or_default().error();
                    if let Some(error) = error {
                        errors.entry(id.clone()).or_insert(error);
                    }
                    if part == id {
                        let error = errors.remove(&id);
                        let mut outcome =
                            Outcome::failed(error.as_deref().unwrap_or("no error was printed"));
                        outcome.elapsed = line.elapsed;
                        tests.insert(id, outcome);
                    }
                }
                _ => {}
            }
        }
        Ok(Self { tests })
    }
}

impl Outcome {
    fn failed(error: &str) -> Self {
        Self {
            verdict: Verdict::Fail,
            elapsed: 0.0,
            error: error.to_owned(),
        }
    }
}

/// A test over all runs in which it was.
#[derive(Debug)]
pub(super) struct Tally {
    /// Skipped once is skipped, failed once is failed.
    pub(super) verdict: Verdict,
    pub(super) passes: usize,
    pub(super) runs: usize,
    /// The longest, in seconds.
    pub(super) elapsed: f64,
    /// The first failure's.
    pub(super) error: String,
}

/// Lays runs over each other.
pub(super) fn merge(runs: &[Run]) -> BTreeMap<TestId, Tally> {
    let mut all: BTreeMap<TestId, Tally> = BTreeMap::new();
    for (id, outcome) in runs.iter().flat_map(|run| &run.tests) {
        let result = all.entry(id.clone()).or_insert(Tally {
            verdict: Verdict::Pass,
            passes: 0,
            runs: 0,
            elapsed: 0.0,
            error: String::new(),
        });
        result.runs += 1;
        result.elapsed = result.elapsed.max(outcome.elapsed);
        match outcome.verdict {
            Verdict::Pass => result.passes += 1,
            Verdict::Skip if result.verdict == Verdict::Pass => result.verdict = Verdict::Skip,
            Verdict::Skip => {}
            Verdict::Fail => {
                result.verdict = Verdict::Fail;
                if result.error.is_empty() {
                    result.error.clone_from(&outcome.error);
                }
            }
        }
    }
    all
}

/// The package from the suite's root on.
fn shorten(package: &str) -> String {
    match package.find("/tests") {
        Some(at) => package[at + 1..].to_owned(),
        None => package.to_owned(),
    }
}

/// Without terminal colours.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run from (action, test, output) of package `tests/a`.
    pub(in crate::report) fn run(lines: &[(&str, &str, &str)]) -> Run {
        let mut text = String::new();
        for (action, test, output) in lines {
            let line = serde_json::json!({
                "Time": "2026-01-01T00:00:00Z", "Action": action,
                "Package": "example.org/suite/tests/a", "Test": test, "Output": output,
                "Elapsed": 1.5,
            });
            text.push_str(&line.to_string());
            text.push('\n');
        }
        Run::read(format!("# not JSON\n{text}").as_bytes()).unwrap()
    }

    fn only(run: &Run) -> &Outcome {
        assert_eq!(run.tests.len(), 1);
        run.tests.values().next().unwrap()
    }

    #[test]
    fn the_marked_line_of_the_part_that_failed_is_the_error() {
        let run = run(&[
            ("run", "TestA", ""),
            ("output", "TestA", "    a_test.go:1: some talk\n"),
            ("run", "TestA/one", ""),
            ("output", "TestA/one", "    a_test.go:2: talk\n"),
            (
                "output",
                "TestA/one",
                "    a_test.go:3: \u{1b}[31mbad: 404\u{1b}[39m\n",
            ),
            ("output", "TestA/one", "    a_test.go:4: clean-up\n"),
            ("fail", "TestA/one", ""),
            ("fail", "TestA", ""),
        ]);
        let outcome = only(&run);
        assert_eq!(outcome.verdict, Verdict::Fail);
        assert_eq!(outcome.error, "bad: 404");
    }

    #[test]
    fn without_a_mark_it_is_the_last_place_and_a_panic_wins() {
        let lines = [
            ("run", "TestA", ""),
            ("output", "TestA", "    a_test.go:1: talk\n"),
            ("output", "TestA", "    a_test.go:3: worse\n"),
            ("output", "TestA", "        more: of it\n"),
            ("fail", "TestA", ""),
        ];
        assert_eq!(only(&run(&lines)).error, "worse");
        let mut panics = lines.to_vec();
        panics.insert(3, ("output", "TestA", "panic: boom\n"));
        assert_eq!(only(&run(&panics)).error, "panic: boom");
    }

    #[test]
    fn a_test_without_a_verdict_failed() {
        let run = run(&[("run", "TestA", ""), ("pass", "TestA/one", "")]);
        assert_eq!(only(&run).verdict, Verdict::Fail);
    }

    #[test]
    fn failed_once_is_failed() {
        let pass = || run(&[("run", "TestA", ""), ("pass", "TestA", "")]);
        let fail = || run(&[("run", "TestA", ""), ("fail", "TestA", "")]);
        let skip = || run(&[("run", "TestA", ""), ("skip", "TestA", "")]);
        let verdict = |runs: &[Run]| {
            let merged = merge(runs);
            let result = &merged[&("tests/a".to_owned(), "TestA".to_owned())];
            (result.verdict, result.passes, result.runs)
        };
        assert_eq!(verdict(&[pass(), pass()]), (Verdict::Pass, 2, 2));
        assert_eq!(verdict(&[pass(), fail(), pass()]), (Verdict::Fail, 2, 3));
        assert_eq!(verdict(&[skip(), pass()]), (Verdict::Skip, 1, 2));
        assert_eq!(verdict(&[skip(), fail()]), (Verdict::Fail, 0, 2));
    }
}
