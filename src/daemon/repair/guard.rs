//! What must hold before a repair touches anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Reason, checks, permissions};
use super::{Case, Diagnosis, Doctor, RepairError, adds_slots};
use crate::cluster::{NodeId, Observation, Observed, Role, Slot, Unclear};
use crate::config::Config;
use crate::migration::{Order, Verdict};
use crate::redis::{CallError, Conn, missing_for_repair, missing_permissions_while_down};

/// `cluster-node-timeout` where no server tells: the servers' default.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);

/// Fails when nothing at all can be said of the cluster.
pub(super) fn can_be_judged(diagnosis: &Diagnosis) -> Result<(), RepairError> {
    let hopeless =
        |unclear: &&Unclear| matches!(unclear, Unclear::NoPrimaryAnswered { .. } | Unclear::TwoClusters { .. });
    match diagnosis.topology.unclear.iter().find(hopeless) {
        Some(unclear) => Err(RepairError::Unclear(unclear.clone())),
        None => Ok(()),
    }
}

/// Why the cluster is not at rest, apart from its slots: what is told now might mean something else in a moment.
pub(super) fn unsteady(diagnosis: &Diagnosis) -> Option<&Unclear> {
    let answers = |node| diagnosis.look.observation.nodes.contains_key(node);
    diagnosis.topology.unclear.iter().find(|unclear| match unclear {
        Unclear::NodeLoading { .. } | Unclear::EpochsDiffer { .. } => true,
        // One that answers and is thought to have failed is about to be replaced, or cut off.
        Unclear::NodeFailing { node, .. } => answers(node) && diagnosis.topology.shards.contains_key(node),
        Unclear::NoPrimaryAnswered { .. }
        | Unclear::TwoClusters { .. }
        | Unclear::NodeSilent { .. }
        | Unclear::ClusterDown { .. }
        | Unclear::RoleUnsure { .. }
        | Unclear::SlotsUncovered { .. }
        | Unclear::OwnerDoesNotClaim { .. }
        | Unclear::ViewsDisagree { .. } => false,
    })
}

/// A primary whose config epoch is unknown to a node that one of these orders has claim a slot, or another primary's too.
///
/// A claim gets an epoch above all that its node has heard of: one that is below what others take for the owner's is
/// corrected, and the keys of the slot are deleted where it was made.
pub(super) fn unsettled_epoch(observation: &Observation, orders: &[Order]) -> Option<NodeId> {
    let claims = orders.iter().filter(|order| order.claims());
    let claimers: Vec<&Observed> = claims.filter_map(|order| observation.nodes.get(&order.at())).collect();
    if claimers.is_empty() {
        return None;
    }
    let primaries = observation.nodes.values().map(|node| node.view.myself()).filter(|own| own.role == Role::Primary);
    let own: BTreeMap<NodeId, u64> = primaries.map(|own| (own.id, own.config_epoch)).collect();
    let is_shared = |epoch: u64| epoch > 0 && own.values().filter(|other| **other == epoch).count() > 1;
    let is_unheard = |node: NodeId, epoch: u64| {
        claimers.iter().any(|claimer| claimer.view.line(node).is_some_and(|line| line.config_epoch != epoch))
    };
    own.iter().find(|&(&node, &epoch)| is_shared(epoch) || is_unheard(node, epoch)).map(|(&node, _)| node)
}

