//! Stories of whole files: what is taken, and what is said of what is not.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use toml::{Table, Value};

use super::*;

/// What is said of a file: its faults, one a line, or that there are none.
fn said(text: &str) -> String {
    match Config::parse(text, "x.toml") {
        Ok(_) => "no fault\n".to_owned(),
        Err(faults) => faults.iter().flat_map(|fault| [fault.to_string(), "\n".to_owned()]).collect(),
    }
}

fn check(text: &str, expect: Expect) {
    expect.assert_eq(&said(text));
}

/// Checks what is said of lines below a `[cluster]` that is in order.
fn check_rest(text: &str, expect: Expect) {
    check(&format!("cluster.seeds = ['a:1']\n{text}"), expect);
}

fn parsed(text: &str) -> Config {
    Config::parse(text, "x.toml").expect("the text of this story has no fault")
}

#[test]
fn every_fault_of_a_file_is_reported_at_once() {
    check(
        r#"
[cluster]
name = ""
seeds = ["10.0.0.1:6379", "10.0.0.2", 7, "redis://me:hunter2@10.0.0.3:6379"]
password = "hunter2"
username = 12
tls = { cert_file = "c.pem" }
address_map = { "10.0.0.1:6379" = "nowhere", "x" = "127.0.0.1:1" }

[targets]
threshold_percent = nan
threshold_slots = "two"

[[targets.nodes]]
node = "a:1"
wieght = 2.0

[[targets.nodes]]
weight = -1

[migration]
block_max = "2s"
call_timeout = 5
retry_delay = "soon"
parallel = 0
group_keys = 99999999999999999999

[scheduel]
poll = "1s"

[http]
listen = "localhost:7380"

[log]
level = "loud"
formt = "json"
"#,
        expect![[r#"
            x.toml:3:8: cluster.name: "" is not allowed; expected 1 to 128 characters that can be printed, in quotes
            x.toml:4:27: cluster.seeds[1]: "10.0.0.2" is not allowed; expected host:port, as in "10.0.0.1:6379"
            x.toml:4:39: cluster.seeds[2]: 7 is not allowed; expected host:port, as in "10.0.0.1:6379"
            x.toml:4:42: cluster.seeds[3]: this value (not shown) is not allowed; expected host:port, as in "10.0.0.1:6379"
            x.toml:5:1: cluster.password: a password is never written in this file: name a file that holds it in cluster.password_file, or set the environment variable EVENKEEL_PASSWORD
            x.toml:6:12: cluster.username: 12 is not allowed; expected a user's name, without spaces, in quotes
            x.toml:7:7: cluster.tls.ca_file: missing; expected the file with the authorities that sign the servers' certificates
            x.toml:7:21: cluster.tls.cert_file: needs key_file beside it
            x.toml:8:35: cluster.address_map."10.0.0.1:6379": "nowhere" is not allowed; expected host:port, as in "10.0.0.1:6379"
            x.toml:8:46: cluster.address_map.x: "x" is not allowed; expected host:port, as in "10.0.0.1:6379"
            x.toml:11:21: targets.threshold_percent: nan is not allowed; expected a number from 0 to 100
            x.toml:12:19: targets.threshold_slots: "two" is not allowed; expected a whole number from 0 to 16384
            x.toml:16:1: targets.nodes[0].wieght: unknown key; did you mean `weight`?
            x.toml:18:1: targets.nodes[1].node: missing; expected the node's id, id prefix, address or hostname
            x.toml:22:13: migration.block_max: "2s" is not allowed; expected a duration from "100us" to "1s"
            x.toml:23:16: migration.call_timeout: 5 is not allowed; expected a duration from "100ms" to "1m"
            x.toml:24:15: migration.retry_delay: "soon" is not allowed; expected a duration from "100ms" to "1h"
            x.toml:25:12: migration.parallel: 0 is not allowed; expected a whole number from 1 to 256
            x.toml:26:14: migration.group_keys: 99999999999999999999 is not allowed; expected a number of at most 64 bits
            x.toml:28:2: scheduel: unknown key; did you mean `schedule`?
            x.toml:32:10: http.listen: "localhost:7380" is not allowed; expected IP and port, as in "127.0.0.1:7380" or "[::]:7380"
            x.toml:35:9: log.level: "loud" is not allowed; expected one of "off", "error", "warn", "info", "debug", "trace"
            x.toml:36:1: log.formt: unknown key; did you mean `format`?
        "#]],
    );
}

#[test]
fn text_that_is_not_toml_is_one_fault_and_is_not_quoted() {
    check(
        "[cluster]\nseeds = ['a:1']\npassword = hunter2",
        expect![[r#"
            x.toml:3:12: not TOML: string values must be quoted, expected literal string
        "#]],
    );
    check(
        "[cluster]\nseeds = ['a:1']\nseeds = ['b:1']",
        expect![[r#"
            x.toml:3:1: not TOML: duplicate key
        "#]],
    );
}

#[test]
fn numbers_beyond_64_bits_are_faults_like_others() {
    check_rest(
        "[migration]\nparallel = 9999999999999999999\nattempts = 99999999999999999999\n\
         group_keys = 0xffffffffffffffffffffffffffffffffff",
        expect![[r#"
            x.toml:3:12: migration.parallel: 9999999999999999999 is not allowed; expected a number of at most 64 bits
            x.toml:4:12: migration.attempts: 99999999999999999999 is not allowed; expected a number of at most 64 bits
            x.toml:5:14: migration.group_keys: 0xffffffffffffffffffffffffffffffffff is not allowed; expected a number of at most 64 bits
        "#]],
    );
    check_rest(
        "targets.default_weight = 1e999\ntargets.threshold_percent = 3000000000",
        expect![[r#"
            x.toml:2:26: targets.default_weight: 1e999 is not allowed; expected a number of at most 64 bits
            x.toml:3:29: targets.threshold_percent: 3000000000 is not allowed; expected a number from 0 to 100
        "#]],
    );
}

#[test]
fn seeds_are_the_only_key_without_a_default() {
    check(
        "",
        expect![[r#"
            x.toml:1:1: cluster.seeds: missing; expected the address of one node at least, as in seeds = ["10.0.0.1:6379"]
        "#]],
    );
    check(
        "[http]\n[cluster]\nname = 'x'",
        expect![[r#"
            x.toml:2:1: cluster.seeds: missing; expected the address of one node at least, as in seeds = ["10.0.0.1:6379"]
        "#]],
    );
    check(
        "cluster.seeds = []",
        expect![[r#"
            x.toml:1:17: cluster.seeds: missing; expected one address at least, as in ["10.0.0.1:6379"]
        "#]],
    );
    check(
        "cluster.seeds = ['a:1']",
        expect![[r#"
            no fault
        "#]],
    );
}

#[test]
fn a_key_with_a_fault_of_its_own_is_not_said_to_be_missing_too() {
    check(
        "cluster = 5",
        expect![[r#"
            x.toml:1:11: cluster: 5 is not allowed; expected a table
        "#]],
    );
    check(
        "cluster.seeds = 'a:1'",
        expect![[r#"
            x.toml:1:17: cluster.seeds: 'a:1' is not allowed; expected a list in brackets
        "#]],
    );
    check(
        "cluster.seeds = [5]",
        expect![[r#"
            x.toml:1:18: cluster.seeds[0]: 5 is not allowed; expected host:port, as in "10.0.0.1:6379"
        "#]],
    );
    check(
        "cluster.seeds = ['a']",
        expect![[r#"
            x.toml:1:18: cluster.seeds[0]: 'a' is not allowed; expected host:port, as in "10.0.0.1:6379"
        "#]],
    );
    check_rest(
        "cluster.tls = { ca_file = 5 }",
        expect![[r#"
            x.toml:2:27: cluster.tls.ca_file: 5 is not allowed; expected the path of a file, in quotes
        "#]],
    );
}

#[test]
fn a_value_that_may_be_secret_is_never_shown() {
    let secrets = [
        "cluster.password = 'hunter2'",
        "cluster.passwd = 'hunter2'",
        "cluster.masterauth = 'hunter2'",
        "cluster.tls = { ca_file = 'ca', key_pass = 'hunter2' }",
        "cluster.password_file = ['hunter2']",
        "cluster.pasword_file = 'hunter2'",
        "cluster.password_file = \"hunter2\\n\"",
        "cluster.tls = { ca_file = 'ca', cert_file = 'c', key_file = \"hunter2\\n\" }",
        "cluster.tls = { ca_file = '''-----BEGIN PRIVATE KEY-----\nhunter2''' }",
        "cluster.address_map = { 'a:1' = 'redis://:hunter2@b:1' }",
        "cluster.address_map = { 'redis://:hunter2@b:1' = 'a:1' }",
        "state.dir = { password = 'hunter2' }",
        "schedule = [{ password = 'hunter2' }]",
        "http.tls = { cert_file = 'c', key_file = \"hunter2\\n\" }",
        "[[http]]\npassword = 'hunter2'",
        "password = 'hunter2'",
        "password = \"hunter2",
    ];
    for text in secrets {
        let said = said(&format!("cluster.seeds = ['a:1']\n{text}"));
        assert!(said.starts_with("x.toml:") && !said.contains("hunter2"), "{text}: {said}");
    }
    check_rest(
        "cluster.password = 'hunter2'",
        expect![[r#"
            x.toml:2:9: cluster.password: a password is never written in this file: name a file that holds it in cluster.password_file, or set the environment variable EVENKEEL_PASSWORD
        "#]],
    );
    check_rest(
        "cluster.pasword_file = 'hunter2'",
        expect![[r#"
            x.toml:2:9: cluster.pasword_file: unknown key; did you mean `password_file`?
        "#]],
    );
}

#[test]
fn values_that_do_not_fit_together_are_faults() {
    check_rest(
        "cluster.tls = { ca_file = 'ca', key_file = 'k' }",
        expect![[r#"
            x.toml:2:44: cluster.tls.key_file: needs cert_file beside it
        "#]],
    );
    check_rest(
        "cluster.tls = {}",
        expect![[r#"
            x.toml:2:15: cluster.tls.ca_file: missing; expected the file with the authorities that sign the servers' certificates
        "#]],
    );
    check_rest(
        "cluster.tls = true",
        expect![[r#"
            x.toml:2:15: cluster.tls: true is not allowed; expected a table with ca_file, and cert_file and key_file or neither
        "#]],
    );
    check_rest(
        "http.tls = { cert_file = 'c' }",
        expect![[r#"
            x.toml:2:12: http.tls.key_file: missing; expected the file with the key of the certificate
        "#]],
    );
    check_rest(
        "http.tls = { key_file = 'k' }",
        expect![[r#"
            x.toml:2:12: http.tls.cert_file: missing; expected the file with the certificate that is shown, and with those between it and its authority
        "#]],
    );
    check_rest(
        "http.tls = true",
        expect![[r#"
            x.toml:2:12: http.tls: true is not allowed; expected a table with cert_file and key_file
        "#]],
    );
    check_rest(
        "cluster.migrate_username = 'mover'",
        expect![[r#"
            x.toml:2:28: cluster.migrate_username: needs migrate_password_file beside it
        "#]],
    );
    check_rest(
        "cluster.migrate_password_file = 'file'",
        expect![[r#"
            x.toml:2:33: cluster.migrate_password_file: needs migrate_username beside it
        "#]],
    );
    check_rest(
        "cluster.address_map = { '::1:7000' = 'a:1', '[::1]:7000' = 'b:1' }",
        expect![[r#"
            x.toml:2:45: cluster.address_map."[::1]:7000": this address is already mapped, in another spelling
        "#]],
    );
    check_rest(
        "migration.retry_delay = '10m'",
        expect![[r#"
            x.toml:2:25: migration.retry_delay: retry_delay_max (5m) is below retry_delay (10m)
        "#]],
    );
}

#[test]
fn a_lease_has_one_home() {
    let support = "this evenkeel was built without support for Kubernetes: use the image of the Dockerfile, build with \
                   `cargo build --release --features kubernetes`, or keep the lease in a server (lease.address)";
    // In a build without support that is one more fault of the table, wherever it stands.
    let check = |text: &str, expect: Expect| {
        let said = said(&format!("cluster.seeds = ['a:1']\n{text}"));
        let (of_build, rest): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.ends_with(support));
        assert_eq!(of_build.len(), usize::from(!cfg!(feature = "kubernetes")), "{said}");
        let rest: String = rest.into_iter().filter(|line| *line != "no fault").flat_map(|line| [line, "\n"]).collect();
        expect.assert_eq(&rest);
    };
    check("[lease.kubernetes]\nname = 'evenkeel-1.cache'", expect![[r#""#]]);
    check("[lease]\nttl = '20s'\nkubernetes = { name = 'a', namespace = 'b' }", expect![[r#""#]]);
    check(
        "[lease]\naddress = 'a:1'\nkey = 'k'\nusername = 'u'\npassword_file = 'f'\ntls = { ca_file = 'c' }\n\
         kubernetes = { name = 'a' }",
        expect![[r#"
            x.toml:3:11: lease.address: tells of a lease in a server, and does not go with lease.kubernetes
            x.toml:4:7: lease.key: tells of a lease in a server, and does not go with lease.kubernetes
            x.toml:5:12: lease.username: tells of a lease in a server, and does not go with lease.kubernetes
            x.toml:6:17: lease.password_file: tells of a lease in a server, and does not go with lease.kubernetes
            x.toml:7:7: lease.tls: tells of a lease in a server, and does not go with lease.kubernetes
        "#]],
    );
    check(
        "[lease.kubernetes]\nnamespace = 'a.b'",
        expect![[r#"
        x.toml:2:1: lease.kubernetes.name: missing; expected the name of the Lease, as in name = "evenkeel-cache"
        x.toml:3:13: lease.kubernetes.namespace: 'a.b' is not allowed; expected the name of a namespace: up to 63 of a-z, 0-9 and -, in quotes
    "#]],
    );
    check(
        "[lease.kubernetes]\nname = 'Cache-'\nnamespace = ''",
        expect![[r#"
        x.toml:3:8: lease.kubernetes.name: 'Cache-' is not allowed; expected the name of a Lease: up to 253 of a-z, 0-9, - and ., in quotes
        x.toml:4:13: lease.kubernetes.namespace: '' is not allowed; expected the name of a namespace: up to 63 of a-z, 0-9 and -, in quotes
    "#]],
    );
    check(
        "[lease]\nttl = '14s'\nkubernetes = { name = 'a' }",
        expect![[r#"
        x.toml:3:7: lease.ttl: lease.ttl (14s) is below three times migration.call_timeout (15s)
    "#]],
    );
}

#[test]
fn target_entries_that_contradict_themselves_are_faults() {
    let check_entry = |entry: &str, expect| check_rest(&format!("[[targets.nodes]]\nnode = 'n1'\n{entry}"), expect);
    check_entry(
        "drain = true\nweight = 2\nslots = '1'",
        expect![[r#"
            x.toml:4:9: targets.nodes[0].drain: `drain = true` stands alone; here it stands beside weight, slots
        "#]],
    );
    check_entry(
        "ignore = true\nmin_slots = 2",
        expect![[r#"
            x.toml:4:10: targets.nodes[0].ignore: `ignore = true` stands alone; here it stands beside min_slots
        "#]],
    );
    check_entry(
        "ignore = true\ndrain = true",
        expect![[r#"
            x.toml:4:10: targets.nodes[0].ignore: a shard cannot both be drained and keep its slots (`drain`)
        "#]],
    );
    check_entry(
        "drain = false\nweight = 2",
        expect![[r#"
            no fault
        "#]],
    );
    check_entry(
        "min_slots = 20\nmax_slots = 10",
        expect![[r#"
            x.toml:5:13: targets.nodes[0].max_slots: 10 is below min_slots, which is 20
        "#]],
    );
    check_entry(
        "slots = '0-10'\nmax_slots = 10",
        expect![[r#"
            x.toml:4:9: targets.nodes[0].slots: 11 slots are more than max_slots, which is 10
        "#]],
    );
    check_entry(
        "slots = '10-0'",
        expect![[r#"
            x.toml:4:9: targets.nodes[0].slots: '10-0' is not allowed; expected slots from 0 to 16383, as in "0-99,866"
        "#]],
    );
    check_entry(
        "slots = ''",
        expect![[r#"
            x.toml:4:9: targets.nodes[0].slots: '' is not allowed; expected slots from 0 to 16383, as in "0-99,866"
        "#]],
    );
}

#[test]
fn target_entries_that_contradict_each_other_are_faults() {
    check_rest(
        "[[targets.nodes]]\nnode = 'n1'\nslots = '0-9,866'\n[[targets.nodes]]\nnode = 'n2'\nslots = '5-20,866'",
        expect![[r#"
            x.toml:7:9: targets.nodes[1].slots: wants slots 5-9,866, and so does the entry on line 2
        "#]],
    );
    check_rest(
        "[targets]\nnodes = [{ node = 'n1' },\n { node = 'n1', weight = 2 }]",
        expect![[r#"
            x.toml:4:11: targets.nodes[1].node: line 3 says otherwise of the same node; keep one entry
        "#]],
    );
}

#[test]
fn an_entry_that_is_said_twice_alike_counts_once() {
    let config = parsed(
        "cluster.seeds = ['a:1']\n[[targets.nodes]]\nnode = 'n1'\nslots = '1'\n[[targets.nodes]]\nnode = 'n1'\n\
         slots = '1'",
    );
    assert_eq!(config.targets.nodes.iter().map(|entry| entry.line).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_full_file_becomes_typed_values() {
    let mut config = parsed(&without_kubernetes(&uncommented(Config::example())));
    // No file may have both homes of the lease, and not every build takes this one.
    config.lease.kubernetes =
        Some(KubernetesLease { name: "evenkeel-default".to_owned(), namespace: Some("evenkeel".to_owned()) });
    let entries = config.entries().into_iter().flat_map(|(key, value)| [key, ": ", &value, "\n"].map(str::to_owned));
    let expect = expect![[r#"
        cluster.name: default
        cluster.seeds: [10.0.0.1:6379, 10.0.0.2:6379]
        cluster.username: evenkeel
        cluster.password_file: /run/secrets/redis
        cluster.migrate_username: mover
        cluster.migrate_password_file: /run/secrets/mover
        cluster.tls.ca_file: /etc/evenkeel/ca.pem
        cluster.tls.cert_file: /etc/evenkeel/client.pem
        cluster.tls.key_file: /etc/evenkeel/client.key
        cluster.tls.server_name: redis.example.com
        cluster.address_map: [172.17.0.2:6379 = 127.0.0.1:7001]
        targets.threshold_percent: 2
        targets.threshold_slots: 2
        targets.default_weight: 1
        targets.nodes: [{ node = "10.0.0.7:6379", weight = 2, min_slots = 100, max_slots = 8000, slots = "0-99,866" }, { node = "07c37dfeb235", drain = true }, { node = "cache-3.example.com", ignore = true }]
        migration.block_max: 2ms
        migration.latency_max: 5ms
        migration.slots_per_second: 100
        migration.keys_per_second: 50000
        migration.bytes_per_second: 100000000
        migration.migrate_timeout: 1s
        migration.call_timeout: 5s
        migration.connect_timeout: 2s
        migration.parallel: 8
        migration.per_target: 4
        migration.group_slots: 16
        migration.group_keys: 10000
        migration.batch_keys_max: 1000
        migration.attempts: 10
        migration.retry_delay: 1s
        migration.retry_delay_max: 5m
        migration.memory_limit_percent: 80
        migration.full_target: refuse
        migration.functions: warn
        migration.big_keys: refuse
        migration.big_key_block_max: 200ms
        migration.big_key_window: 02:00-04:00 Europe/Berlin
        schedule.mode: act
        schedule.poll: 5s
        schedule.settle: 2
        schedule.stop_grace: 20s
        schedule.adopt_after: 1m
        schedule.foreign_quiet: 30s
        schedule.windows: [Mon-Fri 02:00-05:00 Europe/Berlin, Sat,Sun 00:00-24:00 Europe/Berlin]
        schedule.approval: automatic
        state.dir: /var/lib/evenkeel
        lease.address: 10.0.0.9:6379
        lease.key: evenkeel:lease:default
        lease.ttl: 30s
        lease.username: evenkeel
        lease.password_file: /run/secrets/lease
        lease.tls.ca_file: /etc/evenkeel/ca.pem
        lease.tls.cert_file: /etc/evenkeel/client.pem
        lease.tls.key_file: /etc/evenkeel/client.key
        lease.tls.server_name: lease.example.com
        lease.kubernetes.name: evenkeel-default
        lease.kubernetes.namespace: evenkeel
        http.listen: 127.0.0.1:7380
        http.token_file: /etc/evenkeel/token
        http.reads: open
        http.tls.cert_file: /etc/evenkeel/http.pem
        http.tls.key_file: /etc/evenkeel/http.key
        log.level: info
        log.format: text
    "#]];
    expect.assert_eq(&entries.collect::<String>());
}

#[test]
fn the_example_shows_every_default() {
    let example = parsed(Config::example());
    let default = Config::from_seeds(example.cluster.seeds.clone());
    assert_eq!(example, default);
    // A key that is left out would compare equal too, so each one that has a default must be written.
    let written = keys(Config::example());
    let absent: Vec<_> = default.entries().into_iter().filter(|(key, _)| !written.contains(*key)).collect();
    for (key, value) in absent {
        assert!(matches!(value.as_str(), "unset" | "[]"), "the example does not show the default of {key}: {value}");
    }
}

#[test]
fn the_example_names_every_key_and_no_other() {
    let mut known = BTreeSet::new();
    for section in [
        "",
        "cluster.",
        "cluster.tls.",
        "targets.",
        "migration.",
        "schedule.",
        "state.",
        "lease.",
        "lease.tls.",
        "lease.kubernetes.",
        "http.",
        "http.tls.",
        "log.",
    ] {
        known.extend(known_keys(&format!("cluster.seeds = ['a:1']\n{section}zzzzzzzzzzzz = 1"), section));
    }
    known.extend(known_keys("[[targets.nodes]]\nnode = 'a'\nzzzzzzzzzzzz = 1", "targets.nodes."));
    // Tables are named by what is in them.
    for table in [
        "cluster",
        "targets",
        "migration",
        "schedule",
        "state",
        "lease",
        "http",
        "log",
        "cluster.tls",
        "lease.tls",
        "lease.kubernetes",
        "http.tls",
        "targets.nodes",
    ] {
        assert!(known.remove(table), "{table}");
    }
    assert_eq!(keys(&uncommented(Config::example())), known);
}

/// The keys that may stand in a section, as told by the fault of a key that may not.
fn known_keys(text: &str, section: &str) -> Vec<String> {
    let faults = Config::parse(text, "x.toml").expect_err("the key is unknown");
    let known = faults.into_iter().find_map(|fault| match fault.problem {
        Problem::UnknownKey { known, .. } => Some(known),
        Problem::NotToml(_)
        | Problem::Password
        | Problem::Missing { .. }
        | Problem::NotAllowed { .. }
        | Problem::Conflict(_) => None,
    });
    known.expect("there is an unknown key").iter().map(|key| format!("{section}{key}")).collect()
}

/// The example with every commented-out key in force: those have no space after the `#`, unlike prose.
fn uncommented(example: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{key}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

/// The text without the table of the lease's other home, beside which nothing tells of a server.
fn without_kubernetes(text: &str) -> String {
    let (before, from) = text.split_once("[lease.kubernetes]").expect("the example has the table");
    let (_, after) = from.split_once("\n[").expect("another table comes after it");
    format!("{before}\n[{after}")
}

/// The paths of all keys in a text; a list of tables counts as one table, `address_map` as one key.
fn keys(text: &str) -> BTreeSet<String> {
    fn walk(path: &str, value: &Value, into: &mut BTreeSet<String>) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Table(table) if path != "cluster.address_map" => {
                table.iter().for_each(|(key, value)| walk(&below(key), value, into));
            }
            Value::Array(items) if items.iter().all(Value::is_table) && !items.is_empty() => {
                for item in items {
                    walk(path, item, into);
                }
            }
            Value::Table(_)
            | Value::Array(_)
            | Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => {
                into.insert(path.to_owned());
            }
        }
    }
    let mut into = BTreeSet::new();
    walk("", &Value::Table(text.parse::<Table>().expect("the text is TOML")), &mut into);
    into
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evenkeel.toml");
    let said = |expect: Expect| {
        let error = Config::load(&file).expect_err("the file is not in order").to_string();
        expect.assert_eq(&format!("{}\n", error.replace(&dir.path().display().to_string(), "DIR")));
    };
    said(expect![[r#"
        cannot read the configuration file DIR/evenkeel.toml: No such file or directory (os error 2)
    "#]]);
    std::fs::write(&file, "[cluster]\nseed = ['a:1']\n").unwrap();
    said(expect![[r#"
        the configuration file DIR/evenkeel.toml cannot be used:
          DIR/evenkeel.toml:1:1: cluster.seeds: missing; expected the address of one node at least, as in seeds = ["10.0.0.1:6379"]
          DIR/evenkeel.toml:2:1: cluster.seed: unknown key; did you mean `seeds`?
    "#]]);
    std::fs::write(&file, Config::example()).unwrap();
    assert_eq!(Config::load(&file).unwrap(), parsed(Config::example()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a file holds, reading it ends, and each fault has a place in the file.
    #[test]
    fn any_value_at_any_key_is_taken_or_is_a_fault_with_its_place(
        key in prop::sample::select(keys(&uncommented(Config::example())).into_iter().collect::<Vec<_>>()),
        value in prop::sample::select(vec![
            "5", "-5", "1.5", "inf", "true", "'text'", "'2ms'", "[]", "[1, 'a', {}]", "{}", "{ a = 1, b = { c = [2] } }",
            "2026-01-01", "[{ node = 'a' }, { node = 'a', weight = 1 }, { nod = 'b' }]", "9999999999999999999", "''",
            "99999999999999999999", "1e999",
        ]),
    ) {
        let text = format!("{key} = {value}\nname = 1\n");
        let faults = Config::parse(&text, "x.toml").expect_err("the key `name` stands in no table");
        prop_assert!(faults.iter().any(|fault| fault.key == "name" && fault.line == 2));
        for fault in &faults {
            prop_assert!((1..=2).contains(&fault.line) && fault.column >= 1 && !fault.key.is_empty(), "{}", fault);
        }
    }
}
