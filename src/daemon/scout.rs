//! Looks for big keys ahead of a move, in the time that passes before it may begin: a plan is carried out only when a
//! further look shows the same cluster, and until then its servers have nothing to do for us.
//!
//! A scout only reads, and is as gentle as the looks that a move makes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use super::big_keys::{GroupLook, Rules};
use super::canary::Canary;
use super::ends::{Connections, Fault};
use super::turns::{Among, TurnsAt};
use crate::cluster::{Slot, SlotSet};
use crate::migration::Pair;
use crate::throttle::{GroupLimits, next_group};

/// How old what was seen of a slot may be when it is opened.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// Slots that are counted at a time.
const COUNT_AHEAD: usize = 1_024;

/// What was seen of slots that are to be opened.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    slots: BTreeMap<Slot, Seen>,
    look: GroupLook,
}

/// When a slot was looked at, and how many keys it held.
#[derive(Clone, Copy, Debug)]
struct Seen {
    keys: u64,
    at: Instant,
}

impl Foresight {
    /// Adds a look at these slots, by how many keys each of them held before it.
    fn add(&mut self, counts: &BTreeMap<Slot, u64>, look: GroupLook, at: Instant) {
        self.slots.extend(counts.iter().map(|(&slot, &keys)| (slot, Seen { keys, at })));
        self.look.merge(look);
    }

    /// Whether any of these slots was looked at.
    pub(super) fn is_about(&self, slots: &SlotSet) -> bool {
        slots.iter().any(|slot| self.slots.contains_key(&slot))
    }

    /// Takes what was seen of these slots, by how many keys each of them holds now. What nobody looked at, or not lately, and
    /// what holds another number of keys by now stays in `counts`.
    pub(super) fn take(&mut self, counts: &mut BTreeMap<Slot, u64>) -> GroupLook {
        let mut look = self.look.take(|slot| counts.contains_key(&slot));
        let is_so_still = |seen: &Seen, keys: u64| seen.keys == keys && seen.at.elapsed() < GOOD_FOR;
        let known: SlotSet = counts
            .extract_if(.., |slot, keys| self.slots.remove(slot).is_some_and(|seen| is_so_still(&seen, *keys)))
            .map(|(slot, _)| slot)
            .collect();
        look.take(|slot| known.contains(slot))
    }
}

/// What a scout works with.
pub(super) struct Scouting {
    pub(super) ends: Connections,
    /// In the order in which they are opened.
    pub(super) slots: SlotSet,
    pub(super) rules: Rules,
    pub(super) group: GroupLimits,
    /// Bytes that the source holds.
    pub(super) dataset: u64,
    /// About how many keys are to be looked at; their names are held until their slots are opened.
    pub(super) keys: u64,
    pub(super) canaries: Vec<Arc<Canary>>,
    pub(super) turns: TurnsAt,
}

/// A task that looks ahead, until it has looked at enough or this is dropped.
#[derive(Debug)]
pub(super) struct Scout {
    pair: Pair,
    foresight: Arc<Mutex<Foresight>>,
    task: JoinHandle<()>,
}

impl Scout {
    /// Sends one to the source of this move.
    pub(super) fn send(scouting: Scouting) -> Self {
        let (pair, foresight) = (scouting.ends.pair, Arc::new(Mutex::new(Foresight::default())));
        let seen = Arc::clone(&foresight);
        let task = tokio::spawn(async move {
            // What is the matter is for the move to find and to tell.
            if let Err(fault) = scouting.look_ahead(&seen).await {
                debug!(source = %pair.source, %fault, "no further look ahead");
            }
        });
        Self { pair, foresight, task }
    }

    /// Between whom the move is that it looks ahead of.
    pub(super) fn pair(&self) -> Pair {
        self.pair
    }

    /// What it has seen so far, and does not keep.
    pub(super) fn report(&self) -> Foresight {
        std::mem::take(&mut *self.foresight.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scouting {
    async fn look_ahead(mut self, seen: &Mutex<Foresight>) -> Result<(), Fault> {
        self.ends.open().await?;
        let mut left = self.keys;
        while !self.slots.is_empty() {
            let ahead: SlotSet = self.slots.iter().take(COUNT_AHEAD).collect();
            self.slots = self.slots.difference(&ahead);
            let mut counts = self.ends.count_at_source(&ahead).await?;
            while !counts.is_empty() {
                let group = next_group(&counts, self.group);
                let counted: BTreeMap<Slot, u64> = counts.extract_if(.., |slot, _| group.contains(*slot)).collect();
                let at = Instant::now();
                let look = self.look_at(&counted).await?;
                seen.lock().unwrap_or_else(PoisonError::into_inner).add(&counted, look, at);
                left = left.saturating_sub(counted.values().sum());
                if left == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, counts: &BTreeMap<Slot, u64>) -> Result<GroupLook, Fault> {
        let has_clients = self.canaries.iter().any(|canary| canary.felt().in_use);
        let turn = if has_clients { Some(self.turns.wait(Among::Neighbours).await) } else { None };
        let look = self.ends.big_keys(&self.rules, counts, self.dataset, has_clients).await;
        drop(turn);
        look
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Key;

    fn counts(counts: &[(u16, u64)]) -> BTreeMap<Slot, u64> {
        counts.iter().map(|&(slot, keys)| (Slot::new(slot).unwrap(), keys)).collect()
    }

    /// A look at slots that found so many keys in each, called by their numbers.
    fn look(of: &[(u16, u64)]) -> GroupLook {
        let name = |key: u64| Key::from(key.to_string());
        let listed = counts(of).into_iter().map(|(slot, keys)| ((0, slot), (0..keys).map(name).collect()));
        GroupLook { listed: listed.collect(), ..GroupLook::default() }
    }

    /// Slots with how many names are known of each, and slots that are to be looked at.
    fn taken(foresight: &mut Foresight, now: &[(u16, u64)]) -> (String, String) {
        let mut unknown = counts(now);
        let look = foresight.take(&mut unknown);
        let known = look.listed.iter().map(|((_, slot), keys)| format!("{slot}:{}", keys.len()));
        (known.collect::<Vec<_>>().join(" "), unknown.into_keys().collect::<SlotSet>().to_string())
    }

    #[tokio::test]
    async fn what_was_seen_counts_once_and_where_a_slot_holds_as_many_keys_as_then() {
        let mut foresight = Foresight::default();
        let seen = [(1, 2), (2, 3), (3, 0), (4, 1)];
        foresight.add(&counts(&seen), look(&seen), Instant::now());
        let now = [(1, 2), (2, 4), (3, 0), (9, 1)];
        assert_eq!(taken(&mut foresight, &now), ("1:2 3:0".to_owned(), "2,9".to_owned()));
        assert_eq!(taken(&mut foresight, &now), (String::new(), "1-3,9".to_owned()));
        assert_eq!(taken(&mut foresight, &[(4, 1)]), ("4:1".to_owned(), String::new()));
        assert!(foresight.slots.is_empty() && foresight.look.listed.is_empty(), "nothing is kept: {foresight:?}");
    }

    #[tokio::test]
    async fn what_was_seen_long_ago_does_not_count() {
        let mut foresight = Foresight::default();
        let seen = [(1, 2)];
        let Some(long_ago) = Instant::now().checked_sub(GOOD_FOR) else { panic!("the clock has just begun") };
        foresight.add(&counts(&seen), look(&seen), long_ago);
        assert_eq!(taken(&mut foresight, &seen), (String::new(), "1".to_owned()));
    }
}
