//! Stopped in the middle, by force and by request, and started again: nothing is lost and nothing is left behind.

use std::path::Path;
use std::thread;
use std::time::Duration;

use evenkeel::cluster::SlotSet;
use evenkeel::journal;

use crate::support::{
    Cluster, Daemon, Data, Evenkeel, Flavour, HASTY, Node, Options, Output, SOON, Spec, Tagged, Verifier,
    adopting_nothing, directory, eventually, settings,
};

/// In how many places a run is stopped.
const PLACES: usize = 10;
/// Slots that move from one place to the next: ten places lie within the 4096 slots that a run moves, and what is left
/// after the last one takes long enough to be stopped in.
const APART: usize = 340;
/// Slow enough to be stopped in many places: few slots at a time, one key a call. Two pairs move side by side.
const SLOWLY: &str = "
    [migration]
    group_slots = 16
    batch_keys_max = 1
";
/// Far beyond what a run takes, even on a busy machine.
const RUN: Duration = Duration::from_mins(1);

/// Whether evenkeel has a journal, which tells it which open slots are its own.
#[derive(Clone, Copy, Debug)]
enum Journal {
    Kept,
    None,
}

/// Delays that follow no rhythm, the same in every run.
struct Dice(u64);

impl Dice {
    /// Less than 40 ms: some groups of slots.
    fn throw(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((self.0 >> 33) % 40_000)
    }
}

/// Waits until a node has this many slots, by its own word, or more, or fewer.
fn await_slots(cluster: &Cluster, node: Node, run: &mut Daemon, enough: impl Fn(usize) -> bool) {
    eventually("the run gets on", RUN, || {
        assert!(run.runs(), "it ended before it could be stopped; it wrote:\n{}{}", run.stdout(), run.stderr());
        let has = cluster.view(node)?.slots_of(cluster.node_id(node)).len();
        if enough(has) { Ok(()) } else { Err(format!("it has {has} slots")) }
    });
}

fn check_ten_places(flavour: Flavour, journal: Journal) {
    let spec = Spec::new(flavour).empty_primaries(1).config(&["--cluster-allow-replica-migration", "no"]);
    let cluster = Cluster::start(spec);
    let data = Data::fill_database(&cluster, 20_000, 0);
    let verifier = Verifier::start(&cluster, Options::default());

    let state = directory("state");
    let kept = match journal {
        // What is not on record would be left alone for an hour.
        Journal::Kept => format!("{}[state]\ndir = \"{}\"\n", adopting_nothing(), state.path().display()),
        Journal::None => HASTY.to_owned(),
    };
    let more = format!("{kept}{SLOWLY}");
    kill_at_ten_places(&cluster, &data, &more);
    if let Journal::Kept = journal {
        check_history_of_killed_runs(state.path());
    }
    stop_at_ten_places(&cluster, &more);
    verifier.stop().assert_clean();
    data.verify_all(&cluster);
}

/// The empty primary is filled by runs that are killed; at least one of them leaves a slot open.
fn kill_at_ten_places(cluster: &Cluster, data: &Data, more: &str) {
    let empty = cluster.empty_primaries()[0];
    let config = settings(cluster, more);
    let mut dice = Dice(42);
    let mut left_open = 0;
    for place in 0..PLACES {
        let mut run = Evenkeel::new(&["rebalance"]).config(&config).spawn_command();
        await_slots(cluster, empty, &mut run, |has| has > place * APART);
        thread::sleep(dice.throw());
        run.kill9();
        left_open += usize::from(!cluster.open_slots().expect("all nodes answer").is_empty());
        data.verify_all(cluster);
    }
    assert!(left_open > 0, "not one of {PLACES} runs was killed while a slot was open");
    Evenkeel::new(&["rebalance"]).config(&config).deadline(RUN).run_to_end().assert(0, &["done: "]);
    let level: Vec<_> = cluster.nodes().into_iter().map(|node| (node, 4096)).collect();
    cluster.assert_settled(&level);
}

/// Each killed run is in the history, with all but the last few slots that it moved.
fn check_history_of_killed_runs(state: &Path) {
    let journal = journal::Journal::open(state).expect("no run has it");
    let killed = journal.history().iter().filter(|moved| moved.outcome.starts_with("killed: "));
    let (mut runs, mut told) = (0, 0);
    for moved in killed {
        runs += 1;
        told += moved.slots.len();
        assert!(moved.slots.is_empty() || moved.keys > 0, "{moved:?}");
    }
    assert!(runs >= PLACES, "{runs} killed moves are on record");
    // Groups of two lanes of three moves may have been finished and not yet on record when a run was killed: sixteen slots with keys
    // each, and those without, which are a third.
    let unknown = PLACES * 3 * 2 * 30;
    assert!(told >= (PLACES - 1) * APART - unknown, "{told} slots of killed moves are on record");
    let all = journal
        .history()
        .iter()
        .fold((SlotSet::new(), 0), |(all, sum), moved| (all.union(&moved.slots), sum + moved.slots.len()));
    assert_eq!(all.0.len(), all.1, "no slot is told of twice");
    assert!((4096 - unknown..=4096).contains(&all.1), "{} slots are on record", all.1);
}

