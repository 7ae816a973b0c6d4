//! One cluster with replicas, clients and known layouts, reused for strike after strike.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evenkeel::cluster::{NodeId, Slot, SlotSet};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::clients::Clients;
use crate::dice::Dice;
use crate::support::{Cluster, Daemon, Evenkeel, Flavour, Node, Spec, directory, eventually, settings};
use crate::wires::Wires;
use crate::witness::field;

/// Slots that strikes move to and fro; all keys are in them.
const HOT: usize = 96;
/// Slots that one layout gives to another shard than the one before.
const MOVED: usize = 36;
/// Keys of the clients: ten a hot slot, so that a slot takes some calls of `MIGRATE`.
const KEYS: usize = 960;
/// How long a cluster may take to be whole and settled after a strike.
pub(crate) const SETTLED_WITHIN: Duration = Duration::from_mins(3);
/// How long a failover, or the return of a server, may take to be known to all.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(20);
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

/// With this, sources as small as these are not looked through for big keys before slots are opened: the look brings the names of
/// keys, which are listed otherwise.
const LISTING: &str = "[migration]\nblock_max = \"1s\"\nbig_key_block_max = \"1s\"";

/// Whether a daemon that was killed finds its journal again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journal {
    Kept,
    Deleted,
}

fn cluster(flavour: Flavour) -> Cluster {
    let spec = Spec::new(flavour).replicas(1).node_timeout(Duration::from_secs(2));
    Cluster::start(spec.config(&["--cluster-allow-replica-migration", "no"]))
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Deleted => "deleted",
        })
    }
}