/// Fails when something forbids acting: the cluster is not at rest, another evenkeel acts, or we lack a permission.
pub(super) async fn may_act(
    doctor: &Doctor,
    diagnosis: &Diagnosis,
    cases: &BTreeMap<Slot, Case>,
    config: &Config,
) -> Result<(), RepairError> {
    if let Some(unclear) = unsteady(diagnosis) {
        return Err(RepairError::Unclear(unclear.clone()));
    }
    let failed = |why: String| RepairError::Refused(Reason::ChecksFailed { why });
    if let Some((node, why)) = diagnosis.topology.jobs_unread.first_key_value() {
        return Err(failed(format!("whether {} moves slots by itself is not known: {why}", node.short())));
    }
    let (mut add_slots, mut delete) = (false, false);
    for case in cases.values() {
        add_slots |= adds_slots(&case.verdict);
        delete |= matches!(case.verdict, Verdict::Gather { .. });
    }
    for node in diagnosis.topology.shards.keys() {
        let Some(observed) = diagnosis.look.observation.nodes.get(node) else { continue };
        let conn = doctor.open(&diagnosis.look.observation, *node).await.map_err(|error| failed(error.to_string()))?;
        let serves = observed.info.cluster_ok;
        let found = check_node(&conn, doctor, config, serves, (add_slots, delete && serves)).await;
        match found.map_err(|error| failed(error.to_string()))? {
            None => {}
            Some(Reason::OtherInstance { name, from }) => return Err(RepairError::OtherActs { name, from }),
            Some(reason) => return Err(RepairError::Refused(reason)),
        }
    }
    Ok(())
}

/// The first thing that forbids acting at this node; what concerns keys is asked only where it serves them.
async fn check_node(
    conn: &Conn,
    doctor: &Doctor,
    config: &Config,
    serves: bool,
    (add_slots, delete): (bool, bool),
) -> Result<Option<Reason>, CallError> {
    if serves {
        let (reasons, _) = checks::check_node(conn, doctor.dialer(), config).await?;
        if let Some(reason) = reasons.into_iter().next() {
            return Ok(Some(reason));
        }
    } else {
        let rules = missing_permissions_while_down(conn).await?;
        if !rules.is_empty() {
            return Ok(Some(permissions::lacking(conn, config, rules)));
        }
    }
    // A daemon that was started later would give way at its next check only: it must not be there at all.
    let ours = doctor.dialer().name();
    let other = |(name, _): &(String, String)| name.starts_with(checks::ACTING) && name != ours;
    if let Some((name, from)) = conn.client_names().await?.into_iter().find(other) {
        return Ok(Some(Reason::OtherInstance { name, from }));
    }
    let rules = missing_for_repair(conn, add_slots, delete).await?;
    Ok((!rules.is_empty()).then(|| permissions::lacking(conn, config, rules)))
}

/// The longest `cluster-node-timeout` of the primaries, asked only where it matters.
pub(super) async fn node_timeout(doctor: &Doctor, diagnosis: &Diagnosis) -> Duration {
    if !diagnosis.cases.values().any(|case| case.verdict.row() == Some(18)) {
        return Duration::ZERO;
    }
    let mut longest = None;
    for node in diagnosis.topology.shards.keys().filter(|node| diagnosis.look.observation.nodes.contains_key(node)) {
        let Ok(conn) = doctor.open(&diagnosis.look.observation, *node).await else { continue };
        let Ok(settings) = conn.settings().await else { continue };
        longest = longest.max(settings.node_timeout);
    }
    longest.unwrap_or(NODE_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{id, observation};

    #[track_caller]
    fn check(story: &str, order: Order, expect: Option<&str>) {
        assert_eq!(unsettled_epoch(&observation(story), &[order]), expect.map(id), "{story}");
    }

    #[test]
    fn a_claim_waits_for_epochs_that_its_node_has_not_heard_of() {
        let claim = Order::Node { at: id("b"), owner: id("b") };
        let settled = "a 0-8191 epoch=4\nb 8192-16383 epoch=5\nc epoch=6";
        check(settled, claim, None);
        check(&format!("{settled}\nb says a 0-8191 epoch=3"), claim, Some("a"));
        check(&format!("{settled}\nc says a 0-8191 epoch=3"), claim, None);
        check("a 0-8191 epoch=5\nb 8192-16383 epoch=5\nc epoch=6", claim, Some("a"));
        // Who is told of another node's claim makes none.
        let told = Order::Node { at: id("b"), owner: id("a") };
        check(&format!("{settled}\nb says a 0-8191 epoch=3"), told, None);
    }
}
