//! What is asked of the servers before the first move: who else acts, what we may do, and whether our time-outs fit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tracing::warn;

use super::canary::ClientCount;
use super::{Reason, SettingsByNode, permissions};
use crate::cluster::{Address, NodeId, NodeSettings, Topology};
use crate::config::Config;
use crate::redis::{CallError, Conn, Dialer, Wanted, missing_permissions};

/// Primaries that are asked side by side.
const SIDE_BY_SIDE: usize = 32;
/// How long one may take to say who is connected to it.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// How the names of connections of an evenkeel that acts begin; its instance follows.
pub(super) const ACTING: &str = "evenkeel:acting:";

/// What the checks brought.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What forbids moves.
    pub(super) reasons: Vec<Reason>,
    /// What the servers are configured to do.
    pub(super) settings: SettingsByNode,
    /// What they had done for clients.
    pub(super) counts: BTreeMap<NodeId, ClientCount>,
}

/// Asks every primary, and every replica what our user may do there.
pub(super) async fn check(dialer: Dialer, topology: Arc<Topology>, config: Arc<Config>) -> Found {
    let asks = usable(&topology).into_iter().map(|(node, address, hostname)| {
        let (dialer, config) = (&dialer, &config);
        async move {
            let conn = match dialer.open(&address, hostname.as_deref(), node).await {
                Ok(conn) => conn,
                Err(error) => return Err(error.to_string()),
            };
            let checked = check_node(&conn, dialer, config).await.map_err(|error| error.to_string())?;
            Ok((node, checked, ClientCount::read(&conn).await))
        }
    });
    let answers = stream::iter(asks).buffer_unordered(SIDE_BY_SIDE).collect();
    let replicas = permissions::at_replicas(&dialer, &topology, &config);
    let (answers, at_replicas): (Vec<Result<_, String>>, _) = tokio::join!(answers, replicas);
    let mut found = Found { reasons: at_replicas, ..Found::default() };
    for answer in answers {
        let reasons = match answer {
            Ok((node, (reasons, settings), count)) => {
                found.settings.insert(node, settings);
                found.counts.extend(count.map(|count| (node, count)));
                reasons
            }
            Err(why) => vec![Reason::ChecksFailed { why }],
        };
        for reason in reasons {
            // The same other instance is connected to every node.
            if !found.reasons.iter().any(|known| same(known, &reason)) {
                found.reasons.push(reason);
            }
        }
    }
    found.reasons = permissions::together(found.reasons);
    found
}

/// Another acting evenkeel that has the right of way, and from where it is connected, but for `gone`, whose connections only
/// a server believes in that has not noticed its end. Primaries that cannot be asked within a second are passed over.
pub(super) async fn older(dialer: &Dialer, topology: &Topology, gone: Option<&str>) -> Option<(String, String)> {
    let asks = usable(topology).into_iter().map(|(node, address, hostname)| async move {
        let names = async {
            let conn = dialer.open(&address, hostname.as_deref(), node).await.ok()?;
            conn.client_names().await.ok()
        };
        let names = tokio::time::timeout(ASK_WITHIN, names).await.ok().flatten()?;
        let is_gone = |name: &str| gone.is_some_and(|gone| name.strip_prefix(ACTING) == Some(gone));
        names.into_iter().find(|(name, _)| goes_first(name, dialer.name()) && !is_gone(name))
    });
    let mut answers = stream::iter(asks).buffer_unordered(SIDE_BY_SIDE);
    while let Some(answer) = answers.next().await {
        if answer.is_some() {
            return answer;
        }
    }
    None
}

/// The primaries that answer and may be moved to and from, with how they are dialled.
fn usable(topology: &Topology) -> Vec<(NodeId, Address, Option<String>)> {
    let usable = topology.shards.values().filter(|shard| shard.usable()).map(|shard| &shard.primary);
    usable.filter_map(|primary| Some((primary.id, primary.address.clone()?, primary.hostname.clone()))).collect()
}

/// What one node says.
pub(super) async fn check_node(
    conn: &Conn,
    dialer: &Dialer,
    config: &Config,
) -> Result<(Vec<Reason>, NodeSettings), CallError> {
    let missing = missing_permissions(conn, Wanted::by(config)).await?;
    if !missing.is_empty() {
        return Ok((vec![permissions::lacking(conn, config, missing)], NodeSettings::default()));
    }
    let mut reasons = Vec::new();
    let ours = dialer.name();
    let others = conn.client_names().await?;
    let others = others.into_iter().filter(|(name, _)| goes_first(name, ours));
    if config.lease.is_configured() {
        // The lease says who acts. A holder that froze keeps its connections, and must not keep its successor from work.
        others.for_each(|(name, from)| warn!(name, from, "another evenkeel is connected; the lease is ours"));
    } else {
        reasons.extend(others.map(|(name, from)| Reason::OtherInstance { name, from }));
    }
    let settings = conn.settings().await?;
    let migrate_timeout = config.migration.migrate_timeout;
    if let Some(node_timeout) = settings.node_timeout
        && migrate_timeout * 2 >= node_timeout
    {
        reasons.push(Reason::TimeoutTooLong { node: conn.node(), migrate_timeout, node_timeout });
    }
    Ok((reasons, settings))
}

/// Whether a connection of this name belongs to another acting evenkeel that has the right of way.
///
/// The name ends with the instance, which begins with the time at which it was started: the older one goes on, so that
/// of two that see each other exactly one waits. See [`crate::app`] for how instances are named.
fn goes_first(name: &str, ours: &str) -> bool {
    let instance = |name: &str| name.strip_prefix(ACTING).map(started);
    match (instance(name), ours.strip_prefix(ACTING).map(started)) {
        (Some(theirs), Some(own)) => theirs < own,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// An instance's time of start and the rest of its name, in the order in which instances go first.
fn started(instance: &str) -> (u64, String) {
    let time = instance.split('-').next().and_then(|time| time.parse().ok()).unwrap_or(0);
    (time, instance.to_owned())
}

fn same(a: &Reason, b: &Reason) -> bool {
    match (a, b) {
        (Reason::OtherInstance { name: a, .. }, Reason::OtherInstance { name: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::goes_first;

    #[test]
    fn of_two_acting_instances_the_older_goes_first() {
        let check =
            |name: &str, expect: bool| assert_eq!(goes_first(name, "evenkeel:acting:200-b-7"), expect, "{name}");
        check("evenkeel:acting:100-a-9", true);
        check("evenkeel:acting:200-a-9", true);
        check("evenkeel:acting:200-b-7", false);
        check("evenkeel:acting:1000-a-1", false);
        check("evenkeel:observing:100-a-9", false);
        check("", false);
        check("app", false);
    }
}
