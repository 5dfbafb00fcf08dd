//! Results side by side, as a table that is also Markdown.

use std::fmt::Write as _;

use crate::outcome::{Better, Figure, Outcome, Results};

/// One line: what it is, Rhizome's aim, a cell for each server, and the ratio of the first two.
struct Row {
    name: String,
    aim: String,
    cells: Vec<String>,
    ratio: String,
}

/// The table of all results; the first two are compared.
pub fn table(all: &[Results]) -> String {
    let mut header = vec!["", "aim"];
    header.extend(all.iter().map(|results| results.label.as_str()));
    if all.len() > 1 {
        header.push("better by");
    }
    let mut lines: Vec<Vec<String>> = vec![header.into_iter().map(str::to_owned).collect()];
    for row in rows(all) {
        let mut line = vec![row.name, row.aim];
        line.extend(row.cells);
        if all.len() > 1 {
            line.push(row.ratio);
        }
        lines.push(line);
    }
    let mut text = draw(&lines);
    for results in all {
        for (scenario, why) in &results.failed {
            let _ = writeln!(
                text,
                "\n{}: {scenario} could not be run: {why}",
                results.label
            );
        }
        for outcome in &results.outcomes {
            if let Some(error) = &outcome.first_error {
                let _ = writeln!(
                    text,
                    "\n{}: {}: {} errors, the first: {error}",
                    results.label, outcome.scenario, outcome.errors
                );
            }
        }
    }
    text
}

fn rows(all: &[Results]) -> Vec<Row> {
    let mut scenarios: Vec<&Outcome> = Vec::new();
    for outcome in all.iter().flat_map(|results| &results.outcomes) {
        if scenarios
            .iter()
            .all(|known| known.scenario != outcome.scenario)
        {
            scenarios.push(outcome);
        }
    }
    let mut rows = Vec::new();
    for scenario in scenarios {
        let found: Vec<Option<&Outcome>> = all
            .iter()
            .map(|results| {
                let mut outcomes = results.outcomes.iter();
                outcomes.find(|outcome| outcome.scenario == scenario.scenario)
            })
            .collect();
        rows.push(heading(scenario, &found));
        rows.extend(scenario.figures.iter().map(|figure| line(figure, &found)));
    }
    rows.extend(memory(all));
    rows
}

fn heading(scenario: &Outcome, found: &[Option<&Outcome>]) -> Row {
    let cells = found.iter().map(|outcome| match outcome {
        Some(outcome) if outcome.errors > 0 => format!("{} ERRORS", outcome.errors),
        Some(_) => String::new(),
        None => "not run".to_owned(),
    });
    Row {
        name: format!("**{}** ({})", scenario.scenario, scenario.what),
        aim: String::new(),
        cells: cells.collect(),
        ratio: String::new(),
    }
}

fn line(figure: &Figure, found: &[Option<&Outcome>]) -> Row {
    let values: Vec<&[f64]> = found
        .iter()
        .map(|outcome| {
            let same = outcome.and_then(|outcome| {
                let mut figures = outcome.figures.iter();
                figures.find(|other| other.name == figure.name)
            });
            same.map_or(&[][..], |figure| &figure.values)
        })
        .collect();
    Row {
        name: figure.name.clone(),
        aim: figure.aim.clone().unwrap_or_default(),
        ratio: ratio(&values, figure.better),
        cells: values.into_iter().map(cell).collect(),
    }
}

/// How much better the first is than the second, value by value.
fn ratio(values: &[&[f64]], better: Better) -> String {
    let [ours, theirs, ..] = values else {
        return String::new();
    };
    let pairs = ours.iter().zip(*theirs);
    let ratios: Vec<f64> = match better {
        Better::Higher => pairs.map(|(ours, theirs)| ours / theirs).collect(),
        Better::Lower => pairs.map(|(ours, theirs)| theirs / ours).collect(),
        Better::Neither => Vec::new(),
    };
    let words = ratios.into_iter().map(|ratio| match ratio {
        ratio if ratio.is_finite() => format!("{}×", number(ratio)),
        _ => "-".to_owned(),
    });
    words.collect::<Vec<_>>().join(" / ")
}

