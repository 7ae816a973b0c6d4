//! Repair: what a look at the whole cluster found wrong is put right, one thing after the other.
//!
//! What to do about each slot is decided by [`recover`](crate::migration::recover); what is here looks, waits until it
//! is sure that nobody else is at work, and carries verdicts out. One step at a time, so that there is never more than
//! one finalise; slots are carried by the one [`Migration`](crate::migration::Migration).

mod carry;
mod diagnosis;
mod gather;
mod guard;
mod obey;
mod reveal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::obey::Failures;
use super::{Lease, Reason};
use crate::cluster::{NodeId, Slot, SlotSet, Unclear};
use crate::config::Config;
use crate::migration::{Order, SlotFacts, Verdict};
use crate::redis::{Intent, OpenError};
pub use diagnosis::{Case, Diagnosis, Doctor};

/// Between two looks that must agree before anything is done: whoever moves slots is seen to within a second.
const APART: Duration = Duration::from_secs(1);
/// How long a disorder that the servers may come to grips with by themselves must last: Redis 7.0 and newer and Valkey
/// take 0.05 to 3 s (measured).
const HEALS_WITHIN: Duration = Duration::from_secs(5);
/// How long primaries may take to serve again once every slot has an owner: they wait five seconds at the most.
const SERVES_WITHIN: Duration = Duration::from_secs(8);
/// Between two looks at what was just done: gossip takes 1 to 40 ms on loopback.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// Verdicts that follow one another for one slot; the longest chain of the repair table is half of it.
const ROUNDS: usize = 10;

/// Which copy of a key is kept when there are two that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// The one at the slot's owner: what clients see now.
    Source,
    /// The other one.
    Target,
}

/// What a repair is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Only these slots; for them also what nobody but a human may decide.
    pub slots: Option<SlotSet>,
    /// Which copy to keep of keys with two values, in the slots that are named.
    pub prefer: Option<Prefer>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// How a repair ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong.
    pub before: Diagnosis,
    /// What is wrong now; the same as before, after a dry run.
    pub after: Diagnosis,
    /// What was done, in this order.
    pub done: Vec<Done>,
    /// Why what is still wrong was not put right.
    pub left: BTreeMap<Slot, Left>,
    /// It was asked to stop before its end.
    pub interrupted: bool,
}

/// One verdict that was carried out.
#[derive(Clone, Debug)]
pub struct Done {
    /// Of these slots.
    pub slots: SlotSet,
    /// The verdict.
    pub verdict: Verdict,
    /// Keys that were moved.
    pub keys: u64,
}

/// Why a slot was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Somebody works on it.
    Busy,
    /// Somebody moves slots of the nodes that would be told of a new owner.
    BusyNodes,
    /// `--slots` names others.
    NotNamed,
    /// Only for a slot that a human names.
    AsksFirst,
    /// The verdict is to wait, or that a human must decide.
    AsVerdict,
    /// So many keys have two values, and nobody said which to keep.
    Conflict {
        /// How many.
        keys: usize,
    },
    /// It was tried, or was to be tried, and could not be done.
    Failed(String),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("somebody works on it right now"),
            Self::BusyNodes => f.write_str("somebody moves slots of its nodes right now"),
            Self::NotNamed => f.write_str("--slots names others"),
            Self::AsksFirst => f.write_str("only for slots that --slots names"),
            Self::AsVerdict => f.write_str("left as it is"),
            Self::Conflict { keys } => write!(
                f,
                "{keys} keys have two values; with --slots and --prefer source what clients see now is kept, with \
                 --prefer target the other copy"
            ),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Why nothing was, or nothing further could be, put right.
#[derive(Debug, Error)]
pub enum RepairError {
    /// No node can be reached.
    #[error("no seed can be used\n  {}", .0.join("\n  "))]
    NoView(Vec<String>),
    /// Nothing can be said of the cluster, or it is changing.
    #[error("nothing is repaired while {0}")]
    Unclear(Unclear),
    /// Another evenkeel may act, though it does nothing at the moment.
    #[error(
        "nothing is repaired while another evenkeel acts on this cluster: {name}, connected from {from}. What can be repaired \
         without a human it repairs itself, unless it is paused; for the rest, stop it or set its schedule.mode to \"observe\", \
         and run this again"
    )]
    OtherActs {
        /// The name of its connections.
        name: String,
        /// The address that it connects from.
        from: String,
    },
    /// Something else forbids acting.
    #[error("nothing is repaired: {0}")]
    Refused(Reason),
}

