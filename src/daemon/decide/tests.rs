//! Stories of decisions: a cluster in a few lines, the circumstances, and what is decided.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::approval::Consent;
use super::super::memory::Seen;
use super::*;
use crate::cluster::fixtures::{id, observation, with_names};
use crate::cluster::{NodeSettings, Observation};
use crate::config::MigrationConfig;
use crate::plan::{self, NodeTarget};

/// Three primaries, level, and an empty fourth.
const THREE_AND_ONE: &str = "a 0-5460\nb 5461-10922\nc 10923-16383\nd";

/// What a decision depends on, beside the cluster.
struct Circumstances {
    /// A cluster that was seen before; none where it is empty.
    before: &'static str,
    /// Earlier looks at the same cluster.
    looks: u32,
    /// How long ago the first of them was.
    watched: Duration,
    goal: Goal,
    policy: Policy,
    observing: bool,
    lease: Option<Reason>,
    stopping: bool,
    paused: Option<Pause>,
    outside: Option<Reason>,
    consent: Consent,
    at_work: bool,
    /// `a>d 0-9`.
    running: Vec<&'static str>,
    /// `a>d 5;b>d 7-8`.
    ours: &'static str,
    /// `a>d`, or nobody.
    orphan: &'static str,
    set_aside: &'static str,
    /// When that is tried again; `None` when it is given up.
    next_try: Option<Duration>,
    checks: Option<Vec<Reason>>,
    settings: SettingsByNode,
    limits: Limits,
}

impl Default for Circumstances {
    fn default() -> Self {
        Self {
            before: "",
            looks: 2,
            watched: Duration::from_secs(1),
            goal: Goal::Keep,
            policy: Policy::default(),
            observing: false,
            lease: None,
            stopping: false,
            paused: None,
            outside: None,
            consent: Consent::NotAsked,
            at_work: false,
            running: Vec::new(),
            ours: "",
            orphan: "",
            set_aside: "",
            next_try: Some(Duration::from_secs(9)),
            checks: Some(Vec::new()),
            settings: SettingsByNode::new(),
            limits: Limits { parallel: 8, per_target: 8 },
        }
    }
}

/// What is decided, whether the cluster is at rest, and the cluster that it is decided about.
fn decision(story: &str, circumstances: Circumstances) -> (Decision, bool, Observation) {
    let slots = |text: &str| text.parse::<SlotSet>().unwrap();
    let observation = observation(story);
    let between = |text: &str| {
        let (source, target) = text.split_once('>').unwrap();
        Pair { source: id(source), target: id(target) }
    };
    let running: Vec<RunningMove> = circumstances
        .running
        .iter()
        .map(|text| {
            let (pair, moving) = text.split_once(' ').unwrap();
            RunningMove { pair: between(pair), slots: slots(moving) }
        })
        .collect();
    let orphan = Some(circumstances.orphan).filter(|text| !text.is_empty()).map(between);
    let touched = running.iter().fold(SlotSet::new(), |all, running| all.union(&running.slots));
    let topology = Arc::new(Topology::merge(&observation, &touched));
    let began = Instant::now();
    let now = began + circumstances.watched;
    let mut own = OwnSlots::default();
    for text in circumstances.ours.split(';').filter(|text| !text.is_empty()) {
        let (pair, opened) = text.split_once(' ').unwrap();
        own.insert(&slots(opened), between(pair));
    }
    let ours = own.slots();
    let mut memory = Memory::default();
    if !circumstances.before.is_empty() {
        let before = crate::cluster::fixtures::observation(circumstances.before);
        let before = Arc::new(Topology::merge(&before, &SlotSet::new()));
        let mover_calls = BTreeMap::new();
        memory.on_look(&Seen {
            at: began,
            topology: &before,
            mover_calls: &mover_calls,
            touched: &touched,
            ours: &ours,
        });
    }
    for look in 0..circumstances.looks {
        let at = if look == 0 { began } else { now };
        let mover_calls = BTreeMap::new();
        memory.on_look(&Seen { at, topology: &topology, mover_calls: &mover_calls, touched: &touched, ours: &ours });
    }
    let look = Look { number: 1, observation, mover_calls: BTreeMap::new(), began: now, ended: now };
    let next_try = circumstances.next_try.map(|left| now + left);
    let set_aside = slots(circumstances.set_aside)
        .iter()
        .map(|slot| {
            (
                slot,
                SetAside { attempts: 1, trouble: "refused", why: "a test".to_owned(), delay: Duration::ZERO, next_try },
            )
        })
        .collect();
    let situation = Situation {
        now,
        look: &look,
        topology: &topology,
        memory: &memory,
        goal: &circumstances.goal,
        policy: &circumstances.policy,
        observing: circumstances.observing,
        lease: circumstances.lease,
        paused: circumstances.paused,
        outside: circumstances.outside,
        consent: &circumstances.consent,
        stopping: circumstances.stopping,
        settle: 2,
        adopt_after: Duration::from_mins(1),
        foreign_quiet: Duration::from_secs(30),
        limits: circumstances.limits,
        room: RoomRules::new(&MigrationConfig::default()),
        running: &running,
        at_work: circumstances.at_work,
        own: &own,
        orphan,
        set_aside: &set_aside,
        checks: circumstances.checks.as_deref(),
        settings: &circumstances.settings,
    };
    let decision = decide(&situation);
    let at_rest = is_at_rest(&situation, &decision);
    (decision, at_rest, look.observation)
}

