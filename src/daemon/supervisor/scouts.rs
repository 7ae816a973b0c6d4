//! Scouts, sent ahead of moves that only a further look is missing for.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::debug;

use super::super::big_keys::Rules;
use super::super::canary::Canary;
use super::super::decide::{Decision, Start};
use super::super::ends::Connections;
use super::super::scout::{AWAITED_FOR, Foresight, Scout, Scouting};
use super::{Picture, Supervisor};
use crate::cluster::Product;
use crate::config::{Config, MigrationConfig};
use crate::migration::Pair;
use crate::throttle::GroupLimits;

/// Keys that all scouts look at together: names of as many are held meanwhile, which is about 50 MB.
const KEYS_AHEAD: u64 = 500_000;

impl Supervisor {
    /// Sends scouts ahead of moves that the next look may permit, and calls back those of moves that nobody is to begin.
    pub(super) fn send_scouts(&mut self, decision: &Decision, config: &Config) {
        let awaited: BTreeSet<Pair> = decision.ahead.iter().chain(&decision.start).map(|start| start.pair).collect();
        self.scouts.retain(|_, scout| awaited.contains(&scout.pair()));
        if !Self::is_worth_a_look_ahead(config) {
            return;
        }
        let each = KEYS_AHEAD / decision.ahead.len().max(1) as u64;
        for start in &decision.ahead {
            if !self.scouts.contains_key(&start.pair.source) {
                self.send_scout(start, each, config);
            }
        }
    }

    /// Whether much of what a scout sees is still good when its slots are opened: who has plain limits opens few of them by then.
    fn is_worth_a_look_ahead(config: &Config) -> bool {
        let MigrationConfig { slots_per_second, keys_per_second, bytes_per_second, .. } = config.migration;
        let limits = [slots_per_second, keys_per_second, bytes_per_second];
        config.schedule.poll <= AWAITED_FOR && limits.iter().all(Option::is_none)
    }

    fn send_scout(&mut self, Start { pair, slots, .. }: &Start, keys: u64, config: &Config) {
        let Some(picture) = self.picture.clone() else { return };
        let (observation, topology, ours) = (&picture.look.observation, &picture.topology, self.ours.subscribe());
        let ends = Connections::between(*pair, observation, topology, &self.dialer, config, ours);
        // What keeps it from being sent keeps its move from beginning, and is told then.
        let Ok(Some(ends)) = ends else { return };
        debug!(source = %pair.source, target = %pair.target, slots = slots.len(), "looking ahead");
        let canaries = self.canaries_at(&ends);
        let scouting = Scouting {
            slots: slots.clone(),
            rules: self.rules(*pair, &picture, config),
            group: self.group_limits(config),
            dataset: picture.infos.get(&pair.source).map_or(0, |info| info.dataset_bytes),
            keys,
            pacer: self.pacer(*pair, &config.migration, canaries.clone(), 0.0),
            turns: self.turns.at(&ends.source_address().host),
            ends,
        };
        self.scouts.insert(pair.source, Scout::send(scouting, canaries));
    }

    /// What the scout of this move has seen.
    pub(super) fn foresight(&self, pair: Pair) -> Foresight {
        let scout = self.scouts.get(&pair.source).filter(|scout| scout.pair() == pair);
        scout.map(Scout::report).unwrap_or_default()
    }

    /// What is to become of big keys between two nodes.
    pub(super) fn rules(&self, pair: Pair, picture: &Picture, config: &Config) -> Rules {
        let settings = self.checks.as_ref().map(|(found, _)| found.settings.clone()).unwrap_or_default();
        let product = picture.infos.get(&pair.source).map_or(Product::Redis, |info| info.version.product);
        Rules::new(product, pair, &config.migration, &settings)
    }

    /// How much of a move may be open at once.
    pub(super) fn group_limits(&self, config: &Config) -> GroupLimits {
        let (slots, keys) = (config.migration.group_slots, config.migration.group_keys);
        GroupLimits::new(slots, keys, self.rates.slots_at_once(), self.rates.keys_of_a_group())
    }

    /// The canaries of both ends.
    pub(super) fn canaries_at(&mut self, ends: &Connections) -> Vec<Arc<Canary>> {
        let counts = self.checks.as_ref().map(|(found, _)| &found.counts);
        let canaries = ends.addresses().map(|(node, address, name)| {
            let counted = counts.and_then(|counts| counts.get(&node).copied());
            self.canaries.at(node, address, name, &self.dialer, counted)
        });
        canaries.into_iter().collect()
    }
}
