//! A glance at a cluster at rest: whether everything is as it was in the last look.
//!
//! Every primary is asked for `CLUSTER INFO`, and a tenth of the nodes, in turn, for all that a look asks. The former shows
//! another epoch, another number of nodes or of slots, and nodes that failed; each view of the tenth shows every owner, and
//! the tenth's own marks, which nobody else can see. Nothing is decided by a glance: at the first difference, and at
//! whatever goes wrong, there is none, and the cluster is read in full.

use std::collections::BTreeMap;
use std::ops::Bound;

use futures::StreamExt;
use futures::stream;
use tokio::time::Instant;
use tracing::debug;

use super::{Look, Poller, SIDE_BY_SIDE, primaries, read_node, side_by_side};
use crate::cluster::{NodeId, NodeInfo, Observed};
use crate::daemon::Patience;
use crate::redis::Conn;

/// So many glances show all that a look shows.
const PARTS: usize = 10;

/// That nothing has changed since the last look.
#[derive(Debug)]
pub struct Glance {
    /// Looks and glances since the start, this one included.
    pub number: u64,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What changes without being a change, as of now: memory, keys and replication of the nodes that were read in full.
    pub infos: BTreeMap<NodeId, NodeInfo>,
}

/// A node's `CLUSTER INFO`, but for the counters that go up all the time.
///
/// What a later version adds counts: better a look too many than a change that is not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signs(String);

impl Signs {
    pub(super) fn of(cluster_info: &str) -> Self {
        const COUNTERS: [&str; 2] = ["cluster_stats_", "total_cluster_links_"];
        let lines = cluster_info.lines().map(str::trim);
        let lines = lines.filter(|line| !COUNTERS.iter().any(|counter| line.starts_with(counter)));
        Self(lines.collect::<Vec<_>>().join("\n"))
    }
}

impl Poller {
    /// Whether the cluster is as it was in a look, the last one of this poller; `None` when it is not, or cannot be told.
    pub async fn glance(&mut self, last: &Look) -> Option<Glance> {
        let began = Instant::now();
        if let Err(why) = self.is_as_dialled(last) {
            debug!(why, "the cluster is read in full");
            return None;
        }
        let mut changed = self.signs_changed(last).await;
        let mut infos = BTreeMap::new();
        if changed.is_none() {
            match self.read_part(last).await {
                Ok(read) => infos = read,
                Err(why) => changed = Some(why),
            }
        }
        if let Some((node, why)) = changed {
            debug!(%node, why, "the cluster is read in full");
            return None;
        }
        self.number += 1;
        Some(Glance { number: self.number, began, ended: Instant::now(), infos })
    }

    /// Whether there is a live connection to every node of the look, and to no other.
    fn is_as_dialled(&self, last: &Look) -> Result<(), &'static str> {
        match () {
            () if self.renew || !self.refused.is_empty() => Err("connections are to be made anew"),
            () if !self.seeds_tried => Err("the seeds are to be dialled"),
            () if !self.unreachable.is_empty() => Err("a node does not answer"),
            () if !self.conns.keys().eq(last.observation.nodes.keys()) => {
                Err("connections are not those of the last look")
            }
            () if self.conns.values().any(Conn::is_dead) => Err("a connection has ended"),
            () => Ok(()),
        }
    }

    /// A primary whose `CLUSTER INFO` is not what it was.
    async fn signs_changed(&self, last: &Look) -> Option<(NodeId, String)> {
        let ask = |conn| async move { (Conn::node(conn), conn.cluster_info().await) };
        let asks: Vec<_> = primaries(&self.conns, &last.observation).into_iter().map(ask).collect();
        let answers = side_by_side(asks).await;
        answers.into_iter().find_map(|(node, answer)| match answer {
            Ok(text) if self.signs.get(&node) == Some(&Signs::of(&text)) => None,
            Ok(_) => Some((node, "its CLUSTER INFO has changed".to_owned())),
            Err(error) => Some((node, error.to_string())),
        })
    }

    /// Reads the next part of the nodes in full; their `INFO`, or the node that has changed.
    async fn read_part(&mut self, last: &Look) -> Result<BTreeMap<NodeId, NodeInfo>, (NodeId, String)> {
        let part = next_part(&last.observation.nodes, self.glanced);
        self.glanced = part.last().copied();
        let mut infos = BTreeMap::new();
        let mut changed = None;
        let Self { conns, known, .. } = self;
        let readings: Vec<_> =
            part.iter().filter_map(|node| conns.get(node)).map(|conn| read_node(conn, Patience::Usual)).collect();
        let mut readings = stream::iter(readings).buffer_unordered(SIDE_BY_SIDE);
        // To the end, whatever they bring: no reply is left on its way.
        while let Some((node, address, said)) = readings.next().await {
            let before = last.observation.nodes.get(&node);
            match said.and_then(|said| said.parse(address, known)) {
                Ok((now, _)) if before.is_some_and(|before| is_unchanged(before, &now)) => {
                    infos.insert(node, now.info);
                }
                Ok(_) => changed = Some((node, "its view or its INFO has changed".to_owned())),
                Err(why) => changed = Some((node, why)),
            }
        }
        drop(readings);
        let asked = primaries(&self.conns, &last.observation).into_iter().filter(|conn| part.contains(&conn.node()));
        let jobs = self.jobs.read(asked.collect()).await;
        let job = jobs.into_iter().find(|(node, jobs)| last.observation.jobs.get(node) != Some(jobs));
        match changed.or(job.map(|(node, _)| (node, "the migrations that it carries out have changed".to_owned()))) {
            Some(changed) => Err(changed),
            None => Ok(infos),
        }
    }
}

/// The tenth of the nodes that follows this one, at least one; after the last comes the first again.
fn next_part(nodes: &BTreeMap<NodeId, Observed>, after: Option<NodeId>) -> Vec<NodeId> {
    let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
    let end = after.map_or(Bound::Unbounded, Bound::Included);
    let rest = nodes.range((begin, Bound::Unbounded));
    let again = nodes.range((Bound::Unbounded, end)).filter(|_| after.is_some());
    rest.chain(again).map(|(&node, _)| node).take(nodes.len().div_ceil(PARTS)).collect()
}

/// Whether a node says the same of the cluster and of itself, but for what changes with every key.
fn is_unchanged(before: &Observed, now: &Observed) -> bool {
    let mut info = now.info.clone();
    let known = &before.info;
    (info.memory.used, info.dataset_bytes) = (known.memory.used, known.dataset_bytes);
    info.keys.clone_from(&known.keys);
    info.replication.offset = known.replication.offset;
    for (replica, before) in info.replication.replicas.iter_mut().zip(&known.replication.replicas) {
        (replica.offset, replica.lag_s) = (before.offset, before.lag_s);
    }
    before.dialled == now.dialled && before.view == now.view && info == *known
}

#[cfg(test)]
mod tests;
