//! The rules for Prometheus, against the metrics that there are and the runbook. That they fire when they should,
//! `promtool test rules` says.

use std::collections::BTreeSet;

use evenkeel::daemon::Reason;

use crate::docs::{check_names, document, first_cells};

fn rules() -> String {
    document("deploy/prometheus/evenkeel.rules.yml")
}

#[test]
fn every_alert_has_its_row_in_the_runbook() {
    let rules = rules();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    check_names("docs/operating.md", "## Alerts", alerts);
}

#[test]
fn the_rules_ask_for_metrics_and_reasons_that_there_are() {
    let metrics: BTreeSet<String> =
        ["## The cluster", "## What runs, and why not more", "## What has happened", "## The process"]
            .iter()
            .flat_map(|heading| first_cells("docs/metrics.md", heading))
            .collect();
    let rules = rules();
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("evenkeel_")).collect();
    let there = |name: &&str| metrics.contains(name.strip_suffix("_bucket").unwrap_or(name));
    let invented: Vec<_> = asked.iter().filter(|name| !there(name)).collect();
    assert!(asked.len() > 10 && invented.is_empty(), "{invented:?} of {asked:?}");

    let named = rules.split("reason=").skip(1).map(|rest| rest.trim_start_matches('~').split('"').nth(1).unwrap());
    let named: BTreeSet<&str> = named.flat_map(|names| names.split('|')).collect();
    let known: BTreeSet<&str> = Reason::names().collect();
    assert!(named.len() > 5 && named.is_subset(&known), "{:?}", named.difference(&known));
}
