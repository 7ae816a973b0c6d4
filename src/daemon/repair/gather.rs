//! Keys that lie at a node which does not own their slot, and keys with two values.
//!
//! No copy is overwritten or dropped unless both are equal, or a human said which to keep.

use thiserror::Error;

use super::super::Lease;
use super::super::ends::Connections;
use super::obey::Failures;
use super::{Diagnosis, Left, Prefer, Repair};
use crate::cluster::{Marker, NodeId, Slot, SlotSet};
use crate::migration::{Batch, Comparison, EndFacts, Key, MigrateReply, Order, Pair, Reply, Step};

/// Keys of one listing and of one call: about half a millisecond of both nodes.
const AT_ONCE: usize = 100;
/// Keys of one listing, beside those that are known to stay.
const LISTED: u32 = 1_000;
/// Listings without a key coming home before a slot is left.
const WITHOUT_PROGRESS: u32 = 5;

/// The two directions between an owner and a node that holds keys of its slot.
struct Ways {
    slot: Slot,
    /// From the holder to the owner: lists and moves.
    home: Connections,
    /// From the owner to the holder: compares, and drops copies there.
    away: Connections,
    prefer: Option<Prefer>,
    lease: Lease,
    moved: u64,
    /// Keys with two values that nobody said which to keep of.
    conflicts: Vec<Key>,
}

impl Repair<'_> {
    /// Brings keys of these slots to their owner. Counts those that were moved.
    pub(super) async fn gather(
        &mut self,
        owner: NodeId,
        holders: &[NodeId],
        slots: &SlotSet,
        now: &Diagnosis,
        failures: &mut Failures,
    ) -> u64 {
        let mut keys = 0;
        for slot in slots.iter() {
            for &holder in holders {
                if self.leave.is_cancelled() {
                    failures.insert(slot, Left::Failed("interrupted".to_owned()));
                    return keys;
                }
                let (moved, left) = self.gather_slot(slot, owner, holder, now).await;
                keys += moved;
                self.doctor.forget(holder, slot);
                failures.extend(left.map(|left| (slot, left)));
            }
        }
        keys
    }

    async fn gather_slot(&self, slot: Slot, owner: NodeId, holder: NodeId, now: &Diagnosis) -> (u64, Option<Left>) {
        let alone = SlotSet::from_iter([slot]);
        // Without the mark the holder would not give its keys away, nor show them to who comes with ASKING. One that gave
        // the slot away once would go on doing so: that it does is hidden by nothing but the owner's claim.
        let gives_away = now.look.observation.nodes.get(&holder).is_some_and(|observed| {
            let markers = &observed.view.myself().markers;
            markers.iter().any(|marker| matches!(marker, Marker::Migrating { slot: its, .. } if *its == slot))
        });
        let unmark = gives_away.then_some(Order::Stable { at: holder });
        let orders: Vec<Order> = unmark.into_iter().chain([Order::Importing { at: holder, from: owner }]).collect();
        if let Some(left) = self.obey(&orders, &alone, now).await.remove(&slot) {
            return (0, Some(left));
        }
        let home = self.connections(Pair { source: holder, target: owner }, now).await;
        let away = self.connections(Pair { source: owner, target: holder }, now).await;
        let (home, away) = match (home, away) {
            (Ok(home), Ok(away)) => (home, away),
            (Err(why), _) | (_, Err(why)) => return (0, Some(Left::Failed(why))),
        };
        let prefer = self.prefer_for(slot);
        let lease = self.lease.clone();
        let mut ways = Ways { slot, home, away, prefer, lease, moved: 0, conflicts: Vec::new() };
        let brought = ways.bring_home().await;
        ways.home.close();
        ways.away.close();
        // The mark was ours. What is left there, such as keys with two values, no client saw before either.
        let unmarked = self.obey(&[Order::Stable { at: holder }], &alone, now).await.remove(&slot);
        let conflict = (!ways.conflicts.is_empty()).then_some(Left::Conflict { keys: ways.conflicts.len() });
        (ways.moved, brought.err().map(Left::Failed).or(unmarked).or(conflict))
    }

    /// Makes keys with two values of a half-moved slot have one. Counts them.
    pub(super) async fn settle_conflicts(
        &self,
        pair: Pair,
        slot: Slot,
        prefer: Prefer,
        now: &Diagnosis,
    ) -> Result<u64, String> {
        let back = Pair { source: pair.target, target: pair.source };
        let (mut forth, mut back) = (self.connections(pair, now).await?, self.connections(back, now).await?);
        let source = look(&mut forth, slot).await?;
        // Without the source's mark the keys would vanish for clients the moment they are at the target.
        if source.migrating.get(&slot) != Some(&pair.target) {
            return Err("its source has lost its mark".to_owned());
        }
        let mut settled = 0;
        for db in source.databases {
            let keys = list(&mut forth, db, slot, LISTED).await?;
            for keys in keys.chunks(AT_ONCE) {
                let batch = Batch { db, slot, keys: keys.to_vec(), replace: false };
                let different = compare(&mut forth, batch).await?.different;
                if different.is_empty() {
                    continue;
                }
                let count = different.len() as u64;
                let batch = Batch { db, slot, keys: different, replace: true };
                let way = match prefer {
                    Prefer::Source => &mut forth,
                    // The source holds a key of this name and so answers for it, in spite of its mark.
                    Prefer::Target => &mut back,
                };
                migrate(way, batch).await?.map_err(|why| format!("keys with two values: {why}"))?;
                settled += count;
            }
        }
        forth.close();
        back.close();
        Ok(settled)
    }
}

