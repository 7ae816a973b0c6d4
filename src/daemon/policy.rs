//! From the configuration's targets to the planner's policy.

use crate::config::Targets;
use crate::plan::{NodeName, NodeTarget, Policy};

/// The policy that these targets ask for.
#[must_use]
pub fn policy(targets: &Targets) -> Policy {
    let nodes = targets.nodes.iter().map(|entry| NodeTarget {
        node: node_name(&entry.node),
        weight: entry.weight,
        drain: entry.drain,
        ignore: entry.ignore,
        min_slots: entry.min_slots,
        max_slots: entry.max_slots,
        slots: entry.slots.clone(),
    });
    Policy {
        threshold_percent: targets.threshold_percent,
        threshold_slots: targets.threshold_slots,
        default_weight: targets.default_weight,
        nodes: nodes.collect(),
    }
}

/// The node that an operator means. What reads as no other name may still be somebody's hostname; if it is not, the
/// plan says so.
#[must_use]
pub fn node_name(text: &str) -> NodeName {
    text.parse().unwrap_or_else(|_| NodeName::Hostname(text.to_owned()))
}
