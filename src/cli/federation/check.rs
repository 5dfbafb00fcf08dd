//! `rhizome federation check`: the way to a server, a step at a time. Needs no database.

use anyhow::{Context as _, bail};
use rhizome_federation::check::{Check, Finding, Level};
use rhizome_storage::Clock;

use crate::config::Config;
use crate::server::{self, signing_key};

use super::CheckArgs;
use crate::cli::{block_on, clean, say};

pub(super) fn check(config: &Config, args: &CheckArgs) -> anyhow::Result<()> {
    let server = match &args.server {
        Some(text) => super::name(text)?,
        None => config.server.name.clone(),
    };
    let settings = server::federation_config(config, Vec::new())?;
    let is_own = server == config.server.name;
    // Without it there is nothing to compare with, and it says how to make one.
    let key = is_own.then(|| signing_key::load_existing(&config.server.signing_key_path()));
    let key = key.transpose()?;
    let check = Check {
        config: &settings,
        server: &server,
        own: key.as_ref().map(signing_key::KeyFile::current),
        clock: &Clock::system(),
    };
    let mut tell = |finding: &Finding| {
        if !args.json {
            say(line(finding));
        }
    };
    let findings = block_on(async {
        let found = check.run(&mut tell).await;
        found.context("nothing can be looked at with these settings")
    })?;
    if args.json {
        say(serde_json::to_string_pretty(&findings)?);
    }
    let bad = findings.iter().filter(|one| one.level == Level::Bad);
    match bad.count() {
        0 => {}
        1 => bail!("one thing is wrong with {server}, or on the way there"),
        count => bail!("{count} things are wrong with {server}, or on the way there"),
    }
    if !args.json {
        say(format_args!("{server} can be reached as it should be"));
    }
    Ok(())
}

/// A finding, and below it what to do.
fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Ok => "ok  ",
        Level::Note => "note",
        Level::Bad => "bad ",
    };
    let what = format!("{level}  {:10}  {}", finding.step, clean(&finding.what));
    if finding.remedy.is_empty() {
        what
    } else {
        format!("{what}\n      {:10}  to do: {}", "", finding.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_is_wrong() {
        let mut finding = Finding {
            level: Level::Bad,
            step: "tcp",
            what: "nobody answers".to_owned(),
            remedy: "start it".to_owned(),
        };
        assert_eq!(
            line(&finding),
            "bad   tcp         nobody answers\n                  to do: start it"
        );
        finding.level = Level::Ok;
        finding.remedy.clear();
        assert_eq!(line(&finding), "ok    tcp         nobody answers");
    }
}
