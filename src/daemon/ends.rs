//! A worker's connections to both ends of its pair, and the steps of a move as calls on them.

mod assign;
mod copies;
mod look;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use assign::Looked;
use look::Wish;

use super::followers::{Followers, Peer};
use super::heirs::Heirs;
use crate::cluster::{Address, CallCount, MemoryUse, NodeId, Observation, Product, ServerVersion, SlotSet, Topology};
use crate::config::{Config, SecretError, Secrets};
use crate::migration::{Batch, Blocked, End, HeavyKeys, Key, Mark, MigrateReply, Pair, Reply, Step, Trouble};
use crate::redis::{CallError, Conn, Counted, Dialer, MigrateCall, MigrateLogin, OpenError};

/// How often the source is asked, between `MIGRATE`s, whether it sends clients on to the target: each time costs about as
/// much as the call of a single small key.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// One end as the supervisor last saw it.
#[derive(Clone, Debug)]
struct EndPoint {
    address: Address,
    hostname: Option<String>,
    /// The process that the move begins with.
    run_id: String,
    version: ServerVersion,
}

/// Why a step brought no reply.
#[derive(Clone, Debug, Error)]
pub(super) enum Fault {
    /// No answer, or none that could be read.
    #[error("no answer from the {at}: {why}")]
    NoAnswer { at: End, why: String },
    /// Another process answers.
    #[error("the {at} was restarted")]
    ProcessChanged { at: End },
}

impl Fault {
    /// Why a move that it meets does not begin.
    pub(super) fn trouble(&self, pair: Pair) -> Trouble {
        match self {
            Self::NoAnswer { at, why } => Trouble::NoAnswer { node: pair.node(*at), why: why.clone() },
            Self::ProcessChanged { at } => Trouble::ProcessChanged { node: pair.node(*at) },
        }
    }

    /// The same of a call that was to be answered after a write.
    fn while_writes_are_asked_for(self) -> Self {
        match self {
            Self::NoAnswer { at, why } => {
                let may_wait = "clients that write may have to wait there, as while it hands over to a replica";
                Self::NoAnswer { at, why: format!("{may_wait} ({why})") }
            }
            Self::ProcessChanged { at } => Self::ProcessChanged { at },
        }
    }

    /// What the machine is told of it.
    pub(super) fn into_reply(self) -> Reply {
        match self {
            Self::NoAnswer { at, why } => Reply::NoAnswer { at, why },
            Self::ProcessChanged { at } => Reply::ProcessChanged { at },
        }
    }
}

/// Connections to both ends. The data connection to the source carries `MIGRATE` and listings, one call at a time;
/// everything else goes by the control connections.
#[derive(Debug)]
pub(super) struct Connections {
    dialer: Dialer,
    pub(super) pair: Pair,
    source: EndPoint,
    target: EndPoint,
    /// The target's address as the source lists it: that is where the source connects to.
    migrate_to: Address,
    login_source: LoginSource,
    login: Option<MigrateLogin>,
    migrate_timeout: Duration,
    /// The open slots of all our moves.
    ours: watch::Receiver<Arc<SlotSet>>,
    source_followers: Followers,
    target_followers: Followers,
    /// Keys were moved that the replicas may not have heard of.
    unreplicated: bool,
    /// When the source was last asked where it sends clients.
    asked: Instant,
    source_control: Option<Conn>,
    target_control: Option<Conn>,
    /// By database.
    source_data: BTreeMap<u32, Conn>,
    round_trip: Duration,
    /// Keys of the group that take long.
    pub(super) heavy: HeavyKeys,
    /// No call at the source may be given longer, whatever it carries.
    timeout_max: Duration,
    /// The last look at the target.
    looked: Option<Looked>,
}

