//! One cluster with replicas, clients and known layouts, reused for strike after strike.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use evenkeel::cluster::{NodeId, Slot, SlotSet};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients::Clients;
use crate::dice::Dice;
use crate::support::{Cluster, Daemon, Evenkeel, Flavour, Node, Spec, directory, eventually, settings};

/// Slots that strikes move to and fro; all keys are in them.
const HOT: usize = 96;
/// Slots that one layout gives to another shard than the one before.
const MOVED: usize = 36;
/// Keys of the clients: ten a hot slot, so that a slot takes some calls of `MIGRATE`.
const KEYS: usize = 960;
/// How long a cluster may take to be whole and settled after a strike.
pub(crate) const SETTLED_WITHIN: Duration = Duration::from_mins(1);
/// Small groups and calls: every point is passed many times in a short move. What nobody has touched for a second is
/// adopted.
const CONFIG: &str = r#"
[schedule]
poll = "100ms"
settle = 1
adopt_after = "1s"
foreign_quiet = "1s"

[migration]
group_slots = 4
batch_keys_max = 3
retry_delay = "100ms"
retry_delay_max = "1s"
migrate_timeout = "500ms"
call_timeout = "2s"
"#;

/// Whether a daemon that was killed finds its journal again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journal {
    Kept,
    Deleted,
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Deleted => "deleted",
        })
    }
}

/// The cluster and all that is known of it.
pub(crate) struct Arena {
    pub(crate) cluster: Cluster,
    pub(crate) clients: Clients,
    /// The primaries at the start. By what each was named then its shard is named for ever.
    pub(crate) shards: Vec<Node>,
    /// The slots that stay with each shard.
    still: Vec<SlotSet>,
    /// The shard that each hot slot is to be at.
    pub(crate) layout: BTreeMap<Slot, usize>,
    state: TempDir,
    signals: TempDir,
}

impl Arena {
    /// Three primaries with a replica each.
    pub(crate) fn start(flavour: Flavour) -> Self {
        let spec = Spec::new(flavour).replicas(1).node_timeout(Duration::from_secs(2));
        Self::over(Cluster::start(spec.config(&["--cluster-allow-replica-migration", "no"])))
    }

    /// The same with a cluster that was made already.
    pub(crate) fn over(cluster: Cluster) -> Self {
        let shards = cluster.primaries();
        let mut layout = BTreeMap::new();
        let mut still: Vec<SlotSet> = shards.iter().map(|&node| cluster.slots_of(node)).collect();
        for (shard, slots) in still.iter_mut().enumerate() {
            let all = slots.clone();
            for slot in all.iter().step_by(all.len() / (HOT / shards.len())).take(HOT / shards.len()) {
                slots.remove(slot);
                layout.insert(slot, shard);
            }
        }
        let clients = Clients::start(&cluster, &layout.keys().copied().collect(), KEYS);
        let (state, signals) = (directory("chaos-state"), directory("chaos-signals"));
        Self { cluster, clients, shards, still, layout, state, signals }
    }

    /// Another layout: some of the hot slots are to be elsewhere.
    pub(crate) fn shuffle(&mut self, dice: &mut Dice) {
        let mut hot: Vec<Slot> = self.layout.keys().copied().collect();
        for _ in 0..MOVED {
            let slot = hot.swap_remove(dice.below(hot.len()));
            let shard = self.layout[&slot];
            self.layout.insert(slot, (shard + 1 + dice.below(self.shards.len() - 1)) % self.shards.len());
        }
    }

    /// Starts a daemon that is to bring the layout about, with these orders for its failpoints.
    pub(crate) fn daemon(&self, orders: &str) -> Daemon {
        self.daemon_with(orders, CONFIG)
    }

    /// Starts a daemon that moves one pair at a time.
    pub(crate) fn daemon_of_one_pair(&self, orders: &str) -> Daemon {
        self.daemon_with(orders, &CONFIG.replace("[migration]", "[migration]\nparallel = 1"))
    }

    fn daemon_with(&self, orders: &str, config: &str) -> Daemon {
        for entry in fs::read_dir(self.signals.path()).expect("the directory is there").flatten() {
            fs::remove_file(entry.path()).expect("the directory is writable");
        }
        let signals = self.signals.path().display().to_string();
        let call = Evenkeel::new(&["run"]).config(&self.config(config)).env("RUST_LOG", "info,evenkeel=debug");
        call.env("EVENKEEL_FAILPOINTS", orders).env("EVENKEEL_FAILPOINTS_DIR", &signals).spawn()
    }

    /// Waits until the daemon stands still at this point; `false` when it has settled the cluster without.
    pub(crate) fn await_pause(&self, daemon: &Daemon, point: &str) -> bool {
        eventually("the daemon comes to the point", SETTLED_WITHIN, || {
            if self.signal(point, "reached").exists() {
                return Ok(true);
            }
            Self::at_rest(daemon).map(|()| false)
        })
    }

