//! Looking at the cluster: connections to every node that anyone knows of, and one full reading of all of them a pass; while
//! it is at rest, a [`Glance`] instead.
//!
//! What the nodes said is only collected here. Whether it makes sense is the affair of [`Topology::merge`].
//!
//! [`Topology::merge`]: crate::cluster::Topology::merge

mod glance;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use glance::Glance;

use super::jobs::Jobs;
use crate::cluster::{Address, CallCount, KnownLines, NodeId, NodeInfo, NodeView, Observation, Observed, Role, Silent};
use crate::redis::{CallError, Conn, Dialer, OpenError, explained};
use glance::Signs;

/// Nodes that are dialled or read side by side: enough to hide their latency, few enough for a file limit of 1,024.
const SIDE_BY_SIDE: usize = 64;
/// How soon a node is offered a password or certificate again that it did not take.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How often newly heard-of nodes are followed in one pass. Each round finds the neighbours of the one before; nodes
/// gossip about all others, so one round nearly always suffices.
const DISCOVERY_ROUNDS: usize = 3;
/// A node that could not be reached is left alone for this many times as long as the attempt took: one that refuses is
/// tried in every pass, and one that swallows packets slows few of them down.
const REDIAL_AFTER: u32 = 5;
/// The same while slots of ours are open and something is wrong: what a node that hung woke with is to be known soon.
const REDIAL_AFTER_ALARMED: u32 = 1;

/// One full reading of the cluster.
#[derive(Debug)]
pub struct Look {
    /// Looks and glances since the start, this one included.
    pub number: u64,
    /// What every node said.
    pub observation: Observation,
    /// Of nodes that hold marks: how often `MIGRATE` and `SETSLOT` were called there, ever.
    pub mover_calls: BTreeMap<NodeId, u64>,
    /// When the reading began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
}

/// The last look, and what has gone wrong since.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The last look that reached any node.
    pub look: Option<Arc<Look>>,
    /// The last glance since then: that the look is still true.
    pub glance: Option<Arc<Glance>>,
    /// Why the looks after it reached none; empty when the last one did.
    pub errors: Vec<String>,
    /// Looks and glances that have ended, well or not.
    pub polls_ended: u64,
    /// What is wrong and keeps nobody from looking, for people.
    pub warnings: Vec<String>,
}

/// How long a look waits for one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as any call may take.
    Usual,
    /// A second: the others are to be known soon. A node that is slower counts as silent for this look, and its
    /// connection is closed.
    Alarmed,
}

impl Patience {
    async fn wait<T>(self, reading: impl Future<Output = T>) -> Option<T> {
        match self {
            Self::Usual => Some(reading.await),
            Self::Alarmed => tokio::time::timeout(Duration::from_secs(1), reading).await.ok(),
        }
    }

    /// How long a node that could not be reached is left alone, in times of what the attempt took.
    fn redial_after(self) -> u32 {
        match self {
            Self::Usual => REDIAL_AFTER,
            Self::Alarmed => REDIAL_AFTER_ALARMED,
        }
    }
}

/// How to reach a node that was heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    address: Address,
    hostname: Option<String>,
}

/// A node that could not be reached or read.
#[derive(Clone, Debug)]
struct Unreachable {
    endpoint: Endpoint,
    why: String,
    tried: Instant,
    took: Duration,
}

/// Reads the cluster. Owns one connection to each node.
#[derive(Debug)]
pub struct Poller {
    dialer: Dialer,
    seeds: Vec<Address>,
    conns: BTreeMap<NodeId, Conn>,
    unreachable: BTreeMap<NodeId, Unreachable>,
    jobs: Jobs,
    seeds_tried: bool,
    /// Every connection is to be made anew, with the passwords and certificates as they are now.
    renew: bool,
    /// Nodes that have not taken the passwords and certificates of now, and what they said.
    refused: BTreeMap<NodeId, String>,
    /// When connections were made anew last.
    renewed: Instant,
    number: u64,
    /// The lines of all views, each once.
    known: KnownLines,
    /// Of each node, as in the last look: one that says the same again costs nothing.
    views: BTreeMap<NodeId, NodeView>,
    /// Of each node, as it was read before its view was.
    signs: BTreeMap<NodeId, Signs>,
    /// The node whose turn was last in a glance.
    glanced: Option<NodeId>,
}

