//! The documents as they are served: a change here is a change for scripts and dashboards.

use expect_test::{Expect, expect};

use super::*;
use crate::cluster::NodeId;
use crate::daemon::Status;
use crate::metrics::testing::{id, now, starting, working};
use crate::plan::{Member, Policy, ShardInput};

/// The document as text, and that the text is read back as the same document.
fn check<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(document: &T, expect: Expect) {
    let text = serde_json::to_string_pretty(document).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), document);
    // Ids of forty digits would hide what matters.
    expect.assert_eq(&(1..=4).fold(text, |text, n| text.replace(&id(n).to_string(), &format!("id-{n}"))));
}

#[test]
fn the_status_of_a_daemon_in_mid_work() {
    let now = now();
    check(
        &status_document(&working(now), now),
        expect![[r#"
            {
              "cluster": "cache-eu",
              "instance": "host-1:42",
              "version": "0.1.0",
              "mode": "act",
              "started_at": "2027-01-15T06:59:59.500Z",
              "uptime_s": 3600.5,
              "turn_age_s": 1.0,
              "reasons": [
                {
                  "name": "set_aside",
                  "text": "slot 5 is set aside: it would not",
                  "passes_by_itself": true
                }
              ],
              "moves": [
                {
                  "source": "id-1",
                  "target": "id-3",
                  "purpose": "move",
                  "slots": {
                    "ranges": "0-4,6-999",
                    "count": 999
                  },
                  "slots_moved": 250,
                  "keys_moved": 3000,
                  "bytes_moved_estimated": 1500000,
                  "pace": {
                    "batch_keys": 40,
                    "block_s": 0.0015,
                    "rest_s": 0.0,
                    "limit": "block"
                  },
                  "running_s": 12.5,
                  "waits_for": "the finalise of another move"
                }
              ],
              "latencies": [
                {
                  "node": "id-1",
                  "latency_s": 0.0025
                },
                {
                  "node": "id-3",
                  "latency_s": 0.0007
                }
              ],
              "moves_waiting": 2,
              "work": {
                "active": true,
                "slots_planned": 1000,
                "slots_moved": 250,
                "keys_planned": 12000,
                "keys_moved": 3000,
                "bytes_moved_estimated": 1500000,
                "elapsed_s": 12.5,
                "left_s": 37.5
              },
              "set_aside": [
                {
                  "slot": 5,
                  "attempts": 3,
                  "trouble": "refused",
                  "why": "it would not",
                  "delay_s": 40.0,
                  "next_try_in_s": 30.0
                }
              ],
              "paused": null,
              "drains": [],
              "approved": null,
              "lease": null,
              "certificates": [],
              "warnings": [
                "the token file /run/token is empty"
              ],
              "open_slots": {
                "ranges": "866",
                "count": 1
              },
              "look": {
                "number": 7,
                "age_s": 2.0,
                "read_age_s": 12.0,
                "took_s": 0.012345,
                "errors": []
              },
              "config": {
                "generation": 2,
                "error": "line 3: cluster.sseds is not a key"
              }
            }"#]],
    );
}

#[test]
fn the_status_of_a_daemon_that_has_seen_nothing() {
    let now = now();
    let status = Status { look_errors: vec!["no seed answers".to_owned()], ..starting(now) };
    check(
        &status_document(&status, now),
        expect![[r#"
            {
              "cluster": "cache-eu",
              "instance": "host-1:42",
              "version": "0.1.0",
              "mode": "act",
              "started_at": "2027-01-15T06:59:59.500Z",
              "uptime_s": 3600.5,
              "turn_age_s": 1.0,
              "reasons": [
                {
                  "name": "no_view",
                  "text": "the cluster has not been read yet",
                  "passes_by_itself": true
                }
              ],
              "moves": [],
              "latencies": [],
              "moves_waiting": 0,
              "work": {
                "active": false,
                "slots_planned": 0,
                "slots_moved": 0,
                "keys_planned": null,
                "keys_moved": 0,
                "bytes_moved_estimated": 0,
                "elapsed_s": 0.0,
                "left_s": null
              },
              "set_aside": [],
              "paused": null,
              "drains": [],
              "approved": null,
              "lease": null,
              "certificates": [],
              "warnings": [],
              "open_slots": {
                "ranges": "",
                "count": 0
              },
              "look": {
                "number": 0,
                "age_s": null,
                "read_age_s": null,
                "took_s": null,
                "errors": [
                  "no seed answers"
                ]
              },
              "config": {
                "generation": 0,
                "error": null
              }
            }"#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "the document in full")]
fn the_topology_with_what_the_servers_say_of_themselves() {
    let mut view = working(now()).view.unwrap();
    let mut infos = (*view.infos).clone();
    infos.remove(&id(4));
    view.infos = infos.into();
    check(
        &topology_document(&view.topology, &view.infos),
        expect![[r#"
        {
          "current_epoch": 4,
          "shards": [
            {
              "primary": {
                "id": "id-1",
                "address": "10.0.0.1:6379",
                "hostname": null,
                "failing": "no",
                "server": {
                  "version": "Valkey 8.1.8",
                  "loading": false,
                  "keys": 1200,
                  "used_memory_bytes": 2000000,
                  "dataset_bytes": 1500000,
                  "max_memory_bytes": null
                }
              },
              "replicas": [],
              "slots": {
                "ranges": "0-8191",
                "count": 8192
              },
              "standing": "sound"
            },
            {
              "primary": {
                "id": "id-2",
                "address": "10.0.0.2:6379",
                "hostname": null,
                "failing": "no",
                "server": {
                  "version": "Valkey 8.1.8",
                  "loading": false,
                  "keys": 1200,
                  "used_memory_bytes": 2000000,
                  "dataset_bytes": 1500000,
                  "max_memory_bytes": 4000000
                }
              },
              "replicas": [
                {
                  "id": "id-4",
                  "address": "10.0.0.4:6379",
                  "hostname": null,
                  "failing": "no",
                  "server": null
                }
              ],
              "slots": {
                "ranges": "8192-16383",
                "count": 8192
              },
              "standing": "sound"
            },
            {
              "primary": {
                "id": "id-3",
                "address": "10.0.0.3:6379",
                "hostname": null,
                "failing": "no",
                "server": {
                  "version": "Valkey 8.1.8",
                  "loading": false,
                  "keys": 1200,
                  "used_memory_bytes": 2000000,
                  "dataset_bytes": 1500000,
                  "max_memory_bytes": 4000000
                }
              },
              "replicas": [],
              "slots": {
                "ranges": "",
                "count": 0
              },
              "standing": "sound"
            }
          ],
          "open_slots": [
            {
              "slot": 866,
              "owner": "id-1",
              "migrating": [
                {
                  "at": "id-1",
                  "other": "id-3"
                }
              ],
              "importing": [
                {
                  "at": "id-3",
                  "other": "id-1"
                }
              ],
              "text": "slot 866 is open and belongs to 00000001; 00000001 is giving it to 00000003; 00000003 is taking it from 00000001"
            }
          ],
          "unclear": [],
          "findings": []
        }"#]],
    );
}

#[test]
fn a_plan_that_moves() {
    let status = working(now());
    check(
        &plan_document(status.plan.as_ref().unwrap()),
        expect![[r#"
            {
              "verdict": {
                "name": "moves",
                "text": [
                  "10.0.0.3:6379 (00000003) holds nothing and should hold 5461 slots",
                  "10.0.0.2:6379 (00000002), 2731 slots over its target of 5461 (50.01 %); a plan starts at more than 2 % and at least 2 slots"
                ],
                "threshold": {
                  "percent": 2.0,
                  "slots": 2
                }
              },
              "hash": "d1882a8068c2",
              "slots_to_move": 5461,
              "under_way": {
                "ranges": "",
                "count": 0
              },
              "moves": [
                {
                  "source": "id-1",
                  "target": "id-3",
                  "slots": {
                    "ranges": "5462-8191",
                    "count": 2730
                  },
                  "why": "level"
                },
                {
                  "source": "id-2",
                  "target": "id-3",
                  "slots": {
                    "ranges": "8192-10922",
                    "count": 2731
                  },
                  "why": "level"
                }
              ],
              "nodes": [
                {
                  "node": "id-1",
                  "address": "10.0.0.1:6379",
                  "now": 8192,
                  "target": 5462,
                  "difference": -2730,
                  "after": 5462,
                  "pinned": 0,
                  "part": "shares",
                  "weight": 1.0,
                  "emptied": false
                },
                {
                  "node": "id-2",
                  "address": "10.0.0.2:6379",
                  "now": 8192,
                  "target": 5461,
                  "difference": -2731,
                  "after": 5461,
                  "pinned": 0,
                  "part": "shares",
                  "weight": 1.0,
                  "emptied": false
                },
                {
                  "node": "id-3",
                  "address": "10.0.0.3:6379",
                  "now": 0,
                  "target": 5461,
                  "difference": 5461,
                  "after": 5461,
                  "pinned": 0,
                  "part": "shares",
                  "weight": 1.0,
                  "emptied": false
                }
              ],
              "unassigned": {
                "ranges": "",
                "count": 0
              },
              "ranges_now": 2,
              "ranges_after": 3
            }"#]],
    );
}

#[test]
fn a_plan_that_moves_nothing_tells_how_far_off_would_be_too_far() {
    let shard = |n: u32, slots: &str| ShardInput {
        primary: id(n),
        members: vec![Member { id: id(n), address: format!("10.0.0.{n}:6379").parse().unwrap(), hostname: None }],
        slots: slots.parse().unwrap(),
    };
    let shards = [shard(1, "0-8200"), shard(2, "8201-16383")];
    let verdict = |document: PlanDocument| document.verdict;
    check(
        &verdict(plan_document(&crate::plan::plan(&shards, &Policy::default()).unwrap())),
        expect![[r#"
        {
          "name": "balanced",
          "text": [
            "nothing to move: the node furthest off is 10.0.0.1:6379 (00000001), 9 slots over its target of 8192 (0.11 %); a plan starts at more than 2 % and at least 2 slots"
          ],
          "threshold": {
            "percent": 2.0,
            "slots": 2
          }
        }"#]],
    );
    let asked = |slots: &str, to: NodeId| crate::plan::explicit(&shards, &slots.parse().unwrap(), to).unwrap();
    check(
        &verdict(plan_document(&asked("0-9", id(1)))),
        expect![[r#"
        {
          "name": "already_there",
          "text": [
            "nothing to move: the slots asked for are already there, or nobody owns them"
          ],
          "threshold": null
        }"#]],
    );
    check(
        &verdict(plan_document(&asked("0-9", id(2)))),
        expect![[r#"
        {
          "name": "asked",
          "text": [
            "these slots were asked for, whatever the targets say"
          ],
          "threshold": null
        }"#]],
    );
}