impl Connections {
    /// Connections to be opened between these two, as a look showed them; `None` when it did not show both as primaries
    /// that know where the other is. `ours` are the open slots of all our moves. Fails when the password for `MIGRATE` cannot be read.
    pub(super) fn between(
        pair: Pair,
        observation: &Observation,
        topology: &Topology,
        dialer: &Dialer,
        config: &Config,
        ours: watch::Receiver<Arc<SlotSet>>,
    ) -> Result<Option<Self>, SecretError> {
        let end = |node: NodeId| {
            let member = &topology.shards.get(&node)?.primary;
            let info = &observation.nodes.get(&node)?.info;
            Some(EndPoint {
                address: member.address.clone()?,
                hostname: member.hostname.clone(),
                run_id: info.run_id.clone(),
                version: info.version,
            })
        };
        let migrate_to = || observation.nodes.get(&pair.source)?.view.line(pair.target)?.address.clone();
        let (Some(source), Some(target), Some(migrate_to)) = (end(pair.source), end(pair.target), migrate_to()) else {
            return Ok(None);
        };
        let login_source = LoginSource::of(config);
        Ok(Some(Self {
            dialer: dialer.bare(),
            pair,
            source,
            target,
            migrate_to,
            login: login_source.read()?,
            login_source,
            migrate_timeout: config.migration.migrate_timeout,
            ours,
            source_followers: Followers::of(&topology.shards[&pair.source]),
            target_followers: Followers::of(&topology.shards[&pair.target]),
            // By whoever opened the slots.
            unreplicated: true,
            asked: Instant::now(),
            source_control: None,
            target_control: None,
            source_data: BTreeMap::new(),
            round_trip: Duration::ZERO,
            heavy: HeavyKeys::new(),
            timeout_max: Duration::MAX,
            looked: None,
        }))
    }

    /// The same ends, not connected.
    pub(super) fn unconnected(&self) -> Self {
        Self {
            dialer: self.dialer.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            migrate_to: self.migrate_to.clone(),
            login_source: self.login_source.clone(),
            login: self.login.clone(),
            ours: self.ours.clone(),
            source_followers: self.source_followers.unconnected(),
            target_followers: self.target_followers.unconnected(),
            source_control: None,
            target_control: None,
            source_data: BTreeMap::new(),
            heavy: HeavyKeys::new(),
            looked: None,
            ..*self
        }
    }

    /// Opens the connections, proves both processes, and times an empty round trip to the source.
    pub(super) async fn open(&mut self) -> Result<(), Fault> {
        self.control(End::Target).await?;
        self.control(End::Source).await?;
        // One that was timed before counts too: the source may be busy by now.
        let mut shortest = if self.round_trip.is_zero() { Duration::MAX } else { self.round_trip };
        let data = self.source_data(0).await?;
        for _ in 0..3 {
            let began = Instant::now();
            data.call("PING", Vec::new()).await.map_err(no_answer(End::Source))?;
            shortest = shortest.min(began.elapsed());
        }
        self.round_trip = shortest;
        Ok(())
    }

    /// Where the source is.
    pub(super) fn source_address(&self) -> &Address {
        &self.source.address
    }

    /// Both ends, and how they are dialled.
    pub(super) fn addresses(&self) -> [(NodeId, &Address, Option<&str>); 2] {
        let Pair { source, target } = self.pair;
        [(source, &self.source), (target, &self.target)]
            .map(|(node, end)| (node, &end.address, end.hostname.as_deref()))
    }

    /// Who may take over from the source without knowing of its open slots: its replicas, where it is a Redis.
    pub(super) fn heirs(&self) -> Option<Heirs> {
        let EndPoint { address, hostname, version, .. } = &self.source;
        let replicas: Vec<Peer> = self.source_followers.peers().collect();
        (version.product == Product::Redis && !replicas.is_empty()).then(|| Heirs {
            dialer: self.dialer.clone(),
            pair: self.pair,
            source: Peer { node: self.pair.source, address: address.clone(), hostname: hostname.clone() },
            replicas,
        })
    }

    /// How often the source has carried out a `MIGRATE`, and how long these held it; `None` where it does not answer.
    ///
    /// Nothing is dialled for that: another process at the source is told of once only, and is for a step to find.
    pub(super) async fn migrate_count(&self) -> Option<CallCount> {
        let control = self.source_control.as_ref().filter(|conn| !conn.is_dead())?;
        Some(CallCount::of("migrate", &control.info(Some("commandstats")).await.ok()?))
    }

    /// The shortest of a few empty round trips to the source.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// The target's memory now.
    pub(super) async fn target_memory(&mut self) -> Result<MemoryUse, Fault> {
        let at = End::Target;
        let info = self.control(at).await?.info(Some("memory")).await.map_err(no_answer(at))?;
        MemoryUse::parse(&info).map_err(|error| Fault::NoAnswer { at, why: error.to_string() })
    }

