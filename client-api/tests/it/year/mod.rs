//! More than a year in seconds, by a clock that the test moves: month for month the same is done, by clients and between
//! servers. However long it goes on, what isn't kept for good takes no more room, and what is kept grows by the same each
//! month (docs/growth.md).

mod counts;
mod people;
mod world;

use std::time::Duration;

use rhizome_storage::testing::TestDatabase;

use self::{people::People, world::World};

/// Nothing but what stays lives longer than 200 days. So the first eight months fill what there is, and what the next six
/// add is looked at.
const MONTHS: usize = 14;
/// Of three days each; a pass of collecting ends one.
const STEPS: usize = 10;
const HALF_A_STEP: Duration = Duration::from_hours(36);
/// In so many of them there is life. Then all is quiet, so that at the month's end nothing is half done.
const ACTIVE: usize = 6;
/// Messages in all, where no others are asked for.
const FEW: usize = 840;

/// How many messages are asked for by hand.
fn asked() -> Option<usize> {
    let asked = std::env::var("RHIZOME_YEAR_MESSAGES").ok();
    asked.map(|messages| messages.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_leaves_what_was_said_and_nothing_else_on_sqlite() {
    year(TestDatabase::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_leaves_what_was_said_and_nothing_else_on_postgres() {
    year(TestDatabase::postgres().await).await;
}

async fn year(database: TestDatabase) {
    let mut world = World::begin(&database).await;
    let mut people = People::begin(&world).await;
    let messages = (asked().unwrap_or(FEW) / (MONTHS * ACTIVE)).max(1);
    let mut months = Vec::new();
    for month in 0..MONTHS {
        for step in 0..STEPS {
            // What is done is done between two passes, so that no age is decided by a moment.
            world.wait(HALF_A_STEP);
            if step < ACTIVE {
                people.live(month, step, messages).await;
            } else {
                people.rest(month, step).await;
            }
            if (month + 1, step + 1) == (MONTHS, ACTIVE) {
                counts::are_busy(&world.here.store).await;
            }
            world.wait(HALF_A_STEP);
            if step + 1 == STEPS {
                world.settle().await;
            }
            world.collect().await;
        }
        months.push(counts::of(&world.here.store).await);
    }
    if asked().is_some() {
        counts::print_size(&database, messages * MONTHS * ACTIVE).await;
    }
    let wrong = counts::wrong(&months);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end().await;
    database.remove().await;
}