/// What is decided, as text: `resume a>b 5`, `start a>d 1365 slots`, `checks`, `settled`, and the reasons' names.
fn decided(story: &str, circumstances: Circumstances) -> String {
    judged(story, circumstances).0
}

/// The same, and whether the cluster is at rest.
fn judged(story: &str, circumstances: Circumstances) -> (String, bool) {
    let (decision, at_rest, observation) = decision(story, circumstances);
    let name = |node: NodeId| with_names(&node.short(), &observation);
    let pair = |pair: Pair| format!("{}>{}", name(pair.source), name(pair.target));
    let mut parts: Vec<String> =
        decision.resume.iter().map(|start| format!("resume {} {}", pair(start.pair), start.slots)).collect();
    parts.extend(decision.start.iter().map(|start| format!("start {} {}", pair(start.pair), start.slots.len())));
    parts.extend(decision.ahead.iter().map(|start| format!("ahead {} {}", pair(start.pair), start.slots.len())));
    parts.extend(decision.wants_checks.then(|| "checks".to_owned()));
    parts.extend(decision.settled.then(|| "settled".to_owned()));
    let names: BTreeSet<&str> = decision.reasons.iter().map(Reason::name).collect();
    parts.extend(names.into_iter().map(|name| format!("[{name}]")));
    (parts.join("; "), at_rest)
}

#[track_caller]
fn check(story: &str, circumstances: Circumstances, expect: &str) {
    assert_eq!(decided(story, circumstances), expect, "{story}");
}

#[test]
fn a_new_empty_primary_gets_slots_from_every_other_at_once() {
    check(THREE_AND_ONE, Circumstances::default(), "start b>d 1366; start a>d 1365; start c>d 1365");
}

#[test]
fn nothing_starts_before_the_cluster_was_seen_to_be_settled() {
    let unsettled = || Circumstances { looks: 1, ..Circumstances::default() };
    // Only looked at, for where the next look is the last that is waited for.
    check(THREE_AND_ONE, unsettled(), "ahead b>d 1366; ahead a>d 1365; ahead c>d 1365; [settling]");
    check(THREE_AND_ONE, Circumstances { looks: 0, ..unsettled() }, "[settling]");
    check(THREE_AND_ONE, Circumstances { checks: None, ..unsettled() }, "checks; [settling]");
    let paused = Some(Pause { since: SystemTime::UNIX_EPOCH, until: None });
    check(THREE_AND_ONE, Circumstances { paused, ..unsettled() }, "[paused]; [settling]");
}

#[test]
fn nothing_starts_before_the_checks_and_nothing_after_what_they_found() {
    check(THREE_AND_ONE, Circumstances { checks: None, ..Circumstances::default() }, "checks");
    let other = Reason::OtherInstance { name: "x".to_owned(), from: "y".to_owned() };
    let checks = Some(vec![other]);
    check(THREE_AND_ONE, Circumstances { checks, ..Circumstances::default() }, "[other_instance]");
}

