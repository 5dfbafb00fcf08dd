//! A moderation policy list for people to read on a terminal.

use rhizome_inspect::{PolicyLine, PolicyReport};

use crate::cli::clean;

pub(super) fn text(report: &PolicyReport) -> String {
    let mut lines: Vec<String> = report.rules.iter().map(line).collect();
    let (shown, total) = (report.rules.len(), report.total);
    let mut end = format!("{shown} of {total} rules");
    if report.malformed > 0 {
        end = format!(
            "{end}; {} say nothing, as they are malformed",
            report.malformed
        );
    }
    if report.cut {
        end.push_str("; there are more, older than those that are read");
    }
    lines.push(end);
    lines.join("\n")
}

fn line(rule: &PolicyLine) -> String {
    let reason = rule.reason.as_ref().map(|reason| format!("  {reason}"));
    clean(format_args!(
        "{:6} {}  {}  by {}{}",
        rule.subject,
        rule.entity,
        rule.recommendation,
        rule.sender,
        reason.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_lines() {
        let rule = PolicyLine {
            subject: "user",
            entity: "@spam*:evil.org".to_owned(),
            recommendation: "m.ban".to_owned(),
            reason: Some("it's \u{1b}[31m\nspam".to_owned()),
            sender: "@mod:list".try_into().unwrap(),
            event_id: "$rule".try_into().unwrap(),
        };
        let mut report = PolicyReport {
            room_id: "!list:list".try_into().unwrap(),
            total: 7,
            malformed: 0,
            cut: false,
            rules: vec![rule],
        };
        assert_eq!(
            text(&report),
            "user   @spam*:evil.org  m.ban  by @mod:list  it's \u{fffd}[31m\u{fffd}spam\n1 of 7 rules"
        );
        (report.malformed, report.cut) = (2, true);
        let end = text(&report);
        assert!(
            end.contains("; 2 say nothing") && end.ends_with("older than those that are read"),
            "{end}"
        );
    }
}