impl Poller {
    /// A poller that has not connected to anything yet.
    #[must_use]
    pub fn new(dialer: Dialer, seeds: Vec<Address>) -> Self {
        Self {
            dialer: dialer.bare(),
            seeds,
            conns: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            jobs: Jobs::default(),
            seeds_tried: false,
            renew: false,
            refused: BTreeMap::new(),
            renewed: Instant::now(),
            number: 0,
            known: KnownLines::default(),
            views: BTreeMap::new(),
            signs: BTreeMap::new(),
            glanced: None,
        }
    }

    /// Uses another login, other seeds, from the next look on; open connections stay.
    pub fn reconfigure(&mut self, dialer: Dialer, seeds: Vec<Address>) {
        self.seeds_tried &= self.seeds == seeds;
        // The connections' name says whether we act: with another name they must be new ones.
        if self.dialer.name() != dialer.name() {
            self.conns.clear();
        }
        (self.dialer, self.seeds) = (dialer.bare(), seeds);
    }

    /// Makes every connection anew in the next look, with the passwords and certificates as they are then. A node that
    /// does not take them keeps its old connection.
    pub fn renew(&mut self) {
        self.renew = true;
    }

    /// Reads every node that anyone knows of. Fails when no node at all can be reached, with each seed's error.
    pub async fn look(&mut self, patience: Patience) -> Result<Look, Vec<OpenError>> {
        let began = Instant::now();
        self.conns.retain(|_, conn| !conn.is_dead());
        if self.conns.is_empty() || !self.seeds_tried {
            self.dial_seeds().await?;
        }
        let mut read = BTreeMap::new();
        for _ in 0..DISCOVERY_ROUNDS {
            self.read_new(&mut read, patience).await;
            if !self.dial_heard_of(&read, patience).await {
                break;
            }
        }
        if read.is_empty() {
            // Every connection died under the reading: next time by the seeds again.
            self.seeds_tried = false;
        }
        self.number += 1;
        let mut observation = self.observation(&mut read);
        // Whoever did not take them may by now: the file was changed before the server's user, say.
        self.refused.retain(|node, _| self.conns.contains_key(node));
        let all = std::mem::take(&mut self.renew);
        if all || (!self.refused.is_empty() && self.renewed.elapsed() >= RENEW_AGAIN_AFTER) {
            self.renew_connections(&observation, all).await;
        }
        observation.jobs = self.jobs.read(primaries(&self.conns, &observation)).await;
        let mover_calls = self.mover_calls(&observation).await;
        Ok(Look { number: self.number, observation, mover_calls, began, ended: Instant::now() })
    }

    /// Ends every connection.
    pub fn close(&mut self) {
        self.conns.clear();
    }

    async fn dial_seeds(&mut self) -> Result<(), Vec<OpenError>> {
        let dials: Vec<_> = self.seeds.iter().map(|seed| self.dialer.open_any(seed, None)).collect();
        let dialled = side_by_side(dials).await;
        let mut errors = Vec::new();
        for opened in dialled {
            match opened {
                Ok(conn) => {
                    self.conns.entry(conn.node()).or_insert(conn);
                }
                Err(error) => errors.push(error),
            }
        }
        if self.conns.is_empty() {
            return Err(errors);
        }
        for error in errors {
            warn!(%error, "a seed does not answer");
        }
        self.seeds_tried = true;
        Ok(())
    }

