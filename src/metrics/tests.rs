//! What a scrape shows, and that the documentation says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::testing::{id, now, starting, working};
use super::*;
use crate::daemon::Reason;

const DOCUMENTATION: &str = include_str!("../../docs/metrics.md");

/// One family of a scrape, as Prometheus reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    /// The labels of its series without `cluster`, which all have, and `le`, which makes buckets.
    labels: BTreeSet<String>,
}

/// The families of a daemon in mid-work, when every one of them has a series.
fn families() -> BTreeMap<String, Family> {
    let text = Metrics::new("cache-eu").unwrap().render_at(&working(now()), now()).unwrap();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut current);
            let family = Family { help: help.to_owned(), ..Family::default() };
            assert_eq!(families.insert(name.to_owned(), family), None, "{name} stands there twice");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut families.get_mut(name).unwrap().kind);
        } else {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
            let names: BTreeSet<&str> = labels.split("\",").map(|label| label.split_once('=').unwrap().0).collect();
            assert!(line.starts_with(&current) && names.contains("cluster"), "{line}");
            let names = names.into_iter().filter(|name| !matches!(*name, "cluster" | "le")).map(str::to_owned);
            families.get_mut(&current).unwrap().labels.extend(names);
        }
    }
    families
}

/// The lines of a scrape that begin so, without the label that all have.
fn check(text: &str, prefixes: &[&str], expect: Expect) {
    let wanted = |line: &&str| prefixes.iter().any(|prefix| line.starts_with(prefix));
    let lines: String = text.split_inclusive('\n').filter(wanted).collect();
    expect.assert_eq(&lines.replace(",cluster=\"cache-eu\"", "").replace("{cluster=\"cache-eu\"}", ""));
}

/// Every family in two lines.
fn named() -> String {
    let mut text = String::new();
    for (name, Family { kind, help, labels }) in families() {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let _ = writeln!(text, "{kind} {name}{{{}}}\n    {help}", labels.join(","));
    }
    text
}