    /// Waits until a replica of each end has what its primary has; where there are none that follow, for nothing.
    ///
    /// After a finalise, the target's replica is the only other holder of what was moved: with less than all of it, its
    /// promotion loses keys, as that of a source's replica that has not heard of their leaving brings them back.
    pub(super) async fn await_replicas(&mut self) -> Result<(), Fault> {
        if !self.unreplicated {
            return Ok(());
        }
        self.control(End::Target).await?;
        self.control(End::Source).await?;
        if let (Some(source), Some(target)) = (&self.source_control, &self.target_control) {
            let at_source = self.source_followers.await_one(source, &self.dialer);
            let at_target = self.target_followers.await_one(target, &self.dialer);
            let no_answer = |at| move |why| Fault::NoAnswer { at, why };
            let (at_source, at_target) = tokio::join!(at_source, at_target);
            at_source.map_err(no_answer(End::Source))?;
            at_target.map_err(no_answer(End::Target))?;
        }
        self.unreplicated = false;
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.source_followers.close();
        self.target_followers.close();
        self.source_control = None;
        self.target_control = None;
        self.source_data.clear();
    }

    /// Keys of each slot at the source, over all databases.
    pub(super) async fn count_at_source(&mut self, slots: &SlotSet) -> Result<Counted, Fault> {
        let databases = self.control(End::Source).await?.databases().await.map_err(no_answer(End::Source))?;
        self.count_databases(End::Source, slots, &databases).await
    }

    /// Opens the connections that a step needs, where they are not open; sends nothing that changes anything.
    pub(super) async fn ready(&mut self, step: &Step) -> Result<(), Fault> {
        match step {
            Step::ReadEnds { .. } => {
                self.control(End::Target).await?;
                self.control(End::Source).await.map(drop)
            }
            Step::SetSlots { at, .. } => self.control(*at).await.map(drop),
            // It dials the target once for each database.
            Step::DropCopies(_) => self.source_data(0).await.map(drop),
            Step::ListKeys { db, .. } | Step::MoveKeys(Batch { db, .. }) | Step::CompareKeys(Batch { db, .. }) => {
                self.source_data(*db).await.map(drop)
            }
            Step::TakeFinalise | Step::YieldFinalise | Step::Listen | Step::Pause(_) | Step::End(_) => Ok(()),
        }
    }

    /// No call is given longer than half a node's time-out, after which a node counts as failed.
    pub(super) fn keep_below(&mut self, node_timeout: Duration) {
        self.timeout_max = node_timeout / 2;
    }

    /// How long the heavy keys of a call are expected to hold the source.
    pub(super) fn expected(&self, batch: &Batch) -> Duration {
        if self.heavy.is_empty() {
            return Duration::ZERO;
        }
        batch.keys.iter().filter_map(|key| self.heavy.get(&(batch.db, key.clone()))).sum()
    }

    /// Carries out one step on the servers.
    pub(super) async fn perform(&mut self, step: Step) -> Result<Reply, Fault> {
        match step {
            Step::ReadEnds { slots, count_source, count_target, ask_for_writes } => {
                let wish = Wish { slots: &slots, count_source, count_target, ask_for_writes };
                Ok(Reply::Ends(Box::new(self.look(wish).await?)))
            }
            Step::SetSlots { at: End::Target, mark: Mark::Assigned, slots } => self.assign(&slots).await,
            Step::SetSlots { at, mark, slots } => {
                let pair = self.pair;
                let valkey = self.is_valkey(at);
                let conn = self.control(at).await?;
                conn.set_slots(&slots, mark, pair, valkey).await.map(Reply::Marked).map_err(no_answer(at))
            }
            Step::ListKeys { db, slots, count } => {
                let conn = self.source_data(db).await?;
                conn.list_keys(&slots, count).await.map(Reply::Listed).map_err(no_answer(End::Source))
            }
            Step::MoveKeys(batch) => {
                self.source_data(batch.db).await?;
                self.unreplicated = true;
                let conn = &self.source_data[&batch.db];
                let expected = self.expected(&batch);
                let ask = self.asked.elapsed() >= ASK_EVERY;
                if ask {
                    self.asked = Instant::now();
                }
                let call = MigrateCall {
                    ask,
                    target: &self.migrate_to,
                    login: self.login.as_ref(),
                    batch: &batch,
                    // Twice what is expected, for the target is silent while it takes the key apart.
                    timeout: (expected * 2).min(self.timeout_max).max(self.migrate_timeout),
                    expected,
                };
                let reply = conn.migrate(&call).await.map_err(no_answer(End::Source))?;
                if let MigrateReply::Blocked(Blocked::TargetCredentials(_)) = reply {
                    // The password may be another one by now; that it cannot be read is told by who begins next.
                    self.login = self.login_source.read().unwrap_or(self.login.take());
                }
                Ok(Reply::Moved(reply))
            }
            Step::DropCopies(slots) => self.drop_copies(&slots).await,
            Step::CompareKeys(batch) => self.compare(batch.db, &batch.keys).await,
            Step::TakeFinalise | Step::YieldFinalise | Step::Listen | Step::Pause(_) | Step::End(_) => Ok(Reply::Go),
        }
    }