    /// Reads the nodes with a connection that this pass has not read yet.
    async fn read_new(&mut self, read: &mut BTreeMap<NodeId, Observed>, patience: Patience) {
        let new: Vec<NodeId> = self.conns.keys().filter(|node| !read.contains_key(node)).copied().collect();
        let Self { conns, known, signs, unreachable, views, .. } = self;
        let readings: Vec<_> =
            new.iter().filter_map(|node| conns.get(node)).map(|conn| read_node(conn, patience)).collect();
        let mut readings = stream::iter(readings).buffer_unordered(SIDE_BY_SIDE);
        let mut lost = Vec::new();
        // Each text is read as it comes: a thousand of them are a hundred megabytes.
        while let Some((node, address, said)) = readings.next().await {
            match said.and_then(|said| said.parse(address.clone(), known)) {
                Ok((mut observed, its_signs)) => {
                    if unreachable.remove(&node).is_some() {
                        info!(%node, %address, "node answers again");
                    }
                    match views.get(&node) {
                        Some(before) if *before == observed.view => observed.view = before.clone(),
                        Some(_) | None => drop(views.insert(node, observed.view.clone())),
                    }
                    signs.insert(node, its_signs);
                    read.insert(node, observed);
                }
                Err(why) => lost.push((node, address, why)),
            }
        }
        drop(readings);
        for (node, address, why) in lost {
            self.conns.remove(&node);
            self.lost(node, Endpoint { address, hostname: None }, why, Duration::ZERO);
        }
    }

    /// Connects to nodes that somebody knows of and we do not. Says whether there is a new connection to read.
    async fn dial_heard_of(&mut self, read: &BTreeMap<NodeId, Observed>, patience: Patience) -> bool {
        let mut wanted: BTreeMap<NodeId, Endpoint> = BTreeMap::new();
        let lines = read.values().flat_map(|observed| observed.view.lines());
        for line in lines.filter(|line| !line.handshake && !self.conns.contains_key(&line.id)) {
            if let Some(address) = &line.address {
                let (address, hostname) = (address.clone(), line.hostname.clone());
                wanted.insert(line.id, Endpoint { address, hostname });
            }
        }
        wanted.retain(|node, endpoint| match self.unreachable.get(node) {
            Some(last) => {
                let rest = last.took * patience.redial_after();
                last.endpoint != *endpoint || last.tried + rest <= Instant::now()
            }
            None => true,
        });
        let dialer = &self.dialer;
        let dial = |(node, endpoint): (NodeId, Endpoint)| async move {
            let began = Instant::now();
            let dialled = dialer.open(&endpoint.address, endpoint.hostname.as_deref(), node);
            let opened = patience.wait(dialled).await.unwrap_or_else(|| Err(OpenError::too_slow(&endpoint.address)));
            (node, endpoint, opened, began.elapsed())
        };
        let dials: Vec<_> = wanted.into_iter().map(dial).collect();
        let mut any = false;
        for (node, endpoint, opened, took) in side_by_side(dials).await {
            match opened {
                // Whether it answers is seen when it is read.
                Ok(conn) => {
                    self.refused.remove(&node);
                    self.conns.insert(node, conn);
                    any = true;
                }
                Err(error) => self.lost(node, endpoint, error.to_string(), took),
            }
        }
        any
    }

    /// Remembers a node that does not answer; logged once until it answers again.
    fn lost(&mut self, node: NodeId, endpoint: Endpoint, why: String, took: Duration) {
        if self.unreachable.contains_key(&node) {
            debug!(node = %node, address = %endpoint.address, why, "node still does not answer");
        } else {
            warn!(node = %node, address = %endpoint.address, why, "node does not answer");
        }
        self.unreachable.insert(node, Unreachable { endpoint, why, tried: Instant::now(), took });
    }

    fn observation(&mut self, read: &mut BTreeMap<NodeId, Observed>) -> Observation {
        let nodes = std::mem::take(read);
        let mut observation = Observation { nodes, ..Observation::default() };
        observation.set_alone_apart();
        let Observation { nodes, alone, .. } = &mut observation;
        // One by one: collected, the ids of a thousand views of a thousand lines would be in memory at once.
        let mut heard_of: BTreeSet<NodeId> = BTreeSet::new();
        for line in nodes.values().flat_map(|observed| observed.view.lines()) {
            heard_of.insert(line.id);
        }
        // A node that nobody knows of any more is gone, not silent; where nobody says anything, that is not known.
        self.unreachable.retain(|node, _| nodes.is_empty() || heard_of.contains(node));
        // Nor is one in this cluster that knows nobody either. Who named it among the seeds is told.
        alone.retain(|node, address| heard_of.contains(node) || self.seeds.contains(address));
        self.conns.retain(|node, _| nodes.contains_key(node) || alone.contains_key(node));
        self.signs.retain(|node, _| nodes.contains_key(node));
        self.views.retain(|node, _| nodes.contains_key(node));
        let silent = self.unreachable.iter().filter(|(node, _)| !nodes.contains_key(node)).map(|(&node, lost)| {
            (node, Silent { address: Some(lost.endpoint.address.clone()), why: lost.why.clone() })
        });
        observation.silent = silent.collect();
        observation
    }

