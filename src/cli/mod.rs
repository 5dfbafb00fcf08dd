//! The command line.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong.

mod approval;
mod appservice;
mod backup;
mod block;
mod config;
mod database;
mod federation;
mod keys;
pub(crate) mod logging;
mod media;
mod report;
mod room;
mod serve;
mod status;
mod task;
mod token;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rhizome_storage::Store;

use crate::config::{Config, ConfigError, Logging};
use crate::server::{self, Running};

/// A federated Matrix homeserver.
///
/// Without a command it serves: with defaults, or with the configuration given.
#[derive(Debug, Parser)]
#[command(name = "rhizome", version, max_term_width = 100)]
struct Cli {
    /// The configuration file (default: $RHIZOME_CONFIG, else none: every setting has a default)
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM (what `rhizome` alone does)
    Serve,
    /// Say how the server does that runs, if it tells figures (`[metrics]`)
    Status(status::StatusArgs),
    /// Print an example configuration, or check one
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Manage users, also while the server runs
    #[command(subcommand)]
    User(user::UserCommand),
    /// Look into rooms, also while the server runs
    #[command(subcommand)]
    Room(RoomCommand),
    /// Look at files and take care of them, also while the server runs
    #[command(subcommand)]
    Media(media::MediaCommand),
    /// Read what users have reported, also while the server runs
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Manage the tokens that let people register, also while the server runs
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Keep a room, a server or a name out, also while the server runs
    #[command(subcommand)]
    Block(block::BlockCommand),
    /// Let a room, a server or a name in again
    #[command(subcommand)]
    Unblock(block::UnblockCommand),
    /// List what is kept out
    Blocks,
    /// See which servers can't be reached and why, and what others send; do something about it, also while the server runs
    #[command(subcommand)]
    Federation(federation::FederationCommand),
    /// Look at bridges and bots, test them, pause them, also while the server runs
    #[command(subcommand)]
    Appservice(appservice::AppserviceCommand),
    /// Look at what the server does that takes its time
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Look through the database, tidy it up, move it, or say what happened to it
    #[command(subcommand)]
    Database(database::DatabaseCommand),
    /// Save everything while the server runs, see whether a backup is whole, and restore one
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Show, make or change the signing key
    Keys {
        #[command(subcommand)]
        command: Option<keys::KeysCommand>,
    },
    /// Watch two servers talk: starts both here, checks that they agree, cleans up
    Demo(DemoArgs),
    /// Parse one of strangers' files, apart from the server, which starts this itself
    #[command(hide = true)]
    Decode,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting, commented, with its default
    Example,
    /// Say what is wrong with the configuration, in which line, and what to do
    Check,
}

#[derive(Debug, Subcommand)]
enum RoomCommand {
    /// Say what is stored of a room, and why it is so: its state, its refused events, its forks
    Inspect(RoomInspect),
    /// List the rules of a moderation policy list, or those that are about somebody or something
    Policies(RoomPolicies),
}

#[derive(Debug, Args)]
struct RoomInspect {
    /// The room's id, or an alias of this server
    room: String,
    /// Explain this event: what became of it, what it changed, how forks met in it
    #[arg(long, value_name = "EVENT_ID", conflicts_with = "recompute")]
    event: Option<String>,
    /// How many generations of the graph to show before and after the event (or the heads)
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(..=1000))]
    around: u16,
    /// How many refused events and gaps to list
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(..=10000))]
    limit: u16,
    /// Draw the graph around the event (or the heads) for Graphviz: pipe it into `dot -Tsvg`
    #[arg(long, conflicts_with_all = ["json", "recompute"])]
    graphviz: bool,
    /// With --graphviz: also draw auth events, dashed
    #[arg(long, requires = "graphviz")]
    auth: bool,
    /// Compute every state of the room again, and say where the stored one is another; changes nothing,
    /// ends with 1 if they disagree
    #[arg(long)]
    recompute: bool,
    /// Write JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RoomPolicies {
    /// The id of the list's room, or an alias of this server
    room: String,
    /// Only rules about this user, server or room
    entity: Option<String>,
    /// Write JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Put both servers' data into schemas of this PostgreSQL database, removed at the end
    /// (default: SQLite files in a temporary directory)
    #[arg(long, value_name = "URL", visible_alias = "database")]
    postgres: Option<String>,
    /// Tell no story: print as one line of JSON where the two servers are, and a small client for a
    /// browser, and serve until stopped. Anyone on this machine can register
    #[arg(long)]
    serve: bool,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Some(Command::Decode)) {
        return rhizome_decoder::child::serve();
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rhizome: {}", explain(&error));
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli {
        config: file,
        command,
    } = cli;
    let file = file.or_else(|| std::env::var_os("RHIZOME_CONFIG").map(PathBuf::from));
    let load = || Config::load(file.as_deref());
    match command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(load()?),
        Command::Status(args) => status::status(&load()?, &args),
        Command::Config(ConfigCommand::Example) => {
            config::example();
            Ok(())
        }
        Command::Config(ConfigCommand::Check) => config::check(&load()?),
        Command::User(command) => user::user(&load()?, command),
        Command::Block(command) => block::block(&load()?, command),
        Command::Unblock(command) => block::unblock(&load()?, &command),
        Command::Blocks => block::blocks(&load()?),
        Command::Federation(command) => federation::federation(&load()?, command),
        Command::Appservice(command) => appservice::appservice(&load()?, command),
        Command::Task(command) => task::task(&load()?, command),
        Command::Room(RoomCommand::Inspect(args)) => room::inspect(&load()?, args),
        Command::Room(RoomCommand::Policies(args)) => room::policies(&load()?, &args),
        Command::Media(command) => media::media(&load()?, command),
        Command::Report(command) => report::report(&load()?, command),
        Command::Token(command) => token::token_command(&load()?, command),
        Command::Database(command) => database::database(&load()?, &command),
        Command::Backup(command) => backup::backup(load, &command),
        Command::Keys { command } => keys::keys(&load()?, command.unwrap_or_default()),
        Command::Demo(args) if args.serve => {
            logging::init(&Logging::default())?;
            block_on(rhizome_demo::serve::<Running>(args.postgres))
        }
        Command::Demo(args) => block_on(rhizome_demo::run::<Running>(args.postgres)),
        // Knows no configuration: `main` has done it.
        Command::Decode => Ok(()),
    }
}

/// Runs a future on a runtime with a thread per core.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Does something with the database, and closes it.
fn on_store(
    config: &Config,
    work: impl AsyncFnOnce(&Store) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    block_on(async {
        let store = server::open_store(config).await?;
        let done = work(&store).await;
        store.close().await;
        done
    })
}

/// An error with its causes, one line each.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}\n  because: {cause}");
        }
    }
    text
}

/// How long ago something was.
fn ago(store: &Store, since_ms: i64) -> String {
    how_long(store.clock().now_ms().saturating_sub(since_ms))
}

/// Milliseconds in words.
fn how_long(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..=7_200 => format!("{} minutes", seconds / 60),
        7_201..=172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What strangers wrote, without what a terminal would obey, and what makes the rest of a line read otherwise.
fn clean(text: impl std::fmt::Display) -> String {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text = text.to_string();
    text.chars()
        .map(|c| if obeyed(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Prints a line to standard output; a closed pipe is no reason to fail.
fn say(line: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests;
