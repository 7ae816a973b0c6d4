//! The cluster of the demonstration: how it is formed and grows, and what its nodes say of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;

use super::server::{Program, Server};
use crate::cluster::{Address, NodeId, NodeInfo, NodeView, ServerVersion, Slot};
use crate::redis::Conn;

/// How long the nodes may take to agree. A new cluster takes two seconds: no server calls it whole sooner.
const AGREED_WITHIN: Duration = Duration::from_secs(30);

/// Running servers that are one cluster, and some that may join it. All end when this is dropped.
#[derive(Debug)]
pub(super) struct LocalCluster {
    members: Vec<Server>,
    waiting: Vec<Server>,
    version: ServerVersion,
}

/// What the primaries hold, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout(pub(super) Vec<Share>);

/// What one primary holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Where it listens.
    pub(super) address: Address,
    /// How many slots it owns.
    pub(super) slots: usize,
    /// How many keys it holds.
    pub(super) keys: u64,
}

impl LocalCluster {
    /// Starts `primaries` servers that share the slots evenly, and `waiting` more that no one knows yet.
    pub(super) async fn start(
        program: &Program,
        directory: &Path,
        primaries: usize,
        waiting: usize,
    ) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        let mut from = 0;
        // One after the other: each takes the next free port.
        for _ in 0..primaries + waiting {
            let server = Server::start(program, directory, from).await?;
            from = server.address.port + 1;
            servers.push(server);
        }
        let waiting = servers.split_off(primaries);
        let version = info(&servers[0].conn).await?.version;
        let cluster = Self { members: servers, waiting, version };
        cluster.form().await.context("the servers do not form a cluster")?;
        Ok(cluster)
    }

    async fn form(&self) -> anyhow::Result<()> {
        for (index, server) in self.members.iter().enumerate() {
            // Distinct epochs from the start spare the nodes the settling of collisions.
            call(&server.conn, ["SET-CONFIG-EPOCH".to_owned(), (index + 1).to_string()]).await?;
            let bound = |index: usize| index * Slot::COUNT / self.members.len();
            // ADDSLOTS with every slot: Redis 6.2 knows no ranges.
            let slots = (bound(index)..bound(index + 1)).map(|slot| slot.to_string());
            call(&server.conn, std::iter::once("ADDSLOTS".to_owned()).chain(slots)).await?;
        }
        for server in &self.members[1..] {
            self.meet(server).await?;
        }
        self.agreed().await
    }

    /// Lets those that wait join, empty, and waits until every node knows them.
    pub(super) async fn join_waiting(&mut self) -> anyhow::Result<()> {
        for server in std::mem::take(&mut self.waiting) {
            self.meet(&server).await?;
            self.members.push(server);
        }
        self.agreed().await
    }

    async fn meet(&self, server: &Server) -> anyhow::Result<()> {
        let Address { host, port } = &server.address;
        call(&self.members[0].conn, ["MEET".to_owned(), host.clone(), port.to_string()]).await
    }

    async fn agreed(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            match self.layout().await {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > AGREED_WITHIN => {
                    return Err(error.context(format!("no agreement within {AGREED_WITHIN:?}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// What each node holds. An error when they do not all agree on that, or a slot is open.
    pub(super) async fn layout(&self) -> anyhow::Result<Layout> {
        let mut shares = Vec::new();
        let mut owned: Option<BTreeMap<NodeId, usize>> = None;
        for server in &self.members {
            let view = NodeView::parse(&server.conn.cluster_nodes().await?)?;
            let info = info(&server.conn).await?;
            let myself = view.myself();
            ensure!(info.cluster_ok, "{} says that the cluster is down", server.address);
            ensure!(myself.markers.is_empty(), "{} has open slots", server.address);
            let sees: BTreeMap<NodeId, usize> = view.lines().map(|line| (line.id, line.slots.len())).collect();
            ensure!(sees.len() == self.members.len(), "{} knows {} nodes", server.address, sees.len());
            ensure!(owned.is_none_or(|owned| owned == sees), "{} disagrees on who owns what", server.address);
            owned = Some(sees);
            let keys = info.keys.get(&0).copied().unwrap_or_default();
            shares.push(Share { address: server.address.clone(), slots: myself.slots.len(), keys });
        }
        Ok(Layout(shares))
    }

    /// The connection to each slot's owner, by the slot's number, as the owners themselves say.
    pub(super) async fn owners(&self) -> anyhow::Result<Vec<&Conn>> {
        let mut owners = BTreeMap::new();
        for server in &self.members {
            let view = NodeView::parse(&server.conn.cluster_nodes().await?)?;
            owners.extend(view.myself().slots.iter().map(|slot| (slot, &server.conn)));
        }
        ensure!(owners.len() == Slot::COUNT, "only {} slots have an owner", owners.len());
        Ok(owners.into_values().collect())
    }

    /// Where the members listen, for people.
    pub(super) fn addresses(&self) -> String {
        let addresses: Vec<_> = self.members.iter().map(|server| server.address.to_string()).collect();
        addresses.join(", ")
    }

    /// Where the members listen.
    pub(super) fn seeds(&self) -> Vec<Address> {
        self.members.iter().map(|server| server.address.clone()).collect()
    }

    /// Where the first member listens.
    pub(super) fn seed(&self) -> Address {
        self.members[0].address.clone()
    }

    /// The one that came last.
    pub(super) fn joined(&self) -> &Address {
        &self.members[self.members.len() - 1].address
    }

    /// What the servers are.
    pub(super) fn version(&self) -> ServerVersion {
        self.version
    }
}

impl Layout {
    /// How the shares differ by more than one slot; `None` when they do not.
    pub(super) fn fault(&self) -> Option<String> {
        let slots = self.0.iter().map(|share| share.slots);
        let (least, most) = (slots.clone().min().unwrap_or_default(), slots.clone().max().unwrap_or_default());
        let level = most - least <= 1 && slots.sum::<usize>() == Slot::COUNT;
        (!level).then(|| format!("the cluster is not level: its primaries hold from {least} to {most} slots"))
    }

    /// How the nodes' own counts differ from the number of keys that were written; `None` when they do not.
    pub(super) fn miscounted(&self, written: u64) -> Option<String> {
        let held: u64 = self.0.iter().map(|share| share.keys).sum();
        (held != written).then(|| format!("the primaries count {held} keys, where {written} were written"))
    }
}

async fn call(conn: &Conn, words: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    conn.call("CLUSTER", words.into_iter().map(Bytes::from).collect()).await?;
    Ok(())
}

async fn info(conn: &Conn) -> anyhow::Result<NodeInfo> {
    Ok(NodeInfo::parse(&conn.info(None).await?, &conn.cluster_info().await?)?)
}
