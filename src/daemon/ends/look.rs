//! Looks at both ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::assign::Looked;
use super::{Connections, Fault, no_answer, unreachable};
use crate::cluster::{Failing, Marker, NodeId, NodeLine, NodeView, Role, Slot, SlotSet};
use crate::migration::{End, EndFacts, Ends};
use crate::redis::{Answers, CallError, Counted, Questions};

/// What is asked of both ends.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) slots: &'a SlotSet,
    pub(super) count_source: bool,
    pub(super) count_target: bool,
    /// Whether the source is to carry out a write first.
    pub(super) ask_for_writes: bool,
}

impl Connections {
    /// Reads both ends' own lines, and counts the slots' keys where that is wanted.
    pub(super) async fn look(&mut self, wish: Wish<'_>) -> Result<Ends, Fault> {
        let slots = wish.slots;
        self.control(End::Target).await?;
        self.control(End::Source).await?;
        let (target, source) = tokio::join!(self.look_at_target(wish), self.look_at_source(wish));
        let mut target = target?;
        let source = source?;
        let others = source.databases.iter().any(|&db| db != 0);
        let source = self.with_other_databases(End::Source, slots, source).await?;
        if others {
            // The target was not looked at while the others were counted, which may take long.
            target = self.look_at_target(wish).await?;
        }
        let (target, looked) = target;
        self.looked = Some(looked);
        let target = self.with_other_databases(End::Target, slots, target).await?;
        // Read last: a mark of ours is ours before it is set.
        let ours = Arc::clone(&self.ours.borrow());
        Ok(Ends::new(self.pair, source, target, &ours))
    }

    /// What the source says of itself.
    async fn look_at_source(&self, wish: Wish<'_>) -> Result<EndFacts, Fault> {
        let count = wish.count_source.then_some(wish.slots);
        let asked = Questions { write: wish.ask_for_writes, time: false, count };
        let answers = self.opened(End::Source)?.look(asked).await.map_err(|error| {
            let may_wait = wish.ask_for_writes && matches!(error, CallError::NoAnswer { .. });
            let fault = no_answer(End::Source)(error);
            if may_wait { fault.while_writes_are_asked_for() } else { fault }
        })?;
        self.facts(End::Source, wish.slots, answers)
    }

    /// What the target says of itself, and when.
    async fn look_at_target(&self, wish: Wish<'_>) -> Result<(EndFacts, Looked), Fault> {
        // Only a replica can take a slot before the target does.
        let wants_lightest = self.is_valkey(End::Target) && !self.target_followers.is_empty();
        let count = (wish.count_target || wants_lightest).then_some(wish.slots);
        let conn = self.opened(End::Target)?;
        let mut answers =
            conn.look(Questions { write: false, time: true, count }).await.map_err(no_answer(End::Target))?;
        let at = Instant::now();
        let there = answers.time.ok_or_else(|| unreachable(End::Target))?;
        let lightest = answers.counted.iter().min_by_key(|(_, keys)| **keys).map(|(&slot, _)| slot);
        if !wish.count_target {
            (answers.databases, answers.counted) = Default::default();
        }
        Ok((self.facts(End::Target, wish.slots, answers)?, Looked { at, there, lightest }))
    }

    /// What an end said, with the keys that it holds elsewhere than in the first database, where any were counted.
    async fn with_other_databases(&mut self, at: End, slots: &SlotSet, end: EndFacts) -> Result<EndFacts, Fault> {
        let others: Vec<u32> = end.databases.iter().copied().filter(|&db| db != 0).collect();
        let mut keys = end.keys;
        if !others.is_empty() {
            for (slot, more) in self.count_databases(at, slots, &others).await? {
                *keys.entry(slot).or_default() += more;
            }
        }
        Ok(EndFacts { keys, ..end })
    }

    pub(super) async fn count_databases(
        &mut self,
        at: End,
        slots: &SlotSet,
        databases: &[u32],
    ) -> Result<Counted, Fault> {
        let mut total: Counted = slots.iter().map(|slot| (slot, 0)).collect();
        for &db in databases {
            let opened;
            let conn = match at {
                End::Source => self.source_data(db).await?,
                End::Target => {
                    opened = self.dial(End::Target, db).await?;
                    &opened
                }
            };
            for (slot, keys) in conn.count_keys(slots).await.map_err(no_answer(at))? {
                *total.entry(slot).or_default() += keys;
            }
        }
        Ok(total)
    }

    /// What a node's answers say of these slots.
    fn facts(&self, at: End, slots: &SlotSet, answers: Answers) -> Result<EndFacts, Fault> {
        let Answers { time: _, nodes, databases, counted: keys } = answers;
        let view = NodeView::parse(&nodes).map_err(|error| Fault::NoAnswer { at, why: error.to_string() })?;
        let myself = view.myself();
        let others = view.lines().filter(|line| !line.myself);
        let named: BTreeMap<Slot, NodeId> = others
            .flat_map(|line| line.slots.intersection(slots).iter().map(|slot| (slot, line.id)).collect::<Vec<_>>())
            .collect();
        // One without an address is never found to have failed, and hears nobody.
        let may_hear = |line: &&NodeLine| line.failing != Failing::Agreed && !line.handshake && !line.no_address;
        let primaries = view.lines().filter(|line| line.role == Role::Primary).filter(may_hear);
        let owned_by_nobody = |slot: &Slot| !myself.slots.contains(*slot) && !named.contains_key(slot);
        let mut facts = EndFacts {
            primary: myself.role == Role::Primary,
            hides_keys: self.version(at).hides_keys(),
            owned: myself.slots.clone(),
            ownerless: slots.iter().filter(owned_by_nobody).collect(),
            names_owner: named,
            keys,
            databases,
            epochs: primaries.map(|line| (line.id, line.config_epoch)).collect(),
            ..EndFacts::default()
        };
        for marker in &myself.markers {
            match *marker {
                Marker::Migrating { slot, to } => facts.migrating.insert(slot, to),
                Marker::Importing { slot, from } => facts.importing.insert(slot, from),
            };
        }
        Ok(facts)
    }
}
