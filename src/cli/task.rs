//! `rhizome task`: what the server does that takes its time. Works on the database, so the server may run or not; only
//! while it runs something is done.

use anyhow::bail;
use clap::Subcommand;
use rhizome_storage::{Store, Task, TaskState};

use crate::config::Config;
use crate::server;

use super::{ago, say};

#[derive(Debug, Subcommand)]
pub(super) enum TaskCommand {
    /// List tasks, newest first, a line each
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Cancel tasks: what they have done stays done
    Cancel {
        /// Their numbers
        #[arg(required = true)]
        tasks: Vec<i64>,
    },
}

pub(super) fn task(config: &Config, command: TaskCommand) -> anyhow::Result<()> {
    super::block_on(async {
        let store = server::open_store(config).await?;
        let done = run(&store, command).await;
        store.close().await;
        done
    })
}

async fn run(store: &Store, command: TaskCommand) -> anyhow::Result<()> {
    match command {
        TaskCommand::List { limit } => {
            for task in store.tasks(i64::MAX, usize::from(limit)).await? {
                say(line(store, &task));
            }
        }
        TaskCommand::Cancel { tasks } => {
            for no in tasks {
                if !store.end_task(no, TaskState::Cancelled, None).await? {
                    bail!("no task {no} is open");
                }
                say(format_args!("task {no} is cancelled"));
            }
        }
    }
    Ok(())
}

fn line(store: &Store, task: &Task) -> String {
    let Task {
        no, kind, progress, ..
    } = task;
    let (what, since) = (task.what.escape_debug(), ago(store, task.made_ms));
    let state = match task.state {
        TaskState::Open => "open".to_owned(),
        TaskState::Done => "done".to_owned(),
        TaskState::Cancelled => "cancelled".to_owned(),
        TaskState::Failed => {
            let why = task.error.as_deref().unwrap_or("unknown");
            format!("failed: {}", why.escape_debug())
        }
    };
    format!("{no}  {kind} {what}, since {since}: {progress} so far, {state}")
}
