//! Failovers while slots are open: of the source, of the target, of both; and nodes that hang or come back.

use std::time::{Duration, Instant};

use evenkeel::cluster::NodeId;

use crate::support::{
    Bus, Cluster, Daemon, Evenkeel, Flavour, HASTY, Node, Points, SOON, Spec, Tagged, directory, eventually, settings,
};

/// Failovers take a node time-out and an election; the machine may be busy.
/// How soon a target serves again once its source's replica has taken over: a look, and three calls at each end.
/// The machine of the tests is shared, so this is not the second that is meant.
const TURNED_OVER: Duration = Duration::from_secs(5);
/// One key a call, so that the slot is open for as long as the story needs.
const SLOWLY: &str = "
    [schedule]
    poll = \"1s\"
    settle = 1
    adopt_after = \"1s\"
    foreign_quiet = \"1s\"
    [migration]
    batch_keys_max = 1
";

/// A slot with many keys that moves between two of three shards with a replica each.
struct Story {
    cluster: Cluster,
    source: Node,
    target: Node,
    flavour: Flavour,
    tagged: Tagged,
    daemon: Daemon,
    _state: tempfile::TempDir,
}

impl Story {
    fn begin(flavour: Flavour) -> Self {
        let cluster = Cluster::start(Spec::new(flavour).replicas(1));
        let [source, target, _] = cluster.primaries()[..] else { panic!("three primaries") };
        let tagged = Tagged::fill(&cluster, source, 0, 10_000);
        cluster.await_replicas_in_step();
        let state = directory("state");
        // The shard is named by a member that outlives the story.
        let of_target = cluster.node_id(cluster.replicas_of(target)[0]);
        let pin = format!("[[targets.nodes]]\nnode = \"{of_target}\"\nslots = \"{}\"\n", tagged.slot);
        let journal = format!("[state]\ndir = \"{}\"\n", state.path().display());
        let config = settings(&cluster, &format!("{SLOWLY}{journal}{pin}"));
        let daemon = Evenkeel::new(&["run"]).config(&config).spawn();
        eventually("keys move", SOON, || {
            let moved = cluster.keys_in(target, tagged.slot);
            if moved > 100 { Ok(()) } else { Err(format!("{moved} moved")) }
        });
        Self { cluster, source, target, flavour, tagged, daemon, _state: state }
    }

    /// Waits until this node calls itself a primary.
    fn await_primary(&self, node: Node) {
        eventually("the replica takes over", SOON, || {
            let myself =
                self.cluster.view(node)?.members.into_iter().find(|member| member.id == self.cluster.node_id(node));
            if myself.is_some_and(|member| member.is("master")) { Ok(()) } else { Err("still a replica".to_owned()) }
        });
    }

    /// Valkey: starts a target that died again, once the slot stands empty at its source and is not given away for as long
    /// as that target may come back and claim all that it had.
    fn let_come_back(&self, target: Node) {
        if matches!(self.flavour, Flavour::Redis62 | Flavour::Redis70 | Flavour::Redis82 | Flavour::Redis86) {
            return;
        }
        let waits = format!("{}, which", self.cluster.node_id(target));
        self.daemon.await_http("/api/v1/status", SOON, |status| status.contains(&waits));
        assert!(!self.cluster.open_slots().expect("all nodes answer").is_empty(), "the slot was given away");
        self.tagged.verify(&self.cluster);
        self.cluster.restart(target);
    }

    /// Waits until the slot is where it was to go, closed, and every key of it can be read.
    fn await_finished(mut self, owners: &[Node]) {
        let ids: Vec<NodeId> = owners.iter().map(|&node| self.cluster.node_id(node)).collect();
        eventually("the slot is finished", SOON, || {
            let open = self.cluster.open_slots()?;
            let owned = self.cluster.agreed_owners()?;
            let there = owned.iter().any(|(owner, slots)| ids.contains(owner) && slots.contains(self.tagged.slot));
            if open.is_empty() && there { Ok(()) } else { Err(format!("open: {open:?}; {owned:?}")) }
        });
        self.tagged.verify(&self.cluster);
        self.daemon.sigterm();
        self.daemon.output(SOON).assert(0, &["no slot is open"]);
    }
}

/// The source dies: its replica has no marks on Redis, and the target calls the cluster down until it is told.
fn check_a_dead_source(flavour: Flavour) {
    let story = Story::begin(flavour);
    let heir = story.cluster.replicas_of(story.source)[0];
    story.cluster.kill9(story.source);
    story.await_primary(heir);
    let took_over = Instant::now();
    eventually("the target serves again", TURNED_OVER, || {
        let info = story.cluster.try_cmd::<String>(story.target, &["CLUSTER", "INFO"]).map_err(|e| e.to_string())?;
        if info.contains("cluster_state:ok") { Ok(()) } else { Err(info) }
    });
    eprintln!("the target served {:?} after its source's replica had taken over", took_over.elapsed());
    let target = story.target;
    story.await_finished(&[target]);
}