impl From<Vec<OpenError>> for RepairError {
    fn from(errors: Vec<OpenError>) -> Self {
        Self::NoView(errors.iter().map(ToString::to_string).collect())
    }
}

/// Looks, waits, repairs, and looks again. `leave` asks it to stop at the next moment at which that is safe.
pub async fn repair(
    config: &Config,
    wishes: &Wishes,
    instance: &str,
    leave: CancellationToken,
) -> Result<Outcome, RepairError> {
    let intent = if wishes.dry_run { Intent::Observing } else { Intent::Acting };
    let doctor = Doctor::new(config, intent, instance);
    let (done, left, busy, acted) = (Vec::new(), BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let lease_stop = CancellationToken::new();
    let (lease, keeper) = if wishes.dry_run {
        (Lease::none(), None)
    } else {
        let (_, config) = watch::channel(Arc::new(config.clone()));
        Lease::keep(config, None, instance, lease_stop.clone())
    };
    let repair = Repair { doctor, config, wishes, leave, lease, done, left, busy, acted, dead_end: false };
    let outcome = Box::pin(repair.run()).await;
    lease_stop.cancel();
    if let Some(keeper) = keeper {
        // It gives the lease back; if it cannot, the lease runs out.
        let _ = keeper.await;
    }
    outcome
}

struct Repair<'a> {
    doctor: Doctor,
    config: &'a Config,
    wishes: &'a Wishes,
    leave: CancellationToken,
    lease: Lease,
    done: Vec<Done>,
    left: BTreeMap<Slot, Left>,
    /// Nodes that somebody else moves slots from or to.
    busy: BTreeSet<NodeId>,
    /// What was tried: the same verdict twice for one slot means that carrying it out is of no use.
    acted: BTreeSet<(Slot, Verdict)>,
    /// A finalise could not be brought to its end: nothing further may be done.
    dead_end: bool,
}

