//! `rhizome-bench`: drives homeservers on this machine and says what that cost.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use rhizome_bench::{
    outcome::Results,
    person::Account,
    plan::Plan,
    probe::Probe,
    run,
    scenario::Scenario,
    server::Server,
    table::table,
    world::{Service, World},
};

/// A load tool for Matrix homeservers, for loopback addresses only.
#[derive(Debug, Parser)]
#[command(name = "rhizome-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Drive a server, or two that federate, and print what was measured
    Run(Box<Run>),
    /// Print the scenarios
    List,
    /// Print the results of several runs side by side; the first two are compared
    Table(Tables),
}

#[derive(Debug, Args)]
struct Run {
    /// The client API of the server: http://127.0.0.1:8008. Its rate limits must be off
    #[arg(long, value_name = "URL")]
    server: String,
    /// The client API of another server that federates with it
    #[arg(long, value_name = "URL")]
    server2: Option<String>,
    /// The server's process, to read its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// The other server's process
    #[arg(long)]
    pid2: Option<u32>,
    /// The process of the database, if it isn't the server's
    #[arg(long, value_name = "PID")]
    database_pid: Option<u32>,
    /// The secret of /_synapse/admin/v1/register; without one registration must be open
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// The secret of JSON Web Tokens (HS256) that make accounts: without passwords, which is quicker for very many
    #[arg(long, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// Only these scenarios (see `list`)
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<Scenario>,
    /// What the server is called in the results
    #[arg(long, default_value = "server")]
    label: String,
    /// Write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seconds that closed loops are measured for
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Seconds after which a scenario begins nothing more
    #[arg(long, value_name = "S", default_value_t = 60)]
    time_limit: u64,
    /// Members of the room of `device-storm`
    #[arg(long, value_name = "N")]
    members: Option<usize>,
    /// How many of them wait in /sync
    #[arg(long, value_name = "N")]
    waiting: Option<usize>,
    /// Accounts of the first server that earlier runs have made; those made now are added
    #[arg(long, value_name = "FILE")]
    accounts: Option<PathBuf>,
    /// Messages of the scenario that searches
    #[arg(long, value_name = "N")]
    searched: Option<usize>,
    /// Users of the scenario that searches for people
    #[arg(long, value_name = "N")]
    people: Option<usize>,
    /// A file with the port, the user and the token of application services that the server knows, a line each; the
    /// other server has none
    #[arg(long, value_name = "FILE")]
    services: Option<PathBuf>,
    /// Rooms of each of them
    #[arg(long, value_name = "N")]
    service_rooms: Option<usize>,
    /// Connections that wait in the idle scenarios
    #[arg(long, value_name = "N")]
    idle: Option<usize>,
    /// Small counts, to see that everything works: the numbers mean nothing
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct Tables {
    /// Files that `run --json` wrote
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write all of them to one file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => measure(&options),
        Command::List => {
            for scenario in Scenario::all() {
                say(&format!("{:16} {}\n", scenario.name(), scenario.help()));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Table(options) => tables(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rhizome-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Run) -> anyhow::Result<ExitCode> {
    let mut world = world(options)?;
    let scenarios: Vec<Scenario> = Scenario::all()
        .iter()
        .copied()
        .filter(|scenario| options.only.is_empty() || options.only.contains(scenario))
        .collect();
    // One thread: the rest of the machine is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let results = runtime.block_on(run(&mut world, &scenarios, &options.label, |line| {
        eprintln!("{line}");
    }));
    if let Some(file) = &options.accounts {
        let made = world.one.made().iter().map(Account::line);
        let text: String = made.collect();
        std::fs::write(file, text)
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    if let Some(file) = &options.json {
        write(file, &results)?;
    }
    say(&table(std::slice::from_ref(&results)));
    Ok(if results.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn world(options: &Run) -> anyhow::Result<World> {
    let mut plan = if options.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    plan.limit = plan.limit.min(Duration::from_secs(options.time_limit));
    if let Some(seconds) = options.seconds {
        plan.measured = Duration::try_from_secs_f64(seconds)
            .context("--seconds")?
            .min(Duration::from_secs(options.time_limit));
    }
    plan.storm.0 = options.members.unwrap_or(plan.storm.0);
    plan.storm.1 = options.waiting.unwrap_or(plan.storm.1);
    plan.idle = options.idle.unwrap_or(plan.idle);
    plan.searched = options.searched.unwrap_or(plan.searched);
    plan.service_rooms = options.service_rooms.unwrap_or(plan.service_rooms);
    plan.people = options.people.unwrap_or(plan.people);
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let run = format!("{run:x}");
    let secret = options.secret.as_deref();
    let jwt_secret = options.jwt_secret.as_deref();
    let one = Server::new(&options.server, secret, &run)?.with_jwt(jwt_secret);
    let two = match &options.server2 {
        Some(url) => Some(Server::new(url, secret, &run)?.with_jwt(jwt_secret)),
        None => None,
    };
    let probe = Probe {
        one: options.pid,
        two: options.pid2,
        federated: options.pid2.is_some(),
        database: options.database_pid,
    };
    // A wrong process id is told now, not after the first scenario.
    probe.read()?;
    let mut world = World::new(plan, probe, one, two);
    if let Some(file) = &options.services {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{} can't be read", file.display()))?;
        world.services = text.lines().filter_map(Service::of_line).collect();
    }
    if let Some(file) = options.accounts.as_ref().filter(|file| file.exists()) {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{} can't be read", file.display()))?;
        let server = world.one.server.clone();
        let lines = text.lines();
        (world.one).adopt(lines.filter_map(|line| Account::of_line(&server, line)));
    }
    Ok(world)
}

fn tables(options: &Tables) -> anyhow::Result<ExitCode> {
    let all: Vec<Results> = options
        .files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("{} can't be read", file.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{}", file.display()))
        })
        .collect::<anyhow::Result<_>>()?;
    if let Some(file) = &options.json {
        write(file, &all)?;
    }
    say(&table(&all));
    Ok(ExitCode::SUCCESS)
}

fn write(file: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    std::fs::write(file, text).with_context(|| format!("{} can't be written", file.display()))
}

/// Prints; a closed pipe is no reason to fail.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
