//! Every reason not to act has a story on real servers that provokes it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use evenkeel::daemon::Reason;

/// The reason, and the story of the live tests that provokes it.
const STORIES: [(&str, &str); 38] = [
    ("no_view", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
    ("settling", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
    ("observing", "an_observer_plans_and_names_its_reason_and_moves_nothing_until_told_to_act"),
    ("paused", "a_pause_finishes_what_is_open_begins_nothing_outlasts_the_process_and_ends_as_told"),
    ("outside_windows", "outside_of_its_hours_a_daemon_finishes_what_is_open_and_begins_nothing"),
    ("awaiting_approval", "a_plan_waits_for_its_approval_and_exactly_that_plan_is_carried_out"),
    ("other_instance", "a_second_evenkeel_that_would_act_gives_way_to_the_first"),
    ("lease_held", "a_holder_that_dies_is_succeeded_within_the_lease_and_its_open_slot_finished"),
    ("lease_lost", "without_its_server_the_lease_is_lost_and_what_is_open_stays_open_until_it_is_back"),
    ("foreign_open_slots", "somebody_elses_open_slot_is_let_alone_until_nobody_touches_it_on_redis_7_0"),
    ("foreign_move", "a_mover_beside_the_daemon_is_not_disturbed_on_redis_7_0"),
    ("server_side_job", "nodes_that_move_slots_by_themselves_are_left_alone_until_they_have_on_valkey_9_1"),
    ("plan_unsound", "a_plan_that_its_checker_finds_wrong_moves_nothing"),
    ("permission_missing", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
    ("timeout_too_long", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
    ("version_skew", "slots_go_from_redis_6_2_to_7_0_and_not_back"),
    ("target_full", "a_target_without_memory_is_refused_and_one_that_fills_up_loses_nothing_on_redis_7_0"),
    ("saves_failing", "a_node_that_could_not_save_its_data_takes_no_part_until_it_can_on_redis_7_0"),
    ("too_few_replicas", "a_node_that_wants_more_replicas_than_it_has_takes_no_part_until_it_has_them"),
    ("checks_failed", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
    ("set_aside", "a_slot_that_was_set_aside_is_shown_everywhere_and_one_command_puts_it_back"),
    ("stopping", "a_stop_that_cannot_wait_leaves_an_open_slot_with_both_marks_on_redis_7_0"),
    ("no_primary_answered", "what_is_wrong_with_the_servers_is_a_reason_and_a_dead_replica_elsewhere_is_none"),
    ("two_clusters", "nodes_that_do_not_exist_and_two_clusters_behind_one_list_of_seeds"),
    ("node_silent", "a_daemon_follows_nodes_that_restart_come_and_go"),
    // Redis 7.0 refuses CLUSTER NODES while it loads, and so is node_silent.
    ("node_loading", "a_primary_that_loads_its_data_is_waited_for_on_valkey_9_1"),
    ("cluster_down", "a_cluster_that_is_down_is_left_alone"),
    ("node_failing", "what_is_wrong_with_the_servers_is_a_reason_and_a_dead_replica_elsewhere_is_none"),
    ("slots_uncovered", "what_is_wrong_with_the_servers_is_a_reason_and_a_dead_replica_elsewhere_is_none"),
    ("owner_does_not_claim", "what_is_wrong_with_the_servers_is_a_reason_and_a_dead_replica_elsewhere_is_none"),
    ("views_disagree", "what_is_wrong_with_the_servers_is_a_reason_and_a_dead_replica_elsewhere_is_none"),
    ("epochs_differ", "what_is_wrong_with_the_servers_is_a_reason_and_a_dead_replica_elsewhere_is_none"),
    ("node_not_usable", "what_a_node_believes_that_does_not_hear_the_others_is_a_reason"),
    ("role_unsure", "what_a_node_believes_that_does_not_hear_the_others_is_a_reason"),
    ("target_unmatched", "a_daemon_follows_nodes_that_restart_come_and_go"),
    ("target_ambiguous", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
    ("target_conflict", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
    ("targets_infeasible", "what_an_operator_gets_wrong_is_a_reason_and_moves_nothing"),
];

#[test]
fn every_reason_is_provoked_by_a_story_on_real_servers() {
    let told: BTreeSet<&str> = STORIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(told, Reason::names().collect::<BTreeSet<_>>());
    assert_eq!(told.len(), STORIES.len(), "a reason is listed twice");
    let live = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live");
    let files: Vec<String> = fs::read_dir(live)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for (name, story) in STORIES {
        let file = files.iter().find(|text| text.contains(&format!("fn {story}(")));
        let file = file.unwrap_or_else(|| panic!("{name}: there is no story {story}"));
        assert!(file.contains(word(name)), "{name}: the file of {story} does not name it");
    }
}

/// How a story says that it saw a reason: by its name, or, of commands that only print it, by its words.
fn word(name: &'static str) -> &'static str {
    match name {
        "other_instance" => "another evenkeel",
        "target_full" => "has no room",
        "two_clusters" => "two clusters",
        name => name,
    }
}