#[test]
fn the_names_are_those_that_dashboards_know() {
    expect![[r#"
        gauge evenkeel_build_info{version}
            Always 1; the label tells the version.
        counter evenkeel_bytes_moved_total{}
            Bytes of the keys moved: an estimate from the size of the source's data set and its keys.
        gauge evenkeel_certificate_expiry_timestamp_seconds{certificate}
            When the first certificate of a file expires, since unix epoch; NaN where none is configured, or it cannot be read.
        gauge evenkeel_config_generation{}
            Reloads of the configuration that were taken over since the start.
        gauge evenkeel_config_reload_failed{}
            1 while the configuration file was refused and an older one is in use.
        counter evenkeel_config_reloads_total{result}
            Reloads of the configuration: error when the file was refused and the old one kept.
        counter evenkeel_errors_total{class}
            Troubles of moves, by class. A move may get over several of them.
        gauge evenkeel_full_read_age_seconds{}
            Age of the last look that read every node in full: more than that of the last look while the cluster is at rest, when a look asks whether anything has changed since, and memory and keys of a node are those of one of the last ten looks.
        gauge evenkeel_imbalance_ratio{}
            The largest distance of a primary from its target now, as a part of the target, a target of 0 taken as 1; NaN while there is no plan.
        gauge evenkeel_imbalance_slots{}
            Slots that the primary furthest from its target is off by now; NaN while there is no plan.
        counter evenkeel_keys_moved_total{}
            Keys whose move the source acknowledged.
        gauge evenkeel_lease_remaining_seconds{}
            What remains of the lease, 0 while it is not ours; NaN where none is configured.
        histogram evenkeel_migrate_call_duration_seconds{}
            How long one MIGRATE took: for so long it held its source and its target.
        gauge evenkeel_mode{mode}
            1 for the mode that evenkeel is in: act moves slots, observe only watches and plans.
        gauge evenkeel_moves_planned_slots{}
            Slots that are still to move: those of the present plan and those under way; 0 while there is no plan.
        gauge evenkeel_moves_running{}
            Moves that run now.
        counter evenkeel_moves_total{outcome}
            Moves that ended: done, not_started (nothing is open), left (slots are open still).
        gauge evenkeel_moves_waiting{}
            Moves of the plan that wait for their turn.
        gauge evenkeel_node_batch_keys{node}
            The most keys of one MIGRATE at present, of each primary that gives slots away.
        gauge evenkeel_node_block_seconds{node}
            How long a MIGRATE held such a primary of late, by its own count.
        gauge evenkeel_node_info{address,node,shard}
            Always 1; the labels tell a node's address and the least node id of its shard, which no failover changes.
        gauge evenkeel_node_latency_seconds{node}
            How long other clients wait for an answer of a node that is part of a move, beyond the time of the network: nineteen in twenty of a hundred calls a second took no longer.
        gauge evenkeel_node_limit{limit,node}
            1 for what keeps such a primary from being faster: growing (nothing yet), keys, block, latency, network, turns, rate.
        gauge evenkeel_node_slots{node}
            Slots that a primary owns by the word of all primaries.
        gauge evenkeel_node_target_slots{node}
            Slots that a primary should own by the targets; no series while there is no plan.
        gauge evenkeel_open_slots{}
            Slots that are marked as migrating or importing at any primary.
        gauge evenkeel_poll_age_seconds{}
            Age of the last successful look at the cluster; while there was none, time since the start.
        histogram evenkeel_poll_duration_seconds{}
            How long one look at the cluster took, failed ones included.
        counter evenkeel_polls_total{result}
            Looks at the cluster: ok when a view of it came of it.
        gauge evenkeel_reason{reason}
            1 for each reason why no further slot is opened now.
        gauge evenkeel_set_aside_attempts{}
            Tries of the slot that was tried most often, of those set aside.
        gauge evenkeel_set_aside_given_up_slots{}
            Slots set aside that are not tried again until somebody puts them back (evenkeel retry).
        gauge evenkeel_set_aside_next_try_seconds{}
            Time until the first of the slots set aside is tried again; NaN when none is.
        gauge evenkeel_set_aside_slots{class}
            Slots that could not be moved and wait for their next try, or for a human, by the trouble of the last try.
        histogram evenkeel_slot_duration_seconds{}
            How long a slot that was moved had been open, from its first mark to its new owner.
        counter evenkeel_slots_moved_total{}
            Slots whose move both source and target confirmed.
        histogram evenkeel_step_duration_seconds{step}
            How long one step of a move took, waiting included.
        gauge evenkeel_warnings{}
            What the status warns of: nodes that are left out of the plan, passwords and certificates that are not taken.
        gauge evenkeel_work_keys{state}
            Keys of the present work: planned (moved ones included; an estimate by the sources' keys a slot, NaN until there is one) and moved.
        gauge evenkeel_work_seconds_left{}
            Time that the present work still takes at the rate so far; 0 at rest, NaN until anything has moved.
        gauge evenkeel_work_slots{state}
            Slots of the present work, which lasts from the first move to the next rest: planned (moved ones included) and moved.
        counter process_cpu_seconds_total{}
            Total user and system CPU time spent in seconds.
        gauge process_max_fds{}
            Maximum number of open file descriptors.
        gauge process_open_fds{}
            Number of open file descriptors.
        gauge process_resident_memory_bytes{}
            Resident memory size in bytes.
        gauge process_start_time_seconds{}
            Start time of the process since unix epoch in seconds.
        gauge process_threads{}
            Number of OS threads in the process.
        gauge process_virtual_memory_bytes{}
            Virtual memory size in bytes.
    "#]].assert_eq(&named());
}

#[test]
fn what_is_under_way_is_still_to_move() {
    let mut status = working(now());
    let plan = std::sync::Arc::make_mut(status.plan.as_mut().unwrap());
    plan.moves.clear();
    plan.under_way = "0-9".parse().unwrap();
    let text = Metrics::new("cache-eu").unwrap().render_at(&status, now()).unwrap();
    check(&text, &["evenkeel_moves_planned_slots"], expect!["evenkeel_moves_planned_slots 10\n"]);
}

#[test]
fn the_documentation_lists_exactly_what_a_scrape_shows() {
    let mut documented = BTreeMap::new();
    for row in DOCUMENTATION.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("not four cells: {row}") };
        let labels =
            labels.split(", ").filter(|label| !label.is_empty()).map(|label| label.trim_matches('`').to_owned());
        let family = Family { kind: kind.to_owned(), help: help.to_owned(), labels: labels.collect() };
        let name = name.trim_matches('`');
        assert_eq!(documented.insert(name.to_owned(), family), None, "{name} is documented twice");
    }
    let mut wanted = String::new();
    let shown = families();
    for (name, family) in &shown {
        if documented.get(name) != Some(family) {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(wanted, "| `{name}` | {} | {} | {} |", family.kind, labels.join(", "), family.help);
        }
    }
    assert!(wanted.is_empty(), "docs/metrics.md lacks these rows, or has others for them:\n{wanted}");
    let gone: Vec<&String> = documented.keys().filter(|name| !shown.contains_key(*name)).collect();
    assert!(gone.is_empty(), "docs/metrics.md lists what no scrape shows: {gone:?}");
}

/// What `promtool check metrics` asks, and what keeps the number of series small.
#[test]
fn the_families_keep_to_the_conventions() {
    for (name, Family { kind, help, labels }) in families() {
        assert!(name.starts_with("evenkeel_") || name.starts_with("process_"), "{name}");
        assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert_eq!(kind == "histogram", name.ends_with("_duration_seconds"), "{name} is a {kind}");
        let words: Vec<&str> = name.split('_').collect();
        for word in ["ms", "milliseconds", "minutes", "kb", "percent", "count", "sum", "bucket", "gauge", "counter"] {
            assert!(!words.contains(&word), "{name} has `{word}`");
        }
        let has = |label: &str| labels.contains(label);
        assert!(!(kind == "histogram" && has("node")), "{name}: one histogram a node is too many series");
        assert!(!has("source") && !has("target"), "{name}: one series a pair of nodes is too many");
        assert!(!has("slot") && !has("slots") && !has("key"), "{name}: 16,384 series");
    }
}

#[test]
fn every_series_is_there_at_zero_before_anything_happens() {
    let text = Metrics::new("cache-eu").unwrap().render_at(&starting(now()), now()).unwrap();
    let value = |series: String| {
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series}")).trim().to_owned()
    };
    let one = |family: &str, label: &str, name: &str| format!("{family}{{{label}=\"{name}\",cluster=\"cache-eu\"}}");
    for step in StepName::ALL {
        assert_eq!(value(one("evenkeel_step_duration_seconds_count", "step", step.name())), "0");
    }
    for class in Trouble::NAMES {
        assert_eq!(value(one("evenkeel_errors_total", "class", class)), "0");
    }
    let mut reasons = BTreeSet::new();
    for reason in Reason::names() {
        assert!(reasons.insert(reason), "two reasons are called {reason}");
        let now = if reason == "no_view" { "1" } else { "0" };
        assert_eq!(value(one("evenkeel_reason", "reason", reason)), now, "{reason}");
    }
    check(
        &text,
        &[
            "evenkeel_bytes",
            "evenkeel_config",
            "evenkeel_imbalance",
            "evenkeel_keys",
            "evenkeel_mo",
            "evenkeel_node",
            "evenkeel_open",
            "evenkeel_poll_age",
            "evenkeel_polls",
            "evenkeel_set",
            "evenkeel_slots",
            "evenkeel_work",
        ],
        expect![[r#"
            evenkeel_bytes_moved_total 0
            evenkeel_config_generation 0
            evenkeel_config_reload_failed 0
            evenkeel_config_reloads_total{result="error"} 0
            evenkeel_config_reloads_total{result="ok"} 0
            evenkeel_imbalance_ratio NaN
            evenkeel_imbalance_slots NaN
            evenkeel_keys_moved_total 0
            evenkeel_mode{mode="act"} 1
            evenkeel_mode{mode="observe"} 0
            evenkeel_moves_planned_slots 0
            evenkeel_moves_running 0
            evenkeel_moves_total{outcome="done"} 0
            evenkeel_moves_total{outcome="left"} 0
            evenkeel_moves_total{outcome="not_started"} 0
            evenkeel_moves_waiting 0
            evenkeel_open_slots 0
            evenkeel_poll_age_seconds 3600.5
            evenkeel_polls_total{result="error"} 0
            evenkeel_polls_total{result="ok"} 0
            evenkeel_set_aside_attempts 0
            evenkeel_set_aside_given_up_slots 0
            evenkeel_set_aside_next_try_seconds NaN
            evenkeel_set_aside_slots{class="big_key"} 0
            evenkeel_set_aside_slots{class="both_claim"} 0
            evenkeel_set_aside_slots{class="conflict"} 0
            evenkeel_set_aside_slots{class="epoch_unsettled"} 0
            evenkeel_set_aside_slots{class="failed_over"} 0
            evenkeel_set_aside_slots{class="foreign_mark"} 0
            evenkeel_set_aside_slots{class="functions"} 0
            evenkeel_set_aside_slots{class="incompatible"} 0
            evenkeel_set_aside_slots{class="interrupted"} 0
            evenkeel_set_aside_slots{class="no_answer"} 0
            evenkeel_set_aside_slots{class="no_replicas"} 0
            evenkeel_set_aside_slots{class="not_primary"} 0
            evenkeel_set_aside_slots{class="owner_changed"} 0
            evenkeel_set_aside_slots{class="payload_too_big"} 0
            evenkeel_set_aside_slots{class="process_changed"} 0
            evenkeel_set_aside_slots{class="refused"} 0
            evenkeel_set_aside_slots{class="source_not_ready"} 0
            evenkeel_set_aside_slots{class="stray_keys"} 0
            evenkeel_set_aside_slots{class="stuck"} 0
            evenkeel_set_aside_slots{class="target_credentials"} 0
            evenkeel_set_aside_slots{class="target_full"} 0
            evenkeel_set_aside_slots{class="target_not_ready"} 0
            evenkeel_set_aside_slots{class="unknown"} 0
            evenkeel_slots_moved_total 0
            evenkeel_work_keys{state="moved"} 0
            evenkeel_work_keys{state="planned"} 0
            evenkeel_work_seconds_left 0
            evenkeel_work_slots{state="moved"} 0
            evenkeel_work_slots{state="planned"} 0
        "#]],
    );
}

#[test]
fn what_happened_is_counted() {
    let ms = Duration::from_millis;
    let metrics = Metrics::new("cache-eu").unwrap();
    metrics.step_ended(StepName::FinaliseWait, ms(1_500));
    metrics.migrate_call(40, ms(3));
    metrics.migrate_call(0, ms(700));
    metrics.bytes_moved(4_096);
    metrics.slots_moved(3, ms(20));
    metrics.move_ended(MoveOutcome::from(&Ending::Done));
    metrics.move_ended(MoveOutcome::from(&Ending::Left(Trouble::Stuck)));
    metrics.move_ended(MoveOutcome::from(&Ending::NotStarted(Trouble::Interrupted)));
    metrics.trouble("target_full");
    metrics.look_ended(true, ms(12));
    metrics.look_ended(false, ms(2_000));
    metrics.config_reloaded(false);
    check(
        &metrics.render_at(&starting(now()), now()).unwrap(),
        &[
            "evenkeel_bytes_moved_total",
            "evenkeel_config_reloads_total",
            "evenkeel_errors_total{class=\"target_full\"",
            "evenkeel_keys_moved_total",
            "evenkeel_migrate_call_duration_seconds",
            "evenkeel_moves_total",
            "evenkeel_poll_duration_seconds_",
            "evenkeel_polls_total",
            "evenkeel_slot_duration_seconds_sum",
            "evenkeel_slot_duration_seconds_count",
            "evenkeel_slots_moved_total",
            "evenkeel_step_duration_seconds_sum{step=\"finalise_wait\"",
        ],
        expect![[r#"
            evenkeel_bytes_moved_total 4096
            evenkeel_config_reloads_total{result="error"} 1
            evenkeel_config_reloads_total{result="ok"} 0
            evenkeel_errors_total{class="target_full"} 1
            evenkeel_keys_moved_total 40
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.00025"} 0
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.0005"} 0
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.001"} 0
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.002"} 0
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.005"} 1
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.01"} 1
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.02"} 1
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.05"} 1
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.1"} 1
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.2"} 1
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="0.5"} 1
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="1"} 2
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="2"} 2
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="5"} 2
            evenkeel_migrate_call_duration_seconds_bucket{cluster="cache-eu",le="+Inf"} 2
            evenkeel_migrate_call_duration_seconds_sum 0.703
            evenkeel_migrate_call_duration_seconds_count 2
            evenkeel_moves_total{outcome="done"} 1
            evenkeel_moves_total{outcome="left"} 1
            evenkeel_moves_total{outcome="not_started"} 1
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.0025"} 0
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.005"} 0
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.01"} 0
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.025"} 1
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.05"} 1
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.1"} 1
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.25"} 1
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="0.5"} 1
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="1"} 1
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="5"} 2
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="30"} 2
            evenkeel_poll_duration_seconds_bucket{cluster="cache-eu",le="+Inf"} 2
            evenkeel_poll_duration_seconds_sum 2.012
            evenkeel_poll_duration_seconds_count 2
            evenkeel_polls_total{result="error"} 1
            evenkeel_polls_total{result="ok"} 1
            evenkeel_slot_duration_seconds_sum 0.06
            evenkeel_slot_duration_seconds_count 3
            evenkeel_slots_moved_total 3
            evenkeel_step_duration_seconds_sum{step="finalise_wait"} 1.5
        "#]],
    );
}

