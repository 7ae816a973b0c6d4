//! evenkeel as it is meant to be run: a daemon that has watched the cluster for a while, and is told of other targets.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::network::Network;
use super::support::{Cluster, Daemon, Evenkeel, Node};

/// How long it may take to come to rest.
const LIMIT: Duration = Duration::from_mins(15);
/// Between two questions whether it has.
const BETWEEN: Duration = Duration::from_millis(10);

/// Levels the cluster, the node of this weight by it; until then the primaries without slots are to be left as they are.
/// Says how long it took, from the order to read the new file to the answer that nothing is left to do.
///
/// Panics when it does not come to rest.
pub(crate) fn level(cluster: &Cluster, network: &Network, weight: Option<(Node, f64)>) -> Duration {
    let file = |nodes: &str| format!("[cluster]\nseeds = [\"{}\"]\n{nodes}", network.seed());
    let target = |node, what: &str| format!("[[targets.nodes]]\nnode = \"{}\"\n{what}\n", cluster.node_id(node));
    let ignored: String = cluster.empty_primaries().iter().map(|&node| target(node, "ignore = true")).collect();
    let weighed = weight.map(|(node, weight)| target(node, &format!("weight = {weight:?}")));
    let mut daemon = Evenkeel::new(&["run"]).config(&file(&ignored)).spawn();
    // As many looks as make a cluster a settled one, and one more.
    await_rest(&daemon, |status| status["look"]["number"].as_u64() > Some(2));
    daemon.rewrite_config(&file(&weighed.unwrap_or_default()));
    let began = Instant::now();
    daemon.sighup();
    await_rest(&daemon, |status| status["config"]["generation"].as_u64() > Some(0));
    let took = began.elapsed();
    daemon.sigterm();
    daemon.wait(LIMIT);
    took
}

/// Until nothing runs, nothing forbids anything, nothing is planned, and this is so.
fn await_rest(daemon: &Daemon, is_so: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let status: Value = answer(daemon, "/api/v1/status").unwrap_or_default();
        let quiet = status["reasons"] == json!([]) && status["moves"] == json!([]);
        if quiet && status["work"]["active"] == false && is_so(&status) {
            let plan = answer(daemon, "/api/v1/plan").unwrap_or_default();
            if plan["slots_to_move"] == 0 {
                return;
            }
        }
        assert!(began.elapsed() < LIMIT, "no rest within {LIMIT:?}: {status}");
        thread::sleep(BETWEEN);
    }
}

/// `None` where it has no such document yet.
fn answer(daemon: &Daemon, path: &str) -> Option<Value> {
    let (_, body) = daemon.try_http_get(path).ok().filter(|&(status, _)| status == 200)?;
    Some(serde_json::from_str(&body).expect("the API speaks JSON"))
}
