//! Looking at the whole cluster: every slot that is not as it should be, with its facts and its verdict. Only reads.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use super::super::{Look, Patience, Poller};
use crate::cluster::{NodeId, Observation, Slot, SlotSet, Topology};
use crate::config::Config;
use crate::migration::{SlotFacts, Verdict, Witnesses, recover};
use crate::redis::{CallError, Conn, Counted, Dialer, Intent, OpenError, explained};

/// Primaries that are counted side by side.
const SIDE_BY_SIDE: usize = 8;
/// How often a node's keys are counted before keys of no slot are believed: while clients write, a sum of counts and
/// the number of all keys are not of one moment.
const HIDDEN_SEEN: usize = 3;

/// What one look, and the counts after it, showed.
#[derive(Debug)]
pub struct Diagnosis {
    /// The look.
    pub look: Look,
    /// What it amounts to.
    pub topology: Topology,
    /// The slots that are not as they should be.
    pub cases: BTreeMap<Slot, Case>,
    /// Nodes that hold keys which belong to no slot that they show, and how many (Redis 8.4 and newer).
    pub hidden: BTreeMap<NodeId, u64>,
    /// Primaries whose keys could not be counted, and why. What they hold is not known.
    pub uncounted: BTreeMap<NodeId, String>,
}

/// One slot that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is known of it.
    pub facts: SlotFacts,
    /// What is to be done about it.
    pub verdict: Verdict,
}

/// Looks, counts and judges.
#[derive(Debug)]
pub struct Doctor {
    poller: Poller,
    dialer: Dialer,
    /// Keys that a node does not count and that were found all the same: see [`Doctor::reveal`].
    revealed: BTreeMap<NodeId, Counted>,
}

/// Keys could not be counted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CountError {
    /// The node could not be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Doctor {
    /// One that has not looked yet.
    #[must_use]
    pub fn new(config: &Config, intent: Intent, instance: &str) -> Self {
        let dialer = Dialer::new(config, intent, instance);
        let poller = Poller::new(dialer.clone(), config.cluster.seeds.clone());
        Self { poller, dialer, revealed: BTreeMap::new() }
    }

    /// How it connects.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Looks at every slot. Fails when no node can be reached, with each seed's error.
    ///
    /// What a first look and its counts call in question is looked at and counted again: while slots move, the two are
    /// not of one moment.
    pub async fn diagnose(&mut self) -> Result<Diagnosis, Vec<OpenError>> {
        let look = self.poller.look(Patience::Usual).await?;
        let topology = Topology::merge(&look.observation, &SlotSet::new());
        let (counts, uncounted) = self.count(&look.observation, &topology, &SlotSet::full()).await;
        let mut suspects = Witnesses::new(&look.observation, &topology).suspects();
        for (node, counted) in &counts {
            let owned = topology.shards.get(node).map(|shard| &shard.slots);
            let astray = |slot: Slot| owned.is_none_or(|owned| !owned.contains(slot));
            suspects.extend(counted.iter().filter(|&(&slot, &keys)| keys > 0 && astray(slot)).map(|(slot, _)| *slot));
        }
        let mut diagnosis = self.diagnose_slots(&suspects).await?;
        // Where nothing was counted nothing is suspected either.
        diagnosis.uncounted.extend(uncounted);
        diagnosis.hidden = self.hidden(&diagnosis.look.observation, &counts).await;
        // What a server hides while it takes slots in by itself, or gives them, is on its way.
        for node in diagnosis.topology.jobs.iter().flat_map(|job| [job.source, job.target]).flatten() {
            diagnosis.hidden.remove(&node);
        }
        Ok(diagnosis)
    }

    /// Looks at these slots only.
    pub async fn diagnose_slots(&mut self, slots: &SlotSet) -> Result<Diagnosis, Vec<OpenError>> {
        let look = self.poller.look(Patience::Usual).await?;
        let topology = Topology::merge(&look.observation, &SlotSet::new());
        let (mut counts, uncounted) = self.count(&look.observation, &topology, slots).await;
        for (node, revealed) in &self.revealed {
            let Some(counted) = counts.get_mut(node) else { continue };
            for (slot, keys) in revealed.iter().filter(|(slot, _)| slots.contains(**slot)) {
                let counted = counted.entry(*slot).or_default();
                *counted = (*counted).max(*keys);
            }
        }
        let cases = judge(&look.observation, &topology, slots, &counts, &uncounted);
        Ok(Diagnosis { look, topology, cases, hidden: BTreeMap::new(), uncounted })
    }

    /// Ends every connection.
    pub fn close(&mut self) {
        self.poller.close();
    }

    /// The keys of these slots at every primary that answered, and why some could not be counted.
    async fn count(
        &self,
        observation: &Observation,
        topology: &Topology,
        slots: &SlotSet,
    ) -> (BTreeMap<NodeId, Counted>, BTreeMap<NodeId, String>) {
        let primaries: Vec<NodeId> = Witnesses::new(observation, topology).primaries().collect();
        let counting = primaries.into_iter().map(|node| async move {
            let counted =
                if slots.is_empty() { Ok(Counted::new()) } else { self.count_at(observation, node, slots).await };
            (node, counted)
        });
        let mut counts = BTreeMap::new();
        let mut uncounted = BTreeMap::new();
        for (node, counted) in stream::iter(counting).buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await {
            match counted {
                Ok(counted) => drop(counts.insert(node, counted)),
                Err(error) => drop(uncounted.insert(node, self.explained(observation, node, error).await)),
            }
        }
        (counts, uncounted)
    }

    /// The error in words; where a permission is missing, with what is to be typed.
    async fn explained(&self, observation: &Observation, node: NodeId, error: CountError) -> String {
        match error {
            // On a connection of its own: the one that was refused may be in the middle of something.
            CountError::Call(error @ CallError::Refused { .. }) => match self.open(observation, node).await {
                Ok(conn) => explained(&conn, error).await,
                Err(_) => error.to_string(),
            },
            error @ (CountError::Open(_) | CountError::Call(_)) => error.to_string(),
        }
    }

    /// Keys of these slots at a node, over all its databases.
    pub(super) async fn count_at(
        &self,
        observation: &Observation,
        node: NodeId,
        slots: &SlotSet,
    ) -> Result<Counted, CountError> {
        let mut total: Counted = slots.iter().map(|slot| (slot, 0)).collect();
        let databases = self.open(observation, node).await?.databases().await?;
        for db in databases {
            // A connection for each database: to change it on one in use would count in the wrong one.
            let conn = self.open(observation, node).await?;
            if db != 0 {
                conn.select(db).await?;
            }
            for (slot, keys) in conn.count_keys(slots).await? {
                *total.entry(slot).or_default() += keys;
            }
        }
        Ok(total)
    }

    /// Nodes whose keys are more than those of all the slots that they show.
    ///
    /// From Redis 8.4 on a node counts no keys of slots that it neither owns nor takes in, and hides them from every
    /// command; only the number of all its keys includes them.
    async fn hidden(&self, observation: &Observation, counts: &BTreeMap<NodeId, Counted>) -> BTreeMap<NodeId, u64> {
        let mut hidden = BTreeMap::new();
        for (&node, counted) in counts {
            let Some(observed) = observation.nodes.get(&node).filter(|observed| observed.info.version.hides_keys())
            else {
                continue;
            };
            let mut least = excess(&observed.info.keys, counted);
            for _ in 1..HIDDEN_SEEN {
                if least == 0 {
                    break;
                }
                least = least.min(self.excess_now(observation, node).await.unwrap_or(least));
            }
            if least > 0 {
                hidden.insert(node, least);
            }
        }
        hidden
    }

    async fn excess_now(&self, observation: &Observation, node: NodeId) -> Result<u64, CountError> {
        let conn = self.open(observation, node).await?;
        let before = conn.keys_by_database().await?;
        let counted = self.count_at(observation, node, &SlotSet::full()).await?;
        let after = conn.keys_by_database().await?;
        Ok(excess(&before, &counted).min(excess(&after, &counted)))
    }

    /// Takes note of keys that a node holds and does not count.
    pub(super) fn reveal(&mut self, node: NodeId, counted: Counted) {
        self.revealed.entry(node).or_default().extend(counted);
    }

    /// Slots of which a node was found to hold keys that it does not count.
    pub(super) fn revealed(&self) -> SlotSet {
        self.revealed.values().flat_map(BTreeMap::keys).copied().collect()
    }

    /// What was found of a slot is no longer so.
    pub(super) fn forget(&mut self, node: NodeId, slot: Slot) {
        if let Some(revealed) = self.revealed.get_mut(&node) {
            revealed.remove(&slot);
        }
    }

    /// A connection to a node that answered the look.
    pub(super) async fn open(&self, observation: &Observation, node: NodeId) -> Result<Conn, OpenError> {
        open(&self.dialer, observation, node).await
    }

    /// The same for a bare connection.
    pub(super) async fn open_bare(&self, observation: &Observation, node: NodeId) -> Result<Conn, OpenError> {
        open(&self.dialer.bare(), observation, node).await
    }
}