/// Its move has the finalise for one slot and another one open, and its replica was promoted before it died: in between it was
/// seen as a primary without replicas, as a Redis 8.2 was that crashed in a failover.
#[test]
fn a_source_that_dies_before_it_follows_its_successor_is_followed_all_the_same_on_redis_7_0() {
    // The two slots that are to move have the shards level when they have moved, so that no others move.
    let spec = Spec::new(Flavour::Redis70).replicas(1).slots(&["0-5462", "5463-10922", "10923-16383"]);
    let (cluster, bus) = Bus::around(&spec);
    let [source, target, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let heir = cluster.replicas_of(source)[0];
    let both = [0, 1].map(|number| Tagged::fill(&cluster, source, number, 100));
    cluster.await_replicas_in_step();
    let slots = both.each_ref().map(|tagged| tagged.slot.to_string()).join(",");
    let pin = format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{slots}\"\n", cluster.node_id(target));
    let config = settings(&cluster, &format!("{HASTY}[migration]\ngroup_keys = 10\n{pin}"));
    let call = Evenkeel::new(&["run"]).config(&config);
    let (points, call) = Points::order(call, "assign_target.before=pause@1,assign_source.before=pause@1");
    let daemon = call.spawn();
    points.await_reached("assign_target.before");
    eventually("both slots have keys at the target", SOON, || {
        let moved = both.each_ref().map(|tagged| cluster.keys_in(target, tagged.slot));
        if moved.iter().all(|&keys| keys > 0) { Ok(()) } else { Err(format!("{moved:?}")) }
    });
    bus.isolate(&cluster, source);
    cluster.cmd::<()>(heir, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("views_disagree"));
    points.go("assign_target.before");
    points.await_reached("assign_source.before");
    cluster.kill9(source);
    points.go("assign_source.before");
    eventually("both slots are the target's", SOON, || {
        let (open, owned) = (cluster.open_slots()?, cluster.agreed_owners()?);
        let of_target = &owned[&cluster.node_id(target)];
        let there = both.iter().all(|tagged| of_target.contains(tagged.slot));
        if open.is_empty() && there { Ok(()) } else { Err(format!("open: {open:?}; {owned:?}")) }
    });
    for tagged in &both {
        tagged.verify(&cluster);
    }
}

fn check_a_dead_target(flavour: Flavour) {
    let story = Story::begin(flavour);
    let heir = story.cluster.replicas_of(story.target)[0];
    story.cluster.kill9(story.target);
    story.await_primary(heir);
    story.let_come_back(story.target);
    story.await_finished(&[heir]);
}