    /// What nodes do not take of our passwords and certificates as they are now.
    fn warnings(&self) -> Vec<String> {
        self.refused.values().map(|why| format!("{why}; the connection of before goes on until it ends")).collect()
    }

    /// Of all nodes, or of those that have refused before.
    async fn renew_connections(&mut self, observation: &Observation, all: bool) {
        let dialer = &self.dialer;
        let dial = |(node, observed): (&NodeId, &Observed)| {
            let (node, address, hostname) = (*node, observed.dialled.clone(), observed.view.myself().hostname.clone());
            async move { (node, dialer.open_dialled(&address, hostname.as_deref(), node).await) }
        };
        let mut renewed = 0;
        let wanted = observation.nodes.iter().filter(|(node, _)| all || self.refused.contains_key(node));
        let dials: Vec<_> = wanted.map(dial).collect();
        for (node, opened) in side_by_side(dials).await {
            match opened {
                Ok(conn) => {
                    renewed += 1;
                    self.refused.remove(&node);
                    self.conns.insert(node, conn);
                }
                Err(error) => {
                    let why = error.to_string();
                    if self.refused.get(&node) != Some(&why) {
                        warn!(%node, why, "a new password or certificate is not taken; the old connection goes on");
                    }
                    self.refused.insert(node, why);
                }
            }
        }
        self.renewed = Instant::now();
        if all || renewed > 0 {
            info!(renewed, "connections were made anew with the passwords and certificates as they are now");
        }
    }

    /// Counts of moving commands, of the nodes that hold marks: whether somebody is at work on them.
    async fn mover_calls(&self, observation: &Observation) -> BTreeMap<NodeId, u64> {
        let marked = observation.nodes.iter().filter(|(_, observed)| !observed.view.myself().markers.is_empty());
        let ask = |conn| async move {
            Some((Conn::node(conn), count_mover_calls(&conn.info(Some("commandstats")).await.ok()?)))
        };
        let asks: Vec<_> = marked.filter_map(|(node, _)| self.conns.get(node)).map(ask).collect();
        side_by_side(asks).await.into_iter().flatten().collect()
    }
}

/// The connections to those that call themselves primaries.
fn primaries<'a>(conns: &'a BTreeMap<NodeId, Conn>, observation: &Observation) -> Vec<&'a Conn> {
    let primaries = observation.nodes.iter().filter(|(_, node)| node.view.myself().role == Role::Primary);
    primaries.filter_map(|(node, _)| conns.get(node)).collect()
}

/// Awaits all of them, a bounded number at a time; the order of the results is not theirs.
pub(super) async fn side_by_side<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    stream::iter(futures).buffer_unordered(SIDE_BY_SIDE).collect().await
}

/// What a node said, as it came.
struct Said {
    cluster_info: String,
    view: String,
    info: String,
}

impl Said {
    fn parse(self, dialled: Address, known: &mut KnownLines) -> Result<(Observed, Signs), String> {
        let view = NodeView::parse_by(&self.view, known)
            .map_err(|error| format!("its CLUSTER NODES cannot be read: {error}"))?;
        let info = NodeInfo::parse(&self.info, &self.cluster_info)
            .map_err(|error| format!("its INFO cannot be read: {error}"))?;
        Ok((Observed { dialled, view, info }, Signs::of(&self.cluster_info)))
    }
}

async fn read_node(conn: &Conn, patience: Patience) -> (NodeId, Address, Result<Said, String>) {
    let read = async {
        // Before the view: what changes between the two is in the view, and seen as a change by the next glance.
        let read = async {
            let cluster_info = conn.cluster_info().await?;
            let (view, info) = tokio::try_join!(conn.cluster_nodes(), conn.info(None))?;
            Ok::<_, CallError>(Said { cluster_info, view, info })
        };
        match read.await {
            Ok(said) => Ok(said),
            Err(error) => Err(explained(conn, error).await),
        }
    };
    let read = patience.wait(Box::pin(read)).await.unwrap_or_else(|| Err("it does not answer in time".to_owned()));
    (conn.node(), conn.address().clone(), read)
}