#[test]
fn an_observer_plans_and_moves_nothing() {
    check(THREE_AND_ONE, Circumstances { observing: true, ..Circumstances::default() }, "[observing]");
    let open = format!("{THREE_AND_ONE}\na 0-5460 [5->-d]\nd [5-<-a]");
    check(&open, Circumstances { observing: true, ours: "a>d 5", ..Circumstances::default() }, "[observing]");
}

#[test]
fn who_was_asked_to_stop_starts_nothing() {
    check(THREE_AND_ONE, Circumstances { stopping: true, ..Circumstances::default() }, "[stopping]");
}

#[test]
fn outside_of_its_hours_what_is_ours_is_finished_and_nothing_else_is_touched() {
    let reason = Reason::OutsideWindows { window: "02:00-04:00 UTC".to_owned(), begins_in: Duration::from_secs(9) };
    let outside = || Circumstances { outside: Some(reason.clone()), ..Circumstances::default() };
    check(THREE_AND_ONE, outside(), "[outside_windows]");
    let open = "a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd [5-<-a]";
    check(open, Circumstances { ours: "a>d 5", ..outside() }, "resume a>d 5; [outside_windows]");
    let long = Duration::from_mins(2);
    check(open, Circumstances { watched: long, ..outside() }, "[foreign_open_slots]; [outside_windows]");
}

#[test]
fn what_was_approved_is_moved_and_nothing_else() {
    let awaited = || Circumstances { consent: Consent::Awaited, ..Circumstances::default() };
    check(THREE_AND_ONE, awaited(), "[awaiting_approval]");
    let open = "a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd [5-<-a]";
    check(open, Circumstances { ours: "a>d 5", ..awaited() }, "resume a>d 5; [awaiting_approval]");
    check("a 0-8191\nb 8192-16383", awaited(), "settled");
    let given = |source, slots: &str| {
        let planned =
            plan::Move { source: id(source), target: id("d"), slots: slots.parse().unwrap(), why: Why::Level };
        Circumstances { consent: Consent::Given(vec![planned]), ..Circumstances::default() }
    };
    check(THREE_AND_ONE, given("a", "7-9"), "start a>d 3");
}

#[test]
fn a_slot_of_an_approved_plan_is_set_aside_though_the_plan_of_the_moment_has_come_to_an_end() {
    let level = "a 0-5461\nb 5462-10922\nc 10923-16383\nd of a";
    let planned = plan::Move { source: id("a"), target: id("b"), slots: "7".parse().unwrap(), why: Why::Level };
    let given = || Circumstances { consent: Consent::Given(vec![planned.clone()]), ..Circumstances::default() };
    check(level, given(), "start a>b 1");
    check(level, Circumstances { set_aside: "7", ..given() }, "[set_aside]");
    // Who asks nobody has nothing to do there, and so nothing waits.
    check(level, Circumstances { set_aside: "7", ..Circumstances::default() }, "settled");
}

#[test]
fn another_plan_is_laid_before_somebody_once_what_was_approved_has_come_to_nothing() {
    let planned = plan::Move { source: id("a"), target: id("d"), slots: "7".parse().unwrap(), why: Why::Level };
    let given = || Circumstances { consent: Consent::Given(vec![planned.clone()]), ..Circumstances::default() };
    check(THREE_AND_ONE, Circumstances { set_aside: "7", ..given() }, "[set_aside]");
    let given_up = Circumstances { set_aside: "7", next_try: None, ..given() };
    check(THREE_AND_ONE, given_up, "[awaiting_approval]; [set_aside]");
    // A plan of nothing else is no other plan.
    let story = "a 0-5462\nb 5463-10922\nc 10923-16383";
    let given_up = Circumstances { set_aside: "0-16383", next_try: None, at_work: true, ..given() };
    check(story, given_up, "[set_aside]");
}

