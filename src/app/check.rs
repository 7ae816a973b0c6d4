//! `evenkeel check`: whether the cluster is whole. Changes nothing.

use std::fmt::Write;

use futures::{StreamExt, stream};
use serde::Serialize;

use super::glimpse::Glimpse;
use super::{logging, plan};
use crate::cli::{CheckArgs, ExitStatus};
use crate::cluster::{Marker, NodeId, SlotSet};
use crate::config::LogLevel;

/// Primaries that are counted side by side.
const SIDE_BY_SIDE: usize = 8;

/// `evenkeel check`.
pub(super) async fn check(args: &CheckArgs) -> anyhow::Result<ExitStatus> {
    let mut config = args.cluster.config()?;
    config.log.level = LogLevel::Off;
    logging::init(&config.log);
    let glimpse = Glimpse::take(&config).await?;
    let document = Document::of(&glimpse).await;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print!("{}", document.text());
    }
    Ok(if plan::nothing_can_be_said(&glimpse.topology.unclear) {
        ExitStatus::Failed
    } else if document.healthy {
        ExitStatus::Done
    } else {
        ExitStatus::Left
    })
}

/// What a check found.
#[derive(Serialize)]
struct Document {
    healthy: bool,
    primaries: usize,
    replicas: usize,
    slots_covered: usize,
    /// What forbids moves.
    unclear: Vec<Item>,
    /// What else is worth telling.
    findings: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    name: &'static str,
    text: String,
}

impl Document {
    async fn of(glimpse: &Glimpse) -> Self {
        let topology = &glimpse.topology;
        let unclear = topology.unclear.iter().map(|unclear| Item { name: unclear.name(), text: unclear.to_string() });
        let findings = topology.findings.iter().map(|found| Item { name: found.name(), text: found.to_string() });
        let mut findings: Vec<Item> = findings.collect();
        findings.extend(stray_keys(glimpse).await);
        let unclear: Vec<Item> = unclear.collect();
        Self {
            healthy: unclear.is_empty() && findings.is_empty(),
            primaries: topology.shards.len(),
            replicas: topology.shards.values().map(|shard| shard.replicas.len()).sum(),
            slots_covered: topology.shards.values().map(|shard| shard.slots.len()).sum(),
            unclear,
            findings,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} primaries, {} replicas, {} of 16384 slots covered\n",
            self.primaries, self.replicas, self.slots_covered
        );
        for (head, items) in [("unclear", &self.unclear), ("found", &self.findings)] {
            for item in items {
                let _ = writeln!(text, "{head}: {}: {}", item.name, item.text);
            }
        }
        if self.healthy {
            text.push_str("all nodes agree; no slot is open; no key is astray\n");
        }
        text
    }
}

/// Keys at primaries that neither own nor import their slot.
async fn stray_keys(glimpse: &Glimpse) -> Vec<Item> {
    let nodes = glimpse.topology.shards.values().filter(|shard| shard.answered()).map(|shard| shard.primary.id);
    let counts: Vec<Item> = stream::iter(nodes)
        .map(|node| stray_keys_at(glimpse, node))
        .buffered(SIDE_BY_SIDE)
        .filter_map(|found| async move { found })
        .collect()
        .await;
    counts
}

async fn stray_keys_at(glimpse: &Glimpse, node: NodeId) -> Option<Item> {
    let observed = glimpse.observation.nodes.get(&node)?;
    let myself = observed.view.myself();
    let importing = myself.markers.iter().filter_map(|marker| match *marker {
        Marker::Importing { slot, .. } => Some(slot),
        Marker::Migrating { .. } => None,
    });
    let elsewhere = SlotSet::full().difference(&myself.slots).difference(&importing.collect());
    match glimpse.count_keys(node, &elsewhere).await {
        Ok(counts) => {
            let astray: SlotSet = counts.iter().filter(|&(_, &keys)| keys > 0).map(|(&slot, _)| slot).collect();
            let keys: u64 = counts.values().sum();
            (keys > 0).then(|| Item {
                name: "stray_keys",
                text: format!(
                    "{} holds {keys} keys of slots {astray}, which it neither owns nor imports",
                    node.short()
                ),
            })
        }
        Err(error) => Some(Item {
            name: "not_counted",
            text: format!("the keys of {} could not be counted: {error:#}", node.short()),
        }),
    }
}
