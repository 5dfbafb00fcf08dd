//! What is known of servers, for people to read on a terminal.

use super::gather::{Details, Key, Line, MOST, Waiting};
use crate::cli::{clean, how_long};

/// Characters of a reason in a table.
const MAX_REASON: usize = 80;

/// A table of servers. `counts`: of how many is something known, and how many of them fail.
pub(super) fn table(lines: &[Line], (all, failing): (usize, usize), now: i64) -> String {
    let mut text = String::new();
    if !lines.is_empty() {
        let head = [
            "SERVER",
            "FAILS SINCE",
            "NEXT ATTEMPT",
            "WAITING",
            "ROOMS",
            "LAST FAILURE",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(lines.iter().map(|line| cells(line, now)));
        text = columns(&rows);
        text.push('\n');
    }
    let summary = match failing {
        0 => format!("all of {all} servers were reached last time"),
        _ => format!(
            "{failing} of {all} servers can't be reached; `rhizome federation check SERVER` says what is wrong, \
             `rhizome federation retry SERVER` tries it now"
        ),
    };
    text + &summary
}

fn cells(line: &Line, now: i64) -> [String; 6] {
    let nothing = || "-".to_owned();
    let reason = line.last_failure.as_deref().map(|why| {
        let short: String = why.chars().take(MAX_REASON).collect();
        clean(&short)
    });
    [
        clean(&line.server),
        line.failing_since
            .map_or_else(nothing, |ms| how_long(now.saturating_sub(ms))),
        next(line, now).unwrap_or_else(nothing),
        format!(
            "{} / {}",
            count(line.waiting.events),
            count(line.waiting.messages)
        ),
        line.rooms.to_string(),
        reason.unwrap_or_else(nothing),
    ]
}

/// When a server that fails is tried again.
fn next(line: &Line, now: i64) -> Option<String> {
    let at = line.next_attempt?;
    Some(if at <= now {
        "now".to_owned()
    } else {
        format!("in {}", how_long(at.saturating_sub(now)))
    })
}

/// Rows of cells under each other.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// All that is known of a server.
pub(super) fn details(details: &Details, now: i64) -> String {
    let line = &details.line;
    let mut lines = vec![
        format!("server: {}", clean(&line.server)),
        format!("rooms that both are in: {}", line.rooms),
        waiting(line.waiting),
        match line.last_reached {
            Some(ms) => format!(
                "took something last: {} ago",
                how_long(now.saturating_sub(ms))
            ),
            None => "took something last: never, as far as is known".to_owned(),
        },
    ];
    if line.failures > 0 {
        let since = line
            .failing_since
            .map(|ms| how_long(now.saturating_sub(ms)));
        lines.push(format!(
            "fails: {} times in a row, since {}; tried again {}",
            line.failures,
            since.as_deref().unwrap_or("a while"),
            next(line, now).unwrap_or_default()
        ));
    } else {
        lines.push("fails: no".to_owned());
    }
    if let Some(why) = &line.last_failure {
        lines.push(format!("last failure: {}", clean(why)));
    }
    let through = |closed: Option<&str>| match closed {
        Some(why) => format!("not let through: it {why}"),
        None => "let through".to_owned(),
    };
    lines.push(format!(
        "what it asks and sends: {}",
        through(details.refused)
    ));
    lines.push(format!(
        "what it is asked and sent: {}",
        through(details.shunned)
    ));
    if let Some(reason) = details
        .block_reason
        .as_deref()
        .filter(|why| !why.is_empty())
    {
        lines.push(format!("blocked because: {}", clean(reason)));
    }
    match details.keys_fetched {
        Some(ms) => lines.push(format!(
            "keys, fetched {} ago:",
            how_long(now.saturating_sub(ms))
        )),
        None if details.keys.is_empty() => lines.push("keys: none are known".to_owned()),
        None => lines.push("keys:".to_owned()),
    }
    lines.extend(details.keys.iter().map(|one| key(one, now)));
    lines.extend(sent(details, now));
    lines.join("\n")
}

/// What a server has sent.
fn sent(details: &Details, now: i64) -> Vec<String> {
    let Some(inbound) = &details.inbound else {
        return vec!["what it has sent: nothing is known of that".to_owned()];
    };
    let mut lines = vec!["what it has sent:".to_owned()];
    lines.extend(inbound.lines(now));
    lines
}

fn key(key: &Key, now: i64) -> String {
    let id = clean(&key.id);
    match (key.valid_until, key.expired) {
        (_, Some(ms)) => format!(
            "  {id}  out of use since {}",
            how_long(now.saturating_sub(ms))
        ),
        (Some(ms), None) if ms > now => {
            format!("  {id}  good for {} more", how_long(ms.saturating_sub(now)))
        }
        (Some(ms), None) => format!(
            "  {id}  was good until {} ago; asked for when it is needed",
            how_long(now.saturating_sub(ms))
        ),
        (None, None) => format!("  {id}"),
    }
}

/// What waits for a server.
pub(super) fn waiting(waiting: Waiting) -> String {
    match waiting {
        Waiting {
            events: 0,
            messages: 0,
        } => "nothing waits".to_owned(),
        Waiting { events, messages } => format!(
            "{} events and {} messages to devices wait",
            count(events),
            count(messages)
        ),
    }
}

fn count(number: usize) -> String {
    if number >= MOST {
        format!("{MOST} or more")
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn failing() -> Line {
        Line {
            server: "b.example".to_owned(),
            failures: 3,
            failing_since: Some(NOW - 600_000),
            next_attempt: Some(NOW + 60_000),
            last_failure: Some("can't reach server:\u{1b}[2J refused".to_owned()),
            last_reached: Some(NOW - 90_000_000),
            waiting: Waiting {
                events: 12,
                messages: MOST,
            },
            rooms: 2,
        }
    }

    #[test]
    fn a_table_says_what_is_the_matter() {
        let well = Line {
            server: "a.server.example".to_owned(),
            ..Line::default()
        };
        let text = table(&[failing(), well], (7, 1), NOW);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "b.example         10 minutes   in 60 seconds  12 / 10000 or more  2      \
             can't reach server:\u{fffd}[2J refused"
        );
        assert!(lines[2].starts_with("a.server.example  -"), "{text}");
        assert!(lines[3].starts_with("1 of 7 servers"), "{text}");
        assert_eq!(
            table(&[], (4, 0), NOW),
            "all of 4 servers were reached last time"
        );
    }

    #[test]
    fn of_one_server_all_is_said() {
        let known = Details {
            line: failing(),
            shunned: Some("is blocked by the operator of this server"),
            block_reason: Some("spam".to_owned()),
            keys: vec![Key {
                id: "ed25519:k".to_owned(),
                valid_until: Some(NOW + 3 * 86_400_000),
                expired: None,
            }],
            keys_fetched: Some(NOW - 1_000),
            ..Details::default()
        };
        let text = details(&known, NOW);
        for part in [
            "3 times in a row, since 10 minutes; tried again in 60 seconds",
            "12 events and 10000 or more messages to devices wait",
            "took something last: 25 hours ago",
            "what it asks and sends: let through",
            "what it is asked and sent: not let through: it is blocked",
            "blocked because: spam",
            "ed25519:k  good for 3 days more",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        let unknown = details(&Details::default(), NOW);
        assert!(unknown.contains("nothing waits"), "{unknown}");
        assert!(unknown.contains("keys: none are known"), "{unknown}");
        assert!(unknown.contains("sent: nothing is known"), "{unknown}");
    }

    #[test]
    fn an_attempt_that_is_due_is_now() {
        let due = Line {
            next_attempt: Some(NOW - 5),
            ..failing()
        };
        assert_eq!(next(&due, NOW).as_deref(), Some("now"));
    }
}
