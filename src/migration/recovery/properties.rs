//! What no verdict may do, whatever the facts; and that following verdicts comes to an end without losing a key.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::cluster::Slot;
use crate::cluster::fixtures::id;

const PRIMARIES: [&str; 4] = ["a", "b", "c", "d"];
/// `e` is a replica of `a` by now, `f` is nobody.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// More verdicts than any slot needs to come to rest.
const ROUNDS: usize = 12;

fn name() -> impl Strategy<Value = NodeId> {
    prop::sample::select(&NAMES[..]).prop_map(id)
}

fn voice() -> impl Strategy<Value = Voice> {
    let mark = || prop::option::weighted(0.3, name());
    let keys = prop_oneof![2 => Just(0), 1 => 1..4u64];
    let owner = prop_oneof![
        6 => Just(Some(id("a"))),
        1 => Just(None),
        2 => name().prop_map(Some),
    ];
    (owner, mark(), mark(), keys, 0..4u64).prop_map(|(owner, migrating, importing, keys, epoch)| Voice {
        owner,
        migrating,
        importing,
        keys,
        epoch,
    })
}

fn facts() -> impl Strategy<Value = SlotFacts> {
    prop::collection::vec(voice(), PRIMARIES.len()).prop_map(|voices| {
        let primaries: BTreeMap<NodeId, Voice> = PRIMARIES.into_iter().map(id).zip(voices).collect();
        SlotFacts {
            slot: Slot::new(5).unwrap(),
            heir: primaries.keys().next().copied(),
            primaries,
            silent: BTreeSet::new(),
            lost: BTreeSet::new(),
            heads: BTreeMap::from([(id("e"), id("a"))]),
            stale_replicas: BTreeSet::new(),
            job: false,
        }
    })
}

/// The servers, as far as `SETSLOT` and `ADDSLOTS` go; keys that they would delete are lost.
struct Servers {
    facts: SlotFacts,
    lost: u64,
}

impl Servers {
    fn voice(&mut self, node: NodeId) -> &mut Voice {
        self.facts.primaries.get_mut(&node).unwrap()
    }

    fn obey(&mut self, order: Order) {
        let at = order.at();
        match order {
            Order::Stable { .. } => {
                self.check_stable(at);
                (self.voice(at).migrating, self.voice(at).importing) = (None, None);
            }
            Order::Importing { from, .. } => {
                assert_ne!(self.voice(at).owner, Some(at), "IMPORTING at the owner is refused");
                self.voice(at).importing = Some(from);
            }
            Order::Migrating { to, .. } => {
                assert_eq!(self.voice(at).owner, Some(at), "MIGRATING at another node is refused");
                self.voice(at).migrating = Some(to);
            }
            Order::AddSlot { .. } => {
                assert_eq!(self.voice(at).owner, None, "ADDSLOTS of a busy slot is refused");
                self.voice(at).importing = None;
                self.claim(at);
            }
            Order::Node { owner, .. } if owner == at => {
                assert!(self.voice(at).importing.is_some(), "without the mark the claim has no new epoch");
                self.voice(at).importing = None;
                self.claim(at);
            }
            Order::Node { owner, .. } => {
                let voice = self.voice(at);
                assert!(voice.keys == 0 || voice.owner != Some(at), "NODE at an owner with keys is refused");
                voice.owner = Some(owner);
                if voice.keys == 0 {
                    voice.migrating = None;
                }
            }
        }
    }

    /// `STABLE` where it hides no key: at an owner when nobody else holds one, at another node when it holds none.
    fn check_stable(&self, at: NodeId) {
        let owns = self.facts.primaries[&at].owner == Some(at);
        let hidden = if owns { self.facts.holders_but(at).len() as u64 } else { self.facts.primaries[&at].keys };
        assert_eq!(hidden, 0, "STABLE at {at} hides keys: {:?}", self.facts);
    }

    /// Everybody hears of the new claim; who claimed it until then deletes its keys.
    fn claim(&mut self, node: NodeId) {
        let epoch = self.facts.primaries.values().map(|voice| voice.epoch).max().unwrap() + 1;
        self.voice(node).epoch = epoch;
        for (&at, voice) in &mut self.facts.primaries {
            if voice.owner == Some(at) && at != node {
                self.lost += std::mem::take(&mut voice.keys);
            }
            voice.owner = Some(node);
        }
    }

    fn follow(&mut self, verdict: &Verdict) {
        for order in verdict.orders() {
            self.obey(*order);
        }
        match verdict {
            Verdict::GoForward { pair: Pair { source, target }, .. } => {
                assert_eq!(self.voice(*source).owner, Some(*source), "it is carried away from its owner");
                assert!(self.facts.holders_but(*source).iter().all(|node| node == target), "{:?}", self.facts);
                self.voice(*target).keys += std::mem::take(&mut self.voice(*source).keys);
                (self.voice(*target).importing, self.voice(*source).migrating) = (None, None);
                self.claim(*target);
            }
            Verdict::Gather { owner, holders, .. } => {
                assert_eq!(self.voice(*owner).owner, Some(*owner), "keys are brought to the owner");
                assert_eq!(self.voice(*owner).migrating, None, "who gives a slot away takes no key of it");
                for &holder in holders {
                    self.voice(*owner).keys += std::mem::take(&mut self.voice(holder).keys);
                    (self.voice(holder).importing, self.voice(holder).migrating) = (None, None);
                }
            }
            Verdict::Sound
            | Verdict::Settle { .. }
            | Verdict::Wait { .. }
            | Verdict::Human { .. }
            | Verdict::CannotTell { .. } => {}
        }
    }

    fn keys(&self) -> u64 {
        self.facts.primaries.values().map(|voice| voice.keys).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn following_verdicts_loses_no_key_and_comes_to_rest(facts in facts()) {
        let mut servers = Servers { facts, lost: 0 };
        let keys = servers.keys();
        let mut rounds = 0;
        loop {
            let verdict = recover(&servers.facts);
            match verdict {
                Verdict::Sound | Verdict::Human { .. } => break,
                Verdict::Settle { .. } | Verdict::GoForward { .. } | Verdict::Gather { .. } => servers.follow(&verdict),
                Verdict::Wait { .. } | Verdict::CannotTell { .. } => panic!("{verdict:?}"),
            }
            rounds += 1;
            prop_assert!(rounds < ROUNDS, "no rest: {verdict:?} of {:?}", servers.facts);
        }
        prop_assert_eq!((servers.keys(), servers.lost), (keys, 0));
    }

    #[test]
    fn while_anybody_is_silent_nobody_is_told_anything(facts in facts()) {
        let facts = SlotFacts { silent: BTreeSet::from([id("f")]), ..facts };
        prop_assert!(recover(&facts).orders().is_empty());
    }
}