#[test]
fn while_paused_what_is_ours_is_finished_and_nothing_else_is_touched() {
    let pause = Pause { since: SystemTime::UNIX_EPOCH, until: None };
    let paused = || Circumstances { paused: Some(pause), ..Circumstances::default() };
    check(THREE_AND_ONE, paused(), "[paused]");
    let open = format!("{THREE_AND_ONE}\na 0-5460 [5->-d]\nd [5-<-a]");
    check(&open, Circumstances { ours: "a>d 5", ..paused() }, "resume a>d 5; [paused]");
    let long = Duration::from_mins(2);
    check(&open, Circumstances { watched: long, ..Circumstances::default() }, "resume a>d 5");
    // Told for as long as it is so.
    check(&open, Circumstances { watched: long, ..paused() }, "[foreign_open_slots]; [paused]");
}

#[test]
fn a_level_cluster_is_settled_and_a_running_move_is_not() {
    check("a 0-8191\nb 8192-16383", Circumstances::default(), "settled");
    let running = vec!["a>b 0-9"];
    check("a 0-8191\nb 8192-16383", Circumstances { running, ..Circumstances::default() }, "");
}

#[test]
fn what_runs_counts_as_done_and_the_rest_of_the_plan_follows() {
    // 1365 of a and of c are on their way: only b is still to give.
    let running = vec!["a>d 0-1364", "c>d 10923-12287"];
    let at_work = Circumstances { running, at_work: true, ..Circumstances::default() };
    check(THREE_AND_ONE, at_work, "start b>d 1366");
}

#[test]
fn what_runs_is_still_to_move_and_nodes_own_now_what_they_own_now() {
    // The last moves hang: nothing is left to plan, and nothing has arrived.
    let running = vec!["a>d 0-1364", "b>d 5461-6826", "c>d 10923-12286"];
    let hanging = Circumstances { running, at_work: true, ours: "c>d 12287", ..Circumstances::default() };
    let (decision, _, _) = decision(THREE_AND_ONE, hanging);
    let plan = decision.plan.expect("the picture is clear");
    assert_eq!((plan.slots_moved(), plan.slots_to_move()), (0, 4096));
    let lines: Vec<_> = plan.lines.iter().map(|line| (line.now, line.target, line.after)).collect();
    assert_eq!(lines, [(5461, 4096, 4096), (5462, 4096, 4096), (5461, 4096, 4096), (0, 4096, 4096)]);
}

#[test]
fn slots_on_their_way_are_counted_once_whoever_has_taken_over_at_either_end() {
    // The source is `b` by now, or the target is.
    for running in ["c>a 8192-8201", "a>c 8192-8201"] {
        check("a 0-8191\nb 8192-16383", Circumstances { running: vec![running], ..Circumstances::default() }, "");
    }
}

#[test]
fn work_that_has_begun_is_brought_to_an_exact_end() {
    // Two slots off: too little to begin for, and not too little to finish.
    let story = "a 0-8193\nb 8194-16383";
    check(story, Circumstances::default(), "settled");
    check(story, Circumstances { at_work: true, ..Circumstances::default() }, "start a>b 2");
}

#[test]
fn the_caps_hold_back_what_is_too_much_at_once() {
    let limits = Limits { parallel: 8, per_target: 2 };
    check(THREE_AND_ONE, Circumstances { limits, ..Circumstances::default() }, "start b>d 1366; start a>d 1365");
}

#[test]
fn slots_of_our_own_are_finished_before_anything_new() {
    let story = "a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd [5-<-a]";
    check(story, Circumstances { ours: "a>d 5", ..Circumstances::default() }, "resume a>d 5");
    // Even while the picture is unclear elsewhere.
    let story = format!("{story}\nb says c fail? 10923-16383");
    check(&story, Circumstances { ours: "a>d 5", ..Circumstances::default() }, "resume a>d 5; [node_failing]");
}

#[test]
fn while_a_dead_move_has_the_finalise_its_source_is_kept_free_for_whoever_finishes_its_slots() {
    let orphaned = || Circumstances { orphan: "a>d", ..Circumstances::default() };
    check(THREE_AND_ONE, orphaned(), "start b>d 1366; start c>d 1365");
    let story = "a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd [5-<-a]";
    check(story, Circumstances { ours: "a>d 5", ..orphaned() }, "resume a>d 5");
    // Not even while they are not due.
    check(
        story,
        Circumstances { ours: "a>d 5", set_aside: "5", ..orphaned() },
        "start b>d 1366; start c>d 1365; [set_aside]",
    );
}