/// Looks until it is so; where it never is, what becomes of the strike will tell.
pub(crate) fn within(deadline: Duration, look: impl Fn() -> Result<(), String>) {
    let since = Instant::now();
    while look().is_err() && since.elapsed() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether nothing goes on but that the daemon waits for somebody to decide which of two values of a key counts, or whose
/// keys those are that it has given up.
fn needs_a_human(daemon: &Daemon) -> bool {
    let status = status(daemon);
    let aside: Vec<&Value> = status["set_aside"].as_array().into_iter().flatten().collect();
    let waits = |slot: &&Value| {
        slot["trouble"] == "conflict" || (slot["trouble"] == "stray_keys" && slot["next_try_in_s"].is_null())
    };
    status["moves"] == json!([]) && !aside.is_empty() && aside.iter().all(waits)
}

fn status(daemon: &Daemon) -> Value {
    let Ok((200, body)) = daemon.try_http_get("/api/v1/status") else { return Value::Null };
    serde_json::from_str(&body).expect("the API speaks JSON")
}

/// The slots that are set aside for one of these troubles.
fn set_aside(status: &Value, troubles: &[&str]) -> Vec<String> {
    let aside = status["set_aside"].as_array().into_iter().flatten();
    let wanted = |slot: &&Value| slot["trouble"].as_str().is_some_and(|trouble| troubles.contains(&trouble));
    aside.filter(wanted).map(|slot| slot["slot"].to_string()).collect()
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
    /// Where links can be cut.
    wires: Option<Wires>,
}

impl Arena {
    /// Three primaries with a replica each.
    pub(crate) fn start(flavour: Flavour) -> Self {
        Self::over(cluster(flavour), None)
    }

    /// The same, with links that can be cut.
    pub(crate) fn start_with_wires(flavour: Flavour) -> Self {
        let cluster = cluster(flavour);
        let wires = Wires::put_between(&cluster);
        Self::over(cluster, Some(wires))
    }

    fn over(cluster: Cluster, wires: Option<Wires>) -> Self {
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
        Self { cluster, clients, shards, still, layout, state, signals, wires }
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

    /// Another layout: half of the hot slots of all others are to be at the last shard.
    pub(crate) fn give_to_the_last(&mut self) {
        let last = self.shards.len() - 1;
        for shard in self.layout.values_mut().step_by(2) {
            *shard = last;
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
        let state = format!("[state]\ndir = \"{}\"\n", self.state.path().display());
        let lists = orders.contains("list.");
        let config = if lists { config.replace("[migration]", LISTING) } else { config.to_owned() };
        let config = config.as_str();
        let call = Evenkeel::new(&["run"]).config(&self.config(config, &state)).env("RUST_LOG", "info,evenkeel=debug");
        call.env("EVENKEEL_FAILPOINTS", orders).env("EVENKEEL_FAILPOINTS_DIR", &signals).spawn()
    }

    /// Starts a daemon beside another one, which has the journal.
    pub(crate) fn daemon_without_state(&self) -> Daemon {
        Evenkeel::new(&["run"]).config(&self.config(CONFIG, "")).env("RUST_LOG", "info,evenkeel=debug").spawn()
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
                Err(instead) if found > SETTLED_WITHIN || !daemon.runs() || needs_a_human(daemon) => {
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
        for shard in 0..self.shards.len() {
            let primary = self.primary(shard);
            let open = self.cluster.view(primary)?.open();
            if !open.is_empty() {
                return Err(format!("open at {}: {open:?}", self.cluster.name(primary)));
            }
        }
        self.without_strays(&owners)
    }

    /// Waits until no replica has a mark any more; the error says which the daemon leaves.
    ///
    /// Such a mark means nothing until the replica is promoted; then it is an open slot that nobody knows of.
    pub(crate) fn await_no_marks(&self) -> Result<(), String> {
        let look = || {
            for node in self.cluster.nodes() {
                let open = self.cluster.view(node)?.open();
                if !open.is_empty() {
                    return Err(format!("{} has {open:?}", self.cluster.name(node)));
                }
            }
            Ok(())
        };
        within(SETTLED_WITHIN, look);
        look()
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

    /// The node of this id.
    pub(crate) fn node(&self, id: NodeId) -> Option<Node> {
        self.cluster.nodes().into_iter().find(|&node| self.cluster.node_id(node) == id)
    }

    /// The other node of this node's shard.
    pub(crate) fn partner(&self, node: Node) -> Node {
        let replica = |shard: &Node| self.cluster.replicas_of(*shard)[0];
        let pairs = self.shards.iter().map(|shard| (*shard, replica(shard)));
        let partner = pairs.into_iter().find_map(|(one, other)| match node {
            _ if node == one => Some(other),
            _ if node == other => Some(one),
            _ => None,
        });
        partner.expect("every node is in a shard")
    }

    /// Whether the node says that it is a primary.
    pub(crate) fn is_primary(&self, node: Node) -> bool {
        let id = self.cluster.node_id(node);
        let view = self.cluster.view(node);
        view.is_ok_and(|view| view.members.iter().any(|member| member.id == id && member.is("master")))
    }

    /// The primary of a shard, while nothing happens to it.
    pub(crate) fn primary(&self, shard: usize) -> Node {
        let first = self.shards[shard];
        let slots = |node: Node| {
            let view = self.cluster.view(node).ok().filter(|_| self.is_primary(node));
            view.map_or(0, |view| view.slots_of(self.cluster.node_id(node)).len())
        };
        let other = self.partner(first);
        if slots(other) > slots(first) { other } else { first }
    }

    /// Whether the other node of this node's shard has taken over, by the word of every node that runs.
    ///
    /// A primary that comes back with nothing before all know of its successor may be given its slots again: then
    /// their keys are gone, by the servers' rules.
    pub(crate) fn replaced(&self, node: Node) -> Result<(), String> {
        let partner = self.partner(node);
        if !self.is_primary(partner) {
            return Err("its replica is a replica still".to_owned());
        }
        let (old, new) = (self.cluster.node_id(node), self.cluster.node_id(partner));
        let owners = self.cluster.agreed_owners()?;
        let done = owners.contains_key(&new) && !owners.contains_key(&old);
        if done { Ok(()) } else { Err("not all have heard of it".to_owned()) }
    }

    /// Waits until a node that came back is a replica. One that comes back when its last slots have gone on to another
    /// shard than its successor's stays a primary without slots, for `cluster-allow-replica-migration` is off: it is told
    /// whose replica it is, as an operator would.
    pub(crate) fn rejoin(&self, node: Node) {
        within(BACK_WITHIN, || {
            let id = self.cluster.node_id(node);
            if !self.is_primary(node) {
                return Ok(());
            }
            let partner = self.cluster.node_id(self.partner(node)).to_string();
            if self.cluster.view(node)?.slots_of(id).is_empty() {
                for told in [["FLUSHALL"].as_slice(), &["CLUSTER", "REPLICATE", &partner]] {
                    self.cluster.try_cmd::<()>(node, told).map_err(|error| error.to_string())?;
                }
            }
            Err("it says that it is a primary".to_owned())
        });
    }

    /// The same of every shard: by a failover too, a primary may keep slots that its successor has not heard of, until
    /// they are moved.
    pub(crate) fn rejoin_all(&self) {
        for shard in 0..self.shards.len() {
            self.rejoin(self.partner(self.primary(shard)));
        }
    }

    /// Has the replica of a primary take over by `CLUSTER FAILOVER`, which a replica may refuse or give up a few times.
    pub(crate) fn fail_over(&self, node: Node) {
        /// A server gives a manual failover up after five seconds.
        const GIVEN_UP_AFTER: Duration = Duration::from_secs(6);
        let mut asked: Option<Instant> = None;
        eventually("the replica takes over", SETTLED_WITHIN, || {
            if asked.is_none_or(|asked| asked.elapsed() > GIVEN_UP_AFTER) {
                let refused = self.cluster.try_cmd::<()>(self.partner(node), &["CLUSTER", "FAILOVER"]);
                asked = refused.is_ok().then(Instant::now);
            }
            if self.is_primary(self.partner(node)) { Ok(()) } else { Err("it is a replica still".to_owned()) }
        });
    }

    /// A source and a target of what the layout still asks for.
    pub(crate) fn something_to_move(&self) -> Option<(Node, Node)> {
        let owners = self.cluster.agreed_owners().ok()?;
        self.layout.iter().find_map(|(slot, &shard)| {
            let (&owner, _) = owners.iter().find(|(_, slots)| slots.contains(*slot))?;
            (!self.members(shard).contains(&owner)).then_some((self.node(owner)?, self.primary(shard)))
        })
    }

    /// The replication history of the owner of each hot slot.
    pub(crate) fn histories(&self) -> BTreeMap<Slot, String> {
        let mut histories = BTreeMap::new();
        for shard in 0..self.shards.len() {
            let primary = self.primary(shard);
            let info: String = self.cluster.cmd(primary, &["INFO", "replication"]);
            let slots = self.cluster.view(primary).expect("it answers").slots_of(self.cluster.node_id(primary));
            let history = field(&info, "master_replid").expect("a line of INFO");
            histories.extend(slots.iter().map(|slot| (slot, history.to_owned())));
        }
        histories.retain(|slot, _| self.layout.contains_key(slot));
        histories
    }

    /// Lets the clients rest and waits until every replica has what its primary has.
    pub(crate) fn quiesce(&self) {
        self.clients.rest();
        self.each_replica("every replica has everything", |primary, replica| {
            field(primary, "master_repl_offset") == field(replica, "master_repl_offset")
        });
    }

    /// Waits until every node is there and every replica follows.
    pub(crate) fn await_replicas(&self) {
        self.revive();
        self.each_replica("every replica follows", |primary, replica| {
            field(replica, "master_link_status") == Some("up") && primary.contains("state=online")
        });
    }

    /// Waits until what a primary and its replica say of their replication is so, of every shard.
    fn each_replica(&self, what: &str, is_so: impl Fn(&str, &str) -> bool) {
        eventually(what, SETTLED_WITHIN, || {
            for shard in 0..self.shards.len() {
                let primary = self.primary(shard);
                let ask = |node: Node| {
                    let info = self.cluster.try_cmd::<String>(node, &["INFO", "replication"]);
                    info.map_err(|error| format!("{}: {error}", self.cluster.name(node)))
                };
                let (primary, replica) = (ask(primary)?, ask(self.partner(primary))?);
                if !is_so(&primary, &replica) {
                    return Err(format!("{primary}\n{replica}"));
                }
            }
            Ok(())
        });
    }

    /// Starts servers again that have ended by themselves, which Redis 8.2 does now and then in a failover (`REDIS BUG
    /// REPORT`): for when nothing that was struck is away any more.
    fn revive(&self) {
        let has_ended = |node: &Node| {
            self.cluster.try_cmd::<String>(*node, &["PING"]).is_err_and(|error| error.is_connection_refusal())
        };
        let ended: Vec<Node> = self.cluster.nodes().into_iter().filter(has_ended).collect();
        for &node in &ended {
            eprintln!("{} has ended by itself, and is started again", self.cluster.name(node));
            self.cluster.restart(node);
        }
        if !ended.is_empty() {
            self.rejoin_all();
        }
    }

    /// Cuts a node off from the process of this pid.
    pub(crate) fn cut(&self, node: Node, pid: u32) {
        let number = self.cluster.nodes().into_iter().position(|other| other == node).expect("a node of this cluster");
        self.wires.as_ref().expect("an arena with wires").cut(number, pid);
    }

    /// Mends all links.
    pub(crate) fn mend(&self) {
        self.wires.iter().for_each(Wires::mend);
    }

    /// The slots of which the daemon says that a human must decide, if there are any.
    pub(crate) fn undecided(daemon: &Daemon) -> Option<String> {
        let slots = set_aside(&status(daemon), &["conflict", "stray_keys"]);
        (!slots.is_empty()).then(|| slots.join(","))
    }

    /// Decides, as a human would, which value of a key counts where a daemon that has ended said that it does not know,
    /// and whose the keys are that nobody owns: what clients see goes before. Then another daemon goes on.
    pub(crate) fn settle_as_decided(&self, slots: &str) -> Result<(), String> {
        /// What one decision leaves may need another: stale copies at a node that woke beside its successor.
        const ROUNDS: usize = 3;
        let call = |args: &[&str]| Evenkeel::new(args).config(&self.config(CONFIG, "")).run_to_end();
        let mut slots = slots.to_owned();
        for round in 1.. {
            let output = call(&["repair", "--slots", &slots, "--prefer", "source"]);
            let found: Value = serde_json::from_str(&call(&["check", "--json"]).stdout).expect("JSON");
            let ranges = |verdict: &Value| verdict["slots"].as_str().expect("slots, as text").to_owned();
            slots = found["verdicts"].as_array().into_iter().flatten().map(ranges).collect::<Vec<_>>().join(",");
            if slots.is_empty() {
                break;
            }
            if round == ROUNDS {
                return Err(format!("{}\n{}", output.stdout, output.stderr));
            }
        }
        let mut daemon = self.daemon("");
        let settled = self.settle(&mut daemon, Instant::now());
        let log = daemon.stderr();
        daemon.kill9();
        // What the decision makes of other clients' keys is the human's affair.
        let _ = self.clients.sweep();
        settled.map(drop).map_err(|why| format!("{why}\n{log}"))
    }

    /// Has `redis-cli --cluster fix` close what is open.
    pub(crate) fn fix(&self) {
        let cli = Flavour::Redis70.server().with_file_name("redis-cli");
        let seed = self.cluster.address(self.primary(0)).to_string();
        // What it says of itself is not asked: it may give up in the middle, and that is as good a strike.
        let output = Command::new(cli).args(["--cluster", "fix", &seed]).stdin(Stdio::null()).output();
        output.expect("redis-cli can be run");
    }

    fn config(&self, config: &str, state: &str) -> String {
        // By the replica: whatever becomes of the primary, that one is in the shard. Unless it is a primary itself, with
        // slots that it kept through a failover: then the shard is where most of its slots are.
        let entry = |(shard, slots): (usize, SlotSet)| {
            let primary = self.primary(shard);
            let named = Some(self.partner(primary)).filter(|&partner| !self.is_primary(partner)).unwrap_or(primary);
            let node = self.cluster.node_id(named);
            format!("[[targets.nodes]]\nnode = \"{node}\"\nslots = \"{slots}\"\n")
        };
        let targets: String = self.wanted().into_iter().enumerate().map(entry).collect();
        let mut text = settings(&self.cluster, &format!("{config}{state}{targets}"));
        for (number, node) in self.cluster.nodes().into_iter().enumerate() {
            if let Some(wires) = &self.wires {
                let (direct, wired) = (self.cluster.address(node), wires.address(number));
                text = text.replace(&format!("\"{direct}\""), &format!("\"{wired}\""));
            }
        }
        text
    }
}
