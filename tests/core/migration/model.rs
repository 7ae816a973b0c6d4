//! Two primaries, a bystander's view and the clients' keys, in memory: what `CLUSTER SETSLOT`, `MIGRATE` and gossip do.
//!
//! Replies and refusals are those that were measured on Redis 6.2 to 8.8 and Valkey 8.0 to 9.1. Not modelled: other
//! finalises (there is one pair), failovers, commands that are carried out after their connection was given up.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel::cluster::{NodeId, Slot, SlotSet};
use evenkeel::migration::{Batch, Comparison, End, EndFacts, Ends, Key, Mark, MigrateReply, Pair, SetSlotReply};

/// Which servers: they differ in what is left of the source's mark once gossip has told it of the new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Valkey,
}

/// Where a key lives on a node: slot and database.
pub(crate) type Place = (Slot, u32);

/// One primary, by what it knows itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) replica: bool,
    /// Counts starts of the process; marks and keys are persistent.
    pub(crate) process: u32,
    pub(crate) epoch: u64,
    pub(crate) claims: SlotSet,
    pub(crate) migrating: BTreeMap<Slot, NodeId>,
    pub(crate) importing: BTreeMap<Slot, NodeId>,
    /// Whom it takes for the owner of a slot, where that is not the source.
    pub(crate) names_owner: BTreeMap<Slot, NodeId>,
    /// Slots that nobody owns, in its view.
    pub(crate) ownerless: SlotSet,
    pub(crate) keys: BTreeMap<Place, BTreeMap<Key, u64>>,
    /// It counts no keys of slots that it neither claims nor imports.
    pub(crate) hides: bool,
}

impl Node {
    pub(crate) fn get(&self, place: Place, key: &Key) -> Option<u64> {
        self.keys.get(&place).and_then(|keys| keys.get(key)).copied()
    }

    pub(crate) fn put(&mut self, place: Place, key: &Key, value: Option<u64>) {
        let keys = self.keys.entry(place).or_default();
        match value {
            Some(value) => keys.insert(key.clone(), value),
            None => keys.remove(key),
        };
    }

    /// Keys of the slot, over all databases.
    pub(crate) fn count(&self, slot: Slot) -> u64 {
        self.keys.iter().filter(|((of, _), _)| *of == slot).map(|(_, keys)| keys.len() as u64).sum()
    }

    pub(crate) fn marked(&self, slot: Slot) -> bool {
        self.migrating.contains_key(&slot) || self.importing.contains_key(&slot)
    }

    fn facts(&self, count: Option<&SlotSet>) -> EndFacts {
        let shows = |slot: Slot| !self.hides || self.claims.contains(slot) || self.importing.contains_key(&slot);
        let count_one = |slot: Slot| (slot, if shows(slot) { self.count(slot) } else { 0 });
        let counted = count.map(|slots| slots.iter().map(count_one).collect());
        let used = self.keys.iter().filter(|(_, keys)| !keys.is_empty());
        let databases: BTreeSet<u32> = used.map(|((_, db), _)| *db).collect();
        EndFacts {
            primary: !self.replica,
            hides_keys: self.hides,
            owned: self.claims.clone(),
            migrating: self.migrating.clone(),
            importing: self.importing.clone(),
            keys: counted.unwrap_or_default(),
            names_owner: self.names_owner.clone(),
            ownerless: self.ownerless.clone(),
            databases: databases.into_iter().collect(),
            ..EndFacts::default()
        }
    }
}

/// How one `MIGRATE` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// As the servers' state has it.
    Plain,
    /// `IOERR`: so many keys moved, and of the rest so many were copied without the source learning of it.
    Broken { moved: usize, copied: usize },
}

/// The servers, and what clients were told was written.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) kind: Kind,
    pub(crate) pair: Pair,
    pub(crate) source: Node,
    pub(crate) target: Node,
    /// The source's epoch as the target knows it.
    heard_epoch: u64,
    /// The slots that the bystander knows the target to own.
    bystander: SlotSet,
    /// The target takes no more keys.
    pub(crate) full: bool,
    /// What the next `SETSLOT` is answered for its first slot, which stays as it is.
    pub(crate) next_setslot: Option<SetSlotReply>,
    /// Every value that a client was told was written, and not deleted since.
    acknowledged: BTreeMap<(Place, Key), u64>,
    last_value: u64,
}

