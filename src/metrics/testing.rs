//! A status of a daemon in mid-work, and one of a daemon that has just begun, for the tests of whoever shows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::clock::Now;
use crate::cluster::{NodeId, NodeInfo, NodeView, Observation, Observed, Slot, SlotSet, Topology};
use crate::config::Mode;
use crate::daemon::{MoveStatus, PaceStatus, Reason, SetAside, Status, Tenure, View, Work};
use crate::journal::{History, Moved};
use crate::migration::{Pair, Purpose};
use crate::plan::{Member, Plan, Policy, ShardInput};
use crate::throttle::Limit;

/// The id of node `n`: its number in hexadecimal, first.
pub(crate) fn id(n: u32) -> NodeId {
    format!("{n:08x}{:032}", 0).parse().unwrap()
}

/// A present whose calendar does not depend on when the test runs.
pub(crate) fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_hours(500_000) }
}

fn ago(now: Now, ms: u64) -> Instant {
    now.instant.checked_sub(Duration::from_millis(ms)).unwrap()
}

/// A daemon that has not seen the cluster yet.
pub(crate) fn starting(now: Now) -> Status {
    Status {
        cluster: "cache-eu".to_owned(),
        instance: "host-1:42".to_owned(),
        mode: Mode::Act,
        started: now.wall - Duration::from_millis(3_600_500),
        turned: ago(now, 1_000),
        view: None,
        look_errors: Vec::new(),
        plan: None,
        reasons: vec![Reason::NoView { errors: Vec::new() }],
        moves: Vec::new(),
        latencies: BTreeMap::new(),
        waiting: 0,
        work: Work::default(),
        history: Arc::default(),
        set_aside: BTreeMap::new(),
        paused: None,
        drains: BTreeMap::new(),
        approved: None,
        lease: Tenure::NotNeeded,
        certificates: Vec::new(),
        warnings: Vec::new(),
        config_error: None,
        config_generation: 0,
    }
}

/// A daemon that levels a cluster of three: 1 gives slots 0 to 999 to 3, which is new; 2 has a replica, 4.
pub(crate) fn working(now: Now) -> Status {
    let nodes = [
        (1, "master", "-", "0-8191", " [866->-3]"),
        (2, "master", "-", "8192-16383", ""),
        (3, "master", "-", "", " [866-<-1]"),
        (4, "slave", "2", "", ""),
    ];
    let observation = observation(&nodes);
    let infos = observation.nodes.iter().map(|(id, node)| (*id, node.info.clone())).collect();
    let topology = Topology::merge(&observation, &"866".parse().unwrap());
    let plan = plan(&topology);
    Status {
        view: Some(View {
            topology: Arc::new(topology),
            infos: Arc::new(infos),
            at: ago(now, 2_000),
            read_at: ago(now, 12_000),
            took: Duration::from_micros(12_345),
            number: 7,
        }),
        plan: Some(Arc::new(plan)),
        reasons: vec![Reason::SetAside {
            slots: "5".parse().unwrap(),
            why: "it would not".to_owned(),
            given_up: false,
        }],
        moves: vec![MoveStatus {
            pair: Pair { source: id(1), target: id(3) },
            purpose: Purpose::Move,
            slots: "0-4,6-999".parse().unwrap(),
            slots_moved: 250,
            keys_moved: 3_000,
            bytes_estimated: Some(1_500_000),
            pace: PaceStatus {
                batch_keys: 40,
                block: Some(Duration::from_micros(1_500)),
                rest: Duration::ZERO,
                limit: Limit::Block,
            },
            since: ago(now, 12_500),
            waits_for: "the finalise of another move".to_owned(),
        }],
        latencies: BTreeMap::from([(id(1), Duration::from_micros(2_500)), (id(3), Duration::from_micros(700))]),
        waiting: 2,
        work: Work {
            slots_planned: 1_000,
            slots_moved: 250,
            keys_planned: Some(12_000),
            keys_moved: 3_000,
            bytes_estimated: 1_500_000,
            elapsed: Duration::from_millis(12_500),
            active: true,
        },
        history: Arc::new(History::from_iter([
            moved(now, 7_200, "0-99", "drain", "done"),
            moved(now, 60, "100", "resume", "left: the target is full"),
        ])),
        set_aside: BTreeMap::from([(
            Slot::new(5).unwrap(),
            SetAside {
                attempts: 3,
                trouble: "refused",
                why: "it would not".to_owned(),
                delay: Duration::from_secs(40),
                next_try: Some(now.instant + Duration::from_secs(30)),
            },
        )]),
        warnings: vec!["the token file /run/token is empty".to_owned()],
        config_error: Some("line 3: cluster.sseds is not a key".to_owned()),
        config_generation: 2,
        ..starting(now)
    }
}

