//! The list of metrics, the rules and the dashboard name what a server with some traffic tells.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_demo::Socket;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use super::exposition::Exposition;
use super::{measured, scrape};
use crate::harness::{Kind, Server};

const HANDBOOK: &str = include_str!("../../../docs/metrics.md");
const ALERTS: &str = include_str!("../../../docs/metrics/alerts.yaml");
const ALERTS_TEST: &str = include_str!("../../../docs/metrics/alerts_test.yaml");
const DASHBOARD: &str = include_str!("../../../docs/metrics/dashboard.json");

/// What Prometheus itself tells of each server.
const OF_PROMETHEUS: &[&str] = &["up"];
/// What is only there where an application service was told something.
const OF_SERVICES: &[&str] = &["rhizome_appservice_behind", "rhizome_appservice_failures"];

async fn told() -> Exposition {
    let server = Server::start_with(Kind::Sqlite, measured).await;
    let ada = server.register("ada").await;
    let room = ada.create_room(json!({})).await.unwrap();
    ada.say(&room, "hello").await.unwrap();
    ada.now().await.unwrap();
    drop(
        Socket::open(&ada.at(&server.site.base()), "")
            .await
            .unwrap(),
    );
    eventually("the log is read", async || {
        scrape(&server).await.count("rhizome_log_reader_behind") > 0
    })
    .await;
    let told = scrape(&server).await;
    server.stop().await;
    told
}

/// The metrics that an expression names.
fn names(expression: &str) -> BTreeSet<String> {
    let quoted = expression.split('"').step_by(2);
    let words =
        quoted.flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let is_metric = |word: &&str| {
        OF_PROMETHEUS.contains(word) || word.starts_with("rhizome_") || word.starts_with("process_")
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

/// The expressions of the rules: what stands between `expr:` and the next key.
fn expressions(rules: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for rule in rules.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("expr: ").unwrap();
        let (expression, _) = rest.split_once("labels:").unwrap();
        let expression = expression.split("\n        for:").next().unwrap();
        found.insert(name.trim().to_owned(), expression.to_owned());
    }
    found
}

/// Each panel's expressions, and those by which it lets one choose.
fn dashboard() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((
                title.to_owned(),
                target["expr"].as_str().unwrap().to_owned(),
            ));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().unwrap();
            found.push(("a variable".to_owned(), query.to_owned()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_the_rules_and_the_dashboard_name_what_there_is() {
    let told = told().await;
    let rows = HANDBOOK.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let kind = rest.split(" | ").next()?;
        let is_kind = ["counter", "gauge", "histogram"].contains(&kind);
        is_kind.then(|| (name.to_owned(), kind.to_owned()))
    });
    let listed: BTreeMap<String, String> = rows.collect();
    assert_eq!(listed, told.families, "docs/metrics.md and a server differ");

    let there = told.names();
    let mut used = BTreeSet::new();
    let rules = expressions(ALERTS).into_iter();
    for (place, expression) in rules.chain(dashboard()) {
        let names = names(&expression);
        assert!(!names.is_empty(), "{place} names no metric: {expression}");
        for name in names {
            let is_known = there.contains(name.as_str())
                || OF_PROMETHEUS.contains(&name.as_str())
                || OF_SERVICES.contains(&name.as_str()) && told.families.contains_key(&name);
            assert!(is_known, "{place} names {name}, which nobody tells");
            used.insert(name);
        }
    }
    assert!(used.len() > 30, "{used:?}");
}

#[test]
fn each_alert_has_a_test_and_a_line_in_the_handbook() {
    let alerts = expressions(ALERTS);
    assert!(alerts.len() >= 15, "{alerts:?}");
    for alert in alerts.keys() {
        // Silent at first, then not.
        let tests = ALERTS_TEST.matches(&format!("alertname: {alert}")).count();
        assert!(tests >= 2, "alerts_test.yaml doesn't provoke {alert}");
        let line = format!("`{alert}`");
        assert!(HANDBOOK.contains(&line), "docs/metrics.md lacks {alert}");
    }
}

/// What Grafana needs to show a dashboard as it is meant.
#[test]
fn the_dashboard_is_whole() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 30);
    assert_eq!(dashboard["uid"], "rhizome");
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let side = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{title}");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{title} covers another");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        let refs: BTreeSet<_> = targets
            .iter()
            .map(|t| t["refId"].as_str().unwrap())
            .collect();
        assert!(
            !targets.is_empty() && refs.len() == targets.len(),
            "{title}"
        );
    }
}
