//! `evenkeel plan`: what would move, and why. Changes nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde::Serialize;

use super::output::{out, outln};
use super::{glimpse, logging};
use crate::cli::{ExitStatus, PlanArgs};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::config::{Approval, Functions, LogLevel};
use crate::daemon::{Drains, Lacking, RoomRules, SettingsByNode, misfits, planned_room, policy, shard_inputs};
use crate::http::json::{PlanDocument, ReasonDocument, plan_document, reason_document};
use crate::plan::report::{Emptied, Notes, render};
use crate::plan::{Plan, plan as make_plan};
use crate::redis::Libraries;
use glimpse::Glimpse;

/// `evenkeel plan`.
pub(super) async fn plan(args: &PlanArgs) -> anyhow::Result<ExitStatus> {
    let mut config = args.config()?;
    config.log.level = LogLevel::Off;
    logging::init(&config.log);
    let glimpse = Glimpse::take(&config).await?;
    let topology = &glimpse.topology;
    if !topology.unclear.is_empty() {
        let why: Vec<String> =
            topology.unclear.iter().map(|unclear| format!("{}: {unclear}", unclear.name())).collect();
        anyhow::bail!("no plan, because the picture of the cluster is unclear\n  {}", why.join("\n  "));
    }
    let shards = shard_inputs(topology);
    let policy = Drains::default().in_force(&policy(&config.targets), &shards);
    let plan = match make_plan(&shards, &policy) {
        Ok(plan) => plan,
        Err(faults) => {
            for fault in faults {
                eprintln!("evenkeel: {}: {fault}", fault.name());
            }
            return Ok(ExitStatus::Usage);
        }
    };
    let keys = count_keys(&glimpse, &plan).await;
    let emptied = emptied(&glimpse, &plan).await;
    let mut obstacles = misfits(&plan, &glimpse.observation, &settings(&glimpse, &plan).await);
    let room = planned_room(&plan, &glimpse.observation, topology, RoomRules::new(&config.migration));
    obstacles.extend(room.full);
    let left_out: Vec<String> = topology.left_out().map(ToString::to_string).collect();
    let lacking = functions(&glimpse, &plan, config.migration.functions).await;
    if args.json {
        let obstacles = obstacles.iter().map(reason_document).collect();
        let evictions = room.evicted.into_iter().map(|(node, bytes)| Eviction { node: node.to_string(), bytes });
        let functions = lacking.into_iter().map(|(node, lacking)| FunctionsDocument::of(node, lacking)).collect();
        let evictions = evictions.collect();
        let emptied = emptied.into_iter().map(|(node, fate)| EmptiedDocument::of(node, fate)).collect();
        let document = Document { plan: plan_document(&plan), emptied, obstacles, evictions, functions, left_out };
        outln!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        let lookup = |slot: Slot| keys.get(&slot).copied();
        out!("{}", render(&plan, Notes { keys: Some(&lookup), emptied: Some(&emptied) }));
        if !plan.moves.is_empty() {
            let hash = plan.hash();
            match config.schedule.approval {
                Approval::Automatic => outln!("plan {hash}"),
                Approval::Manual if topology.open.is_empty() => outln!(
                    "plan {hash}; a daemon that waits for approval carries it out at `evenkeel approve {hash}`, while it is the same"
                ),
                // Of a daemon that carries one out, this is what it has not begun.
                Approval::Manual => outln!(
                    "plan {hash}, which is not to be approved while slots are open: it will be another one when they are \
                     finished"
                ),
            }
        }
        for silent in &left_out {
            outln!("Left out: {silent}");
        }
        for obstacle in &obstacles {
            outln!("Not as things are: {}: {obstacle}", obstacle.name());
        }
        for (node, bytes) in &room.evicted {
            outln!(
                "{} has no room for what it is to take, and may drop about {bytes} bytes of keys for it \
                 (migration.full_target = \"evict\")",
                node.short()
            );
        }
        for (node, lacking) in &lacking {
            outln!("{}: {lacking} (migration.functions = \"{}\")", node.short(), config.migration.functions);
        }
        if !topology.open.is_empty() {
            let open: SlotSet = topology.open.keys().copied().collect();
            outln!("Open slots: {open}. They are finished before anything else; `evenkeel check` tells more.");
        }
    }
    let left = !plan.moves.is_empty() || !topology.open.is_empty();
    Ok(if left { ExitStatus::Left } else { ExitStatus::Done })
}

