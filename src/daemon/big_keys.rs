//! Big keys, before the slots that hold them are opened: finding them, and what becomes of them. Those that are only heavy
//! enough to fill much of a call are found on the same way.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::SettingsByNode;
use super::ends::{Connections, Fault, no_answer};
use crate::cluster::{NodeId, Product, Slot, SlotSet};
use crate::config::{BigKeys, MigrationConfig, Window};
use crate::migration::{End, HeavyKeys, Key, KeySize, ListedKeys, Pair, Trouble, least_bytes};
use crate::redis::{CallError, Conn, SlotLook};

/// How long a look at one small key holds the source, its name in the answer included: 2.0 µs (Valkey 9.1) to 2.4 µs (Redis
/// 7.0), measured by the servers' own count over a million keys.
const LOOK_AT_A_KEY: Duration = Duration::from_nanos(2_500);
/// Keys of several slots that one call looks at where clients would wait for it.
const KEYS_BESIDE_CLIENTS: u32 = 100;
/// Of a slot with more keys than this only so many are looked at: to have all their names at once costs the source
/// some milliseconds, and there is no way to have them in parts before some have moved.
const KEYS_OF_A_SLOT: u32 = 20_000;

/// A key that takes long to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BigKey {
    pub(super) db: u32,
    pub(super) slot: Slot,
    pub(super) key: Key,
    pub(super) size: KeySize,
}

/// A key is heavy that fills more than this part of what one call may hold a node: more than 20 KB by default. A part half as
/// large would have every string of a kilobyte asked for its type.
const HEAVY_PART: u32 = 16;

/// What is to become of big keys between two nodes.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    product: Product,
    policy: BigKeys,
    window: Option<Window>,
    /// How long a key may hold its node without being called big.
    limit: Duration,
    /// How long a key may hold its node without being counted when a call is filled.
    light: Duration,
    /// No key may hold its node longer, whatever the policy: a node that keeps silent for half its time-out is on its
    /// way to being failed over.
    ceiling: Duration,
    /// Keys of one slot that one call looks at, and of several where no client waits for it.
    keys_at_once: u32,
    /// `cluster-node-timeout`, where it is known.
    pub(super) node_timeout: Option<Duration>,
    /// How many bytes of one key the target takes.
    payload_max: u64,
}

/// What a look at the keys of slots brought.
#[derive(Debug, Default)]
pub(super) struct GroupLook {
    pub(super) big: Vec<BigKey>,
    /// The names of all keys that were looked at.
    pub(super) listed: ListedKeys,
}

impl GroupLook {
    fn add(&mut self, db: u32, SlotLook { slot, keys, big }: SlotLook) {
        self.big.extend(big.into_iter().map(|(key, size)| BigKey { db, slot, key, size }));
        self.listed.insert((db, slot), keys);
    }

    /// Adds what another look brought.
    pub(super) fn merge(&mut self, other: Self) {
        self.big.extend(other.big);
        self.listed.extend(other.listed);
    }

    /// Takes out what it tells of such slots.
    pub(super) fn take(&mut self, of: impl Fn(Slot) -> bool) -> Self {
        let big = self.big.extract_if(.., |big| of(big.slot)).collect();
        let listed = self.listed.extract_if(.., |(_, slot), _| of(*slot)).collect();
        Self { big, listed }
    }
}

/// What is to become of the big keys that were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Slots that are not opened, and why.
    pub(super) refused: BTreeMap<Slot, Trouble>,
    /// Keys that are counted when a call is filled.
    pub(super) heavy: HeavyKeys,
}

impl Rules {
    pub(super) fn new(product: Product, pair: Pair, config: &MigrationConfig, settings: &SettingsByNode) -> Self {
        let of = |node: NodeId| settings.get(&node).cloned().unwrap_or_default();
        let (source, target) = (of(pair.source), of(pair.target));
        let node_timeout = [source.node_timeout, target.node_timeout].into_iter().flatten().min();
        let keys_at_once = config.block_max.as_nanos() / LOOK_AT_A_KEY.as_nanos();
        let ceiling = node_timeout.map_or(config.big_key_block_max, |node_timeout| node_timeout / 4);
        Self {
            product,
            policy: config.big_keys,
            window: config.big_key_window.clone(),
            limit: config.big_key_block_max.min(ceiling),
            light: config.block_max / HEAVY_PART,
            ceiling,
            keys_at_once: u32::try_from(keys_at_once).unwrap_or(u32::MAX).clamp(KEYS_BESIDE_CLIENTS, KEYS_OF_A_SLOT),
            node_timeout,
            payload_max: target.bulk_max(),
        }
    }

    /// Whether a key is not only heavy.
    pub(super) fn is_big(&self, big: &BigKey) -> bool {
        big.size.blocks_for(self.product) > self.limit
    }

