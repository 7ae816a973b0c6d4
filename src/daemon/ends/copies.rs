//! What a target holds from its time as the source's replica.

use std::collections::{BTreeMap, BTreeSet};

use super::{Connections, Fault, no_answer};
use crate::cluster::{Slot, SlotSet};
use crate::migration::{End, Key, Reply};
use crate::redis::Conn;

/// Keys of one listing, beside those that are known to stay.
const LISTED: u32 = 1_000;
/// Keys that are compared and deleted together: about half a millisecond of both nodes, where they are small.
const AT_ONCE: usize = 100;

impl Connections {
    /// Deletes of these slots what is at the target byte by byte as at the source; counts what stays.
    ///
    /// The target has its mark and the source has none, so clients see the source's keys only, before and after.
    pub(super) async fn drop_copies(&mut self, slots: &SlotSet) -> Result<Reply, Fault> {
        let databases = self.control(End::Target).await?.databases().await.map_err(no_answer(End::Target))?;
        let mut kept: BTreeMap<Slot, u64> = BTreeMap::new();
        for db in databases {
            // A connection of its own: between ASKING and the call that it is for, nothing else may be sent.
            let target = self.dial(End::Target, db).await?;
            let source = self.source_data(db).await?;
            for slot in slots.iter() {
                *kept.entry(slot).or_default() += drop_equal(source, &target, slot).await?;
            }
        }
        Ok(Reply::Dropped(kept.into_iter().collect()))
    }
}

/// Of one slot in one database; counts what stays.
async fn drop_equal(source: &Conn, target: &Conn, slot: Slot) -> Result<u64, Fault> {
    let at_target = no_answer(End::Target);
    let mut kept: BTreeSet<Key> = BTreeSet::new();
    loop {
        let count = LISTED.saturating_add(u32::try_from(kept.len()).unwrap_or(u32::MAX));
        let listed = target.list_keys(&[slot], count).await.map_err(&at_target)?;
        let mut keys: Vec<Key> = listed.into_iter().flat_map(|(_, keys)| keys).collect();
        keys.retain(|key| !kept.contains(key));
        if keys.is_empty() {
            return Ok(kept.len() as u64);
        }
        for keys in keys.chunks(AT_ONCE) {
            let comparison = source.compare_keys(target, keys).await;
            let at = if target.is_dead() { End::Target } else { End::Source };
            let comparison = comparison.map_err(no_answer(at))?;
            target.delete_asking(&comparison.same).await.map_err(&at_target)?;
            // What it does not hold any more stays for nobody.
            let gone = |key: &&Key| comparison.same.contains(key) || comparison.only_source.contains(key);
            kept.extend(keys.iter().filter(|key| !gone(key)).cloned());
        }
    }
}
