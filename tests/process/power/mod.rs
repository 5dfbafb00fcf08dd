//! Power is lost: whatever the disk made of what it wasn't told to sync, nothing acknowledged is lost.
//!
//! A server on SQLite runs under strace while clients talk to it. Of the trace is made what its disk may hold at a
//! line of it (`disk`); a server that is started on that must have all whose answers had begun before (`story`).

mod chance;
mod disk;
mod story;
mod tests;
mod trace;

use std::{
    fs::File,
    io::{BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use rhizome_storage::testing::eventually;

use self::{
    chance::Chance,
    disk::{Cut, Image, after_power_loss},
    story::Story,
    trace::Call,
};
use crate::{client, database::Database, process};

/// How often power is lost; the long run is `RHIZOME_POWER_CUTS=200`.
fn rounds() -> usize {
    let rounds = std::env::var("RHIZOME_POWER_CUTS").ok();
    rounds.and_then(|n| n.parse().ok()).unwrap_or(5)
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_on_sqlite() {
    let life = Life::watched().await;
    life.lies_are_noticed().await;
    let seed = UNIX_EPOCH.elapsed().unwrap().as_secs();
    for round in 0..rounds() {
        let mut chance = Chance::new(seed + round as u64);
        let at = life.moment(round, &mut chance);
        eprintln!("round {round}: power is lost at line {at}");
        let cut = Cut {
            at,
            lies_from: usize::MAX,
        };
        let broken = life.broken(&cut, &mut chance).await;
        assert!(broken.is_empty(), "round {round}, line {at}: {broken:#?}");
    }
}

/// What a server did, and what its clients were told.
struct Life {
    root: PathBuf,
    calls: Vec<Call>,
    story: Story,
}

impl Life {
    async fn watched() -> Self {
        strace_works();
        let database = Database::unmade();
        let root = database.folder().to_owned();
        let trace = root.join("trace");
        let server = process::start_watched(&database, &trace::watching(&trace)).await;
        let mut story = Story::live(&server.base, &root.join("rhizome.db")).await;
        server.end().await;
        // strace is no child of ours: its last word is that the process has ended.
        let id = server.id().to_string();
        eventually("the trace is whole", async || ends_with_end_of(&trace, &id)).await;
        let calls = trace::read(BufReader::new(File::open(&trace).unwrap()), &root);
        story.find_answers(&calls);
        Self { root, calls, story }
    }

    /// A line: mostly while there is much to do, and then often where somebody has just been told something.
    fn moment(&self, round: usize, chance: &mut Chance) -> usize {
        let answers = self.story.answers();
        let first = answers[0];
        let end = self.calls.last().unwrap().begin + 2;
        match round % 4 {
            0 | 1 => answers[chance.below(answers.len())] + 1,
            2 => first + chance.below(end - first),
            _ => chance.below(end),
        }
    }

    /// What is wrong with the server that starts on what is left.
    async fn broken(&self, cut: &Cut, chance: &mut Chance) -> Vec<String> {
        let image: Image = after_power_loss(&self.calls, &self.root, cut, chance);
        let database = Database::unmade();
        image.write(database.folder());
        let server = process::start(&database, None).await;
        // It listens before the database is what it has to be: power may have been lost while that was made.
        let versions = format!("{}/_matrix/client/versions", server.base);
        eventually("the server answers", async || {
            let answer = client::http().get(&versions).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        let mut broken = self.story.broken(&server.base, cut.at).await;
        broken.extend(server.check_database().err());
        broken
    }

    /// A disk that only says from some answer on that it has synced, and has kept nothing since: that is seen.
    async fn lies_are_noticed(&self) {
        let answers = self.story.answers();
        let cut = Cut {
            at: usize::MAX,
            lies_from: answers[answers.len() / 2],
        };
        let broken = self.broken(&cut, &mut Chance::keeping(0)).await;
        let lost = broken.iter().filter(|what| what.ends_with("is lost"));
        assert!(lost.count() > answers.len() / 4, "{broken:#?}");
    }
}

/// Whether the last line says that this process has ended.
fn ends_with_end_of(trace: &Path, id: &str) -> bool {
    let mut file = File::open(trace).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length.saturating_sub(200)))
        .unwrap();
    let mut end = Vec::new();
    file.read_to_end(&mut end).unwrap();
    let end = String::from_utf8_lossy(&end);
    let mut words = end
        .lines()
        .next_back()
        .unwrap_or_default()
        .split_whitespace();
    words.next() == Some(id) && words.next() == Some("+++") && end.ends_with("+++\n")
}

fn strace_works() {
    let tried = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    let tried = tried.unwrap_or_else(|error| {
        panic!(
            "this test watches a server with strace, which can't be started ({error}): run \
             scripts/install test, or apt-get install strace"
        )
    });
    assert!(
        tried.status.success(),
        "strace may not watch a process here; a container has to be allowed ptrace \
         (docker run --cap-add SYS_PTRACE): {}",
        String::from_utf8_lossy(&tried.stderr)
    );
}
