//! Whether the two ends of a move fit each other: what is known before a slot is opened. Pure.

use std::collections::BTreeMap;

use super::Reason;
use crate::cluster::{NodeId, NodeInfo, NodeSettings, Observation};
use crate::migration::Pair;
use crate::plan::Plan;

/// What the servers are configured to do, by node; a node that is missing has not been asked.
pub type SettingsByNode = BTreeMap<NodeId, NodeSettings>;

/// The two ends of a move, as last read.
#[derive(Clone, Copy)]
pub(super) struct Fit<'a> {
    pair: Pair,
    source: &'a NodeInfo,
    target: &'a NodeInfo,
    settings: &'a SettingsByNode,
}

impl<'a> Fit<'a> {
    /// `None` where an end has not been read.
    pub(super) fn of(pair: Pair, observation: &'a Observation, settings: &'a SettingsByNode) -> Option<Self> {
        let info = |node| observation.nodes.get(&node).map(|observed| &observed.info);
        Some(Self { pair, source: info(pair.source)?, target: info(pair.target)?, settings })
    }

    /// Why these two cannot give and take, whatever the slots; `None` when nothing is known that speaks against it.
    pub(super) fn misfit(&self) -> Option<Reason> {
        self.version_skew().or_else(|| {
            let Pair { source, target } = self.pair;
            self.refuses_writes(source, self.source).or_else(|| self.refuses_writes(target, self.target))
        })
    }

    /// By the rules of the servers: a failed background save counts where such saves are made and writes are to stop
    /// then, a failed write to the append-only file always.
    fn refuses_writes(&self, node: NodeId, info: &NodeInfo) -> Option<Reason> {
        let settings = self.settings.get(&node);
        if info.append_failed {
            return Some(Reason::SavesFailing { node, field: "aof_last_write_status" });
        }
        if info.save_failed && settings.is_some_and(|settings| settings.saves && settings.stops_writes) {
            return Some(Reason::SavesFailing { node, field: "rdb_last_bgsave_status" });
        }
        let (good, wanted) = (info.replication.good_replicas?, settings?.min_replicas);
        (good < wanted).then_some(Reason::TooFewReplicas { node, good, wanted })
    }

    fn version_skew(&self) -> Option<Reason> {
        let (source_version, target_version) = (self.source.version, self.target.version);
        let lenient = self.settings.get(&self.pair.target).is_some_and(|settings| settings.reads_newer_formats);
        let Pair { source, target } = self.pair;
        (target_version.refuses_keys_of(source_version) && !lenient).then_some(Reason::VersionSkew {
            source,
            source_version,
            target,
            target_version,
        })
    }
}

/// What stands in the way of the moves of a plan, as far as it is known of the servers beforehand; each thing once.
#[must_use]
pub fn misfits(plan: &Plan, observation: &Observation, settings: &SettingsByNode) -> Vec<Reason> {
    let mut found = Vec::new();
    for planned in &plan.moves {
        let pair = Pair { source: planned.source, target: planned.target };
        let misfit = Fit::of(pair, observation, settings).and_then(|fit| fit.misfit());
        found.extend(misfit.filter(|misfit| !found.contains(misfit)));
    }
    found
}