impl Model {
    /// The value of keys that the target holds from a time before anybody looked.
    pub(crate) const STRAY: u64 = u64::MAX;

    /// Whether the target shows such keys only while it imports the slot.
    pub(crate) fn has_strays(&self, slot: Slot) -> bool {
        let places = self.target.keys.iter().filter(|((at, _), _)| *at == slot);
        self.target.hides && places.flat_map(|(_, keys)| keys.values()).any(|&value| value == Self::STRAY)
    }

    /// The source owns the slots, and some other one unless `last`.
    pub(crate) fn new(kind: Kind, slots: &SlotSet, last: bool) -> Self {
        let id = |digit: &str| digit.repeat(40).parse().unwrap();
        let mut source = Node { claims: slots.clone(), epoch: 1, ..Node::default() };
        if !last {
            source.claims.insert(Slot::LAST);
        }
        Self {
            kind,
            pair: Pair { source: id("a"), target: id("b") },
            source,
            target: Node { epoch: 2, ..Node::default() },
            heard_epoch: 1,
            bystander: SlotSet::new(),
            full: false,
            next_setslot: None,
            acknowledged: BTreeMap::new(),
            last_value: 0,
        }
    }

    pub(crate) fn at(&mut self, end: End) -> &mut Node {
        match end {
            End::Source => &mut self.source,
            End::Target => &mut self.target,
        }
    }

    /// Slots of the pair with a mark, or claimed by both ends or by none.
    pub(crate) fn open_slots(&self, slots: &SlotSet) -> SlotSet {
        let open = |&slot: &Slot| {
            let claims = [&self.source, &self.target].map(|node| node.claims.contains(slot));
            self.source.marked(slot) || self.target.marked(slot) || claims[0] == claims[1]
        };
        slots.iter().filter(open).collect()
    }

    pub(crate) fn ends(&self, slots: &SlotSet, counts: [bool; 2], ours: &SlotSet) -> Ends {
        let [source, target] = counts.map(|counts| counts.then_some(slots));
        let Pair { source: a, target: b } = self.pair;
        // The source hears of every claim of the target with the claim itself.
        let source = EndFacts {
            epochs: BTreeMap::from([(a, self.source.epoch), (b, self.target.epoch)]),
            ..self.source.facts(source)
        };
        let target = EndFacts {
            epochs: BTreeMap::from([(a, self.heard_epoch), (b, self.target.epoch)]),
            ..self.target.facts(target)
        };
        Ends::new(self.pair, source, target, ours)
    }

    /// Both nodes have just taken over from others, at once: they have the same epoch.
    pub(crate) fn take_over_both(&mut self) {
        let epoch = self.source.epoch.max(self.target.epoch) + 1;
        (self.source.epoch, self.target.epoch, self.heard_epoch) = (epoch, epoch, epoch);
    }

    /// The source raises its epoch, and has told nobody yet.
    pub(crate) fn raise_source(&mut self) {
        self.source.epoch = self.source.epoch.max(self.target.epoch) + 1;
    }

    /// Each hears the other's ping: of two with the same epoch, the source raises its own.
    pub(crate) fn ping(&mut self) {
        if self.source.epoch == self.target.epoch {
            self.raise_source();
        }
        self.heard_epoch = self.source.epoch;
    }

    /// The epoch with which the target would claim a slot that it imports: above all that it has heard of, or its own if
    /// none of these is higher.
    pub(crate) fn epoch_of_claim(&self) -> u64 {
        if self.target.epoch < self.heard_epoch { self.heard_epoch + 1 } else { self.target.epoch }
    }

    pub(crate) fn list(&self, place: Place, count: u32) -> Vec<Key> {
        let keys = self.source.keys.get(&place).into_iter().flat_map(BTreeMap::keys);
        keys.take(count as usize).cloned().collect()
    }