impl Repair<'_> {
    async fn run(mut self) -> Result<Outcome, RepairError> {
        let before = self.doctor.diagnose().await?;
        guard::can_be_judged(&before)?;
        let steady = self.watch(&before).await?;
        let mut cases = self.cases_to_act_on(&steady);
        let named = self.wishes.slots.as_ref().filter(|_| !before.hidden.is_empty());
        if !self.wishes.dry_run && (!cases.is_empty() || named.is_some()) {
            self.lease.known().await;
            if let Some(reason) = self.lease.reason() {
                return Err(RepairError::Refused(reason));
            }
            guard::may_act(&self.doctor, &steady, &cases, self.config).await?;
            if self.reveal(named, &before.hidden, &steady, &cases).await {
                let judged = self.doctor.revealed().union(&cases.keys().copied().collect());
                let found = self.doctor.diagnose_slots(&judged).await?;
                cases = self.cases_to_act_on(&found);
            }
            self.rounds(cases).await?;
        }
        let after = self.doctor.diagnose().await?;
        self.left.retain(|slot, _| after.cases.contains_key(slot));
        self.doctor.close();
        let interrupted = self.leave.is_cancelled();
        Ok(Outcome { before, after, done: self.done, left: self.left, interrupted })
    }

    /// Looks again, a second later and until every disorder has lasted; sets apart what changes meanwhile, because
    /// somebody is at work there.
    async fn watch(&mut self, first: &Diagnosis) -> Result<Diagnosis, RepairError> {
        let slots: SlotSet = first.cases.keys().copied().collect();
        let lasting = guard::node_timeout(&self.doctor, first).await * 2;
        let patience = |verdict: &Verdict| if verdict.row() == Some(18) { lasting } else { HEALS_WITHIN };
        let (mut began, mut signs, mut owners_before) = (first.look.began, signs_of_life(first), owners(first));
        loop {
            tokio::time::sleep_until(began + APART).await;
            let next = self.doctor.diagnose_slots(&slots).await?;
            guard::can_be_judged(&next)?;
            let (next_signs, next_owners) = (signs_of_life(&next), owners(&next));
            for slot in slots.iter().filter(|slot| signs.get(slot) != next_signs.get(slot)) {
                self.left.insert(slot, Left::Busy);
                let ends = |signs: &Signs| {
                    let nodes = |(&node, &(to, from, _)): (_, &(_, _, u64))| [Some(node), to, from];
                    signs.iter().flat_map(nodes).flatten().collect::<Vec<NodeId>>()
                };
                self.busy.extend([&signs, &next_signs].into_iter().filter_map(|signs| signs.get(&slot)).flat_map(ends));
            }
            let moved = next_owners.iter().zip(&owners_before).filter(|(now, before)| now != before);
            self.busy.extend(moved.filter_map(|(now, before)| Some([(*now)?, (*before)?])).flatten());
            let lasted = Instant::now() - first.look.began;
            let may_heal = |case: &Case| case.verdict.may_heal() && lasted < patience(&case.verdict);
            let unsteady = guard::unsteady(&next).is_some() && lasted < HEALS_WITHIN;
            if self.leave.is_cancelled() || !(unsteady || next.cases.values().any(may_heal)) {
                return Ok(next);
            }
            (began, signs, owners_before) = (next.look.began, next_signs, next_owners);
        }
    }

    /// The cases that verdicts and wishes allow to act on; notes why the others are left.
    fn cases_to_act_on(&mut self, diagnosis: &Diagnosis) -> BTreeMap<Slot, Case> {
        let mut cases = diagnosis.cases.clone();
        cases.retain(|slot, case| {
            if self.left.contains_key(slot) {
                return false;
            }
            let declined = self.declined(*slot, &case.verdict);
            let acts = declined.is_none();
            self.left.extend(declined.map(|left| (*slot, left)));
            acts
        });
        cases
    }

    fn declined(&self, slot: Slot, verdict: &Verdict) -> Option<Left> {
        if self.wishes.slots.as_ref().is_some_and(|named| !named.contains(slot)) {
            return Some(Left::NotNamed);
        }
        if self.acted.contains(&(slot, verdict.clone())) {
            return Some(Left::Failed("it is as it was, although everybody was told".to_owned()));
        }
        if verdict.assigns() && !self.busy.is_disjoint(&verdict.nodes()) {
            return Some(Left::BusyNodes);
        }
        match verdict {
            Verdict::Gather { ask_first: true, .. } if self.wishes.slots.is_none() => Some(Left::AsksFirst),
            Verdict::Wait { .. } | Verdict::Human { .. } | Verdict::CannotTell { .. } => Some(Left::AsVerdict),
            Verdict::Sound | Verdict::Settle { .. } | Verdict::GoForward { .. } | Verdict::Gather { .. } => None,
        }
    }

    /// Carries verdicts out until none is left that may be: what one leaves may need another.
    ///
    /// What forbids acting is asked again before each further round: a node that was down may be asked only now, and
    /// somebody else may have come.
    async fn rounds(&mut self, mut cases: BTreeMap<Slot, Case>) -> Result<(), RepairError> {
        for _ in 0..ROUNDS {
            let mut groups: BTreeMap<Verdict, SlotSet> = BTreeMap::new();
            for (slot, case) in &cases {
                groups.entry(case.verdict.clone()).or_default().insert(*slot);
            }
            // Slots of nobody first, all of them: while there are any, most servers refuse every key.
            let (of_nobody, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
                groups.into_iter().partition(|(verdict, _)| adds_slots(verdict));
            self.act(of_nobody).await?;
            for (verdict, slots) in others {
                self.act(BTreeMap::from([(verdict, slots)])).await?;
            }
            if self.is_over() {
                return Ok(());
            }
            let slots: SlotSet = cases.keys().copied().collect();
            let now = self.doctor.diagnose_slots(&slots).await?;
            cases = self.cases_to_act_on(&now);
            if cases.is_empty() {
                return Ok(());
            }
            if let Err(error) = guard::may_act(&self.doctor, &now, &cases, self.config).await {
                // What was done already is still told.
                self.left.extend(cases.keys().map(|slot| (*slot, Left::Failed(error.to_string()))));
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.leave.is_cancelled() || self.dead_end
    }

    /// Carries verdicts out: the orders of all, and once all have heard of them, what is to be done with keys.
    async fn act(&mut self, verdicts: BTreeMap<Verdict, SlotSet>) -> Result<(), RepairError> {
        let mut begun = Vec::new();
        let mut touched = SlotSet::new();
        for (verdict, slots) in verdicts {
            if self.is_over() {
                break;
            }
            let (slots, failures) = self.begin(&verdict, &slots).await?;
            touched = touched.union(&slots);
            begun.push((verdict, slots, failures));
        }
        if touched.is_empty() {
            return Ok(());
        }
        if begun.iter().any(|(verdict, ..)| adds_slots(verdict)) {
            self.until_calm(&touched, true).await?;
        }
        for (verdict, slots, failures) in begun {
            self.finish(verdict, &slots, failures).await?;
        }
        self.until_calm(&touched, false).await
    }

    /// Says the orders of a verdict for the slots of which it is still true.
    async fn begin(&mut self, verdict: &Verdict, slots: &SlotSet) -> Result<(SlotSet, Failures), RepairError> {
        let began = Instant::now();
        let (now, unsettled) = loop {
            let now = self.doctor.diagnose_slots(slots).await?;
            guard::can_be_judged(&now)?;
            let unsettled = guard::unsettled_epoch(&now.look.observation, verdict.orders());
            if unsettled.is_none() || began.elapsed() >= HEALS_WITHIN || self.is_over() {
                break (now, unsettled);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        };
        // A slot without owner and keys is anybody's, and who is proposed depends on how many such slots were asked about.
        let is_anybodys = |verdict: &Verdict| verdict.row() == Some(15);
        let same = |other: &Verdict| other == verdict || is_anybodys(other) && is_anybodys(verdict);
        let still = |slot: &Slot| now.cases.get(slot).is_some_and(|case| same(&case.verdict));
        let slots: SlotSet = slots.iter().filter(still).collect();
        self.acted.extend(slots.iter().map(|slot| (slot, verdict.clone())));
        let failures = match unsettled {
            None => self.obey(verdict.orders(), &slots, &now).await,
            Some(node) => {
                let why = format!(
                    "the config epoch of {} has not spread: a claim below it would be undone, and the slot's keys dropped. \
                     Run it again when the nodes agree about it",
                    node.short()
                );
                slots.iter().map(|slot| (slot, Left::Failed(why.clone()))).collect()
            }
        };
        Ok((slots, failures))
    }

    /// Does what a verdict says of keys, for the slots whose orders were obeyed, and notes what came of it.
    async fn finish(&mut self, verdict: Verdict, slots: &SlotSet, mut failures: Failures) -> Result<(), RepairError> {
        let obeyed: SlotSet = slots.iter().filter(|slot| !failures.contains_key(slot)).collect();
        let keys = match &verdict {
            _ if obeyed.is_empty() => 0,
            Verdict::GoForward { pair, .. } => {
                let now = self.doctor.diagnose_slots(&SlotSet::new()).await?;
                self.carry(*pair, &obeyed, &now, &mut failures).await
            }
            Verdict::Gather { owner, holders, .. } => {
                let now = self.doctor.diagnose_slots(&obeyed).await?;
                self.gather(*owner, holders, &obeyed, &now, &mut failures).await
            }
            Verdict::Sound
            | Verdict::Settle { .. }
            | Verdict::Wait { .. }
            | Verdict::Human { .. }
            | Verdict::CannotTell { .. } => 0,
        };
        let done: SlotSet = slots.iter().filter(|slot| !failures.contains_key(slot)).collect();
        if !done.is_empty() || keys > 0 {
            self.done.push(Done { slots: done, verdict, keys });
        }
        self.left.extend(failures);
        Ok(())
    }

    /// Waits until all primaries have heard of what was done, or have not for longer than that takes; also until they
    /// serve again, if they did not for want of an owner of these slots.
    async fn until_calm(&mut self, slots: &SlotSet, served_nothing: bool) -> Result<(), RepairError> {
        let began = Instant::now();
        loop {
            let now = self.doctor.diagnose_slots(slots).await?;
            let spreads = now.cases.values().any(|case| case.verdict.may_heal()) && began.elapsed() < HEALS_WITHIN;
            let down = now.topology.unclear.iter().any(|unclear| matches!(unclear, Unclear::ClusterDown { .. }));
            let waits = served_nothing && down && began.elapsed() < SERVES_WITHIN;
            if !spreads && !waits {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

fn adds_slots(verdict: &Verdict) -> bool {
    verdict.orders().iter().any(|order| matches!(order, Order::AddSlot { .. }))
}

/// The agreed owner of each slot.
fn owners(diagnosis: &Diagnosis) -> Vec<Option<NodeId>> {
    Slot::all().map(|slot| diagnosis.topology.owner(slot)).collect()
}

/// What somebody who works on a slot changes: its marks, and the counts of moving commands of the nodes that have them.
fn signs_of_life(diagnosis: &Diagnosis) -> BTreeMap<Slot, Signs> {
    let signs = |facts: &SlotFacts| {
        let marked = facts.primaries.iter().filter(|(_, voice)| voice.migrating.is_some() || voice.importing.is_some());
        marked
            .map(|(&node, voice)| {
                let calls = diagnosis.look.mover_calls.get(&node).copied().unwrap_or_default();
                (node, (voice.migrating, voice.importing, calls))
            })
            .collect()
    };
    diagnosis.cases.iter().map(|(&slot, case)| (slot, signs(&case.facts))).collect()
}

type Signs = BTreeMap<NodeId, (Option<NodeId>, Option<NodeId>, u64)>;
