//! `MIGRATE`s that fail in the middle of a slot, each for a reason of its own: the slot waits, says why, and is finished
//! when the reason is gone, with the value of every key that clients last saw.

use std::fs;
use std::time::Duration;

use evenkeel::cluster::SlotSet;

use crate::support::{
    Cluster, Daemon, Evenkeel, FailingSaves, Flavour, HASTY, Node, Points, SOON, Spec, Tagged, directory, eventually,
    settings,
};
/// Three calls of ten.
const KEYS: usize = 30;
/// The second `MIGRATE` of the first slot is about to be sent.
const SECOND: &str = "migrate.before=pause@2";

/// Three primaries, of which one gives slots to another, one slot after the other.
struct Stage {
    cluster: Cluster,
    from: Node,
    to: Node,
    given: SlotSet,
}

/// A slot in the middle of its move: evenkeel stands still at a point of it.
struct HalfMoved<'a> {
    stage: &'a mut Stage,
    tagged: Tagged,
    points: Points,
    daemon: Daemon,
}

impl Stage {
    fn start(spec: Spec) -> Self {
        let cluster = Cluster::start(spec.node_timeout(Duration::from_secs(30)));
        let [from, to, _] = cluster.primaries()[..] else { panic!("three") };
        Self { cluster, from, to, given: SlotSet::new() }
    }

    /// Has evenkeel begin to move a slot, and stand still where the first of these orders says. `sign_in` is the rest of
    /// its `[cluster]` table.
    fn move_slot(&mut self, orders: &str, sign_in: &str) -> HalfMoved<'_> {
        let tagged = Tagged::fill(&self.cluster, self.from, 0, KEYS);
        self.given.insert(tagged.slot);
        let targets = format!(
            "{HASTY}[migration]\nbatch_keys_max = 10\ncall_timeout = \"1s\"\nmigrate_timeout = \"200ms\"\nretry_delay = \"100ms\"\n\
             retry_delay_max = \"200ms\"\nattempts = 1000\n[[targets.nodes]]\nnode = \"{}\"\nslots = \"{}\"\n",
            self.cluster.node_id(self.to),
            self.given
        );
        let config = settings(&self.cluster, &format!("{sign_in}{targets}"));
        let (points, call) = Points::order(Evenkeel::new(&["run"]).config(&config), orders);
        let daemon = call.spawn();
        points.await_reached("migrate.before");
        HalfMoved { stage: self, tagged, points, daemon }
    }

    /// Something happens while a slot is half moved; evenkeel says so in these words, and goes on once it is over.
    #[track_caller]
    fn endures<T>(&mut self, happens: impl FnOnce(&Self) -> T, says: &[&str], passes: impl FnOnce(&Self, T)) {
        let half_moved = self.move_slot(SECOND, "");
        let trouble = happens(half_moved.stage);
        half_moved.points.go("migrate.before");
        half_moved.await_says(says);
        half_moved.assert_open();
        passes(half_moved.stage, trouble);
        half_moved.assert_finishes();
    }

    fn config_set(&self, node: Node, name: &str, value: &str) {
        self.cluster.cmd::<()>(node, &["CONFIG", "SET", name, value]);
    }

    /// One slot less, or once more, that a node says is its own: without it, its cluster is down.
    fn own_slot(&self, node: Node, command: &str) {
        let slot = if node == self.from { "0" } else { "6000" };
        self.cluster.cmd::<()>(node, &["CLUSTER", command, slot]);
    }
}

impl HalfMoved<'_> {
    #[track_caller]
    fn await_says(&self, says: &[&str]) {
        self.daemon.await_http("/api/v1/status", SOON, |status| says.iter().all(|text| status.contains(text)));
    }

    fn open(&self) -> usize {
        let lines = self.stage.cluster.open_slots().expect("all nodes answer");
        lines.iter().filter(|line| line.contains(&format!("[{}-", self.tagged.slot))).count()
    }

    /// Marks on both ends, and the keys on either.
    #[track_caller]
    fn assert_open(&self) {
        assert_eq!(self.open(), 2, "the marks of the slot");
        let Stage { cluster, from, to, .. } = &*self.stage;
        let keys = [*from, *to].map(|node| cluster.keys_in(node, self.tagged.slot));
        assert!(keys[0] > 0 && keys[1] > 0 && keys[0] + keys[1] >= KEYS, "keys at the source and the target: {keys:?}");
    }

    #[track_caller]
    fn await_owner(&self) {
        let Stage { cluster, to, .. } = &*self.stage;
        let slot = self.tagged.slot;
        eventually("the slot has moved", SOON, || {
            let has = cluster.agreed_owners()?.remove(&cluster.node_id(*to)).unwrap_or_default();
            let open = cluster.open_slots()?;
            if has.contains(slot) && open.is_empty() { Ok(()) } else { Err(format!("{slot} of {has}; {open:?}")) }
        });
    }

    /// Stops evenkeel; its exit status says whether a slot is left open.
    #[track_caller]
    fn stop(mut self, leaves_open: bool) -> Tagged {
        self.daemon.sigterm();
        assert_eq!(self.daemon.wait(SOON).success(), !leaves_open);
        self.tagged
    }

    /// The slot comes to its end, and every key holds what it held.
    #[track_caller]
    fn assert_finishes(self) {
        self.await_owner();
        self.tagged.verify(&self.stage.cluster);
        self.stop(false);
    }
}