    /// `CLUSTER SETSLOT` of one slot.
    pub(crate) fn set_slot(&mut self, at: End, mark: Mark, slot: Slot) -> SetSlotReply {
        if let Some(reply) = self.next_setslot.take() {
            return reply;
        }
        let refused = |text: &str| SetSlotReply::from_error(&text.replace('N', &slot.to_string()));
        let (pair, epoch_of_claim) = (self.pair, self.epoch_of_claim());
        let node = self.at(at);
        if node.replica {
            return refused("ERR Please use SETSLOT only with masters.");
        }
        let owner = node.claims.contains(slot);
        match mark {
            Mark::Importing if owner => return refused("ERR I'm already the owner of hash slot N"),
            Mark::Importing => {
                node.importing.insert(slot, pair.source);
            }
            Mark::Migrating if !owner => return refused("ERR I'm not the owner of hash slot N"),
            Mark::Migrating => {
                node.migrating.insert(slot, pair.target);
            }
            Mark::Stable => {
                node.importing.remove(&slot);
                node.migrating.remove(&slot);
            }
            Mark::Redirected => {
                node.names_owner.remove(&slot);
                node.ownerless.remove(slot);
            }
            Mark::Assigned if at == End::Target => {
                if node.importing.remove(&slot).is_some() {
                    node.epoch = epoch_of_claim;
                }
                node.claims.insert(slot);
            }
            Mark::Assigned => {
                if owner && node.count(slot) > 0 {
                    return refused("ERR Can't assign hashslot N to a different node while I still hold keys for it");
                }
                node.migrating.remove(&slot);
                node.claims.remove(slot);
                self.demote();
            }
        }
        SetSlotReply::Ok
    }

    /// A primary that has lost its last slot becomes a replica of the new owner, and forgets its marks.
    fn demote(&mut self) {
        if self.source.claims.is_empty() {
            self.source.replica = true;
            self.source.migrating.clear();
            self.source.importing.clear();
        }
    }

    /// The source hears what the target claims: it gives those slots up, with every key of them that it holds.
    pub(crate) fn gossip_to_source(&mut self) {
        let heard: Vec<Slot> = self.target.claims.iter().filter(|&slot| self.source.claims.contains(slot)).collect();
        for slot in heard {
            self.source.claims.remove(slot);
            self.source.keys.retain(|(of, _), _| *of != slot);
            if self.kind == Kind::Valkey {
                self.source.migrating.remove(&slot);
            }
            self.demote();
        }
    }

    pub(crate) fn gossip_to_bystander(&mut self) {
        self.bystander = self.target.claims.clone();
    }

    /// `MIGRATE` of a batch.
    pub(crate) fn migrate(&mut self, batch: &Batch, call: Call) -> MigrateReply {
        let (slot, place) = (batch.slot, (batch.slot, batch.db));
        if !self.source.claims.contains(slot) && !self.source.importing.contains_key(&slot) {
            return MigrateReply::from_error(&format!("MOVED {slot} 127.0.0.1:7001"));
        }
        let there: Vec<(Key, u64)> =
            batch.keys.iter().filter_map(|key| Some((key.clone(), self.source.get(place, key)?))).collect();
        let moved =
            if self.source.migrating.contains_key(&slot) { MigrateReply::Moved } else { MigrateReply::MovedUnmarked };
        if there.is_empty() {
            return moved;
        }
        let from_target =
            |text: &str| MigrateReply::from_error(&format!("ERR Target instance replied with error: {text}"));
        if !self.target.claims.contains(slot) && !self.target.importing.contains_key(&slot) {
            return from_target(&format!("MOVED {slot} 127.0.0.1:7000"));
        }
        let mut collided = false;
        for (at, (key, value)) in there.iter().enumerate() {
            let (taken, deleted) = match call {
                Call::Plain => (true, true),
                Call::Broken { moved, copied } => (at < moved + copied, at < moved),
            };
            if self.full {
                // The first half still fitted.
                if at >= there.len() / 2 {
                    return from_target("OOM command not allowed when used memory > 'maxmemory'.");
                }
            }
            if taken && !batch.replace && self.target.get(place, key).is_some() {
                collided = true;
                continue;
            }
            if taken {
                self.target.put(place, key, Some(*value));
            }
            if deleted {
                self.source.put(place, key, None);
            }
        }
        match call {
            Call::Broken { .. } => MigrateReply::from_error("IOERR error or timeout reading to target instance"),
            Call::Plain if collided => from_target("BUSYKEY Target key name already exists."),
            Call::Plain => moved,
        }
    }