#[test]
fn slots_whose_move_has_failed_over_are_not_given_to_a_second_move() {
    // d has failed over to d1 a moment ago; the worker between a and d has not ended yet.
    let story = "a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd1\nd silent refused\nd";
    let running = vec!["a>d 5"];
    let got = decided(story, Circumstances { running, ours: "a>d1 5", ..Circumstances::default() });
    assert!(!got.contains("a>d1") && got.contains("b>d1 1366"), "{got}");
}

#[test]
fn slots_of_our_own_that_have_lost_their_marks_are_gone_on_with() {
    let circumstances = Circumstances { ours: "a>d 5", ..Circumstances::default() };
    check(THREE_AND_ONE, circumstances, "resume a>d 5");
}

#[test]
fn open_slots_of_somebody_else_stop_everything_until_they_are_old_enough_to_adopt() {
    let story = "a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd [5-<-a]";
    check(story, Circumstances::default(), "[foreign_open_slots]");
    let watched = Duration::from_mins(1);
    check(story, Circumstances { watched, ..Circumstances::default() }, "resume a>d 5");
}

#[test]
fn open_slots_are_no_humans_affair_while_another_evenkeel_is_at_work() {
    let human = "a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]\nc [5-<-a]";
    let waiting = "a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]";
    let other = || vec![Reason::OtherInstance { name: "x".to_owned(), from: "y".to_owned() }];
    for story in [human, waiting] {
        check(story, Circumstances::default(), "[foreign_open_slots]");
        check(story, Circumstances { checks: None, ..Circumstances::default() }, "checks; [foreign_open_slots]");
        check(story, Circumstances { checks: Some(other()), ..Circumstances::default() }, "[other_instance]");
    }
}

#[test]
fn views_that_disagree_are_another_evenkeels_affair_where_there_is_one_and_we_are_not_at_work() {
    let story = format!("{THREE_AND_ONE}\na says b 5462-10922");
    let other = || Some(vec![Reason::OtherInstance { name: "x".to_owned(), from: "y".to_owned() }]);
    check(&story, Circumstances::default(), "[views_disagree]");
    check(&story, Circumstances { checks: None, ..Circumstances::default() }, "checks; [views_disagree]");
    check(&story, Circumstances { checks: other(), ..Circumstances::default() }, "[other_instance]");
    check(&story, Circumstances { checks: other(), at_work: true, ..Circumstances::default() }, "[views_disagree]");
}

#[test]
fn work_comprises_what_may_be_begun() {
    let slots = |circumstances| {
        let (decision, ..) = decision(THREE_AND_ONE, circumstances);
        decision.permitted.iter().map(|planned| planned.slots.len()).sum::<usize>()
    };
    assert_eq!(slots(Circumstances::default()), 4096);
    assert_eq!(slots(Circumstances { consent: Consent::Awaited, ..Circumstances::default() }), 0);
    let paused = Some(Pause { since: std::time::SystemTime::UNIX_EPOCH, until: None });
    assert_eq!(slots(Circumstances { paused, ..Circumstances::default() }), 0);
    // What was approved holds the slots that are under way too.
    let moves = vec![plan::Move { source: id("a"), target: id("d"), slots: "0-9".parse().unwrap(), why: Why::Level }];
    let running = vec!["a>d 0-3"];
    assert_eq!(slots(Circumstances { consent: Consent::Given(moves), running, ..Circumstances::default() }), 6);
}

#[test]
fn marks_that_tell_no_single_story_are_left_to_a_human() {
    let story = "a 0-5460 [5->-d]\nb 5461-10922 [5-<-a]\nc 10923-16383\nd [5-<-a]";
    let watched = Duration::from_hours(1);
    check(story, Circumstances { watched, ..Circumstances::default() }, "[foreign_open_slots]");
}