/// The JSON document: the plan, and what is known to stand in the way of it.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    plan: PlanDocument,
    /// What becomes of the primaries that lose their last slot.
    emptied: Vec<EmptiedDocument>,
    obstacles: Vec<ReasonDocument>,
    /// The targets that may drop keys to take their slots.
    evictions: Vec<Eviction>,
    /// The targets that lack libraries of functions.
    functions: Vec<FunctionsDocument>,
    /// Primaries without slots that did not answer, in words: they take none.
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct EmptiedDocument {
    node: String,
    /// `primary` or `replica`.
    becomes: &'static str,
    /// Whose replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
}

impl EmptiedDocument {
    fn of(node: NodeId, fate: Emptied) -> Self {
        let (becomes, of) = match fate {
            Emptied::StaysEmptyPrimary => ("primary", None),
            Emptied::BecomesReplica { of } => ("replica", Some(of.to_string())),
        };
        Self { node: node.to_string(), becomes, of }
    }
}

#[derive(Serialize)]
struct FunctionsDocument {
    node: String,
    missing: Vec<String>,
    differing: Vec<String>,
}

impl FunctionsDocument {
    fn of(node: NodeId, lacking: Lacking) -> Self {
        let Lacking { missing, differing } = lacking;
        Self { node: node.to_string(), missing, differing }
    }
}

#[derive(Serialize)]
struct Eviction {
    node: String,
    bytes: u64,
}

/// What the nodes that give or take are configured to do, where they tell.
async fn settings(glimpse: &Glimpse, plan: &Plan) -> SettingsByNode {
    let nodes: BTreeSet<NodeId> = plan.moves.iter().flat_map(|planned| [planned.source, planned.target]).collect();
    let asks = nodes
        .into_iter()
        .map(|node| async move { Some((node, glimpse.open(node).await.ok()?.settings().await.ok()?)) });
    join_all(asks).await.into_iter().flatten().collect()
}

/// What targets lack of their sources' libraries of functions, where both tell.
async fn functions(glimpse: &Glimpse, plan: &Plan, functions: Functions) -> BTreeMap<NodeId, Lacking> {
    if functions == Functions::Ignore {
        return BTreeMap::new();
    }
    let nodes: BTreeSet<NodeId> = plan.moves.iter().flat_map(|planned| [planned.source, planned.target]).collect();
    let asks = nodes
        .into_iter()
        .map(|node| async move { Some((node, glimpse.open(node).await.ok()?.libraries().await.ok()?)) });
    let libraries: BTreeMap<NodeId, Libraries> = join_all(asks).await.into_iter().flatten().collect();
    let mut lacking: BTreeMap<NodeId, Lacking> = BTreeMap::new();
    for planned in &plan.moves {
        if let (Some(source), Some(target)) = (libraries.get(&planned.source), libraries.get(&planned.target)) {
            let of_both = lacking.remove(&planned.target).unwrap_or_default().and(Lacking::between(source, target));
            lacking.insert(planned.target, of_both);
        }
    }
    lacking.retain(|_, lacking| !lacking.is_empty());
    lacking
}

/// Keys of the slots that move, where the source tells.
async fn count_keys(glimpse: &Glimpse, plan: &Plan) -> BTreeMap<Slot, u64> {
    let mut by_source: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    for planned in &plan.moves {
        by_source.entry(planned.source).or_default().extend(planned.slots.iter());
    }
    let counts = by_source.iter().map(|(&node, slots)| async move {
        let counted = glimpse.count_keys(node, slots).await;
        counted.unwrap_or_default()
    });
    join_all(counts).await.into_iter().flatten().collect()
}

/// What becomes of the primaries that lose their last slot: the server decides.
async fn emptied(glimpse: &Glimpse, plan: &Plan) -> BTreeMap<NodeId, Emptied> {
    let mut emptied = BTreeMap::new();
    for line in plan.lines.iter().filter(|line| line.emptied) {
        let Ok(conn) = glimpse.open(line.primary).await else { continue };
        let migrates = conn.config_get("cluster-allow-replica-migration").await.ok().flatten();
        // 6.2 knows no such setting and always does it. The longest move starts first, so the shortest is the last, and
        // of equals the one to the greatest id.
        let moves = plan.moves.iter().filter(|planned| planned.source == line.primary);
        let last = moves.min_by_key(|planned| (planned.slots.len(), Reverse(planned.target)));
        let fate = match (migrates.as_deref(), last) {
            (Some("no"), _) | (_, None) => Emptied::StaysEmptyPrimary,
            (_, Some(last)) => Emptied::BecomesReplica { of: last.target },
        };
        emptied.insert(line.primary, fate);
    }
    emptied
}