/// A move of 2 to 3 that ended so many seconds ago.
fn moved(now: Now, ago_s: u64, slots: &str, why: &str, outcome: &str) -> Moved {
    Moved {
        slots: slots.parse().unwrap(),
        source: id(2),
        target: id(3),
        why: why.to_owned(),
        keys: 1_234,
        bytes_estimated: Some(123_400),
        took: Duration::from_millis(1_500),
        outcome: outcome.to_owned(),
        at: now.wall - Duration::from_secs(ago_s),
    }
}

/// What these nodes say: number, role, number of the primary, slots, and the marks on the node's own line.
fn observation(nodes: &[(u32, &str, &str, &str, &str)]) -> Observation {
    let full_id = |n: &str| n.parse().map_or_else(|_| "-".to_owned(), |n| id(n).to_string());
    let observed = |speaker: u32| {
        let line = |&(n, role, primary, slots, marks): &(u32, &str, &str, &str, &str)| {
            let (flags, marks) = if n == speaker { (format!("myself,{role}"), marks) } else { (role.to_owned(), "") };
            let marks = marks.replace("-3]", &format!("-{}]", id(3))).replace("-1]", &format!("-{}]", id(1)));
            let primary = full_id(primary);
            format!("{} 10.0.0.{n}:6379@16379 {flags} {primary} 0 0 {n} connected {slots}{marks}\n", id(n))
        };
        let info = format!(
            "run_id:{speaker}\nredis_version:7.2.4\nvalkey_version:8.1.8\nrole:{}\nused_memory:2000000\n\
             used_memory_dataset:1500000\nmaxmemory:{}\nmaxmemory_policy:noeviction\ndb0:keys=1200,expires=0\n",
            nodes.iter().find(|node| node.0 == speaker).unwrap().1,
            if speaker == 1 { 0 } else { 4_000_000 },
        );
        Observed {
            dialled: format!("10.0.0.{speaker}:6379").parse().unwrap(),
            view: NodeView::parse(&nodes.iter().map(line).collect::<String>()).unwrap(),
            info: NodeInfo::parse(&info, "cluster_state:ok\ncluster_current_epoch:4\n").unwrap(),
        }
    };
    Observation { nodes: nodes.iter().map(|node| (id(node.0), observed(node.0))).collect(), ..Observation::default() }
}

fn plan(topology: &Topology) -> Plan {
    let member = |member: &crate::cluster::Member| Member {
        id: member.id,
        address: member.address.clone().unwrap(),
        hostname: member.hostname.clone(),
    };
    let shards: Vec<ShardInput> = topology
        .shards
        .values()
        .map(|shard| ShardInput {
            primary: shard.primary.id,
            members: std::iter::once(&shard.primary).chain(&shard.replicas).map(member).collect(),
            slots: shard.slots.clone(),
        })
        .collect();
    assert_eq!(shards.iter().map(|shard| shard.slots.len()).sum::<usize>(), SlotSet::full().len());
    crate::plan::plan(&shards, &Policy::default()).unwrap()
}
