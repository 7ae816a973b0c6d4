//! What our user lacks, asked of all nodes at once and told as few lines to type.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use tracing::warn;

use super::Reason;
use crate::cluster::{Address, NodeId, Topology};
use crate::config::Config;
use crate::redis::{Conn, Dialer, Wanted, missing_permissions};

/// Replicas that are asked side by side.
const SIDE_BY_SIDE: usize = 32;

/// What our user lacks at replicas: each may be a primary in a minute, and then has to finish what is open.
///
/// One that does not answer is left out: a dead replica stops nothing.
pub(super) async fn at_replicas(dialer: &Dialer, topology: &Topology, config: &Config) -> Vec<Reason> {
    let replicas = topology.shards.values().flat_map(|shard| &shard.replicas);
    let replicas: Vec<(NodeId, Address, Option<String>)> =
        replicas.filter_map(|replica| Some((replica.id, replica.address.clone()?, replica.hostname.clone()))).collect();
    let asks = replicas.into_iter().map(|(node, address, hostname)| async move {
        let conn = dialer.open(&address, hostname.as_deref(), node).await.map_err(|error| error.to_string())?;
        let missing = missing_permissions(&conn, Wanted::by(config)).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((!missing.is_empty()).then(|| lacking(&conn, config, missing)))
    });
    let answers: Vec<Result<Option<Reason>, String>> =
        stream::iter(asks).buffer_unordered(SIDE_BY_SIDE).collect().await;
    let told = |answer: Result<Option<Reason>, String>| {
        answer.unwrap_or_else(|why| {
            warn!(why, "a replica was not asked for permissions");
            None
        })
    };
    answers.into_iter().filter_map(told).collect()
}

/// The reason that one node gives.
pub(super) fn lacking(conn: &Conn, config: &Config, rules: Vec<&'static str>) -> Reason {
    let user = config.cluster.username.clone().unwrap_or_else(|| "default".to_owned());
    Reason::PermissionMissing { nodes: vec![(conn.node(), conn.address().clone())], user, rules }
}

/// One reason for all nodes at which the same is missing; other reasons stay as they are, before them.
pub(super) fn together(reasons: Vec<Reason>) -> Vec<Reason> {
    type Nodes = Vec<(NodeId, Address)>;
    let mut others = Vec::new();
    let mut lacking: BTreeMap<(String, Vec<&'static str>), Nodes> = BTreeMap::new();
    for reason in reasons {
        if let Reason::PermissionMissing { nodes, user, rules } = reason {
            lacking.entry((user, rules)).or_default().extend(nodes);
        } else {
            others.push(reason);
        }
    }
    others.extend(lacking.into_iter().map(|((user, rules), mut nodes)| {
        nodes.sort();
        Reason::PermissionMissing { nodes, user, rules }
    }));
    others
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::id;

    #[test]
    fn nodes_that_lack_the_same_share_a_line_to_type() {
        let lacks = |node: &str, rules: &[&'static str]| Reason::PermissionMissing {
            nodes: vec![(id(node), Address::new(format!("{node}.example"), 6379))],
            user: "mover".to_owned(),
            rules: rules.to_vec(),
        };
        let told = together(vec![
            lacks("c", &["+time", "+eval"]),
            Reason::Observing,
            lacks("b", &["+asking"]),
            lacks("a", &["+time", "+eval"]),
        ]);
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        let expect = [
            Reason::Observing.to_string(),
            "b.example:6379 (bbbbbbbb) does not permit what moving slots needs; run there: ACL SETUSER mover +asking"
                .to_owned(),
            "a.example:6379 (aaaaaaaa), c.example:6379 (cccccccc) do not permit what moving slots needs; run there: \
             ACL SETUSER mover +time +eval"
                .to_owned(),
        ];
        assert_eq!(told, expect);
    }
}
