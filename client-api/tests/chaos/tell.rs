//! Telling stories, many beside each other; and one that goes wrong again and again, with less and less of it.

use std::{
    any::Any,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Builder;

use crate::{panics, shrink::shrink, story::Story, world::World};

/// How many stories the test command tells.
const STORIES: u64 = 30;
/// One in so many is told on PostgreSQL as well.
const ON_POSTGRES: usize = 10;
/// So many are told at the same time: servers wait for each other more than they work.
const AT_ONCE: usize = 2;
/// How long servers have to agree in the end. It decides nothing but when a story is called failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same while a story is made smaller, and the time for that.
const SHORT_PATIENCE: Duration = Duration::from_secs(12);
const SHRINKING: Duration = Duration::from_mins(8);

/// Tells stories from each other.
static TOLD: AtomicUsize = AtomicUsize::new(0);

/// How a story is told.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub postgres: bool,
    pub patience: Duration,
    /// Never, not even in the end, do these words get to the second server.
    pub withheld: Option<&'static str>,
}

impl How {
    fn on(postgres: bool) -> Self {
        Self {
            postgres,
            patience: PATIENCE,
            withheld: None,
        }
    }
}

/// A story that went wrong.
#[derive(Debug)]
pub struct Failure {
    pub why: String,
    /// What came of each step.
    pub came: Vec<String>,
}

/// The numbers of the stories that are to be told: `RHIZOME_CHAOS_SEED` is the only one, `RHIZOME_CHAOS_SEEDS` says how many.
fn seeds() -> Vec<u64> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    match number("RHIZOME_CHAOS_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("RHIZOME_CHAOS_SEEDS").unwrap_or(STORIES)).collect(),
    }
}

/// Tells all of them, or a part on PostgreSQL; fails with the shortest story that goes wrong.
pub fn all(postgres: bool) {
    let mut seeds = seeds();
    if postgres {
        seeds.truncate(seeds.len().div_ceil(ON_POSTGRES));
    }
    let (count, how) = (seeds.len(), How::on(postgres));
    let waiting = Mutex::new(seeds.into_iter());
    let failed = Mutex::new(None::<(Story, Failure)>);
    let pairs = AtomicUsize::new(0);
    let next = || lock(&waiting).next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    if lock(&failed).is_some() {
                        return;
                    }
                    let story = Story::of(seed);
                    match tell(&story, how) {
                        Ok(of_story) => {
                            pairs.fetch_add(of_story, Ordering::Relaxed);
                        }
                        Err(failure) => *lock(&failed) = Some((story, failure)),
                    }
                }
            });
        }
    });
    let failed = lock(&failed).take();
    if let Some((story, failure)) = failed {
        panic!("{}", shortest(&story, failure, how));
    }
    let pairs = pairs.into_inner();
    println!("{count} stories, {pairs} pairs of servers that agree on a room");
    // Else nothing was compared.
    assert!(pairs >= count || count < 3, "{pairs} pairs in {count}");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a story that went wrong as short as may be, and says what there is to say of it.
fn shortest(story: &Story, failure: Failure, how: How) -> String {
    eprintln!("story {} went wrong: {}", story.seed, failure.why);
    let until = Instant::now() + SHRINKING;
    let mut last = failure;
    let short = How {
        patience: SHORT_PATIENCE,
        ..how
    };
    let steps = shrink(story.steps.clone(), |steps| {
        if Instant::now() > until {
            return false;
        }
        let less = Story {
            steps: steps.to_vec(),
            ..story.clone()
        };
        let came = tell(&less, short);
        came.is_err_and(|failure| {
            last = failure;
            true
        })
    });
    let story = Story {
        steps,
        ..story.clone()
    };
    let (seed, came) = (story.seed, last.came.join("\n"));
    format!(
        "story {seed} goes wrong (RHIZOME_CHAOS_SEED={seed} tells it again). Its shortest form:\n\n{story}\n\
         What came of it:\n\n{came}\n\nWhat is wrong:\n\n{}\n",
        last.why
    )
}

/// Tells a story. Gives how many pairs of servers agree on a room that they are in together.
///
/// # Errors
/// What went wrong in it.
pub fn tell(story: &Story, how: How) -> Result<usize, Failure> {
    panics::watch();
    let came = Mutex::new(Vec::new());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let playing = play(story, how, &came);
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(playing)));
    runtime.shutdown_background();
    let why = match ended {
        Ok(Ok(pairs)) => return Ok(pairs),
        Ok(Err(why)) => why,
        Err(panic) => words(&*panic),
    };
    let came = std::mem::take(&mut *lock(&came));
    Err(Failure { why, came })
}

async fn play(story: &Story, how: How, came: &Mutex<Vec<String>>) -> Result<usize, String> {
    let title = format!("story {}", TOLD.fetch_add(1, Ordering::Relaxed));
    let mut world = Box::pin(World::begin(story, &title, how.postgres)).await;
    if let Some(words) = how.withheld {
        world.weather.withhold(&world.sites[1].name, words);
    }
    for (n, step) in (0..).zip(&story.steps) {
        let of_step = Box::pin(world.goes_on(n, *step)).await;
        lock(came).push(format!("{n:4}  {step}  {of_step}"));
        let wrong = world.is_unsound();
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
    }
    Box::pin(world.recovers()).await;
    let agreed = Box::pin(world.agrees(how.patience)).await;
    Box::pin(world.end()).await;
    agreed
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic without words".to_owned())
}