#[test]
fn a_slot_that_was_set_aside_waits_and_stops_no_other() {
    let set_aside = "0-5460";
    let circumstances = Circumstances { set_aside, ..Circumstances::default() };
    check(THREE_AND_ONE, circumstances, "start b>d 1366; start c>d 1365; [set_aside]");
}

#[test]
fn an_unclear_picture_opens_nothing_new() {
    for (line, name) in [
        ("a says b 5462-10922", "views_disagree"),
        ("b info cluster_state:fail", "cluster_down"),
        ("c silent timed out", "node_silent"),
        ("a says b fail 5461-10922", "node_failing"),
    ] {
        let got = decided(&format!("{THREE_AND_ONE}\n{line}"), Circumstances::default());
        assert!(got.contains(name) && !got.contains("start"), "{line}: {got}");
    }
}

#[test]
fn a_dead_replica_elsewhere_stops_nothing() {
    let story = format!("{THREE_AND_ONE}\na1 of a\na1 silent timed out");
    check(&story, Circumstances::default(), "start b>d 1366; start a>d 1365; start c>d 1365");
}

#[test]
fn nodes_that_move_slots_by_themselves_are_left_alone_and_no_others() {
    let story = format!("{THREE_AND_ONE}\na job b 0-99 snapshotting");
    check(&story, Circumstances::default(), "start c>d 1365; [server_side_job]");
    let open = "a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd [5-<-a]\na job b 0-99 snapshotting";
    check(open, Circumstances { ours: "a>d 5", ..Circumstances::default() }, "start c>d 1365; [server_side_job]");
    let level = "a 0-5460\nb 5461-10922\nc 10923-16383\na job b 0-99 snapshotting";
    check(level, Circumstances::default(), "[server_side_job]");
}

#[test]
fn a_node_of_which_it_is_not_known_whether_it_moves_slots_by_itself_is_not_used() {
    check(
        &format!("{THREE_AND_ONE}\na jobs timed out"),
        Circumstances::default(),
        "start b>d 1366; start c>d 1365; [node_not_usable]",
    );
}

#[test]
fn a_target_whose_replicas_have_all_lost_it_takes_nothing() {
    let with = |replicas: &str| {
        format!("{THREE_AND_ONE}\nd1 of d\nd2 of d\na1 of a\na1 info master_link_status:down\n{replicas}")
    };
    let both_down = "d1 info master_link_status:down\nd2 info master_link_status:down";
    check(&with(both_down), Circumstances::default(), "[node_not_usable]");
    let moves = "start b>d 1366; start a>d 1365; start c>d 1365";
    let one_up = "d1 info master_link_status:down\nd2 info master_link_status:up";
    let one_reads =
        "d1 info master_link_status:down\nd2 info master_link_status:down\nd2 info master_sync_in_progress:1";
    for story in [one_up, one_reads, "d1 silent timed out\nd2 silent timed out"] {
        check(&with(story), Circumstances::default(), moves);
    }
}

#[test]
fn without_the_lease_nothing_is_started_and_nothing_that_is_open_is_finished() {
    let lost = || Circumstances {
        lease: Some(Reason::LeaseLost { why: "a test".to_owned() }),
        ours: "a>d 5",
        ..Circumstances::default()
    };
    check(THREE_AND_ONE, lost(), "[lease_lost]");
    check("a 0-5460 [5->-d]\nb 5461-10922\nc 10923-16383\nd [5-<-a]", lost(), "[lease_lost]");
    // Who only watches needs none.
    check(THREE_AND_ONE, Circumstances { observing: true, ..lost() }, "[observing]");
}

#[test]
fn a_target_without_room_gets_nothing() {
    let story = format!(
        "{THREE_AND_ONE}\nd info used_memory:70\nd info maxmemory:100\na info used_memory_dataset:1000\n\
         a info db0:keys=10,expires=0,avg_ttl=0"
    );
    let got = decided(&story, Circumstances::default());
    assert!(!got.contains("a>d") && got.contains("[target_full]"), "{got}");
    // While others may begin soon, that is no reason to give everything up.
    check(&story, Circumstances { looks: 1, ..Circumstances::default() }, "ahead b>d 1366; ahead c>d 1365; [settling]");
    let found = Some(vec![Reason::ChecksFailed { why: "a test".to_owned() }]);
    check(&story, Circumstances { looks: 1, checks: found, ..Circumstances::default() }, "[settling]");
}