    /// No key of fewer bytes is of interest.
    fn least_bytes(&self) -> u64 {
        least_bytes(self.product, self.limit.min(self.light)).min(self.payload_max)
    }

    /// Decides. `now` is for the window.
    pub(super) fn judge(&self, found: &[BigKey], now: Timestamp) -> Judged {
        let mut judged = Judged::default();
        for big in found {
            let block = big.size.blocks_for(self.product);
            match self.refuse(big, block, now) {
                Some(why) => drop(judged.refused.entry(big.slot).or_insert(why)),
                None if block > self.light => drop(judged.heavy.insert((big.db, big.key.clone()), block)),
                None => {}
            }
        }
        judged
    }

    fn refuse(&self, big: &BigKey, block: Duration, now: Timestamp) -> Option<Trouble> {
        let (slot, payload) = (big.slot, big.size.payload());
        if payload > self.payload_max {
            return Some(Trouble::PayloadTooBig { slot, bytes: payload, limit: self.payload_max });
        }
        let big_key = |limit, window: Option<&Window>| {
            let (until, begins_in) = (window.map(Window::to_string), window.map(|window| window.begins_in(now)));
            Some(Trouble::BigKey { slot, block, limit, until, begins_in })
        };
        if block > self.ceiling {
            return big_key(self.ceiling, None);
        }
        match (self.policy, &self.window) {
            _ if block <= self.limit => None,
            (BigKeys::Move, _) => None,
            (BigKeys::Window, Some(window)) if window.contains(now) => None,
            (BigKeys::Window, Some(window)) => big_key(self.limit, Some(window)),
            (BigKeys::Refuse | BigKeys::Window, _) => big_key(self.limit, None),
        }
    }
}

impl Connections {
    /// The big keys of slots that are to be opened, by how many keys each of them holds, and the names of all;
    /// `dataset` is how many bytes the source holds altogether. `None` where the server refuses to look.
    ///
    /// What is added between this and the move is not seen, nor what lies beyond the first 20,000 keys of a slot. A
    /// server that runs no scripts is moved from all the same.
    pub(super) async fn big_keys(
        &mut self,
        rules: &Rules,
        counts: &BTreeMap<Slot, u64>,
        dataset: u64,
        has_clients: bool,
    ) -> Result<Option<GroupLook>, Fault> {
        let least = rules.least_bytes();
        if dataset < least {
            return Ok(Some(GroupLook::default()));
        }
        let began = Instant::now();
        let mut found = GroupLook::default();
        let databases = self.control(End::Source).await?.databases().await.map_err(no_answer(End::Source))?;
        for db in databases {
            let together = if has_clients { KEYS_BESIDE_CLIENTS } else { rules.keys_at_once };
            let conn = self.source_data(db).await?;
            match look(conn, counts, least, (together, rules.keys_at_once)).await {
                Ok(looks) => looks.into_iter().for_each(|look| found.add(db, look)),
                Err(error @ CallError::NoAnswer { .. }) => return Err(no_answer(End::Source)(error)),
                Err(error @ (CallError::Refused { .. } | CallError::Unexpected { .. })) => {
                    warn!(%error, "big keys cannot be looked for, and are moved like others");
                    return Ok(None);
                }
            }
        }
        debug!(
            slots = counts.len(),
            found = found.big.len(),
            took_us = began.elapsed().as_micros(),
            "looked for big keys"
        );
        Ok(Some(found))
    }
}

/// Looks at the keys of these slots in the connection's database. One call looks at so many keys of several slots `together`, and
/// `at_once` of one.
async fn look(
    conn: &Conn,
    counts: &BTreeMap<Slot, u64>,
    least: u64,
    (together, at_once): (u32, u32),
) -> Result<Vec<SlotLook>, CallError> {
    let mut looks = Vec::new();
    for slots in rounds(counts, together, at_once) {
        looks.extend(conn.look_at_slots(&slots, least, at_once).await?);
    }
    for (&slot, _) in counts.iter().filter(|(_, keys)| **keys > at_once.into()) {
        for (slot, keys) in conn.list_keys(&[slot], KEYS_OF_A_SLOT).await? {
            let mut big = Vec::new();
            for keys in keys.chunks(at_once as usize) {
                big.extend(conn.big_keys(keys, least).await?);
            }
            looks.push(SlotLook { slot, keys, big });
        }
    }
    Ok(looks)
}

