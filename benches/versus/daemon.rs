//! evenkeel as it is meant to be run: a daemon that has watched the cluster for a while, and is told of other targets.

use std::time::{Duration, Instant};

use super::network::Network;
use super::support::{Cluster, Evenkeel};

/// How long it may take to come to rest, and to end.
const LIMIT: Duration = Duration::from_mins(15);

/// Levels the cluster, of which the primaries without slots were to be left as they are until then. Says how long it took, from
/// the order to read the new file to the answer that nothing is left to do. Asked every 20 ms, it may have said so that much sooner.
///
/// Panics when it does not come to rest.
pub(crate) fn level(cluster: &Cluster, network: &Network) -> Duration {
    let file = |nodes: &str| format!("[cluster]\nseeds = [\"{}\"]\n{nodes}", network.seed());
    let ignored = |node| format!("[[targets.nodes]]\nnode = \"{}\"\nignore = true\n", cluster.node_id(node));
    let ignored: String = cluster.empty_primaries().into_iter().map(ignored).collect();
    let mut daemon = Evenkeel::new(&["run"]).config(&file(&ignored)).spawn();
    // As many looks as make a cluster a settled one, and one more.
    daemon.await_rest(LIMIT, |status| status["look"]["number"].as_u64() > Some(2));
    daemon.rewrite_config(&file(""));
    let began = Instant::now();
    daemon.sighup();
    daemon.await_rest(LIMIT, |status| status["config"]["generation"].as_u64() > Some(0));
    let took = began.elapsed();
    daemon.sigterm();
    daemon.wait(LIMIT);
    took
}