/// The values of a slot's keys, each as one node holds it; keys that it does not hold are left out.
fn values(cluster: &Cluster, node: Node, tagged: &Tagged) -> Vec<(usize, String)> {
    // Asked for a key that has moved, a source sends elsewhere.
    let get = |number| cluster.try_cmd::<Option<String>>(node, &["GET", &tagged.key(number)]).ok().flatten();
    (0..KEYS).filter_map(|number| Some((number, get(number)?))).collect()
}

/// Writes new values to the keys that the source holds; says which.
fn write_again(stage: &Stage, tagged: &Tagged) -> Vec<usize> {
    let is_there = |number: &usize| {
        // Those that have moved are asked for elsewhere.
        let set = ["SET", &tagged.key(*number), "newer", "XX"];
        stage.cluster.try_cmd::<()>(stage.from, &set).is_ok()
    };
    (0..KEYS).filter(is_there).collect()
}

/// Every key holds what it held, and those that were written again what they were given.
#[track_caller]
fn assert_newer(stage: &Stage, tagged: &Tagged, written: &[usize]) {
    let found = values(&stage.cluster, stage.to, tagged);
    let newer = |number| if written.contains(&number) { "newer".to_owned() } else { tagged.value(number) };
    assert_eq!(found, (0..KEYS).map(|number| (number, newer(number))).collect::<Vec<_>>());
}

fn check_servers_that_take_no_writes(flavour: Flavour) {
    let mut stage = Stage::start(Spec::new(flavour));
    let Stage { from, to, .. } = stage;
    stage.endures(
        |stage| FailingSaves::begin(&stage.cluster, to),
        &["the target does not take writes: MISCONF"],
        |stage, failing| failing.end(&stage.cluster),
    );
    for (node, whose) in [(to, "target"), (from, "source")] {
        stage.endures(
            |stage| stage.config_set(node, "min-replicas-to-write", "1"),
            &[&format!("the {whose} does not take writes: NOREPLICAS")],
            |stage, ()| stage.config_set(node, "min-replicas-to-write", "0"),
        );
    }
    stage.endures(
        |stage| stage.own_slot(to, "DELSLOTS"),
        &["the target does not take writes: CLUSTERDOWN"],
        |stage, ()| stage.own_slot(to, "ADDSLOTS"),
    );
    stage.endures(
        |stage| stage.own_slot(from, "DELSLOTS"),
        &["the source does not take writes: CLUSTERDOWN"],
        |stage, ()| stage.own_slot(from, "ADDSLOTS"),
    );
}

#[test]
fn a_server_that_takes_no_writes_in_mid_move_is_waited_for_on_redis_7_0() {
    check_servers_that_take_no_writes(Flavour::Redis70);
}

#[test]
fn a_server_that_takes_no_writes_in_mid_move_is_waited_for_on_valkey_9_1() {
    check_servers_that_take_no_writes(Flavour::Valkey91);
}

