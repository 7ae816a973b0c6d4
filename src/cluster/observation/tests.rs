//! Texts of `INFO` and `CLUSTER INFO`, and what is read from them.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

const REDIS_7_0: &str = "# Server\r
redis_version:7.0.15\r
redis_mode:cluster\r
run_id:c4f1f7ef1e2a7d0c5a2a4c2b2a2b63d4f0a1b2c3\r
\r
# Memory\r
used_memory:1048576\r
used_memory_dataset:65536\r
maxmemory:2097152\r
maxmemory_policy:volatile-lru\r
\r
# Persistence\r
loading:0\r
rdb_last_bgsave_status:ok\r
\r
# Replication\r
role:master\r
connected_slaves:2\r
slave1:ip=::1,port=7004,state=wait_bgsave,offset=0,lag=0\r
slave0:ip=10.0.0.4,port=6379,state=online,offset=1400,lag=1\r
slave2:ip=10.0.0.8,port=0,state=online,offset=1400\r
master_repl_offset:1414\r
\r
# Keyspace\r
db0:keys=5,expires=0,avg_ttl=0,subexpiry=0\r
";

const VALKEY_9_1_REPLICA: &str = "\
redis_version:7.2.4
server_name:valkey
valkey_version:9.1.2
valkey_release_stage:ga
run_id:f00d
loading:1
rdb_last_bgsave_status:err
role:slave
master_link_status:down
slave_repl_offset:99
slave_priority:100
master_repl_offset:99
db0:keys=1,expires=0
db11:keys=7,expires=0
";

const CLUSTER: &str = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:6\r\n";

#[expect(clippy::needless_pass_by_value, reason = "`expect!` is written in place")]
fn check(info: &str, cluster_info: &str, expected: Expect) {
    match NodeInfo::parse(info, cluster_info) {
        Ok(info) => expected.assert_debug_eq(&info),
        Err(error) => expected.assert_eq(&error.to_string()),
    }
}

#[test]
fn info_of_a_primary_is_read() {
    check(
        REDIS_7_0,
        CLUSTER,
        expect![[r#"
            NodeInfo {
                run_id: "c4f1f7ef1e2a7d0c5a2a4c2b2a2b63d4f0a1b2c3",
                version: ServerVersion {
                    product: Redis,
                    major: 7,
                    minor: 0,
                    patch: 15,
                },
                loading: false,
                memory: MemoryUse {
                    used: 1048576,
                    max: 2097152,
                    eviction: Volatile,
                },
                dataset_bytes: 65536,
                save_failed: false,
                append_failed: false,
                replication: Replication {
                    is_primary: true,
                    id: "",
                    offset: 1414,
                    replicas: [
                        ReplicaLink {
                            address: Address {
                                host: "10.0.0.4",
                                port: 6379,
                            },
                            online: true,
                            offset: 1400,
                            lag_s: Some(
                                1,
                            ),
                        },
                        ReplicaLink {
                            address: Address {
                                host: "::1",
                                port: 7004,
                            },
                            online: false,
                            offset: 0,
                            lag_s: Some(
                                0,
                            ),
                        },
                    ],
                    good_replicas: None,
                },
                primary_link: None,
                keys: {
                    0: 5,
                },
                cluster_ok: true,
                current_epoch: 6,
            }
        "#]],
    );
}

#[test]
fn info_of_a_valkey_replica_is_read() {
    check(
        VALKEY_9_1_REPLICA,
        "cluster_state:fail\ncluster_current_epoch:6",
        expect![[r#"
            NodeInfo {
                run_id: "f00d",
                version: ServerVersion {
                    product: Valkey,
                    major: 9,
                    minor: 1,
                    patch: 2,
                },
                loading: true,
                memory: MemoryUse {
                    used: 0,
                    max: 0,
                    eviction: AllKeys,
                },
                dataset_bytes: 0,
                save_failed: true,
                append_failed: false,
                replication: Replication {
                    is_primary: false,
                    id: "",
                    offset: 99,
                    replicas: [],
                    good_replicas: None,
                },
                primary_link: Some(
                    Down,
                ),
                keys: {
                    0: 1,
                    11: 7,
                },
                cluster_ok: false,
                current_epoch: 6,
            }
        "#]],
    );
}

#[test]
fn what_nothing_can_be_decided_without_must_be_there() {
    let without = |field: &str| REDIS_7_0.replace(field, "other");
    check(&without("run_id"), CLUSTER, expect!["INFO has no field `run_id`"]);
    check(&without("redis_version"), CLUSTER, expect!["INFO has no field `redis_version`"]);
    check(&without("role"), CLUSTER, expect!["INFO has no field `role`"]);
    check(REDIS_7_0, "cluster_current_epoch:6", expect!["CLUSTER INFO has no field `cluster_state`"]);
    check(REDIS_7_0, "cluster_state:ok", expect!["CLUSTER INFO has no field `cluster_current_epoch`"]);
    check(
        &REDIS_7_0.replace("role:master", "role:sentinel"),
        CLUSTER,
        expect!["INFO has `role:sentinel`, which is not master or slave"],
    );
    check(
        &REDIS_7_0.replace("run_id:c4f1f7ef1e2a7d0c5a2a4c2b2a2b63d4f0a1b2c3", "run_id:"),
        CLUSTER,
        expect!["INFO has `run_id:`, which is not a run id"],
    );
    check(
        &REDIS_7_0.replace("7.0.15", "unknown"),
        CLUSTER,
        expect!["INFO has `redis_version:unknown`, which is not a version"],
    );
    check(
        &REDIS_7_0.replace("used_memory:1048576", "used_memory:much"),
        CLUSTER,
        expect!["INFO has `used_memory:much`, which is not a number"],
    );
    check(&REDIS_7_0.replace("keys=5", "keys=?"), CLUSTER, expect!["INFO has `db0:?`, which is not a number"]);
}

#[test]
fn an_unknown_eviction_policy_counts_as_the_most_harmful() {
    let policy = |policy: &str| {
        let info = REDIS_7_0.replace("volatile-lru", policy);
        NodeInfo::parse(&info, CLUSTER).map(|info| info.memory.eviction)
    };
    assert_eq!(policy("noeviction"), Ok(EvictionPolicy::NoEviction));
    assert_eq!(policy("volatile-ttl"), Ok(EvictionPolicy::Volatile));
    assert_eq!(policy("allkeys-lfu"), Ok(EvictionPolicy::AllKeys));
    assert_eq!(policy("whichever"), Ok(EvictionPolicy::AllKeys));
}

#[test]
fn a_version_is_compared_number_by_number() {
    let version = |text: &str| {
        NodeInfo::parse(&REDIS_7_0.replace("7.0.15", text), CLUSTER).map(|info| info.version).expect("a version")
    };
    assert!(version("7.0.15") < version("7.2.0") && version("7.4.1") < version("7.10"));
    assert_eq!(version("8.0-rc1").to_string(), "Redis 8.0.0");
    assert_eq!(version("255.255.255").to_string(), "Redis 255.255.255");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(
        at in any::<prop::sample::Index>(), len in 0_usize..60, put in "[\\PC\n=,:]{0,12}",
    ) {
        let start = at.index(REDIS_7_0.len());
        let end = (start + len).min(REDIS_7_0.len());
        let info = format!("{}{put}{}", &REDIS_7_0[..start], &REDIS_7_0[end..]);
        let _ = NodeInfo::parse(&info, &info);
        let _ = NodeInfo::parse(&info, CLUSTER);
    }
}
