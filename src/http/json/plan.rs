//! What is to move, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Slots;
use crate::plan::{Limit, Line, Move, Part, Plan, Trigger, Verdict, report};
use crate::wording::plural;

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanDocument {
    /// Why there are moves, or none.
    pub verdict: PlanVerdict,
    /// What stands for the moves: plans with the same moves have the same. `/api/v1/approve` takes it. `null` where there are
    /// none.
    pub hash: Option<String>,
    /// How many slots are still to move: those of `moves`, and those under way.
    pub slots_to_move: u32,
    /// Slots that are carried now, or are open and ours; none of them is in `moves`.
    pub under_way: Slots,
    /// One for each source, target and reason; no slot is in two of them.
    pub moves: Vec<MoveDocument>,
    /// One for each shard, in an order that no failover changes.
    pub nodes: Vec<PlanNode>,
    /// Slots that nobody owns, and that are not planned for.
    pub unassigned: Slots,
    /// How many runs of slots with the same owner there are now.
    pub ranges_now: u32,
    /// How many there are once the moves are done.
    pub ranges_after: u32,
}

/// Why there are moves, or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanVerdict {
    /// `moves`, `under_way`, `balanced`, `already_there` or `asked`.
    pub name: String,
    /// Sentences for people, at least one.
    pub text: Vec<String>,
    /// How far off a node may be; `null` where that did not decide.
    pub threshold: Option<PlanThreshold>,
}

/// How far off a node may be: it takes both to start a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanThreshold {
    /// More than this part of its target, in percent …
    pub percent: f64,
    /// … and at least this many slots.
    pub slots: u32,
}

/// Slots that go from one primary to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveDocument {
    /// The primary that owns them now.
    pub source: String,
    /// The primary that is to own them.
    pub target: String,
    /// The slots.
    pub slots: Slots,
    /// `drain`, `pinned`, `level` or `asked`.
    pub why: String,
}

/// One shard in numbers of slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanNode {
    /// The primary.
    pub node: String,
    /// Its address, where known.
    pub address: Option<String>,
    /// Slots that it owns now.
    pub now: u32,
    /// Slots that it should own.
    pub target: u32,
    /// `target` less `now`: above 0 it is to gain slots, below 0 to lose some.
    pub difference: i64,
    /// Slots that it owns once the moves are done, those under way included.
    pub after: u32,
    /// How many of its target are pinned to it.
    pub pinned: u32,
    /// `shares`, `drained`, `ignored` or `unasked`.
    pub part: String,
    /// The weight by which it shares; `null` where none counted.
    pub weight: Option<f64>,
    /// Whether the plan takes its last slot.
    pub emptied: bool,
}

/// The plan as JSON.
#[must_use]
pub fn plan_document(plan: &Plan) -> PlanDocument {
    PlanDocument {
        verdict: PlanVerdict {
            name: if all_under_way(plan) { "under_way" } else { verdict_name(&plan.verdict) }.to_owned(),
            text: if all_under_way(plan) { under_way(plan) } else { report::reasons(plan) },
            threshold: limit(&plan.verdict).map(|limit| PlanThreshold { percent: limit.percent, slots: limit.slots }),
        },
        hash: (!plan.moves.is_empty()).then(|| plan.hash()),
        slots_to_move: plan.slots_to_move(),
        under_way: Slots::from(&plan.under_way),
        moves: plan.moves.iter().map(move_document).collect(),
        nodes: plan.lines.iter().map(node).collect(),
        unassigned: Slots::from(&plan.unassigned),
        ranges_now: plan.ranges_now,
        ranges_after: plan.ranges_after,
    }
}

/// Whether nothing is left to plan, and slots have not arrived yet.
fn all_under_way(plan: &Plan) -> bool {
    plan.moves.is_empty() && !plan.under_way.is_empty()
}

fn under_way(plan: &Plan) -> Vec<String> {
    vec![format!("nothing else is to move once {} under way have arrived", plural(plan.under_way.len(), "slot"))]
}

fn move_document(m: &Move) -> MoveDocument {
    MoveDocument {
        source: m.source.to_string(),
        target: m.target.to_string(),
        slots: Slots::from(&m.slots),
        why: m.why.name().to_owned(),
    }
}

fn node(line: &Line) -> PlanNode {
    let (part, weight) = match line.part {
        Part::Shares { weight } => ("shares", Some(weight)),
        Part::Drained => ("drained", None),
        Part::Ignored => ("ignored", None),
        Part::Unasked => ("unasked", None),
    };
    PlanNode {
        node: line.primary.to_string(),
        address: line.address.as_ref().map(ToString::to_string),
        now: line.now,
        target: line.target,
        difference: line.difference(),
        after: line.after,
        pinned: line.pinned,
        part: part.to_owned(),
        weight,
        emptied: line.emptied,
    }
}

const fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Balanced { .. } => "balanced",
        Verdict::Moves { .. } => "moves",
        Verdict::AlreadyThere => "already_there",
        Verdict::Asked => "asked",
    }
}

/// The limit that nothing exceeded, or that something did.
fn limit(verdict: &Verdict) -> Option<Limit> {
    match verdict {
        Verdict::Balanced { limit, .. } => Some(*limit),
        Verdict::Moves { triggers } => triggers.iter().find_map(|trigger| match trigger {
            Trigger::TooFar { limit, .. } => Some(*limit),
            Trigger::Drained { .. }
            | Trigger::Empty { .. }
            | Trigger::Misplaced { .. }
            | Trigger::OutOfBounds { .. } => None,
        }),
        Verdict::AlreadyThere | Verdict::Asked => None,
    }
}