#[test]
fn a_target_that_cannot_read_the_sources_keys_gets_nothing_of_it() {
    let story = format!("{THREE_AND_ONE}\na info redis_version:7.0.15\nd info redis_version:6.2.14");
    let story = format!("{story}\nb info redis_version:6.2.14\nc info redis_version:6.0.20");
    check(&story, Circumstances::default(), "start b>d 1366; start c>d 1365; [version_skew]");
    let relaxed = NodeSettings { reads_newer_formats: true, ..NodeSettings::default() };
    let settings = SettingsByNode::from([(id("d"), relaxed)]);
    let told_to_read_it = Circumstances { settings, ..Circumstances::default() };
    check(&story, told_to_read_it, "start b>d 1366; start a>d 1365; start c>d 1365");
}

#[test]
fn named_slots_move_whatever_the_targets_say() {
    let goal = |slots: &str| Goal::Move { slots: slots.parse().unwrap(), to: NodeName::Id(id("c")) };
    let story = "a 0-5460\nb 5461-10922\nc 10923-16383";
    check(story, Circumstances { goal: goal("866"), ..Circumstances::default() }, "start a>c 1");
    check(story, Circumstances { goal: goal("16000"), ..Circumstances::default() }, "settled");
}

/// An entry for a primary that has failed over holds for whoever took over from it.
#[test]
fn an_entry_outlasts_the_failover_of_the_node_that_it_names() {
    let before = "a 0-8191\na1 of a\nb 8192-16383";
    let failed = "a fail\na1 0-8191\nb 8192-16383\na silent dead";
    let heavy = |before: &'static str| {
        let entry = NodeTarget { weight: Some(3.0), ..NodeTarget::new(NodeName::Id(id("a"))) };
        Circumstances { before, policy: Policy { nodes: vec![entry], ..Policy::default() }, ..Circumstances::default() }
    };
    check(before, heavy(""), "start b>a 4096");
    check(failed, heavy(before), "start b>a1 4096");
    // To a process that does not know whose replica took over, the entry is for nobody that it can tell.
    check(failed, heavy(""), "[target_unmatched]");
    // An empty node that was seen to have no replica may be gone for good.
    check("a fail\nb 0-8191\nc 8192-16383\na silent dead", heavy("a\nb 0-8191\nc 8192-16383"), "settled");
}

#[test]
fn targets_that_name_nobody_start_no_move() {
    let nodes = vec![plan::NodeTarget::new(NodeName::Hostname("nobody".to_owned()))];
    let policy = Policy { nodes, ..Policy::default() };
    check(THREE_AND_ONE, Circumstances { policy, ..Circumstances::default() }, "[target_unmatched]");
}

/// Entries that pin slots to nodes: `a 0-9`.
fn pinned(entries: &[&str]) -> Policy {
    let nodes = entries.iter().map(|entry| {
        let (node, slots) = entry.split_once(' ').unwrap();
        plan::NodeTarget { slots: slots.parse().unwrap(), ..plan::NodeTarget::new(NodeName::Id(id(node))) }
    });
    Policy { nodes: nodes.collect(), ..Policy::default() }
}

#[test]
fn a_primary_that_is_to_own_other_slots_keeps_its_last_one_until_they_have_come() {
    let policy = || pinned(&["a 8192-16383", "b 0-8191"]);
    let swapped = Circumstances { policy: policy(), ..Circumstances::default() };
    check("a 0-8191\nb 8192-16383", swapped, "start a>b 8191");
    let back = Circumstances { policy: policy(), at_work: true, ..Circumstances::default() };
    check("a 8191\nb 0-8190 8192-16383", back, "start b>a 8192");
    let last = Circumstances { policy: policy(), at_work: true, ..Circumstances::default() };
    check("a 8191-16383\nb 0-8190", last, "start a>b 1");
}