#[test]
fn a_target_that_refuses_the_user_of_migrate_in_mid_move_is_waited_for() {
    let mut stage = Stage::start(Spec::new(Flavour::Redis70));
    let to = stage.to;
    let files = directory("password");
    let password = files.path().join("password");
    fs::write(&password, "sesame").expect("the directory is writable");
    let sign_in = format!("migrate_username = \"mover\"\nmigrate_password_file = \"{}\"\n", password.display());
    let rules = |stage: &Stage, rules: &[&str]| {
        for node in stage.cluster.nodes() {
            stage.cluster.cmd::<()>(node, &[&["ACL", "SETUSER", "mover"], rules].concat());
        }
    };
    rules(&stage, &["reset", "on", ">sesame", "~*", "+restore-asking", "+select"]);
    for (taken, given, says) in [("-restore-asking", "+restore-asking", "NOPERM"), ("off", "on", "WRONGPASS")] {
        let half_moved = stage.move_slot(SECOND, &sign_in);
        half_moved.stage.cluster.cmd::<()>(to, &["ACL", "SETUSER", "mover", taken]);
        half_moved.points.go("migrate.before");
        half_moved.await_says(&["the target refuses the user that MIGRATE logs in as", says]);
        half_moved.assert_open();
        half_moved.stage.cluster.cmd::<()>(to, &["ACL", "SETUSER", "mover", given]);
        half_moved.assert_finishes();
    }
    // One whose password is another one by now is tried with that.
    let half_moved = stage.move_slot(SECOND, &sign_in);
    half_moved.stage.cluster.cmd::<()>(to, &["ACL", "SETUSER", "mover", "resetpass", ">second"]);
    fs::write(&password, "second").expect("the directory is writable");
    half_moved.points.go("migrate.before");
    half_moved.assert_finishes();
}

/// Somebody clears a mark, or cuts the connections, right before a `MIGRATE`.
fn check_marks_that_somebody_clears(flavour: Flavour) {
    let mut stage = Stage::start(Spec::new(flavour));
    let Stage { from, to, .. } = stage;
    let orders = [SECOND, "migrate.before=pause@1", "migrate.before=pause@1"];
    for cleared in [from, to] {
        let half_moved = stage.move_slot(&orders[..2].join(","), "");
        let slot = half_moved.tagged.slot.to_string();
        half_moved.stage.cluster.cmd::<()>(cleared, &["CLUSTER", "SETSLOT", &slot, "STABLE"]);
        half_moved.points.go("migrate.before");
        half_moved.points.await_reached("migrate.before");
        assert_eq!(half_moved.open(), 2, "set again before the next call");
        half_moved.points.go("migrate.before");
        half_moved.await_owner();
        assert!(!half_moved.daemon.stderr().contains("move waits"), "at once: {}", half_moved.daemon.stderr());
        half_moved.assert_finishes();
    }
    let half_moved = stage.move_slot(SECOND, "");
    half_moved.stage.cluster.cmd::<()>(from, &["CLIENT", "KILL", "TYPE", "normal"]);
    half_moved.points.go("migrate.before");
    half_moved.assert_finishes();
}

#[test]
fn a_mark_that_somebody_clears_in_mid_move_is_set_again_at_once_on_redis_7_0() {
    check_marks_that_somebody_clears(Flavour::Redis70);
}

#[test]
fn a_mark_that_somebody_clears_in_mid_move_is_set_again_at_once_on_valkey_9_1() {
    check_marks_that_somebody_clears(Flavour::Valkey91);
}

/// A key comes to be at the target, in mid-move, before evenkeel has moved it: with its value, or with another one.
fn check_keys_that_are_there_already(flavour: Flavour) {
    let mut stage = Stage::start(Spec::new(flavour));
    let Stage { from, to, .. } = stage;
    for differs in [false, true] {
        let half_moved = stage.move_slot(SECOND, "");
        let (cluster, tagged) = (&half_moved.stage.cluster, &half_moved.tagged);
        let left: Vec<usize> = values(cluster, from, tagged).into_iter().map(|(number, _)| number).collect();
        let target = cluster.announced(to);
        let copied = tagged.key(left[3]);
        let port = target.port.to_string();
        cluster.cmd::<()>(from, &["MIGRATE", &target.host, &port, "", "0", "5000", "COPY", "KEYS", &copied]);
        if !differs {
            half_moved.points.go("migrate.before");
            half_moved.assert_finishes();
            continue;
        }
        cluster.cmd::<()>(from, &["SET", &copied, "newer"]);
        half_moved.points.go("migrate.before");
        half_moved.await_says(&["conflict"]);
        assert_eq!(cluster.cmd::<String>(from, &["GET", &copied]), "newer", "what clients see is left alone");
        let tagged = half_moved.stop(true);
        let slot = tagged.slot.to_string();
        stage.cluster.evenkeel(&["repair", "--slots", &slot, "--prefer", "source"]).run_to_end().exited(0);
        assert_newer(&stage, &tagged, &[left[3]]);
    }
}

