//! Functions, which do not move with slots: a target that lacks them is told of, or gets them before its first slot.

use crate::support::{Cluster, Flavour, Node, Spec, Tagged};

/// A library of one function of the same name, which answers with this text.
fn load(cluster: &Cluster, node: Node, name: &str, answer: &str) {
    let code =
        format!("#!lua name={name}\nredis.register_function('{name}', function(keys, args) return '{answer}' end)\n");
    cluster.cmd::<()>(node, &["FUNCTION", "LOAD", &code]);
}

fn call(cluster: &Cluster, node: Node, name: &str, key: &str) -> Option<String> {
    cluster.try_cmd(node, &["FCALL", name, "1", key]).ok()
}

fn check_functions(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2).replicas(1));
    let [source, target] = cluster.primaries()[..] else { panic!("two") };
    let slots = [0, 1, 2].map(|number| Tagged::fill(&cluster, source, number, 20));
    cluster.await_replicas_in_step();
    load(&cluster, source, "both", "of the source");
    load(&cluster, target, "both", "of the target");
    load(&cluster, source, "message", "moved");
    let move_slot = |tagged: &Tagged, functions: &str| {
        let (slot, to) = (tagged.slot.to_string(), cluster.address(target).to_string());
        let migration = format!("[migration]\nretry_delay = \"100ms\"\nfunctions = \"{functions}\"\n");
        cluster.evenkeel_with_file(&["move", "--slots", &slot, "--to", &to], &migration).run_to_end()
    };
    let lacks = "of its sources' libraries of functions it has not message, and has another text of both";
    let differs = "of its sources' libraries of functions it has another text of both";

    let weights = format!("[[targets.nodes]]\nnode = \"{}\"\nweight = 2.0\n", cluster.node_id(target));
    cluster.evenkeel_with_file(&["plan"], &weights).run_to_end().assert(2, &[lacks, "functions = \"warn\""]);
    let json = cluster.evenkeel_with_file(&["plan", "--json"], &weights).run_to_end().exited_with_json(2);
    assert_eq!(json["functions"][0]["missing"], serde_json::json!(["message"]), "{json}");
    assert_eq!(json["functions"][0]["differing"], serde_json::json!(["both"]), "{json}");

    move_slot(&slots[0], "warn").assert(0, &[lacks]);
    assert_eq!(call(&cluster, target, "message", &slots[0].key(0)), None, "nobody asked for it");

    // A function that the library to be loaded has too.
    let code = "#!lua name=other\nredis.register_function('message', function() return 'other' end)\n";
    cluster.cmd::<()>(target, &["FUNCTION", "LOAD", code]);
    move_slot(&slots[1], "copy").assert(2, &["does not take the library of functions `message`", "already exists"]);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()), "no slot was opened");
    cluster.cmd::<()>(target, &["FUNCTION", "DELETE", "other"]);

    move_slot(&slots[1], "copy").assert(0, &[differs]);
    assert_eq!(call(&cluster, target, "message", &slots[0].key(0)).as_deref(), Some("moved"));
    assert_eq!(call(&cluster, target, "both", &slots[0].key(0)).as_deref(), Some("of the target"), "left alone");
    cluster.await_replicas_in_step();
    let at_replica: Vec<Vec<redis::Value>> =
        cluster.cmd(cluster.replicas_of(target)[0], &["FUNCTION", "LIST", "LIBRARYNAME", "message"]);
    assert_eq!(at_replica.len(), 1, "a replica has what its primary has");

    let output = move_slot(&slots[2], "ignore");
    assert!(!output.stderr.contains("libraries of functions"), "{}", output.stderr);
    output.assert(0, &[]);
    for tagged in &slots {
        tagged.verify(&cluster);
    }
}

#[test]
fn a_target_without_the_functions_of_its_source_is_told_of_or_gets_them_on_redis_7_0() {
    check_functions(Flavour::Redis70);
}

#[test]
fn a_target_without_the_functions_of_its_source_is_told_of_or_gets_them_on_valkey_9_1() {
    check_functions(Flavour::Valkey91);
}
