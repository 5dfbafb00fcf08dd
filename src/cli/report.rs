//! `rhizome report`: what users have reported. Works on the database, so the server may run or not.

use anyhow::bail;
use clap::Subcommand;
use rhizome_storage::{Report, Store};

use crate::config::Config;
use crate::server;

use super::{ago, say};

/// So many reports are read at once.
const PIECE: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum ReportCommand {
    /// List the reports that wait, oldest first, a line each
    List,
    /// Say all of a report; of an event also what it said when it was reported
    Show {
        /// Its number
        report: i64,
    },
    /// Delete reports that are done with
    Dismiss {
        /// Their numbers
        #[arg(required = true)]
        reports: Vec<i64>,
    },
}

pub(super) fn report(config: &Config, command: ReportCommand) -> anyhow::Result<()> {
    super::block_on(async {
        let store = server::open_store(config).await?;
        let done = run(&store, command).await;
        store.close().await;
        done
    })
}

async fn run(store: &Store, command: ReportCommand) -> anyhow::Result<()> {
    match command {
        ReportCommand::List => list(store).await,
        ReportCommand::Show { report } => {
            let Some(report) = store.report(report).await? else {
                bail!("no report {report} waits");
            };
            show(store, &report);
            Ok(())
        }
        ReportCommand::Dismiss { reports } => {
            let dismissed = store.dismiss_reports(&reports).await?;
            say(format_args!("{dismissed} reports dismissed"));
            Ok(())
        }
    }
}

async fn list(store: &Store) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let page = store.reports(after, PIECE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.no;
        for report in &page {
            let since = ago(store, report.received_ms);
            say(format_args!(
                "{}  {since} ago  {}  by {}: {}",
                report.no,
                what(report),
                report.reporter.as_str().escape_debug(),
                report.reason.escape_debug()
            ));
        }
    }
}

// Strangers say what stands there: a terminal must not do what that says.
fn what(report: &Report) -> String {
    let shown = |id: Option<&str>| id.unwrap_or("unknown").escape_debug().to_string();
    let room = report.room_id.as_ref().map(|id| id.as_str());
    let user = report.user_id.as_ref().map(|id| id.as_str());
    match &report.event_id {
        Some(event) => format!(
            "event {} of {} in {}",
            shown(Some(event.as_str())),
            shown(user),
            shown(room)
        ),
        None if room.is_some() => format!("room {}", shown(room)),
        None => format!("user {}", shown(user)),
    }
}

fn show(store: &Store, report: &Report) {
    say(format_args!("report: {}", report.no));
    say(format_args!("about: {}", what(report)));
    let reporter = report.reporter.as_str().escape_debug();
    say(format_args!("by: {reporter}"));
    let since = ago(store, report.received_ms);
    say(format_args!("waiting for: {since}"));
    say(format_args!("reason: {}", report.reason.escape_debug()));
    if let Some(event) = &report.event {
        say(format_args!("event: {}", event.escape_debug()));
    }
}
