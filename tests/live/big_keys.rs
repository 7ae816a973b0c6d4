//! Keys that would hold their node for long while they move: found before their slot is opened.

use crate::support::{Cluster, Flavour, HASTY, Node, Output, Spec, Tagged, settings};

const KEYS: usize = 20;
const FIELDS: usize = 100_000;

/// A hash that holds Redis for about 120 ms and Valkey for about 60 ms.
fn fill_hash(cluster: &Cluster, node: Node, key: &str) {
    let mut connection = cluster.connect(node, 0).expect("the node answers");
    for start in (0..FIELDS).step_by(1_000) {
        let mut command = redis::cmd("HSET");
        command.arg(key);
        for field in start..start + 1_000 {
            command.arg(format!("field {field}")).arg(field);
        }
        command.exec(&mut connection).expect("the owner of the slot takes it");
    }
}

fn check_big_keys(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2));
    let [source, target] = cluster.primaries()[..] else { panic!("two primaries") };
    let [big, other] = [0, 1].map(|number| Tagged::fill(&cluster, source, number, KEYS));
    let key = big.key(1_000_000);
    fill_hash(&cluster, source, &key);
    let (slot, to) = (big.slot.to_string(), cluster.address(target).to_string());
    let move_slots = |slots: &str, policy: &str| -> Output {
        let migration = format!("[migration]\nbig_key_block_max = \"30ms\"\nretry_delay = \"100ms\"\n{policy}\n");
        let config = settings(&cluster, &format!("{HASTY}{migration}[log]\nlevel = \"debug\"\n"));
        evenkeel(&["move", "--slots", slots, "--to", &to], &config)
    };

    let both = format!("{slot},{}", other.slot);
    let output = move_slots(&both, "");
    output.assert(2, &[&format!("slot {slot} has a key that would hold its node for about"), "more than 30 ms"]);
    assert!(!(output.stdout + &output.stderr).contains(&key), "the name of a key is nobody's business");
    assert_eq!(cluster.open_slots(), Ok(Vec::new()), "the slot was never opened");
    assert!(cluster.slots_of(source).contains(big.slot) && cluster.slots_of(target).contains(other.slot));

    cluster.cmd::<()>(target, &["CONFIG", "SET", "proto-max-bulk-len", "1mb"]);
    move_slots(&slot, "big_keys = \"move\"").assert(2, &[&format!("slot {slot} has a key of about"), "1048576"]);
    cluster.cmd::<()>(target, &["CONFIG", "SET", "proto-max-bulk-len", "512mb"]);
    move_slots(&slot, "big_keys = \"move\"").assert(0, &[]);
    assert_eq!(cluster.cmd::<usize>(target, &["HLEN", &key]), FIELDS);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    big.verify(&cluster);
    other.verify(&cluster);
}

fn evenkeel(args: &[&str], config: &str) -> Output {
    crate::support::Evenkeel::new(args).config(config).run_to_end()
}

#[test]
fn a_slot_with_a_big_key_is_set_aside_and_moves_when_allowed_on_redis_7_0() {
    check_big_keys(Flavour::Redis70);
}

#[test]
fn a_slot_with_a_big_key_is_set_aside_and_moves_when_allowed_on_valkey_9_1() {
    check_big_keys(Flavour::Valkey91);
}