/// It is emptied again by runs that are asked to stop; each of them finishes what it has open.
fn stop_at_ten_places(cluster: &Cluster, more: &str) {
    let drained = cluster.empty_primaries()[0];
    let drain = format!("[[targets.nodes]]\nnode = \"{}\"\ndrain = true\n", cluster.node_id(drained));
    let config = settings(cluster, &format!("{more}{drain}"));
    let mut dice = Dice(7);
    for place in 0..PLACES {
        let daemon = place % 3 == 2;
        let evenkeel = Evenkeel::new(&[if daemon { "run" } else { "rebalance" }]).config(&config);
        let mut run = if daemon { evenkeel.spawn() } else { evenkeel.spawn_command() };
        await_slots(cluster, drained, &mut run, |has| has < 4096 - place * APART);
        thread::sleep(dice.throw());
        if place % 3 == 1 {
            run.sigint();
        } else {
            run.sigterm();
        }
        let output = run.output(SOON);
        if daemon {
            output.assert(0, &["no slot is open"]);
        } else {
            output.assert(2, &["stopped: "]);
        }
        assert_eq!(cluster.open_slots().expect("all nodes answer"), Vec::<String>::new(), "at place {place}");
    }
    Evenkeel::new(&["rebalance"]).config(&config).deadline(RUN).run_to_end().assert(0, &["done: "]);
    let level: Vec<_> = cluster.primaries().into_iter().map(|node| (node, 5461)).collect();
    cluster.assert_settled(&level);
}

/// A slot that takes longer to move than a stop leaves time for.
struct LongMove {
    cluster: Cluster,
    source: Node,
    target: Node,
    tagged: Tagged,
}

impl LongMove {
    fn new(flavour: Flavour) -> Self {
        let cluster = Cluster::start(Spec::new(flavour));
        let [source, target, _] = cluster.primaries()[..] else { panic!("three primaries") };
        let tagged = Tagged::fill(&cluster, source, 0, 40_000);
        Self { cluster, source, target, tagged }
    }

    /// Runs a command that moves the slot key by key, stops it in between, and returns what it left.
    #[track_caller]
    fn stop(&self, command: &[&str], grace: &str, stop: impl Fn(&mut Daemon)) -> Output {
        let schedule = HASTY.replace("[schedule]", &format!("[schedule]\nstop_grace = \"{grace}\""));
        let config = settings(&self.cluster, &format!("{schedule}[migration]\nbatch_keys_max = 1\n"));
        let evenkeel = Evenkeel::new(command).config(&config).env("RUST_LOG", "info");
        let before = self.cluster.keys_in(self.target, self.tagged.slot);
        let mut run = if command == ["run"] { evenkeel.spawn() } else { evenkeel.spawn_command() };
        eventually("keys move", RUN, || {
            let moved = self.cluster.keys_in(self.target, self.tagged.slot) - before;
            if moved > 100 { Ok(()) } else { Err(format!("{moved} moved")) }
        });
        stop(&mut run);
        let output = run.output(Duration::from_secs(10));
        self.assert_open();
        output
    }

    /// Each end has its mark, each has keys, and every key is reached.
    #[track_caller]
    fn assert_open(&self) {
        let Self { cluster, source, target, tagged } = self;
        let marks = |node: Node| cluster.view(node).expect("it answers").open();
        assert_eq!(marks(*source), [format!("[{}->-{}]", tagged.slot, cluster.node_id(*target))]);
        assert_eq!(marks(*target), [format!("[{}-<-{}]", tagged.slot, cluster.node_id(*source))]);
        assert!(cluster.keys_in(*source, tagged.slot) > 0, "the slot was finished before it could be left");
        tagged.verify(cluster);
    }
}

fn check_a_stop_that_cannot_wait(flavour: Flavour) {
    let long = LongMove::new(flavour);
    let (slot, to) = (long.tagged.slot.to_string(), long.cluster.address(long.target).to_string());
    let command = ["move", "--slots", &slot, "--to", &to];
    let is_open = format!("slot {slot} is open, with its marks");
    long.stop(&command, "1s", Daemon::sigterm).assert(2, &["stopped: ", &is_open]);
    let twice = |run: &mut Daemon| {
        run.sigint();
        eventually("the first Ctrl-C is heeded", RUN, || {
            if run.stderr().contains("stopping") { Ok(()) } else { Err(run.stderr()) }
        });
        run.sigint();
    };
    long.stop(&command, "1h", twice).assert(2, &["stopped: ", &is_open]);
    long.stop(&["run"], "1s", Daemon::sigterm).assert(2, &[&slot, "are open with their marks"]);

    let LongMove { cluster, target, tagged, .. } = &long;
    // Pinned, because a run that has finished it may go on to level the cluster to the last slot.
    let pin = format!("[[targets.nodes]]\nnode = \"{to}\"\nslots = \"{slot}\"\n");
    let config = settings(cluster, &format!("{HASTY}{pin}"));
    Evenkeel::new(&["rebalance"]).config(&config).run_to_end().assert(0, &[]);
    assert!(cluster.slots_of(*target).contains(tagged.slot));
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    tagged.verify(cluster);
}

#[test]
fn runs_with_a_journal_that_are_stopped_at_ten_places_are_finished_by_the_next_on_redis_7_0() {
    check_ten_places(Flavour::Redis70, Journal::Kept);
}

#[test]
fn runs_without_a_journal_that_are_stopped_at_ten_places_are_finished_by_the_next_on_redis_7_0() {
    check_ten_places(Flavour::Redis70, Journal::None);
}

#[test]
fn runs_with_a_journal_that_are_stopped_at_ten_places_are_finished_by_the_next_on_valkey_9_1() {
    check_ten_places(Flavour::Valkey91, Journal::Kept);
}

#[test]
fn runs_without_a_journal_that_are_stopped_at_ten_places_are_finished_by_the_next_on_valkey_9_1() {
    check_ten_places(Flavour::Valkey91, Journal::None);
}

#[test]
fn a_stop_that_cannot_wait_leaves_an_open_slot_with_both_marks_on_redis_7_0() {
    check_a_stop_that_cannot_wait(Flavour::Redis70);
}

#[test]
fn a_stop_that_cannot_wait_leaves_an_open_slot_with_both_marks_on_valkey_9_1() {
    check_a_stop_that_cannot_wait(Flavour::Valkey91);
}
