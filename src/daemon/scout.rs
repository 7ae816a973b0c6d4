//! Looks for big keys ahead of a move, in the time that passes before it may begin: a plan is carried out only when a
//! further look shows the same cluster, and until then its servers have nothing to do for us.
//!
//! A scout only reads. Where clients are there it takes turns with everybody, as a move does that begins, and rests when they
//! wait too long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument, debug, info_span};

use super::big_keys::{GroupLook, Rules};
use super::canary::Canary;
use super::ends::{Connections, Fault};
use super::pacer::Pacer;
use super::turns::TurnsAt;
use super::worker::COUNT_AHEAD;
use crate::cluster::{Slot, SlotSet};
use crate::migration::Pair;
use crate::throttle::{GroupLimits, next_group};

/// How old what was seen of a slot may be when it is opened.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// What passes until the move begins may take so long, so that something of what was seen is still good then.
pub(super) const AWAITED_FOR: Duration = Duration::from_secs(5);

/// What was seen of slots that are to be opened.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    slots: BTreeMap<Slot, Seen>,
    look: GroupLook,
    newest: Option<Instant>,
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
        self.newest = Some(at);
    }

    /// Whether any of these slots was looked at, and lately. When nothing was, all of it is forgotten.
    pub(super) fn is_about(&mut self, slots: &SlotSet) -> bool {
        if self.newest.is_some_and(|newest| newest.elapsed() >= GOOD_FOR) {
            *self = Self::default();
        }
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
    pub(super) pacer: Pacer,
    pub(super) turns: TurnsAt,
}

/// A task that looks ahead, until it has looked at enough or this is dropped.
#[derive(Debug)]
pub(super) struct Scout {
    pair: Pair,
    foresight: Arc<Mutex<Foresight>>,
    /// For the move to go on with: they know whether clients are there.
    _canaries: Vec<Arc<Canary>>,
    task: JoinHandle<()>,
}

impl Scout {
    /// Sends one to the source of a move; the canaries are those of its pacer.
    pub(super) fn send(scouting: Scouting, canaries: Vec<Arc<Canary>>) -> Self {
        let (pair, foresight) = (scouting.ends.pair, Arc::new(Mutex::new(Foresight::default())));
        let seen = Arc::clone(&foresight);
        let looking = async move {
            // What is the matter is for the move to find and to tell.
            if let Err(fault) = scouting.look_ahead(&seen).await {
                debug!(%fault, "no further look ahead");
            }
        };
        let span = info_span!("scout", source = %pair.source.short(), target = %pair.target.short());
        let task = tokio::spawn(looking.instrument(span));
        Self { pair, foresight, _canaries: canaries, task }
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
        let mut left = self.keys;
        while !self.slots.is_empty() {
            let ahead: SlotSet = self.slots.iter().take(COUNT_AHEAD).collect();
            self.slots = self.slots.difference(&ahead);
            let mut counts = self.ends.count_at_source(&ahead).await?;
            while !counts.is_empty() {
                let counted = next_group(&mut counts, self.group);
                let at = Instant::now();
                let Some(look) = self.look_at(&counted).await? else { return Ok(()) };
                seen.lock().unwrap_or_else(PoisonError::into_inner).add(&counted, look, at);
                left = left.saturating_sub(counted.values().sum());
                if left == 0 {
                    return Ok(());
                }
                tokio::time::sleep(self.pacer.wait_for(0)).await;
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, counts: &BTreeMap<Slot, u64>) -> Result<Option<GroupLook>, Fault> {
        let turn = match self.pacer.takes_turns_among() {
            Some(among) => Some(self.turns.wait(among).await),
            None => None,
        };
        let look = self.ends.big_keys(&self.rules, counts, self.dataset, self.pacer.has_clients()).await;
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
        foresight.add(&counts(&seen), look(&seen), long_ago);
        assert!(!foresight.is_about(&counts(&seen).into_keys().collect()));
        assert!(foresight.slots.is_empty() && foresight.look.listed.is_empty(), "nothing is kept: {foresight:?}");
    }
}
