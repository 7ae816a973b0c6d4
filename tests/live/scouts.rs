//! What is looked at while a move may not begin yet.

use evenkeel::cluster::SlotSet;

use crate::support::{Cluster, Evenkeel, Flavour, Points, SOON, Spec, Tagged, eventually, settings};

const KEYS: usize = 20;
/// So many elements hold any server for more than the 5 ms that the story allows.
const ELEMENTS: usize = 50_000;

/// All slots of a plan are looked at before the first of them is opened, and none of them twice, but for one that has got
/// another key since.
fn check_the_look_ahead(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2));
    let [source, target] = cluster.primaries()[..] else { panic!("two primaries") };
    let mut moved = [0, 1, 2].map(|number| Tagged::fill(&cluster, source, number, KEYS));
    moved.sort_by_key(|tagged| tagged.slot);
    let [_, _, last] = &moved;

    // Nothing else is to move, in either direction.
    let ours = cluster.slots_of(target);
    let pinned = moved.iter().fold(ours, |all, tagged| all.union(&SlotSet::from_iter([tagged.slot])));
    let pin = format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{pinned}\"\n", cluster.node_id(target));
    // The second look comes so late that a busy machine has had its time for all that is done before it.
    let schedule = "[schedule]\npoll = \"5s\"\n";
    // One slot at a time: where no client is, it is four times as many keys.
    let group_keys = KEYS / 4;
    let migration = format!(
        "[migration]\ngroup_keys = {group_keys}\nbig_key_block_max = \"5ms\"\nretry_delay = \"1h\"\nretry_delay_max = \"1h\"\n"
    );
    let config = settings(&cluster, &format!("{schedule}{migration}{pin}"));
    let (points, call) = Points::order(Evenkeel::new(&["run"]).config(&config), "mark_target.before=pause@1");
    let daemon = call.spawn();
    points.await_reached("mark_target.before");
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    // Once for each key, and once to see whether it may.
    let looks = || cluster.calls_of(source, &["memory|usage"]);
    let ahead = looks();
    assert_eq!(ahead, (moved.len() * KEYS) as u64 + 1);

    let mut connection = cluster.connect(source, 0).expect("the node answers");
    let elements: Vec<usize> = (0..ELEMENTS).collect();
    redis::cmd("SADD").arg(last.key(KEYS)).arg(elements).exec(&mut connection).expect("the owner of the slot takes it");
    points.go("mark_target.before");
    let big = format!("slot {} has a key that would hold its node for about", last.slot);
    daemon.await_http("/api/v1/status", SOON, |status| status.contains(&big));
    eventually("the other slots are moved", SOON, || {
        let at_target = cluster.slots_of(target);
        if moved[..2].iter().all(|tagged| at_target.contains(tagged.slot)) {
            Ok(())
        } else {
            Err(at_target.to_string())
        }
    });
    assert!(cluster.slots_of(source).contains(last.slot));
    assert_eq!(looks() - ahead, KEYS as u64 + 1, "all keys of the slot that has another one, and no other");
    for tagged in &moved {
        tagged.verify(&cluster);
    }
}

#[test]
fn what_is_to_move_is_looked_at_while_nothing_may_begin_and_anew_where_it_changes_on_redis_7_0() {
    check_the_look_ahead(Flavour::Redis70);
}

#[test]
fn what_is_to_move_is_looked_at_while_nothing_may_begin_and_anew_where_it_changes_on_valkey_9_1() {
    check_the_look_ahead(Flavour::Valkey91);
}
