//! Clients that follow an account by `/sync`, by sliding sync and over the socket, with cuts, retries, restarts and
//! changes of what they ask for, while users of two servers do what they like: what each holds in the end is what is so.

mod belief;
mod follow;
mod life;

use std::time::Duration;

use rhizome_storage::testing::eventually;

use self::{
    follow::{Follower, Form},
    life::{FOLLOWED, Life},
};
use crate::{
    e2ee::several::{Several, on},
    random::Random,
};

const FORMS: [Form; 3] = [Form::Poll, Form::Sliding, Form::Socket];
const STEPS: usize = 90;

/// Which stories are told: more by hand, as `first-last`.
fn stories() -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("RHIZOME_RANDOM_FORMS").unwrap_or_default();
    let asked = asked
        .split_once('-')
        .and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    asked.unwrap_or(1..=3)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_every_form_of_sync_tells_the_truth() {
    for seed in stories() {
        let postgres = seed % 3 == 2;
        on(postgres, 2, async |all| story(all, seed).await).await;
    }
}

async fn story(all: &mut Several, seed: u64) {
    let mut random = Random(seed);
    let mut life = Life::begin(all).await;
    let mut followers = Vec::new();
    for whom in FOLLOWED {
        for form in FORMS {
            followers.push(Follower::begin(life.user(whom), whom, form).await);
        }
    }
    for step in 0..STEPS {
        match random.below(12) {
            0..=5 => life.go_on(all, step, &mut random).await,
            6..=10 => {
                let index = random.below(followers.len());
                followers[index].look(&mut random).await;
            }
            _ => {
                if random.below(4) == 0 {
                    let server = random.below(2);
                    all.restart(server).await;
                    life.again(all);
                    for follower in &mut followers {
                        follower.server_restarted(life.user(follower.whom));
                    }
                }
            }
        }
    }
    life.calm_down().await;
    for follower in followers {
        let (form, who, mail) = (
            follower.form,
            follower.user.id.clone(),
            life.mail[follower.whom],
        );
        let follower = tokio::sync::Mutex::new(follower);
        let told = eventually("a follower holds what is so", async || {
            let mut follower = follower.lock().await;
            follower.catch_up().await;
            follower.mistake(mail).await.is_none()
        });
        let ended = tokio::time::timeout(Duration::from_secs(30), told).await;
        let mistake = follower.into_inner().mistake(mail).await;
        let told = &life.told;
        assert!(
            ended.is_ok(),
            "seed {seed}: {who} by {form:?}: {mistake:?}\n{told:#?}"
        );
    }
}