/// What the servers held after each scenario: the last and the largest.
fn memory(all: &[Results]) -> Vec<Row> {
    let mut last = Vec::new();
    let mut largest = Vec::new();
    for results in all {
        let known: Vec<[f64; 2]> = results
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.memory)
            .map(|memory| [memory.pss, memory.rss].map(mib))
            .collect();
        let most = known.iter().max_by(|a, b| a[0].total_cmp(&b[0]));
        last.push(known.last().map(|pair| pair.to_vec()));
        largest.push(most.map(|pair| pair.to_vec()));
    }
    if last.iter().all(Option::is_none) {
        return Vec::new();
    }
    [("at the end", last), ("at most after a scenario", largest)]
        .into_iter()
        .map(|(when, values)| {
            let values: Vec<&[f64]> = values
                .iter()
                .map(|pair| pair.as_deref().unwrap_or(&[]))
                .collect();
            Row {
                name: format!("memory {when}: PSS / RSS, MiB"),
                aim: String::new(),
                ratio: ratio(&values, Better::Lower),
                cells: values.into_iter().map(cell).collect(),
            }
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "KiB far below 2^52")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn cell(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let values: Vec<String> = values.iter().map(|value| number(*value)).collect();
    values.join(" / ")
}

/// Three digits that count, and thousands set apart.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest.to_owned()),
        None => ("", text),
    };
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

fn draw(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        text.push('|');
        for (column, cell) in line.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            if column == 0 {
                let _ = write!(text, " {cell:<width$} |");
            } else {
                let _ = write!(text, " {cell:>width$} |");
            }
        }
        text.push('\n');
        if index == 0 {
            text.push('|');
            for (column, width) in widths.iter().enumerate() {
                let end = if column == 0 { '-' } else { ':' };
                let _ = write!(text, "{}{end}|", "-".repeat(width + 1));
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Memory;

    fn results(label: &str, rate: f64, latency: [f64; 2]) -> Results {
        let figure = |name: &str, values: Vec<f64>, better, aim: Option<&str>| Figure {
            name: name.to_owned(),
            values,
            better,
            aim: aim.map(str::to_owned),
        };
        Results {
            label: label.to_owned(),
            outcomes: vec![Outcome {
                scenario: "send".to_owned(),
                what: "closed loop".to_owned(),
                operations: 9,
                errors: 0,
                first_error: None,
                seconds: 1.0,
                figures: vec![
                    figure("messages/s", vec![rate], Better::Higher, Some("3,000")),
                    figure("p50 / p99, ms", latency.to_vec(), Better::Lower, None),
                    figure("members", vec![7.0], Better::Neither, None),
                ],
                memory: Some(Memory {
                    pss: 2048,
                    rss: 4096,
                }),
            }],
            failed: Vec::new(),
        }
    }

    #[test]
    fn two_servers_side_by_side() {
        let ours = results("A", 3000.0, [1.0, 2.0]);
        let mut theirs = results("B", 100.0, [10.0, 30.0]);
        theirs.outcomes[0].errors = 2;
        theirs.outcomes[0].first_error = Some("500 no".to_owned());
        theirs.failed.push(("idle".to_owned(), "why".to_owned()));
        let wanted = "\
|                                                 |   aim |           A |           B |     better by |
|-------------------------------------------------|------:|------------:|------------:|--------------:|
| **send** (closed loop)                          |       |             |    2 ERRORS |               |
| messages/s                                      | 3,000 |       3,000 |         100 |         30.0× |
| p50 / p99, ms                                   |       | 1.00 / 2.00 | 10.0 / 30.0 | 10.0× / 15.0× |
| members                                         |       |        7.00 |        7.00 |               |
| memory at the end: PSS / RSS, MiB               |       | 2.00 / 4.00 | 2.00 / 4.00 | 1.00× / 1.00× |
| memory at most after a scenario: PSS / RSS, MiB |       | 2.00 / 4.00 | 2.00 / 4.00 | 1.00× / 1.00× |

B: idle could not be run: why

B: send: 2 errors, the first: 500 no
";
        assert_eq!(table(&[ours, theirs]), wanted);
    }

    #[test]
    fn one_server_alone_and_gaps() {
        let alone = results("A", 1.0, [1.0, 2.0]);
        assert!(!table(std::slice::from_ref(&alone)).contains("better by"));
        let empty = Results {
            label: "B".to_owned(),
            ..Results::default()
        };
        let text = table(&[alone, empty]);
        assert!(text.contains("not run"), "{text}");
    }

    #[test]
    fn numbers() {
        for (value, text) in [
            (0.0, "0.000"),
            (0.1234, "0.123"),
            (1.0, "1.00"),
            (9.999, "10.0"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
            (-0.5, "-0.500"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
