//! Replicas for whose sake a shard takes no part.

use crate::cluster::{Finding, Observation, PrimaryLink, Shard, Topology};

/// A replica that sees its shard's slots differently would, if promoted, take the shard back to that view.
pub(super) fn stale_replica(topology: &Topology, shard: &Shard) -> Option<String> {
    topology.findings.iter().find_map(|finding| match finding {
        Finding::ReplicaViewStale { replica, .. } if shard.replicas.iter().any(|member| member.id == *replica) => {
            Some(finding.to_string())
        }
        Finding::ReplicaViewStale { .. }
        | Finding::OpenSlot(_)
        | Finding::EmptyPrimarySilent { .. }
        | Finding::EmptyPrimaryNotServing { .. }
        | Finding::EmptyPrimaryFailing { .. }
        | Finding::NodeAlone { .. }
        | Finding::ReplicaSilent { .. }
        | Finding::ReplicaFailing { .. }
        | Finding::ReplicaUnlinked { .. }
        | Finding::Handshake { .. }
        | Finding::UnknownNode { .. }
        | Finding::LinkDown { .. }
        | Finding::ReplicaMarkStale { .. }
        | Finding::ServerSideJob(_)
        | Finding::SaveFailed { .. } => None,
    })
}

/// Why what a shard takes in would be nowhere else: its replicas have lost it. Those that do not answer, or read the whole data
/// set just now, do not count.
pub(in crate::daemon) fn unreplicated(observation: &Observation, shard: &Shard) -> Option<String> {
    let links = shard.replicas.iter().filter_map(|replica| observation.nodes.get(&replica.id)?.info.primary_link);
    let links: Vec<PrimaryLink> = links.collect();
    let all_down = !links.is_empty() && links.iter().all(|link| *link == PrimaryLink::Down);
    all_down.then(|| "none of its replicas has a connection to it: what it takes in would be nowhere else".to_owned())
}
