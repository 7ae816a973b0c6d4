//! Keys that would hold their node for long while they move: found before their slot is opened.

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use crate::support::{Cluster, Evenkeel, Flavour, HASTY, Node, Output, SOON, Spec, Tagged, eventually, settings};

const KEYS: usize = 20;
const FIELDS: usize = 100_000;

/// A hash that holds Redis for about 120 ms and Valkey for about 60 ms.
fn fill_hash(cluster: &Cluster, node: Node, database: i64, key: &str) {
    let mut connection = cluster.connect(node, database).expect("the node answers");
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
    fill_hash(&cluster, source, 0, &key);
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

/// Hours that begin so many hours from now, and last two.
fn hours(from_now: i64) -> String {
    let at = |hours: i64| {
        let time = jiff::Timestamp::now() + SignedDuration::from_hours(hours);
        time.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string()
    };
    format!("{}-{} UTC", at(from_now), at(from_now + 2))
}

/// Big keys in a numbered database that have their hours: out of them the slot waits, in them it moves.
fn check_hours(flavour: Flavour, database: i64) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2).config(if database == 0 {
        &[]
    } else {
        &["--cluster-databases", "16"]
    }));
    let [source, target] = cluster.primaries()[..] else { panic!("two primaries") };
    let big = Tagged::fill(&cluster, source, 0, KEYS);
    fill_hash(&cluster, source, database, &big.key(1_000_000));
    let config = |from_now| {
        let entry = format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{}\"\n", cluster.node_id(target), big.slot);
        let policy = format!("big_keys = \"window\"\nbig_key_window = \"{}\"\n", hours(from_now));
        let migration = "[migration]\nattempts = 1\nretry_delay = \"100ms\"\nbig_key_block_max = \"30ms\"\n";
        settings(&cluster, &format!("{HASTY}{migration}{policy}{entry}"))
    };
    // Who has no time to wait for them says so.
    evenkeel(&["rebalance"], &config(5)).assert(2, &["30 ms are allowed outside of"]);
    let daemon = Evenkeel::new(&["run"]).config(&config(5)).spawn();
    let waits = daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"trouble\":\"big_key\""));
    let waits: serde_json::Value = serde_json::from_str(&waits[waits.find('{').expect("JSON")..]).expect("JSON");
    let next = waits["set_aside"][0]["next_try_in_s"].as_f64().expect("it is tried again, though it has but one try");
    assert!((4.9 * 3600.0..=5.0 * 3600.0).contains(&next), "{waits}");
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));

    daemon.rewrite_config(&config(-1));
    eventually("it moves in its hours", SOON, || {
        let owned = cluster.view(target)?.slots_of(cluster.node_id(target));
        if owned.contains(big.slot) { Ok(()) } else { Err(daemon.http_get("/api/v1/status")) }
    });
    let mut connection = cluster.connect(target, database).expect("it runs");
    let fields: usize = redis::cmd("HLEN").arg(big.key(1_000_000)).query(&mut connection).expect("it is there");
    assert_eq!(fields, FIELDS);
    big.verify(&cluster);
}

#[test]
fn a_slot_with_a_big_key_waits_for_its_hours_on_redis_7_0() {
    check_hours(Flavour::Redis70, 0);
}

#[test]
fn a_slot_with_a_big_key_in_a_numbered_database_waits_for_its_hours_on_valkey_9_1() {
    check_hours(Flavour::Valkey91, 3);
}

fn evenkeel(args: &[&str], config: &str) -> Output {
    Evenkeel::new(args).config(config).run_to_end()
}

#[test]
fn a_slot_with_a_big_key_is_set_aside_and_moves_when_allowed_on_redis_7_0() {
    check_big_keys(Flavour::Redis70);
}

#[test]
fn a_slot_with_a_big_key_is_set_aside_and_moves_when_allowed_on_valkey_9_1() {
    check_big_keys(Flavour::Valkey91);
}
