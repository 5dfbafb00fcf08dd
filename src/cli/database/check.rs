//! `rhizome database check`: reads the database and where files lie, so the server may run or not.

use anyhow::{Context as _, bail};
use rhizome_media::StoredFiles;
use rhizome_storage::{Check, CheckOptions, CheckProgress, Finding, Findings, Step};

use crate::cli::say;
use crate::config::Config;
use crate::server;

use super::{files, shown, telling, url};

/// What became of a step, by its name.
type Outcome = (&'static str, anyhow::Result<Findings>);

/// What is looked at last: no step of the database alone.
const STORES: &str = "stores of files";

pub(super) async fn check(config: &Config, thorough: bool) -> anyhow::Result<()> {
    let media = server::media_config(config)?;
    let options = CheckOptions {
        thorough,
        expire_devices_after: config.server.expire_devices_after.map(|span| span.0),
        media_grace: media.grace,
        ..CheckOptions::default()
    };
    let shown = shown(config);
    let mut check = Check::open(&url(config), options).await.with_context(|| {
        format!("can't open the database {shown}; see database.url in the configuration")
    })?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    let count = Step::ALL.len() + 1;
    for step in Step::ALL {
        let name = step.name();
        let what = format!("{}/{count} {name}", outcomes.len() + 1);
        eprintln!("{what}");
        let progress = CheckProgress::default();
        let found = telling(&what, &progress, check.step(step, &progress)).await;
        let is_end = found.as_ref().is_ok_and(|found| found.is_end);
        outcomes.push((name, found.map_err(Into::into)));
        if is_end {
            break;
        }
    }
    if outcomes.len() == Step::ALL.len() && !is_ended(&outcomes) {
        let what = format!("{count}/{count} {STORES}");
        eprintln!("{what}");
        let progress = CheckProgress::default();
        let stored = StoredFiles::of(&media);
        let look = files::look(&mut check, &stored, media.grace, &progress);
        let found = telling(&what, &progress, look).await;
        outcomes.push((STORES, found));
    }
    check.close().await;
    tell(&shown, &outcomes)
}

fn is_ended(outcomes: &[Outcome]) -> bool {
    let mut found = outcomes.iter().filter_map(|(_, found)| found.as_ref().ok());
    found.any(|found| found.is_end)
}

/// Says all of it, and fails if something was found.
fn tell(shown: &str, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut wrong = 0;
    for (name, found) in outcomes {
        match found {
            Ok(found) => {
                wrong += found.wrong.len();
                for line in lines(name, found) {
                    say(line);
                }
            }
            Err(error) => {
                wrong += 1;
                say(format_args!("{name}: couldn't be looked at: {error:#}"));
            }
        }
    }
    if is_ended(outcomes) {
        say("What follows wasn't looked at.");
    }
    if wrong > 0 {
        bail!("{wrong} things are wrong with the database {shown}, or couldn't be looked at");
    }
    say("Nothing is wrong.");
    Ok(())
}

/// What is told of a step.
fn lines(name: &str, found: &Findings) -> Vec<String> {
    let state = if found.wrong.is_empty() {
        "ok"
    } else {
        "something is wrong"
    };
    let mut lines = vec![format!("{name}: {state}")];
    for finding in &found.wrong {
        lines.extend(of_finding(finding));
    }
    lines.extend(found.notes.iter().map(|note| format!("  ({note})")));
    lines
}

fn of_finding(finding: &Finding) -> Vec<String> {
    let Finding {
        what,
        count,
        examples,
        means,
        next,
    } = finding;
    let mut lines = vec![format!("  {what} ({count}):")];
    // Parts of these are strangers': a terminal must not do what they say.
    let shown = examples
        .iter()
        .map(|example| format!("    {}", example.escape_debug()));
    lines.extend(shown);
    let more = count.saturating_sub(examples.len() as u64);
    if more > 0 {
        lines.push(format!("    and {more} more"));
    }
    lines.push(format!("    What it means: {means}"));
    lines.push(format!("    What to do: {next}"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(count: u64) -> Finding {
        Finding {
            what: "rooms lack their state",
            count,
            examples: vec!["!a:here".to_owned(), "!b\u{1b}[2J:here".to_owned()],
            means: "Nobody gets in.",
            next: "Restore a backup.",
        }
    }

    #[test]
    fn findings_are_told_with_what_to_do() {
        let found = Findings {
            wrong: vec![finding(5)],
            notes: vec!["7 rows".to_owned()],
            is_end: false,
        };
        let told = [
            "rooms: something is wrong",
            "  rooms lack their state (5):",
            "    !a:here",
            "    !b\\u{1b}[2J:here",
            "    and 3 more",
            "    What it means: Nobody gets in.",
            "    What to do: Restore a backup.",
            "  (7 rows)",
        ];
        assert_eq!(lines("rooms", &found), told);
        assert_eq!(lines("log", &Findings::default()), ["log: ok"]);
        assert!(
            !of_finding(&finding(2))
                .iter()
                .any(|line| line.contains("more"))
        );
    }

    #[test]
    fn it_fails_if_anything_was_found_or_not_looked_at() {
        assert!(tell("db", &[("log", Ok(Findings::default()))]).is_ok());
        let found = Findings {
            wrong: vec![finding(2)],
            ..Findings::default()
        };
        assert!(tell("db", &[("log", Ok(found))]).is_err());
        assert!(tell("db", &[("log", Err(anyhow::anyhow!("gone")))]).is_err());
    }
}