async fn open(dialer: &Dialer, observation: &Observation, node: NodeId) -> Result<Conn, OpenError> {
    let observed = &observation.nodes[&node];
    let hostname = observed.view.myself().hostname.as_deref();
    Box::pin(dialer.open(&observed.dialled, hostname, node)).await
}

/// The verdicts about these slots that are not [`Verdict::Sound`].
fn judge(
    observation: &Observation,
    topology: &Topology,
    slots: &SlotSet,
    counts: &BTreeMap<NodeId, Counted>,
    uncounted: &BTreeMap<NodeId, String>,
) -> BTreeMap<Slot, Case> {
    let witnesses = Witnesses::new(observation, topology);
    let keys =
        |slot: Slot, node: NodeId| counts.get(&node).and_then(|counted| counted.get(&slot)).copied().unwrap_or(0);
    let is_empty = |slot: &Slot| witnesses.primaries().all(|node| keys(*slot, node) == 0);
    let nobodys: SlotSet = slots.iter().filter(|slot| topology.owner(*slot).is_none()).filter(is_empty).collect();
    let heirs = witnesses.heirs(&nobodys);
    let silent: BTreeSet<NodeId> = uncounted.keys().copied().collect();
    let case = |slot: Slot| {
        let mut facts = witnesses.facts(slot, |node| keys(slot, node), heirs.get(&slot).copied());
        // A node that answered the look and not the count may hold keys of it, as one that did not answer at all.
        facts.silent.extend(&silent);
        let verdict = recover(&facts);
        (verdict != Verdict::Sound).then_some((slot, Case { facts, verdict }))
    };
    slots.iter().filter_map(case).collect()
}

fn excess(keys: &BTreeMap<u32, u64>, counted: &Counted) -> u64 {
    keys.values().sum::<u64>().saturating_sub(counted.values().sum())
}