/// A policy that empties these nodes.
fn draining(nodes: &[&str]) -> Policy {
    let drain = |node: &&str| plan::NodeTarget { drain: true, ..plan::NodeTarget::new(NodeName::Id(id(node))) };
    Policy { nodes: nodes.iter().map(drain).collect(), ..Policy::default() }
}

#[test]
fn a_primary_that_is_to_own_nothing_gives_its_last_slot_away_alone() {
    let drained = || Circumstances { policy: draining(&["a"]), at_work: true, ..Circumstances::default() };
    check("a 0-8191\nb 8192-16383", drained(), "start a>b 8191");
    check("a 8191\nb 0-8190 8192-16383", drained(), "start a>b 1");
    // What runs may be all that it has but this one.
    check("a 0-8191\nb 8192-16383", Circumstances { running: vec!["a>b 0-8190"], ..drained() }, "");
}

#[test]
fn of_several_emptied_primaries_one_after_the_other_gives_its_last_slot_away() {
    let drained = || Circumstances { policy: draining(&["a", "b"]), at_work: true, ..Circumstances::default() };
    let last = "a 5\nb 6\nc 0-4 7-16383";
    check(last, drained(), "start a>c 1");
    check(last, Circumstances { running: vec!["a>c 5"], ..drained() }, "");
    // The first one has become a replica, and reads the whole data set of its primary.
    let after = "a of c\na info master_link_status:down\nb 6\nc 0-5 7-16383";
    check(
        after,
        Circumstances { policy: draining(&["b"]), at_work: true, ..Circumstances::default() },
        "[node_not_usable]",
    );
    let in_sync = "a of c\nb 6\nc 0-5 7-16383";
    check(
        in_sync,
        Circumstances { policy: draining(&["b"]), at_work: true, ..Circumstances::default() },
        "start b>c 1",
    );
}

#[test]
fn a_cluster_is_at_rest_when_nothing_is_to_do_to_finish_or_to_wait_for() {
    const LEVEL: &str = "a 0-5460\nb 5461-10922\nc 10923-16383\na1 of a";
    let check = |story: &str, circumstances: Circumstances, expect: bool| {
        let (decided, at_rest) = judged(story, circumstances);
        assert_eq!(at_rest, expect, "{decided}:\n{story}");
    };
    let usual = Circumstances::default;
    let goal = Goal::Move { slots: "5".parse().unwrap(), to: NodeName::Id(id("a")) };
    let paused = Some(Pause { since: SystemTime::UNIX_EPOCH, until: None });
    check(LEVEL, usual(), true);
    check(LEVEL, Circumstances { paused, ..usual() }, true);
    check(LEVEL, Circumstances { looks: 1, ..usual() }, false);
    check(LEVEL, Circumstances { goal: Goal::Level, ..usual() }, false);
    check(LEVEL, Circumstances { goal, ..usual() }, false);
    check(LEVEL, Circumstances { stopping: true, ..usual() }, false);
    check(LEVEL, Circumstances { at_work: true, ..usual() }, false);
    check(LEVEL, Circumstances { running: vec!["a>b 5"], ..usual() }, false);
    check(LEVEL, Circumstances { ours: "a>b 5", ..usual() }, false);
    check(LEVEL, Circumstances { orphan: "a>b", ..usual() }, false);
    check(LEVEL, Circumstances { set_aside: "5", ..usual() }, false);
    // Moves that are planned, also those that wait for somebody; but not where they are only shown.
    check(THREE_AND_ONE, usual(), false);
    check(THREE_AND_ONE, Circumstances { paused, ..usual() }, false);
    check(THREE_AND_ONE, Circumstances { consent: Consent::Awaited, ..usual() }, false);
    check(THREE_AND_ONE, Circumstances { observing: true, ..usual() }, true);
    for more in [
        "a 0-5460 [5->-b]",
        "a silent refused",
        "a1 silent refused",
        "b says a fail? 0-5460",
        "a info loading:1",
        "a job b 5 snapshotting",
        "a jobs refused",
        "b says c 10923-16000",
    ] {
        check(&format!("{LEVEL}\n{more}"), Circumstances { observing: true, ..usual() }, false);
    }
}