    fn is_valkey(&self, at: End) -> bool {
        self.version(at).product == Product::Valkey
    }

    fn version(&self, at: End) -> ServerVersion {
        match at {
            End::Source => self.source.version,
            End::Target => self.target.version,
        }
    }

    async fn compare(&mut self, db: u32, keys: &[Key]) -> Result<Reply, Fault> {
        // A connection of its own: between ASKING and the call that it is for, nothing else may be sent.
        let target = self.dial(End::Target, db).await?;
        let source = self.source_data(db).await?;
        let compared = source.compare_keys(&target, keys).await;
        let at = if target.is_dead() { End::Target } else { End::Source };
        compared.map(Reply::Compared).map_err(no_answer(at))
    }

    /// Deletes keys at the target, which holds them behind its mark: copies that no client sees.
    pub(super) async fn delete_at_target(&mut self, db: u32, keys: &[Key]) -> Result<(), Fault> {
        // A connection of its own, as above.
        let target = self.dial(End::Target, db).await?;
        target.delete_asking(keys).await.map_err(no_answer(End::Target))
    }

    pub(super) async fn control(&mut self, at: End) -> Result<&Conn, Fault> {
        let current = match at {
            End::Source => &self.source_control,
            End::Target => &self.target_control,
        };
        if current.as_ref().is_none_or(Conn::is_dead) {
            let conn = self.dial(at, 0).await?;
            match at {
                End::Source => self.source_control = Some(conn),
                End::Target => self.target_control = Some(conn),
            }
        }
        self.opened(at)
    }

    fn opened(&self, at: End) -> Result<&Conn, Fault> {
        let opened = match at {
            End::Source => &self.source_control,
            End::Target => &self.target_control,
        };
        opened.as_ref().ok_or_else(|| unreachable(at))
    }

    pub(super) async fn source_data(&mut self, db: u32) -> Result<&Conn, Fault> {
        if self.source_data.get(&db).is_none_or(Conn::is_dead) {
            let conn = self.dial(End::Source, db).await?;
            self.source_data.insert(db, conn);
        }
        self.source_data.get(&db).ok_or_else(|| unreachable(End::Source))
    }

    /// A new connection to the process that the move began with, in this database.
    async fn dial(&mut self, at: End, db: u32) -> Result<Conn, Fault> {
        let end = match at {
            End::Source => &mut self.source,
            End::Target => &mut self.target,
        };
        let opened = self.dialer.open(&end.address, end.hostname.as_deref(), self.pair.node(at)).await;
        let conn = opened.map_err(|error: OpenError| Fault::NoAnswer { at, why: error.to_string() })?;
        if conn.run_id() != end.run_id {
            // Said once: what the new process knows is read by the look that follows.
            conn.run_id().clone_into(&mut end.run_id);
            return Err(Fault::ProcessChanged { at });
        }
        if db != 0 {
            conn.select(db).await.map_err(no_answer(at))?;
        }
        Ok(conn)
    }
}

/// As whom `MIGRATE` logs in at the target, and where the password is.
#[derive(Clone, Debug)]
struct LoginSource {
    username: Option<String>,
    secrets: Secrets,
}

impl LoginSource {
    fn of(config: &Config) -> Self {
        let own = &config.cluster.username;
        let username = config.cluster.migrate.as_ref().map(|migrate| migrate.username.clone()).or_else(|| own.clone());
        Self { username, secrets: Secrets::of(&config.cluster) }
    }

    /// With the password as it is now; `None` where there is none.
    fn read(&self) -> Result<Option<MigrateLogin>, SecretError> {
        let password = self.secrets.migrate_password()?;
        Ok(password.map(|password| MigrateLogin { username: self.username.clone(), password }))
    }
}

fn unreachable(at: End) -> Fault {
    Fault::NoAnswer { at, why: "no connection".to_owned() }
}

/// An answer that is an error is as little an answer as none: what to do next is to look again.
pub(super) fn no_answer(at: End) -> impl Fn(CallError) -> Fault {
    move |error| Fault::NoAnswer { at, why: error.to_string() }
}
