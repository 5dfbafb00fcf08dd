//! The load tool runs all its scenarios without an error, with counts so small that the numbers mean
//! nothing.

use rhizome_bench::{
    plan::Plan, probe::Probe, run, scenario::Scenario, server::Server as Driven, world::World,
};

use crate::harness::{Kind, Pair};

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_of_the_load_tool_runs() {
    let pair = Pair::start(Kind::Sqlite).await;
    let driven = |base: String| Driven::new(&base, None, "smoke").unwrap();
    let own = Some(std::process::id());
    let probe = Probe {
        one: own,
        ..Probe::default()
    };
    let (north, south) = (
        driven(pair.north.site.base()),
        driven(pair.south.site.base()),
    );
    let mut world = World::new(Plan::quick(), probe, north, Some(south));
    let results = run(&mut world, Scenario::all(), "Rhizome", |_| {}).await;
    drop(world);
    assert_eq!(results.failed, []);
    assert_eq!(results.outcomes.len(), Scenario::all().len());
    for outcome in &results.outcomes {
        assert_eq!(outcome.first_error, None, "{}", outcome.scenario);
        assert!(outcome.operations > 0, "{}", outcome.scenario);
        assert!(
            outcome
                .figures
                .iter()
                .all(|figure| !figure.values.is_empty()),
            "{outcome:?}"
        );
    }
    pair.stop().await;
}