/// The calls of the commands that move slots, as far as they did something: evenkeel asks for permissions by such as are
/// certainly refused. Those of `SETSLOT` are counted apart from Redis 7.0 on only.
fn count_mover_calls(commandstats: &str) -> u64 {
    let movers = ["migrate", "cluster|setslot", "restore-asking"];
    movers.iter().map(|command| CallCount::succeeded(command, commandstats)).sum()
}

/// What the poller's task is told from outside.
#[derive(Clone, Debug)]
pub struct PollSettings {
    /// How to dial.
    pub dialer: Dialer,
    /// Where to begin.
    pub seeds: Vec<Address>,
    /// Time from the end of one look to the next.
    pub every: Duration,
    /// How often the files of passwords and certificates have changed: with another number, connections are made anew.
    pub file_changes: u64,
}

/// What tells the poller how to look.
#[derive(Debug)]
pub struct PollOrders {
    /// While it holds, no look waits long for a node that does not answer.
    pub alarm: watch::Receiver<bool>,
    /// The number of the look after which nothing was left to do, or to judge: while it is the last one, glances will do.
    pub rest: watch::Receiver<Option<u64>>,
    /// Asks for a look, or a glance, at once.
    pub nudge: Arc<Notify>,
}

/// Looks again and again until `stop`; everything that is seen is published in `sights`.
pub async fn poll(
    mut settings: watch::Receiver<PollSettings>,
    orders: PollOrders,
    sights: watch::Sender<Sight>,
    stop: CancellationToken,
) {
    let first = settings.borrow_and_update().clone();
    let mut file_changes = first.file_changes;
    let mut poller = Poller::new(first.dialer, first.seeds);
    while !stop.is_cancelled() {
        // At every turn: who was woken by a change has seen it by that, and would not be told of it again.
        let new = settings.borrow_and_update().clone();
        poller.reconfigure(new.dialer, new.seeds);
        if std::mem::replace(&mut file_changes, new.file_changes) != new.file_changes {
            poller.renew();
        }
        let rest = *orders.rest.borrow();
        let last = sights.borrow().look.clone();
        let last = last.filter(|last| Some(last.number) == rest);
        let glance = match last {
            Some(last) => poller.glance(&last).await,
            None => None,
        };
        if let Some(glance) = glance {
            sights.send_modify(|sight| {
                sight.polls_ended += 1;
                sight.warnings = poller.warnings();
                (sight.glance, sight.errors) = (Some(Arc::new(glance)), Vec::new());
            });
        } else {
            let patience = if *orders.alarm.borrow() { Patience::Alarmed } else { Patience::Usual };
            let looked = poller.look(patience).await;
            sights.send_modify(|sight| {
                sight.polls_ended += 1;
                sight.warnings = poller.warnings();
                match looked {
                    Ok(look) => {
                        (sight.look, sight.glance, sight.errors) = (Some(Arc::new(look)), None, Vec::new());
                    }
                    Err(errors) => sight.errors = errors.iter().map(ToString::to_string).collect(),
                }
            });
        }
        poller.known.forget_unused();
        let every = settings.borrow().every;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = orders.nudge.notified() => {}
            changed = settings.changed() => if changed.is_err() { break },
            () = stop.cancelled() => {}
        }
    }
    poller.close();
}

#[cfg(test)]
mod tests {
    use super::count_mover_calls;

    #[test]
    fn the_calls_of_movers_are_added_up_whatever_the_version() {
        let redis_7 = "cmdstat_migrate:calls=5,usec=1\r\ncmdstat_cluster|setslot:calls=7,usec=1\r\ncmdstat_get:calls=9";
        assert_eq!(count_mover_calls(redis_7), 12);
        let redis_6 = "# Commandstats\r\ncmdstat_migrate:calls=5,usec=1\r\ncmdstat_cluster:calls=700,usec=1\r\n";
        assert_eq!(count_mover_calls(redis_6), 5);
    }
}
