//! What a cluster is to be like, before there is one.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel::cluster::{Slot, SlotRange, SlotSet};

use super::servers::Flavour;

/// A cluster to start: three primaries that share the slots evenly, until told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(super) flavour: Flavour,
    /// The nodes that run something else.
    pub(super) node_flavour: BTreeMap<usize, Flavour>,
    /// The slots of each primary that has any.
    pub(super) slots: Vec<SlotSet>,
    pub(super) empty_primaries: usize,
    pub(super) replicas: usize,
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) config: Vec<String>,
    pub(super) node_config: Vec<(usize, Vec<String>)>,
    pub(super) node_timeout: Duration,
    pub(super) announced: Vec<String>,
}

impl Spec {
    /// Three primaries, no replica, no password, no TLS.
    pub(crate) fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            node_flavour: BTreeMap::new(),
            slots: even(3),
            empty_primaries: 0,
            replicas: 0,
            password: None,
            tls: false,
            config: Vec::new(),
            node_config: Vec::new(),
            node_timeout: Duration::from_secs(3),
            announced: Vec::new(),
        }
    }

    /// So many primaries that share the slots evenly, in contiguous ranges.
    pub(crate) fn primaries(self, count: usize) -> Self {
        Self { slots: even(count), ..self }
    }

    /// One primary for each text, with these slots: `["0-99,866", "100-865,867-16383"]`.
    pub(crate) fn slots(self, of_each: &[&str]) -> Self {
        Self { slots: of_each.iter().map(|text| text.parse().expect("slots")).collect(), ..self }
    }

    /// So many primaries without slots, beside those with.
    pub(crate) fn empty_primaries(self, count: usize) -> Self {
        Self { empty_primaries: count, ..self }
    }

    /// So many replicas for each primary that has slots.
    pub(crate) fn replicas(self, of_each: usize) -> Self {
        Self { replicas: of_each, ..self }
    }

    /// `requirepass` and `masterauth` of every node.
    pub(crate) fn password(self, password: &str) -> Self {
        Self { password: Some(password.to_owned()), ..self }
    }

    /// TLS for clients, bus and replication; no node has a plain port. Redis 7.0 only.
    ///
    /// Client certificates are welcome, not demanded: `config(&["--tls-auth-clients", "yes"])` demands them.
    pub(crate) fn tls(self) -> Self {
        assert!(self.flavour.has_tls(), "{} was built without TLS", self.flavour.name());
        Self { tls: true, ..self }
    }

    /// More arguments for every server, as on its command line: `&["--cluster-databases", "4"]`.
    pub(crate) fn config(mut self, args: &[&str]) -> Self {
        self.config.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// More arguments for one server. Nodes are numbered: primaries with slots, then empty ones, then replicas.
    pub(crate) fn node_config(mut self, node: usize, args: &[&str]) -> Self {
        self.node_config.push((node, args.iter().map(|&arg| arg.to_owned()).collect()));
        self
    }

    /// One server of another version. Nodes are numbered as for [`Spec::node_config`].
    pub(crate) fn node_flavour(mut self, node: usize, flavour: Flavour) -> Self {
        self.node_flavour.insert(node, flavour);
        self
    }

    /// `cluster-node-timeout`; three seconds until told otherwise.
    pub(crate) fn node_timeout(self, node_timeout: Duration) -> Self {
        Self { node_timeout, ..self }
    }

    /// The IPs that the nodes announce, in the order of the nodes: any in 127.0.0.0/8.
    ///
    /// A node listens on 127.0.0.1 and on the IP it announces, on the same port.
    pub(crate) fn announced(self, ips: &[&str]) -> Self {
        Self { announced: ips.iter().map(|&ip| ip.to_owned()).collect(), ..self }
    }

    pub(super) fn flavour_of(&self, node: usize) -> Flavour {
        self.node_flavour.get(&node).copied().unwrap_or(self.flavour)
    }

    pub(super) fn node_count(&self) -> usize {
        self.slots.len() * (1 + self.replicas) + self.empty_primaries
    }
}

/// The slots in `count` contiguous shares of almost equal size.
fn even(count: usize) -> Vec<SlotSet> {
    let start = |share: usize| share * Slot::COUNT / count;
    let slot = |number: usize| u16::try_from(number).ok().and_then(Slot::new).expect("a slot's number");
    let range = |share| SlotRange::new(slot(start(share)), slot(start(share + 1) - 1)).expect("never more than slots");
    (0..count).map(|share| range(share).into()).collect()
}
