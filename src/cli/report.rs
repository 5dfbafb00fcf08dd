//! `rhizome report`: what users have reported. Works on the database, so the server may run or not.

use anyhow::bail;
use clap::Subcommand;
use rhizome_storage::{Report, ReportState, Store};

use crate::config::Config;
use crate::server;

use super::{ago, say};

/// So many reports are read at once.
const PIECE: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum ReportCommand {
    /// List the reports that aren't done with, oldest first, a line each
    List {
        /// Those that are done with, too
        #[arg(long)]
        all: bool,
    },
    /// Say all of a report; of an event also what it said when it was reported
    Show {
        /// Its number
        report: i64,
    },
    /// Take reports: others see who deals with them
    Take {
        /// Their numbers
        #[arg(required = true)]
        reports: Vec<i64>,
        /// Who takes them (default: $USER)
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Be done with reports. They are kept without what the event said, until they are dismissed or there are many
    Done {
        /// Their numbers
        #[arg(required = true)]
        reports: Vec<i64>,
        /// Who is done with them (default: $USER)
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Let reports wait again
    Reopen {
        /// Their numbers
        #[arg(required = true)]
        reports: Vec<i64>,
    },
    /// Delete reports
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
        ReportCommand::List { all } => list(store, all).await,
        ReportCommand::Show { report } => {
            let Some(report) = store.report(report).await? else {
                bail!("there is no report {report}");
            };
            show(store, &report);
            Ok(())
        }
        ReportCommand::Take { reports, by } => {
            let by = by.or_else(|| std::env::var("USER").ok());
            let by = by.as_deref();
            let taken = store.handle_reports(&reports, ReportState::Taken, by);
            say(format_args!("{} reports taken", taken.await?));
            Ok(())
        }
        ReportCommand::Done { reports, by } => {
            let by = by.or_else(|| std::env::var("USER").ok());
            let by = by.as_deref();
            let done = store.handle_reports(&reports, ReportState::Done, by);
            say(format_args!("{} reports done with", done.await?));
            Ok(())
        }
        ReportCommand::Reopen { reports } => {
            let opened = store.handle_reports(&reports, ReportState::Waits, None);
            say(format_args!("{} reports wait again", opened.await?));
            Ok(())
        }
        ReportCommand::Dismiss { reports } => {
            let dismissed = store.dismiss_reports(&reports).await?;
            say(format_args!("{dismissed} reports dismissed"));
            Ok(())
        }
    }
}

async fn list(store: &Store, all: bool) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let page = store.reports(after, PIECE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.no;
        for report in page
            .iter()
            .filter(|one| all || one.state != ReportState::Done)
        {
            let since = ago(store, report.received_ms);
            say(format_args!(
                "{}  {since} ago  {}  by {}: {}{}",
                report.no,
                what(report),
                report.reporter.as_str().escape_debug(),
                report.reason.escape_debug(),
                handled(store, report)
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

/// What has become of it, for the end of a line.
fn handled(store: &Store, report: &Report) -> String {
    let state = match report.state {
        ReportState::Waits => return String::new(),
        ReportState::Taken => "taken",
        ReportState::Done => "done",
    };
    let by = report.handled_by.as_deref().unwrap_or("somebody");
    let since = report.handled_ms.map(|since| ago(store, since));
    let since = since.unwrap_or_default();
    format!("  ({state} by {} {since} ago)", by.escape_debug())
}

fn show(store: &Store, report: &Report) {
    say(format_args!("report: {}", report.no));
    say(format_args!("about: {}", what(report)));
    let reporter = report.reporter.as_str().escape_debug();
    say(format_args!("by: {reporter}"));
    let since = ago(store, report.received_ms);
    say(format_args!(
        "reported: {since} ago{}",
        handled(store, report)
    ));
    say(format_args!("reason: {}", report.reason.escape_debug()));
    if let Some(event) = &report.event {
        say(format_args!("event: {}", event.escape_debug()));
    }
}