/// The slots that have few keys, in rounds of as many keys as one call may look at; a slot with more of them has one of its own.
fn rounds(counts: &BTreeMap<Slot, u64>, together: u32, at_once: u32) -> Vec<SlotSet> {
    let mut rounds: Vec<SlotSet> = Vec::new();
    let mut room = 0;
    for (&slot, &keys) in counts.iter().filter(|(_, keys)| (1..=at_once.into()).contains(*keys)) {
        match rounds.last_mut() {
            Some(round) if keys <= room => drop(round.insert(slot)),
            Some(_) | None => {
                rounds.push(SlotSet::from_iter([slot]));
                room = together.into();
            }
        }
        room = room.saturating_sub(keys);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeSettings;
    use crate::cluster::fixtures::id;
    use crate::migration::KeyKind;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    /// What becomes of a hash of so many fields on Redis, at three in the morning: `moved`, `alone` or the trouble.
    fn check(big_keys: BigKeys, window: &str, node_timeout_ms: u64, fields: u64, expect: &str) {
        let window = Some(window).filter(|window| !window.is_empty()).map(|window| window.parse().unwrap());
        let config = MigrationConfig { big_keys, big_key_window: window, ..MigrationConfig::default() };
        let pair = Pair { source: id("a"), target: id("b") };
        let node_timeout = Some(Duration::from_millis(node_timeout_ms));
        let settings = NodeSettings { node_timeout, proto_max_bulk_len: Some(100_000_000), ..NodeSettings::default() };
        let rules = Rules::new(
            Product::Redis,
            pair,
            &config,
            &SettingsByNode::from([(id("a"), settings.clone()), (id("b"), settings)]),
        );
        let size = KeySize { kind: KeyKind::Elements, elements: fields, bytes: fields * 60 };
        let found = [BigKey { db: 0, slot: slot(7), key: Key::from_static(b"k"), size }];
        let judged = rules.judge(&found, "2026-11-24T03:00:00Z".parse().unwrap());
        let said = match (judged.refused.get(&slot(7)), judged.heavy.len()) {
            (Some(why), 0) => why.to_string(),
            (Some(why), heavy) => panic!("{why}, and {heavy} moved"),
            (None, 0) => "light".to_owned(),
            (None, _) => "heavy".to_owned(),
        };
        assert!(said.contains(expect), "{said}, not {expect}");
        // What is of interest is found.
        assert!(said == "light" || size.bytes >= rules.least_bytes());
    }

    #[test]
    fn a_big_key_is_refused_moved_or_left_to_its_hours() {
        check(BigKeys::Refuse, "", 15_000, 90, "light");
        check(BigKeys::Refuse, "", 15_000, 110, "heavy");
        check(BigKeys::Refuse, "", 15_000, 300, "heavy");
        check(BigKeys::Refuse, "", 15_000, 100_000, "heavy");
        check(BigKeys::Refuse, "", 15_000, 300_000, "for about 402 ms, and no more than 200 ms are allowed");
        check(BigKeys::Move, "", 15_000, 300_000, "heavy");
        check(BigKeys::Window, "02:00-04:00 UTC", 15_000, 300_000, "heavy");
        check(BigKeys::Window, "04:00-06:00 UTC", 15_000, 300_000, "200 ms are allowed outside of 04:00-06:00 UTC");
    }

    #[test]
    fn no_policy_lets_a_key_hold_a_node_until_it_counts_as_failing() {
        check(BigKeys::Move, "", 1_200, 300_000, "no more than 300 ms");
        check(BigKeys::Refuse, "", 400, 100_000, "no more than 100 ms");
    }

    #[test]
    fn what_the_target_does_not_take_is_refused_whatever_the_policy() {
        check(BigKeys::Move, "", 60_000, 3_000_000, "takes no more than 100000000");
    }

    #[test]
    fn a_look_holds_the_source_no_longer_than_a_call_may() {
        let at_once = |block_max: Duration| {
            let config = MigrationConfig { block_max, ..MigrationConfig::default() };
            let pair = Pair { source: id("a"), target: id("b") };
            Rules::new(Product::Redis, pair, &config, &SettingsByNode::new()).keys_at_once
        };
        assert_eq!(at_once(MigrationConfig::default().block_max), 800);
        assert_eq!(at_once(Duration::from_micros(10)), KEYS_BESIDE_CLIENTS);
        assert_eq!(at_once(Duration::from_secs(1)), KEYS_OF_A_SLOT);
    }

    #[test]
    fn one_call_looks_at_so_many_keys_and_never_at_a_slot_that_has_more() {
        let check = |counts: &[(u16, u64)], expect: &[&str]| {
            let counts = counts.iter().map(|&(number, keys)| (slot(number), keys)).collect();
            let rounds: Vec<String> = rounds(&counts, 200, 300).iter().map(ToString::to_string).collect();
            assert_eq!(rounds, expect);
        };
        check(&[(1, 120), (2, 80), (3, 1)], &["1-2", "3"]);
        check(&[(1, 0), (2, 301), (3, 300), (4, 1)], &["3", "4"]);
        check(&[], &[]);
    }
}
