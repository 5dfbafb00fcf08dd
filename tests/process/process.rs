//! One `rhizome` process on a port and database of its own.

use std::{
    ffi::OsString,
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use rhizome_storage::testing::eventually;
use rustix::process::{Pid, Signal, kill_process};

use crate::database::Database;

pub(crate) struct Process {
    child: Mutex<Child>,
    id: u32,
    /// Where its client API answers.
    pub(crate) base: String,
    config: PathBuf,
    log: PathBuf,
}

/// Starts a process on `database` and waits until it answers. `crash_point` names a point of
/// `RHIZOME__TESTING__CRASH_POINT` at which it ends itself.
pub(crate) async fn start(database: &Database, crash_point: Option<&str>) -> Process {
    start_as(database, ("crash.test", ""), crash_point).await
}

/// The same with a name, and with more of a configuration.
pub(crate) async fn start_as(
    database: &Database,
    named: (&str, &str),
    crash_point: Option<&str>,
) -> Process {
    start_by(database, named, crash_point, &[]).await
}

/// Starts a process by a command that goes before its own, and becomes it.
pub(crate) async fn start_watched(database: &Database, command: &[OsString]) -> Process {
    start_by(database, ("crash.test", ""), None, command).await
}

async fn start_by(
    database: &Database,
    named: (&str, &str),
    crash_point: Option<&str>,
    before: &[OsString],
) -> Process {
    // Another process may take the port between our asking and rhizome's binding: try again.
    for _ in 0..5 {
        if let Some(process) = try_start(database, named, crash_point, before).await {
            return process;
        }
    }
    panic!("rhizome did not start; its log is above");
}

async fn try_start(
    database: &Database,
    (name, more): (&str, &str),
    crash_point: Option<&str>,
    before: &[OsString],
) -> Option<Process> {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let folder = database.folder();
    let config = folder.join(format!("{port}.toml"));
    let text = format!(
        r#"
[server]
name = "{name}"
data_dir = "{folder}"

[database]
url = "{url}"

[[listeners]]
address = "127.0.0.1:{port}"
apis = ["client"]

[registration]
mode = "open"
strangers_may_register_and_i_accept_the_abuse = true

[rate_limits]
enabled = false
{more}
"#,
        folder = folder.display(),
        url = database.url(),
    );
    std::fs::write(&config, text).unwrap();
    let log = folder.join(format!("{port}.log"));
    // Without the signal that ends a process whose file may not grow: it gets an error instead.
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]);
    command
        .args(before)
        .arg(env!("CARGO_BIN_EXE_rhizome"))
        .arg("serve")
        .arg("--config")
        .arg(&config);
    command.stdin(Stdio::null());
    command.stdout(std::fs::File::create(&log).unwrap());
    command.stderr(std::fs::OpenOptions::new().append(true).open(&log).unwrap());
    command.env_remove("RHIZOME__TESTING__CRASH_POINT");
    if let Some(point) = crash_point {
        command.env("RHIZOME__TESTING__CRASH_POINT", point);
    }
    let child = command.spawn().unwrap();
    let process = Process {
        id: child.id(),
        child: Mutex::new(child),
        base: format!("http://127.0.0.1:{port}"),
        config,
        log,
    };
    let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    eventually("rhizome listens or ends", async || {
        answers() || process.has_ended()
    })
    .await;
    if !process.has_ended() {
        return Some(process);
    }
    process.print_log();
    None
}

impl Process {
    /// `kill -9`, and the end of the process awaited.
    pub(crate) fn kill(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Stops it where it is, as a machine does that is paused. Its connections stay, and nobody answers.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on from there.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Runs one of the operator's commands with its configuration, changed by these variables: whether it was done, and what
    /// was said.
    pub(crate) fn command(&self, args: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rhizome"));
        command.args(args).arg("--config").arg(&self.config);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        let done = tokio::task::block_in_place(|| command.output().unwrap());
        let said = [done.stdout, done.stderr].concat();
        (
            done.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// What `rhizome database check` says of its database, if it finds anything wrong.
    pub(crate) fn check_database(&self) -> Result<(), String> {
        match self.command(&["database", "check"], &[]) {
            (true, _) => Ok(()),
            (false, said) => Err(said),
        }
    }

    /// Asks the process to end, and waits until it has.
    pub(crate) async fn end(&self) {
        self.signal(Signal::TERM);
        self.ended().await;
    }

    /// Whether files of the process may grow from now on, as on a disk that has no room.
    pub(crate) fn let_files_grow(&self, grow: bool) {
        let limit = if grow { "unlimited" } else { "1" };
        let done = Command::new("prlimit")
            .arg(format!("--pid={}", self.id))
            .arg(format!("--fsize={limit}:unlimited"))
            .status();
        assert!(done.expect("prlimit (util-linux) is there").success());
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&self) {
        eventually("the process ends itself", async || self.has_ended()).await;
    }

    fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        child.try_wait().unwrap().is_some()
    }

    /// CPU time that the process has used so far, all threads, user and system.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap();
        // After the command's name in parentheses: fields 14 and 15 of the line are 12 and 13 here.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        // Linux counts in hundredths of a second for user programs, whatever its own tick.
        ticks / 100.0
    }

    fn print_log(&self) {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.print_log();
        }
    }
}
