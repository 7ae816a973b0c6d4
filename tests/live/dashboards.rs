//! What is made of the metrics: the dashboard and the rules of `deploy/`, asked of a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Cluster, Evenkeel, Flavour, HASTY, Prometheus, SOON, Spec, eventually, settings};

/// The panels of the dashboard, no id twice, each asking the source of data that is chosen.
fn panels() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/evenkeel.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).expect("it is there")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list").clone();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), panels.len(), "an id is there twice");
    assert!(panels.iter().all(|panel| panel["datasource"]["uid"] == "${datasource}"));
    panels
}

/// Every query with what Grafana puts in, and the panel that it is of.
fn queries() -> Vec<(String, String)> {
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().expect("a list").clone();
        let query = move |target: &Value| {
            let query = target["expr"].as_str().expect("a query");
            (title.clone(), query.replace("$cluster", "story").replace("$__rate_interval", "15s"))
        };
        targets.iter().map(query).collect::<Vec<_>>()
    };
    panels().iter().flat_map(of_panel).collect()
}

#[test]
fn every_query_of_the_dashboard_finds_something_and_every_rule_can_be_evaluated() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let daemon = Evenkeel::new(&["run", "--observe"]).config(&settings(&cluster, HASTY)).spawn();
    daemon.await_http("/readyz", SOON, |_| true);
    let prometheus = Prometheus::scraping(&daemon);
    let (of_moves, others): (Vec<_>, Vec<_>) =
        queries().into_iter().partition(|(panel, _)| OF_MOVES.contains(&&**panel));
    assert!(others.len() > 20 && of_moves.len() == OF_MOVES.len(), "{} and {}", others.len(), of_moves.len());
    assert_finds_something(&prometheus, &others);
    eventually("every rule was evaluated without a fault", SOON, || {
        let rules = prometheus.ask("rules", &[])?;
        let groups = rules["groups"].as_array().expect("a list");
        let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().expect("a list")).collect();
        let ill: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
        if rules.len() > 10 && ill.is_empty() { Ok(()) } else { Err(format!("{ill:?}")) }
    });
    // One that does nothing but watch is nobody's alarm.
    let firing = prometheus.ask("query", &[("query", "ALERTS{alertstate=\"firing\"}")]).expect("it answers");
    assert_eq!(firing["result"], Value::Array(Vec::new()), "{firing}");

    let slowly = format!("{HASTY}[migration]\nslots_per_second = 1\n");
    let mover = Evenkeel::new(&["run"]).config(&settings(&cluster, &slowly)).spawn();
    assert_finds_something(&Prometheus::scraping(&mover), &of_moves);
}

/// Panels that show something only while slots move.
const OF_MOVES: [&str; 2] = ["What clients of nodes at work wait", "What limits each source"];

fn assert_finds_something(prometheus: &Prometheus, queries: &[(String, String)]) {
    for (panel, query) in queries {
        eventually(&format!("`{panel}` finds something with {query}"), SOON, || {
            let found = prometheus.ask("query", &[("query", query)])?;
            if found["result"].as_array().is_some_and(|series| !series.is_empty()) {
                Ok(())
            } else {
                Err(found.to_string())
            }
        });
    }
}