    /// Lets a daemon that stands still at this point go on.
    pub(crate) fn release(&self, point: &str) {
        fs::write(self.signal(point, "go"), "").expect("the directory is writable");
    }

    fn signal(&self, point: &str, what: &str) -> PathBuf {
        self.signals.path().join(format!("{point}.{what}"))
    }

    /// Takes the journal away.
    pub(crate) fn delete_journal(&self) {
        for entry in fs::read_dir(self.state.path()).expect("the directory is there").flatten() {
            fs::remove_file(entry.path()).expect("the directory is writable");
        }
    }

    /// How long it took from `since` until the cluster was whole and settled in the wanted layout, and the daemon said so too; the error
    /// says what is the case instead.
    pub(crate) fn settle(&self, daemon: &mut Daemon, since: Instant) -> Result<Duration, String> {
        loop {
            let state = self.whole().and_then(|()| self.in_layout());
            let found = since.elapsed();
            match state.and_then(|()| Self::at_rest(daemon)) {
                Ok(()) => return Ok(found),
                Err(instead) if found > SETTLED_WITHIN || !daemon.runs() => {
                    return Err(format!("{instead}; the daemon says {}", Self::reasons(daemon)));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Whether every running node names the same owner of every slot.
    pub(crate) fn whole(&self) -> Result<(), String> {
        self.cluster.agreed_owners().map(drop)
    }

    /// Whether every slot is where it is to be, none is open, and no key is anywhere else than at its slot's owner.
    fn in_layout(&self) -> Result<(), String> {
        let owners = self.cluster.agreed_owners()?;
        for (shard, slots) in self.wanted().iter().enumerate() {
            let has: Vec<&SlotSet> = self.members(shard).iter().filter_map(|id| owners.get(id)).collect();
            if has != [slots] {
                return Err(format!("shard {shard} owns {has:?}, not {slots}"));
            }
        }
        match self.cluster.open_slots()? {
            open if open.is_empty() => self.without_strays(&owners),
            open => Err(format!("open slots: {open:?}")),
        }
    }

    fn without_strays(&self, owners: &BTreeMap<NodeId, SlotSet>) -> Result<(), String> {
        for node in self.cluster.running() {
            let id = self.cluster.node_id(node);
            let view = self.cluster.view(node)?;
            if !view.members.iter().any(|member| member.id == id && member.is("master")) {
                continue;
            }
            let owned = owners.get(&id).cloned().unwrap_or_default();
            for &slot in self.layout.keys().filter(|slot| !owned.contains(**slot)) {
                match self.cluster.try_cmd::<usize>(node, &["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]) {
                    Ok(0) => {}
                    Ok(keys) => return Err(format!("{} has {keys} stray keys of {slot}", self.cluster.name(node))),
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        Ok(())
    }

    /// Whether the daemon says that nothing runs, nothing waits, and nothing is left to do.
    pub(crate) fn at_rest(daemon: &Daemon) -> Result<(), String> {
        let get = |path| match daemon.try_http_get(path)? {
            (200, body) => serde_json::from_str::<Value>(&body).map_err(|error| error.to_string()),
            (status, body) => Err(format!("{path}: {status}: {body}")),
        };
        let status = get("/api/v1/status")?;
        let quiet = ["reasons", "moves", "set_aside"].iter().all(|what| status[what] == json!([]));
        let plan = get("/api/v1/plan")?;
        if quiet && status["work"]["active"] == false && plan["slots_to_move"] == 0 {
            return Ok(());
        }
        Err(format!("reasons {}, moves {}, set aside {}", status["reasons"], status["moves"], status["set_aside"]))
    }

    /// Why the daemon says that nothing moves.
    fn reasons(daemon: &Daemon) -> String {
        Self::at_rest(daemon).err().unwrap_or_else(|| "that nothing is left to do".to_owned())
    }

    /// Shards, by the slots that each is to have.
    fn wanted(&self) -> Vec<SlotSet> {
        let mut wanted = self.still.clone();
        for (&slot, &shard) in &self.layout {
            wanted[shard].insert(slot);
        }
        wanted
    }

    fn members(&self, shard: usize) -> Vec<NodeId> {
        let first = self.shards[shard];
        let nodes = [first].into_iter().chain(self.cluster.replicas_of(first));
        nodes.map(|node| self.cluster.node_id(node)).collect()
    }

    fn config(&self, config: &str) -> String {
        let entry = |(node, slots): (&Node, SlotSet)| {
            format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{slots}\"\n", self.cluster.node_id(*node))
        };
        let targets: String = self.shards.iter().zip(self.wanted()).map(entry).collect();
        let state = format!("[state]\ndir = \"{}\"\n", self.state.path().display());
        settings(&self.cluster, &format!("{config}{state}{targets}"))
    }
}
