//! What each node says of the cluster, read apart from evenkeel's own parser.

use std::collections::BTreeMap;

use evenkeel::cluster::{NodeId, SlotSet};

use super::cluster::Cluster;
use super::node::{Life, Node};
use super::wait::{SOON, eventually};

/// `CLUSTER NODES` of one node.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) members: Vec<Member>,
}

/// One line of it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) epoch: u64,
    pub(crate) id: NodeId,
    /// `myself`, `master`, `slave`, `fail?`, …
    pub(crate) flags: Vec<String>,
    /// The id of its primary, where it is a replica.
    pub(crate) primary: Option<NodeId>,
    pub(crate) connected: bool,
    pub(crate) slots: SlotSet,
    /// The open slots, as written: `[866->-<id>]`, `[866-<-<id>]`.
    pub(crate) open: Vec<String>,
}

impl View {
    fn parse(text: &str) -> Result<Self, String> {
        let members = text.lines().map(|line| Member::parse(line).ok_or_else(|| format!("cannot read `{line}`")));
        Ok(Self { members: members.collect::<Result<_, _>>()? })
    }

    /// The slots that this view says the node owns.
    pub(crate) fn slots_of(&self, id: NodeId) -> SlotSet {
        self.members.iter().find(|member| member.id == id).map(|member| member.slots.clone()).unwrap_or_default()
    }

    /// The config epoch of this node, as the view has it; 0 of one that it does not know.
    pub(crate) fn epoch_of(&self, id: NodeId) -> u64 {
        self.members.iter().find(|member| member.id == id).map(|member| member.epoch).unwrap_or_default()
    }

    /// The open slots that the node whose view this is marks.
    pub(crate) fn open(&self) -> Vec<String> {
        self.members.iter().flat_map(|member| member.open.clone()).collect()
    }

    fn owners(&self) -> BTreeMap<NodeId, SlotSet> {
        let owners = self.members.iter().filter(|member| !member.slots.is_empty());
        owners.map(|member| (member.id, member.slots.clone())).collect()
    }
}

impl Member {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, _address, flags, primary, _ping, _pong, epoch, link, rest @ ..] = words.as_slice() else {
            return None;
        };
        let (open, slots): (Vec<&str>, Vec<&str>) = rest.iter().partition(|word| word.starts_with('['));
        Some(Self {
            epoch: epoch.parse().ok()?,
            id: id.parse().ok()?,
            flags: flags.split(',').map(str::to_owned).collect(),
            primary: primary.parse().ok(),
            connected: *link == "connected",
            slots: slots.join(",").parse().ok()?,
            open: open.into_iter().map(str::to_owned).collect(),
        })
    }

    /// Whether the line has this flag.
    pub(crate) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|its| its == flag)
    }
}

impl Cluster {
    /// The config epoch of this node.
    pub(crate) fn config_epoch(&self, node: Node) -> u64 {
        self.view(node).expect("it answers").epoch_of(self.node_id(node))
    }

    /// Raises the config epoch of this node above all that it knows of, and waits until all nodes know.
    #[track_caller]
    pub(crate) fn raise_epoch(&self, node: Node) {
        self.cmd::<()>(node, &["CLUSTER", "BUMPEPOCH"]);
        let (id, epoch) = (self.node_id(node), self.config_epoch(node));
        eventually("all know the new epoch", SOON, || {
            for other in self.running() {
                if self.view(other)?.epoch_of(id) != epoch {
                    return Err(format!("{} knows an older one", self.name(other)));
                }
            }
            Ok(())
        });
    }

    /// `CLUSTER NODES` of this node, as text.
    pub(crate) fn cluster_nodes_text(&self, node: Node) -> String {
        self.cmd(node, &["CLUSTER", "NODES"])
    }

    /// What this node says of the cluster; an error when it cannot be asked.
    pub(crate) fn view(&self, node: Node) -> Result<View, String> {
        let text: Result<String, _> = self.try_cmd(node, &["CLUSTER", "NODES"]);
        View::parse(&text.map_err(|error| format!("{}: {error}", self.name(node)))?)
    }

    /// The slots of this node, once every running node says the same of all slots. Panics when they never do.
    #[track_caller]
    pub(crate) fn slots_of(&self, node: Node) -> SlotSet {
        let owners = eventually("all views agree on the owners", SOON, || self.agreed_owners());
        owners.get(&self.node_id(node)).cloned().unwrap_or_default()
    }

    /// Waits until every running node says the same: each slot has an owner, none is open, and these nodes own so
    /// many slots, give or take one, and no other node owns any.
    #[track_caller]
    pub(crate) fn assert_settled(&self, expected: &[(Node, usize)]) {
        eventually("every slot is where it belongs", SOON, || {
            let mut owners = self.agreed_owners()?;
            let open = self.open_slots()?;
            if !open.is_empty() {
                return Err(format!("open slots: {open:?}"));
            }
            for &(node, count) in expected {
                let has = owners.remove(&self.node_id(node)).unwrap_or_default().len();
                if has.abs_diff(count) > 1 {
                    return Err(format!("{} owns {has} slots, not {count}", self.name(node)));
                }
            }
            if owners.is_empty() { Ok(()) } else { Err(format!("these own slots too: {owners:?}")) }
        });
    }

    /// The open slots of every running node, as `node: [866->-<id>]`.
    pub(crate) fn open_slots(&self) -> Result<Vec<String>, String> {
        let mut open = Vec::new();
        for node in self.running() {
            open.extend(self.view(node)?.open().into_iter().map(|mark| format!("{}: {mark}", self.name(node))));
        }
        Ok(open)
    }

    /// Who owns what, where every running node says the same and every slot has an owner.
    pub(crate) fn agreed_owners(&self) -> Result<BTreeMap<NodeId, SlotSet>, String> {
        let mut agreed: Option<(Node, BTreeMap<NodeId, SlotSet>)> = None;
        for node in self.running() {
            let owners = self.view(node)?.owners();
            let covered: usize = owners.values().map(SlotSet::len).sum();
            if covered != SlotSet::full().len() {
                return Err(format!("{} sees owners of {covered} slots", self.name(node)));
            }
            match &agreed {
                None => agreed = Some((node, owners)),
                Some((_, first)) if *first == owners => {}
                Some((other, _)) => {
                    return Err(format!("{} and {} disagree", self.name(*other), self.name(node)));
                }
            }
        }
        agreed.map(|(_, owners)| owners).ok_or_else(|| "no node is running".to_owned())
    }

    pub(crate) fn running(&self) -> Vec<Node> {
        self.nodes().into_iter().filter(|&node| self.server(node).life() == Life::Running).collect()
    }
}
