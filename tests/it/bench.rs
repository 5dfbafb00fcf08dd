//! The load tool runs all its scenarios without an error, with counts so small that the numbers mean
//! nothing.

use std::sync::LazyLock;

use rhizome::config::Config;
use rhizome_bench::{
    plan::Plan,
    probe::Probe,
    run,
    scenario::Scenario,
    server::Server as Driven,
    world::{Service, World},
};

use crate::harness::{Kind, Pair};

/// Where the load tool is told what the servers' application service is told.
static PORT: LazyLock<u16> = LazyLock::new(|| {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
});

fn with_a_service(config: &mut Config) {
    let file = config.server.data_dir.join("service.yaml");
    let registration = serde_json::json!({
        "id": "service0",
        "url": format!("http://127.0.0.1:{}", *PORT),
        "as_token": "asked-by-the-service",
        "hs_token": "told-by-the-server",
        "sender_localpart": "service0",
        "rate_limited": false,
        "namespaces": { "users": [{ "exclusive": true, "regex": "@service0_.*" }] },
    });
    std::fs::create_dir_all(&config.server.data_dir).unwrap();
    std::fs::write(&file, registration.to_string()).unwrap();
    config.appservices.files = vec![file.to_str().unwrap().to_owned()];
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_of_the_load_tool_runs() {
    let pair = Pair::start_with(Kind::Sqlite, with_a_service).await;
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
    world.services = vec![Service {
        port: *PORT,
        sender: "service0".into(),
        token: "asked-by-the-service".into(),
    }];
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