#[test]
fn the_status_is_shown_as_it_is() {
    let now = now();
    let text = Metrics::new("cache-eu").unwrap().render_at(&working(now), now).unwrap();
    check(
        &text,
        &[
            "evenkeel_config_generation",
            "evenkeel_config_reload_failed",
            "evenkeel_imbalance",
            "evenkeel_mode",
            "evenkeel_moves_planned",
            "evenkeel_moves_running",
            "evenkeel_moves_waiting",
            "evenkeel_node",
            "evenkeel_open",
            "evenkeel_poll_age",
            "evenkeel_reason{reason=\"set_aside\"",
            "evenkeel_reason{reason=\"no_view\"",
            "evenkeel_set",
            "evenkeel_work",
        ],
        expect![[r#"
            evenkeel_config_generation 2
            evenkeel_config_reload_failed 1
            evenkeel_imbalance_ratio 1
            evenkeel_imbalance_slots 5461
            evenkeel_mode{mode="act"} 1
            evenkeel_mode{mode="observe"} 0
            evenkeel_moves_planned_slots 5461
            evenkeel_moves_running 1
            evenkeel_moves_waiting 2
            evenkeel_node_batch_keys{node="0000000100000000000000000000000000000000"} 40
            evenkeel_node_block_seconds{node="0000000100000000000000000000000000000000"} 0.0015
            evenkeel_node_info{address="10.0.0.1:6379",node="0000000100000000000000000000000000000000",shard="0000000100000000000000000000000000000000"} 1
            evenkeel_node_info{address="10.0.0.2:6379",node="0000000200000000000000000000000000000000",shard="0000000200000000000000000000000000000000"} 1
            evenkeel_node_info{address="10.0.0.3:6379",node="0000000300000000000000000000000000000000",shard="0000000300000000000000000000000000000000"} 1
            evenkeel_node_info{address="10.0.0.4:6379",node="0000000400000000000000000000000000000000",shard="0000000200000000000000000000000000000000"} 1
            evenkeel_node_latency_seconds{node="0000000100000000000000000000000000000000"} 0.0025
            evenkeel_node_latency_seconds{node="0000000300000000000000000000000000000000"} 0.0007
            evenkeel_node_limit{limit="block",node="0000000100000000000000000000000000000000"} 1
            evenkeel_node_limit{limit="growing",node="0000000100000000000000000000000000000000"} 0
            evenkeel_node_limit{limit="keys",node="0000000100000000000000000000000000000000"} 0
            evenkeel_node_limit{limit="latency",node="0000000100000000000000000000000000000000"} 0
            evenkeel_node_limit{limit="network",node="0000000100000000000000000000000000000000"} 0
            evenkeel_node_limit{limit="rate",node="0000000100000000000000000000000000000000"} 0
            evenkeel_node_limit{limit="turns",node="0000000100000000000000000000000000000000"} 0
            evenkeel_node_slots{node="0000000100000000000000000000000000000000"} 8192
            evenkeel_node_slots{node="0000000200000000000000000000000000000000"} 8192
            evenkeel_node_slots{node="0000000300000000000000000000000000000000"} 0
            evenkeel_node_target_slots{node="0000000100000000000000000000000000000000"} 5462
            evenkeel_node_target_slots{node="0000000200000000000000000000000000000000"} 5461
            evenkeel_node_target_slots{node="0000000300000000000000000000000000000000"} 5461
            evenkeel_open_slots 1
            evenkeel_poll_age_seconds 2
            evenkeel_reason{reason="no_view"} 0
            evenkeel_reason{reason="set_aside"} 1
            evenkeel_set_aside_attempts 3
            evenkeel_set_aside_given_up_slots 0
            evenkeel_set_aside_next_try_seconds 30
            evenkeel_set_aside_slots{class="big_key"} 0
            evenkeel_set_aside_slots{class="both_claim"} 0
            evenkeel_set_aside_slots{class="conflict"} 0
            evenkeel_set_aside_slots{class="epoch_unsettled"} 0
            evenkeel_set_aside_slots{class="failed_over"} 0
            evenkeel_set_aside_slots{class="foreign_mark"} 0
            evenkeel_set_aside_slots{class="functions"} 0
            evenkeel_set_aside_slots{class="incompatible"} 0
            evenkeel_set_aside_slots{class="interrupted"} 0
            evenkeel_set_aside_slots{class="no_answer"} 0
            evenkeel_set_aside_slots{class="no_replicas"} 0
            evenkeel_set_aside_slots{class="not_primary"} 0
            evenkeel_set_aside_slots{class="owner_changed"} 0
            evenkeel_set_aside_slots{class="payload_too_big"} 0
            evenkeel_set_aside_slots{class="process_changed"} 0
            evenkeel_set_aside_slots{class="refused"} 1
            evenkeel_set_aside_slots{class="source_not_ready"} 0
            evenkeel_set_aside_slots{class="stray_keys"} 0
            evenkeel_set_aside_slots{class="stuck"} 0
            evenkeel_set_aside_slots{class="target_credentials"} 0
            evenkeel_set_aside_slots{class="target_full"} 0
            evenkeel_set_aside_slots{class="target_not_ready"} 0
            evenkeel_set_aside_slots{class="unknown"} 0
            evenkeel_work_keys{state="moved"} 3000
            evenkeel_work_keys{state="planned"} 12000
            evenkeel_work_seconds_left 37.5
            evenkeel_work_slots{state="moved"} 250
            evenkeel_work_slots{state="planned"} 1000
        "#]],
    );
}

#[test]
fn a_node_that_has_gone_leaves_no_series() {
    let now = now();
    let metrics = Metrics::new("cache-eu").unwrap();
    let mut status = working(now);
    let of_node_2 = |status: &Status| {
        let text = metrics.render_at(status, now).unwrap();
        text.lines().filter(|line| line.contains(&format!("node=\"{}\"", id(2)))).count()
    };
    assert_eq!(of_node_2(&status), 3, "slots, target, info");
    let view = status.view.as_mut().unwrap();
    let mut topology = (*view.topology).clone();
    topology.shards.remove(&id(2));
    view.topology = topology.into();
    assert_eq!(of_node_2(&status), 0, "although the plan still speaks of it");
}