impl Ways {
    /// Until the holder has no key of the slot but those with two values.
    async fn bring_home(&mut self) -> Result<(), String> {
        let mut without_progress = 0;
        while without_progress < WITHOUT_PROGRESS {
            let holder = look(&mut self.home, self.slot).await?;
            if !holder.importing.contains_key(&self.slot) || holder.owned.contains(self.slot) {
                return Err("somebody else changed it meanwhile".to_owned());
            }
            if holder.keys_of(self.slot) <= self.conflicts.len() as u64 {
                return Ok(());
            }
            if !self.lease.may_act() {
                return Err("the lease is lost".to_owned());
            }
            let before = (self.moved, self.conflicts.len());
            for db in holder.databases {
                self.bring_database_home(db).await?;
            }
            let moved = before != (self.moved, self.conflicts.len());
            without_progress = if moved { 0 } else { without_progress + 1 };
        }
        Err("its keys do not come home".to_owned())
    }

    async fn bring_database_home(&mut self, db: u32) -> Result<(), String> {
        let known = u32::try_from(self.conflicts.len()).unwrap_or(u32::MAX);
        let mut keys = list(&mut self.home, db, self.slot, LISTED.saturating_add(known)).await?;
        keys.retain(|key| !self.conflicts.contains(key));
        for keys in keys.chunks(AT_ONCE) {
            let batch = Batch { db, slot: self.slot, keys: keys.to_vec(), replace: false };
            match migrate(&mut self.home, batch.clone()).await? {
                Ok(()) => self.moved += keys.len() as u64,
                Err(NotMoved::KeyExists) => self.settle(batch).await?,
                // Copies may be at both ends now; equal ones are dropped at the next turn.
                Err(NotMoved::Ambiguous(_)) => {}
                Err(why @ NotMoved::Refused(_)) => return Err(format!("its keys do not come home: {why}")),
            }
        }
        Ok(())
    }

    /// Some of these keys are at the owner too.
    async fn settle(&mut self, batch: Batch) -> Result<(), String> {
        let Comparison { same, different, .. } = compare(&mut self.away, batch.clone()).await?;
        // A second copy of what the owner has. To send it there once more could undo what a client writes meanwhile.
        let mut dropped = same;
        match self.prefer {
            None => self.conflicts.extend(different),
            Some(Prefer::Source) => dropped.extend(different),
            Some(Prefer::Target) if different.is_empty() => {}
            Some(Prefer::Target) => {
                let count = different.len() as u64;
                let batch = Batch { keys: different, replace: true, ..batch.clone() };
                migrate(&mut self.home, batch).await?.map_err(|why| format!("its keys do not come home: {why}"))?;
                self.moved += count;
            }
        }
        self.moved += dropped.len() as u64;
        self.away.delete_at_target(batch.db, &dropped).await.map_err(|fault| fault.to_string())
    }
}

/// Why a call moved nothing, or not everything.
#[derive(Debug, Error)]
enum NotMoved {
    #[error("a key is there already")]
    KeyExists,
    #[error("{0}")]
    Ambiguous(String),
    #[error("{0}")]
    Refused(String),
}

/// The source's own words.
async fn look(ends: &mut Connections, slot: Slot) -> Result<EndFacts, String> {
    let slots = SlotSet::from_iter([slot]);
    let step = Step::ReadEnds { slots, count_source: true, count_target: false, ask_for_writes: false };
    let Reply::Ends(ends) = perform(ends, step).await? else { return Err(MISFIT.to_owned()) };
    Ok(ends.source)
}

async fn list(ends: &mut Connections, db: u32, slot: Slot, count: u32) -> Result<Vec<Key>, String> {
    let step = Step::ListKeys { db, slots: vec![slot], count };
    let Reply::Listed(listed) = perform(ends, step).await? else { return Err(MISFIT.to_owned()) };
    Ok(listed.into_iter().flat_map(|(_, keys)| keys).collect())
}

async fn compare(ends: &mut Connections, batch: Batch) -> Result<Comparison, String> {
    let Reply::Compared(comparison) = perform(ends, Step::CompareKeys(batch)).await? else {
        return Err(MISFIT.to_owned());
    };
    Ok(comparison)
}

async fn migrate(ends: &mut Connections, batch: Batch) -> Result<Result<(), NotMoved>, String> {
    let Reply::Moved(reply) = perform(ends, Step::MoveKeys(batch)).await? else { return Err(MISFIT.to_owned()) };
    Ok(match reply {
        MigrateReply::Moved | MigrateReply::MovedUnmarked => Ok(()),
        MigrateReply::KeyExists => Err(NotMoved::KeyExists),
        MigrateReply::Ambiguous(text) => Err(NotMoved::Ambiguous(text)),
        MigrateReply::NotImporting(text) | MigrateReply::NotServed(text) => Err(NotMoved::Refused(text)),
        MigrateReply::Blocked(blocked) => Err(NotMoved::Refused(blocked.to_string())),
    })
}

/// What a bug of ours would be told as.
const MISFIT: &str = "an answer that does not fit the step";

async fn perform(ends: &mut Connections, step: Step) -> Result<Reply, String> {
    ends.perform(step).await.map_err(|fault| fault.to_string())
}