#[test]
fn a_key_that_is_at_the_target_already_is_compared_on_redis_7_0() {
    check_keys_that_are_there_already(Flavour::Redis70);
}

#[test]
fn a_key_that_is_at_the_target_already_is_compared_on_valkey_9_1() {
    check_keys_that_are_there_already(Flavour::Valkey91);
}

/// The target hangs, and takes what it was sent when it wakes: copies that are older than what clients have written.
fn check_target_that_hangs(flavour: Flavour) {
    let mut stage = Stage::start(Spec::new(flavour));
    let half_moved = stage.move_slot(SECOND, "");
    half_moved.stage.cluster.sigstop(half_moved.stage.to);
    half_moved.points.go("migrate.before");
    half_moved.await_says(&["no answer from"]);
    let written = write_again(half_moved.stage, &half_moved.tagged);
    assert_eq!(written.len(), KEYS - 10, "the first ten have moved");
    half_moved.stage.cluster.sigcont(half_moved.stage.to);
    half_moved.await_owner();
    let tagged = half_moved.stop(false);
    assert_newer(&stage, &tagged, &written);
}

#[test]
fn what_clients_wrote_while_the_target_hung_outlives_the_copies_that_it_wakes_with_on_redis_7_0() {
    check_target_that_hangs(Flavour::Redis70);
}

#[test]
fn what_clients_wrote_while_the_target_hung_outlives_the_copies_that_it_wakes_with_on_valkey_9_1() {
    check_target_that_hangs(Flavour::Valkey91);
}

/// The same, and the source is restarted meanwhile: then nothing at the target is overwritten that is not equal.
fn check_source_that_restarts(flavour: Flavour, writes: bool) {
    let mut stage = Stage::start(Spec::new(flavour).config(&["--appendonly", "yes", "--appendfsync", "always"]));
    let Stage { from, to, .. } = stage;
    let half_moved = stage.move_slot(SECOND, "");
    half_moved.stage.cluster.sigstop(to);
    half_moved.points.go("migrate.before");
    half_moved.await_says(&["no answer from"]);
    half_moved.stage.cluster.kill9(from);
    half_moved.stage.cluster.restart(from);
    let mut written = Vec::new();
    if writes {
        eventually("the source takes writes again", SOON, || {
            written = write_again(half_moved.stage, &half_moved.tagged);
            if written.len() == KEYS - 10 { Ok(()) } else { Err(format!("{written:?}")) }
        });
    }
    half_moved.stage.cluster.sigcont(to);
    if !writes {
        return half_moved.assert_finishes();
    }
    half_moved.await_says(&["conflict"]);
    let tagged = half_moved.stop(true);
    let seen = values(&stage.cluster, from, &tagged);
    assert!(seen.iter().all(|(_, value)| value == "newer"), "what clients see is left alone: {seen:?}");
    let slot = tagged.slot.to_string();
    stage.cluster.evenkeel(&["repair", "--slots", &slot, "--prefer", "source"]).run_to_end().exited(0);
    assert_newer(&stage, &tagged, &written);
}

#[test]
fn copies_of_a_source_that_was_restarted_are_compared_on_redis_7_0() {
    check_source_that_restarts(Flavour::Redis70, false);
}

#[test]
fn newer_values_of_a_source_that_was_restarted_are_left_to_a_human_on_redis_7_0() {
    check_source_that_restarts(Flavour::Redis70, true);
}

#[test]
fn newer_values_of_a_source_that_was_restarted_are_left_to_a_human_on_valkey_9_1() {
    check_source_that_restarts(Flavour::Valkey91, true);
}

/// The target is killed and started again with what it had: its marks are among that, and the keys that had come.
fn check_target_that_restarts(flavour: Flavour) {
    let mut stage = Stage::start(Spec::new(flavour).config(&["--appendonly", "yes", "--appendfsync", "always"]));
    let to = stage.to;
    let half_moved = stage.move_slot(SECOND, "");
    half_moved.stage.cluster.kill9(to);
    half_moved.stage.cluster.restart(to);
    half_moved.points.go("migrate.before");
    half_moved.assert_finishes();
}

#[test]
fn a_slot_goes_on_to_a_target_that_was_restarted_on_redis_7_0() {
    check_target_that_restarts(Flavour::Redis70);
}

#[test]
fn a_slot_goes_on_to_a_target_that_was_restarted_on_valkey_9_1() {
    check_target_that_restarts(Flavour::Valkey91);
}
