//! A load tool for Matrix homeservers. It is an ordinary client: it drives any server through the client
//! API, on this machine only, and prints what that cost.
//!
//! - [`scenario`]: what is measured; [`plan`]: how much of it.
//! - [`world`]: accounts and rooms that scenarios share; [`person`], [`http`]: the client.
//! - [`drive`]: how load is made; [`probe`], [`process`]: CPU and memory of the servers.
//! - [`outcome`], [`stats`], [`table`]: what is told about it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod drive;
pub mod follow;
pub mod http;
pub mod jwt;
pub mod outcome;
pub mod person;
pub mod plan;
pub mod probe;
pub mod process;
pub mod scenario;
pub mod server;
pub mod stats;
pub mod table;
pub mod world;

use std::time::Instant;

use outcome::Results;
use scenario::Scenario;
use world::World;

/// Runs scenarios one after the other; one that can't be run doesn't stop the others. `tell` gets a line
/// about each.
pub async fn run(
    world: &mut World,
    scenarios: &[Scenario],
    label: &str,
    mut tell: impl FnMut(&str),
) -> Results {
    let mut results = Results {
        label: label.to_owned(),
        ..Results::default()
    };
    for scenario in scenarios {
        if (scenario.federated() || scenario.of_services()) && world.two.is_none()
            || scenario.of_services() && world.services.is_empty()
        {
            continue;
        }
        let name = scenario.name();
        let start = Instant::now();
        match scenario.run(world).await {
            Ok(outcome) => {
                tell(&format!(
                    "{label}: {name}: {:.1} s",
                    start.elapsed().as_secs_f64()
                ));
                results.outcomes.push(outcome);
            }
            Err(error) => {
                tell(&format!("{label}: {name} FAILED: {error:#}"));
                results.failed.push((name, format!("{error:#}")));
            }
        }
    }
    results
}
