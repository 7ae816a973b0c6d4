//! One look at the cluster, for the commands that only look.

use anyhow::{Context, anyhow, bail};

use super::instance;
use crate::cluster::{NodeId, Observation, SlotSet, Topology};
use crate::config::Config;
use crate::daemon::{Patience, Poller};
use crate::redis::{Conn, Counted, Dialer, Intent};

/// What one look brought.
pub(super) struct Glimpse {
    /// What every node said.
    pub(super) observation: Observation,
    /// What it amounts to.
    pub(super) topology: Topology,
    dialer: Dialer,
}

impl Glimpse {
    /// Looks. Fails when no node can be reached, naming every seed and its error.
    pub(super) async fn take(config: &Config) -> anyhow::Result<Self> {
        let dialer = Dialer::new(config, Intent::Observing, &instance());
        let mut poller = Poller::new(dialer.clone(), config.cluster.seeds.clone());
        let looked = poller.look(Patience::Usual).await;
        poller.close();
        let look = match looked {
            Ok(look) => look,
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                bail!("no seed can be used\n  {}", errors.join("\n  "));
            }
        };
        let topology = Topology::merge(&look.observation, &SlotSet::new());
        Ok(Self { observation: look.observation, topology, dialer })
    }

    /// A connection to a node that answered the look.
    pub(super) async fn open(&self, node: NodeId) -> anyhow::Result<Conn> {
        let observed = self.observation.nodes.get(&node).ok_or_else(|| anyhow!("{node} did not answer"))?;
        let hostname = observed.view.myself().hostname.as_deref();
        self.dialer.open(&observed.dialled, hostname, node).await.context("the node answered a moment ago")
    }

    /// Keys of these slots at a node, over all its databases.
    pub(super) async fn count_keys(&self, node: NodeId, slots: &SlotSet) -> anyhow::Result<Counted> {
        let mut total: Counted = slots.iter().map(|slot| (slot, 0)).collect();
        let databases = self.open(node).await?.databases().await?;
        for db in databases {
            // A connection for each database: to change it on one in use would count in the wrong one.
            let conn = self.open(node).await?;
            if db != 0 {
                conn.select(db).await?;
            }
            for (slot, keys) in conn.count_keys(slots).await? {
                *total.entry(slot).or_default() += keys;
            }
        }
        Ok(total)
    }
}