/// Both die at once, two of three primaries: nobody is left to elect, so they are told to take over.
fn check_both_dead(flavour: Flavour) {
    let story = Story::begin(flavour);
    let heirs = [story.source, story.target].map(|node| story.cluster.replicas_of(node)[0]);
    story.cluster.kill9(story.source);
    story.cluster.kill9(story.target);
    for heir in heirs {
        story.cluster.cmd::<()>(heir, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
    }
    for heir in heirs {
        story.await_primary(heir);
    }
    story.let_come_back(story.target);
    story.await_finished(&[heirs[1]]);
}

#[test]
fn a_source_that_dies_is_followed_by_its_replica_on_redis_7_0() {
    check_a_dead_source(Flavour::Redis70);
}

#[test]
fn a_source_that_dies_is_followed_by_its_replica_on_redis_6_2() {
    check_a_dead_source(Flavour::Redis62);
}

#[test]
fn a_source_that_dies_is_followed_by_its_replica_on_redis_8_2() {
    check_a_dead_source(Flavour::Redis82);
}

#[test]
fn a_source_that_dies_is_followed_by_its_replica_on_valkey_9_1() {
    check_a_dead_source(Flavour::Valkey91);
}

#[test]
fn a_source_that_dies_is_followed_by_its_replica_on_valkey_8_1() {
    check_a_dead_source(Flavour::Valkey81);
}

#[test]
fn a_target_that_dies_is_followed_by_its_replica_on_redis_8_2() {
    check_a_dead_target(Flavour::Redis82);
}

#[test]
fn a_target_that_dies_is_followed_by_its_replica_on_valkey_9_1() {
    check_a_dead_target(Flavour::Valkey91);
}

#[test]
fn a_target_that_dies_is_followed_by_its_replica_on_redis_7_0() {
    check_a_dead_target(Flavour::Redis70);
}

#[test]
fn a_target_that_dies_is_followed_by_its_replica_on_valkey_8_1() {
    check_a_dead_target(Flavour::Valkey81);
}

#[test]
fn both_ends_that_die_are_followed_by_their_replicas_on_redis_7_0() {
    check_both_dead(Flavour::Redis70);
}

#[test]
fn both_ends_that_die_are_followed_by_their_replicas_on_valkey_9_1() {
    check_both_dead(Flavour::Valkey91);
}

/// The source hangs in mid-call until its replica has taken over, and comes back as a replica of it.
fn check_a_frozen_source(flavour: Flavour) {
    let story = Story::begin(flavour);
    let heir = story.cluster.replicas_of(story.source)[0];
    story.cluster.sigstop(story.source);
    story.await_primary(heir);
    eventually("the target serves again", SOON, || {
        let info = story.cluster.try_cmd::<String>(story.target, &["CLUSTER", "INFO"]).map_err(|e| e.to_string())?;
        if info.contains("cluster_state:ok") { Ok(()) } else { Err(info) }
    });
    story.cluster.sigcont(story.source);
    let target = story.target;
    story.await_finished(&[target]);
}

/// Somebody asks for a failover by hand, of one end and then of the other.
fn check_failovers_by_hand(flavour: Flavour) {
    let story = Story::begin(flavour);
    let heirs = [story.source, story.target].map(|node| story.cluster.replicas_of(node)[0]);
    for heir in heirs {
        story.cluster.cmd::<()>(heir, &["CLUSTER", "FAILOVER"]);
        story.await_primary(heir);
    }
    story.await_finished(&[heirs[1]]);
}

#[test]
fn a_source_that_hangs_and_comes_back_has_lost_its_part_on_redis_7_0() {
    check_a_frozen_source(Flavour::Redis70);
}

#[test]
fn a_source_that_hangs_and_comes_back_has_lost_its_part_on_valkey_9_1() {
    check_a_frozen_source(Flavour::Valkey91);
}

/// The source's replica is told by the move itself, which stands still, so that no look of anybody else has to do with it.
fn check_an_heir(flavour: Flavour, promote: impl Fn(&Cluster, Node, Node)) {
    let cluster = Cluster::start(Spec::new(flavour).replicas(1));
    let [source, target, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let heir = cluster.replicas_of(source)[0];
    let tagged = Tagged::fill(&cluster, source, 0, 1_000);
    cluster.await_replicas_in_step();
    // The shard is named by a member that outlives the story.
    let pin = format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{}\"\n", cluster.node_id(target), tagged.slot);
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, &format!("{SLOWLY}{pin}")));
    let (points, call) = Points::order(call, "migrate.before=pause@100");
    let mut daemon = call.spawn();
    points.await_reached("migrate.before");
    promote(&cluster, source, heir);
    let mark = format!("{}: [{}->-{}]", cluster.name(heir), tagged.slot, cluster.node_id(target));
    eventually("the replica that took over sends clients on", SOON, || {
        let open = cluster.view(heir)?.open();
        let open: Vec<String> = open.into_iter().map(|mark| format!("{}: {mark}", cluster.name(heir))).collect();
        if open.contains(&mark) { Ok(()) } else { Err(format!("{open:?}")) }
    });
    points.go("migrate.before");
    eventually("the slot is the target's", SOON, || {
        let (open, owned) = (cluster.open_slots()?, cluster.agreed_owners()?);
        let there = owned.get(&cluster.node_id(target)).is_some_and(|slots| slots.contains(tagged.slot));
        if open.is_empty() && there { Ok(()) } else { Err(format!("open: {open:?}; {owned:?}")) }
    });
    tagged.verify(&cluster);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["a replica has taken over from the source and was told of the open slots"]);
}

fn by_hand(cluster: &Cluster, _: Node, heir: Node) {
    cluster.cmd::<()>(heir, &["CLUSTER", "FAILOVER"]);
}

fn by_death(cluster: &Cluster, source: Node, _: Node) {
    cluster.kill9(source);
}

#[test]
fn a_replica_that_takes_over_by_hand_is_told_of_the_open_slots_on_redis_7_0() {
    check_an_heir(Flavour::Redis70, by_hand);
}

#[test]
fn a_replica_that_takes_over_by_hand_is_told_of_the_open_slots_on_redis_8_2() {
    check_an_heir(Flavour::Redis82, by_hand);
}

#[test]
fn a_replica_that_takes_over_from_a_dead_source_is_told_of_the_open_slots_on_redis_6_2() {
    check_an_heir(Flavour::Redis62, by_death);
}

#[test]
fn failovers_by_hand_are_followed_on_redis_8_2() {
    check_failovers_by_hand(Flavour::Redis82);
}

#[test]
fn failovers_by_hand_are_followed_on_valkey_8_1() {
    check_failovers_by_hand(Flavour::Valkey81);
}

#[test]
fn failovers_of_both_ends_at_once_are_followed_on_redis_8_2() {
    check_both_dead(Flavour::Redis82);
}

#[test]
fn failovers_of_both_ends_at_once_are_followed_on_valkey_8_1() {
    check_both_dead(Flavour::Valkey81);
}

#[test]
fn failovers_by_hand_are_followed_on_redis_7_0() {
    check_failovers_by_hand(Flavour::Redis70);
}

/// It shows nobody what it holds of a slot whose mark it does not have.
#[test]
fn failovers_are_followed_on_redis_8_6() {
    if Flavour::Redis86.is_here() {
        check_failovers_by_hand(Flavour::Redis86);
        check_a_dead_target(Flavour::Redis86);
        check_both_dead(Flavour::Redis86);
    }
}

#[test]
fn failovers_by_hand_are_followed_on_valkey_9_1() {
    check_failovers_by_hand(Flavour::Valkey91);
}