    pub(crate) fn compare(&self, batch: &Batch) -> Comparison {
        let mut comparison = Comparison::default();
        let place = (batch.slot, batch.db);
        for key in &batch.keys {
            match (self.source.get(place, key), self.target.get(place, key)) {
                (Some(a), Some(b)) if a == b => comparison.same.push(key.clone()),
                (Some(_), Some(_)) => comparison.different.push(key.clone()),
                (Some(_), None) => comparison.only_source.push(key.clone()),
                (None, Some(_) | None) => {}
            }
        }
        comparison
    }

    /// The target deletes what it has of these slots byte by byte as the source; counts what stays.
    pub(crate) fn drop_copies(&mut self, slots: &SlotSet) -> Vec<(Slot, u64)> {
        let source = &self.source;
        for (&place, keys) in self.target.keys.iter_mut().filter(|((slot, _), _)| slots.contains(*slot)) {
            keys.retain(|key, value| source.get(place, key) != Some(*value));
        }
        slots.iter().map(|slot| (slot, self.target.count(slot))).collect()
    }

    /// The node that serves a key to a client that follows redirects, or `None` for one that is sent in circles.
    fn served_by(&self, place: Place, key: &Key) -> Option<End> {
        let slot = place.0;
        let mut at = if self.bystander.contains(slot) { End::Target } else { End::Source };
        let mut asking = false;
        for _redirect in 0..5 {
            let (node, other) = match at {
                End::Source => (&self.source, End::Target),
                End::Target => (&self.target, End::Source),
            };
            let owner = node.claims.contains(slot);
            if owner && node.migrating.contains_key(&slot) && node.get(place, key).is_none() {
                (at, asking) = (other, true);
            } else if owner || (asking && node.importing.contains_key(&slot)) {
                return Some(at);
            } else {
                (at, asking) = (other, false);
            }
        }
        None
    }

    /// A client writes a value that was never there before.
    pub(crate) fn client_sets(&mut self, place: Place, key: &Key) {
        self.last_value += 1;
        let end = self.served_by(place, key).expect("a client that writes is not sent in circles");
        let value = self.last_value;
        self.at(end).put(place, key, Some(value));
        self.acknowledged.insert((place, key.clone()), value);
    }

    /// A script writes, at the source, a key that it did not declare: the one way in which an open slot gets new keys.
    pub(crate) fn script_sets(&mut self, place: Place, key: &Key) {
        let owned = self.source.claims.contains(place.0) && !self.target.claims.contains(place.0);
        if owned && self.target.get(place, key).is_none() {
            self.last_value += 1;
            self.source.put(place, key, Some(self.last_value));
            self.acknowledged.insert((place, key.clone()), self.last_value);
        }
    }

    /// A client deletes a key; a key with copies at both ends it leaves alone.
    ///
    /// Until the interrupted call is repeated the copy at the target would be read as if it had come back, and nobody
    /// can do anything about it but be quick.
    pub(crate) fn client_deletes(&mut self, place: Place, key: &Key) {
        if self.source.get(place, key).is_some() && self.target.get(place, key).is_some() {
            return;
        }
        let end = self.served_by(place, key).expect("a client that deletes is not sent in circles");
        self.at(end).put(place, key, None);
        self.acknowledged.remove(&(place, key.clone()));
    }

    /// Every value that was acknowledged is read, and nothing else.
    pub(crate) fn assert_clients_read_what_they_wrote(&self, places: &[Place], keys: &[Key]) {
        for &place in places {
            for key in keys {
                let end = self.served_by(place, key);
                let node = match end {
                    Some(End::Source) => &self.source,
                    Some(End::Target) => &self.target,
                    None => panic!("clients that ask for {key:?} of slot {} are sent in circles", place.0),
                };
                let (read, written) = (node.get(place, key), self.acknowledged.get(&(place, key.clone())).copied());
                assert_eq!(read, written, "{key:?} of slot {}, database {}, read at {end:?}", place.0, place.1);
            }
        }
    }
}
