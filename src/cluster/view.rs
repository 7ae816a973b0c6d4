//! What one node says of the cluster: the text of `CLUSTER NODES`, read into a [`NodeView`].
//!
//! Reads the text and nothing more. Whether the node is right is for [`super::Topology`] to judge, which compares
//! what all nodes say.

mod known;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use thiserror::Error;

use super::{Address, NodeId, NodeIdError, Slot, SlotRange, SlotSet, SlotTextError};
pub use known::KnownLines;

/// What one node says of every node that it knows, itself among them.
///
/// Exactly one line is the node's own, no id stands on two lines and no slot belongs to two of them. Lines of nodes in
/// handshake are only counted: their ids are random and change when the handshake ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    myself: Arc<NodeLine>,
    /// In the order of their ids. Shared with other views: a thousand nodes have a million lines, and say a thousand things.
    others: Arc<[Arc<NodeLine>]>,
    handshakes: Vec<Option<Address>>,
}

impl NodeView {
    /// Reads the reply of `CLUSTER NODES`. Flags and trailing fields that it does not know are passed over.
    pub fn parse(text: &str) -> Result<Self, ViewError> {
        Self::parse_by(text, &mut KnownLines::default())
    }

    /// The same, faster and with less memory where the lines were read before.
    pub fn parse_by(text: &str, known: &mut KnownLines) -> Result<Self, ViewError> {
        let mut myself: Option<(usize, Arc<NodeLine>)> = None;
        let mut others: Vec<Arc<NodeLine>> = Vec::new();
        let mut ids = HashSet::new();
        let mut handshakes = Vec::new();
        let mut owned = SlotSet::new();

        for (number, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content.trim())) {
            if content.is_empty() {
                continue;
            }
            let fault = |fault| ViewError::Line { line: number, fault };
            let line = known.read(content).map_err(fault)?;
            if line.handshake && !line.myself {
                handshakes.push(line.address.clone());
                continue;
            }
            if !ids.insert(line.id) {
                return Err(fault(LineFault::SecondLine(line.id)));
            }
            if line.slots.intersects(&owned) {
                return Err(fault(LineFault::OwnedTwice(line.slots.intersection(&owned))));
            }
            owned.insert_all(&line.slots);
            match (&myself, line.myself) {
                (Some((first, _)), true) => return Err(fault(LineFault::SecondMyself { first: *first })),
                (None, true) => myself = Some((number, line)),
                (Some(_) | None, false) => others.push(line),
            }
        }
        let (_, myself) = myself.ok_or(ViewError::NoMyself)?;
        others.sort_unstable_by_key(|line| line.id);
        Ok(Self { myself, others: others.into(), handshakes })
    }

    /// What the node says of itself: the last word on its own role, and the only line with open markers.
    #[must_use]
    pub fn myself(&self) -> &NodeLine {
        &self.myself
    }

    /// What the node says of the node with this id, itself included; `None` when it does not know it.
    #[must_use]
    pub fn line(&self, id: NodeId) -> Option<&NodeLine> {
        if self.myself.id == id {
            return Some(&self.myself);
        }
        let at = self.others.binary_search_by_key(&id, |line| line.id).ok()?;
        Some(&self.others[at])
    }

    /// Every line but those in handshake: the node's own first, then the others in the order of their ids.
    pub fn lines(&self) -> impl Iterator<Item = &NodeLine> {
        std::iter::once(&self.myself).chain(self.others.iter()).map(|line| &**line)
    }

    /// How many nodes this one is shaking hands with.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// Where the nodes in handshake are thought to be; `None` for one whose address is not known.
    pub fn handshake_addresses(&self) -> impl Iterator<Item = Option<&Address>> {
        self.handshakes.iter().map(Option::as_ref)
    }
}

/// One line of `CLUSTER NODES`: what one node says of another, or of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// The node that the line is about.
    pub id: NodeId,
    /// Where the node announces that it is reached; `None` when it has no address (`noaddr`) or does not know its own
    /// yet (an empty ip, on a fresh node's own line).
    pub address: Option<Address>,
    /// The port for clients, of the kind (TLS or not) of the connection that asked; 0 when there is none.
    pub port: u16,
    /// The port of the cluster bus; 0 when the address is not known.
    pub bus_port: u16,
    /// The announced hostname (Redis 7.0 and later, all Valkey), never empty.
    pub hostname: Option<String>,
    /// Whether the node speaks of itself.
    pub myself: bool,
    /// Primary or replica; the node's own line decides, others may lag.
    pub role: Role,
    /// Whether the speaker thinks that the node has failed.
    pub failing: Failing,
    /// Whether the two nodes are still shaking hands.
    pub handshake: bool,
    /// Whether the speaker has no address for the node.
    pub no_address: bool,
    /// The epoch of the node's claim to its slots; of a replica, its primary's.
    pub config_epoch: u64,
    /// The speaker's connection to the node on the cluster bus; its own line is always connected.
    pub link: Link,
    /// The slots that the node owns, as the speaker sees it.
    pub slots: SlotSet,
    /// The slots left open, in the order of the text. Only on the node's own line.
    pub markers: Vec<Marker>,
}

/// What a node is in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It may own slots and votes.
    Primary,
    /// It copies a primary.
    Replica {
        /// The primary that it copies; `None` when the line names none.
        of: Option<NodeId>,
    },
    /// The line says neither.
    Unknown,
}

/// Whether a node is thought to have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failing {
    /// Nothing is held against it.
    No,
    /// The speaker alone suspects it (`fail?`).
    Suspected,
    /// The primaries agreed that it failed (`fail`).
    Agreed,
}

/// A connection on the cluster bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// It stands.
    Connected,
    /// It is down, or was never made.
    Disconnected,
}

/// A slot left open, as the node that holds the mark has it.
///
/// A mark proves nothing about the owner: Redis keeps a migrating mark at a node that lost the slot through gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Marker {
    /// The holder gives the slot away: what it does not find it sends to `to` (`[866->-id]`).
    Migrating {
        /// The open slot.
        slot: Slot,
        /// The node that the slot goes to.
        to: NodeId,
    },
    /// The holder takes the slot in: it serves those who come with ASKING (`[866-<-id]`).
    Importing {
        /// The open slot.
        slot: Slot,
        /// The node that the slot comes from.
        from: NodeId,
    },
}

impl Marker {
    /// The open slot.
    #[must_use]
    pub const fn slot(self) -> Slot {
        match self {
            Self::Migrating { slot, .. } | Self::Importing { slot, .. } => slot,
        }
    }
}

/// Text that is not a reply of `CLUSTER NODES`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ViewError {
    /// A line that cannot be read.
    #[error("line {line} of CLUSTER NODES: {fault}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// No line is the speaker's own.
    #[error("CLUSTER NODES has no line with the flag `myself`")]
    NoMyself,
}

/// What is wrong with a line of `CLUSTER NODES`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineFault {
    /// Fewer than the eight fields that every line has.
    #[error("it has {0} of the eight fields that every line has")]
    TooShort(usize),
    /// The line's id, or that of its primary.
    #[error(transparent)]
    Id(#[from] NodeIdError),
    /// The second field.
    #[error("`{0}` is not an address: expected ip:port@bus-port, perhaps with a hostname")]
    Address(String),
    /// The seventh field.
    #[error("`{0}` is not a config epoch")]
    ConfigEpoch(String),
    /// The eighth field.
    #[error("`{0}` is not the state of a link: expected connected or disconnected")]
    Link(String),
    /// A slot or a range of slots.
    #[error(transparent)]
    Slots(#[from] SlotTextError),
    /// Something in square brackets with an arrow, but not an open slot.
    #[error("`{0}` is not an open slot: expected [slot->-id] or [slot-<-id]")]
    Marker(String),
    /// The node has a line already.
    #[error("node {0} has a second line")]
    SecondLine(NodeId),
    /// Another line is the speaker's own already.
    #[error("the flag `myself` stands on line {first} already")]
    SecondMyself {
        /// The number of that line.
        first: usize,
    },
    /// Slots that a line above has as well.
    #[error("slots {0} belong to a line above already")]
    OwnedTwice(SlotSet),
}

impl NodeLine {
    fn parse(line: &str) -> Result<Self, LineFault> {
        let mut fields = [""; 8];
        let mut rest = line.split(' ');
        for (at, field) in fields.iter_mut().enumerate() {
            *field = rest.next().ok_or(LineFault::TooShort(at))?;
        }
        // The times of the last ping and pong are the speaker's clock: nothing here may depend on them.
        let [id, address, flags, primary, _ping_sent, _pong_received, config_epoch, link] = fields;

        let flags = Flags::parse(flags);
        let endpoint = Endpoint::parse(address).ok_or_else(|| LineFault::Address(address.to_owned()))?;
        let of = if primary == "-" { None } else { Some(primary.parse()?) };
        let role = match flags.role {
            Role::Replica { .. } => Role::Replica { of },
            role @ (Role::Primary | Role::Unknown) => role,
        };
        let (slots, markers) = parse_slots(rest)?;
        Ok(Self {
            id: id.parse()?,
            address: if flags.no_address { None } else { endpoint.address() },
            port: endpoint.port,
            bus_port: endpoint.bus_port,
            hostname: endpoint.hostname.map(str::to_owned),
            myself: flags.myself,
            role,
            failing: flags.failing,
            handshake: flags.handshake,
            no_address: flags.no_address,
            config_epoch: config_epoch.parse().map_err(|_| LineFault::ConfigEpoch(config_epoch.to_owned()))?,
            link: match link {
                "connected" => Link::Connected,
                "disconnected" => Link::Disconnected,
                other => return Err(LineFault::Link(other.to_owned())),
            },
            slots,
            markers,
        })
    }
}

struct Flags {
    myself: bool,
    role: Role,
    failing: Failing,
    handshake: bool,
    no_address: bool,
}

impl Flags {
    fn parse(text: &str) -> Self {
        let mut flags =
            Self { myself: false, role: Role::Unknown, failing: Failing::No, handshake: false, no_address: false };
        for flag in text.split(',') {
            match flag {
                "myself" => flags.myself = true,
                "master" => flags.role = Role::Primary,
                "slave" => flags.role = Role::Replica { of: None },
                "fail?" => flags.failing = flags.failing.max(Failing::Suspected),
                "fail" => flags.failing = Failing::Agreed,
                "handshake" => flags.handshake = true,
                "noaddr" => flags.no_address = true,
                // `noflags`, `nofailover`, and what later versions may add.
                _ => {}
            }
        }
        flags
    }
}

/// The second field: `ip:port@bus-port[,hostname[,key=value]*]`.
struct Endpoint<'a> {
    ip: &'a str,
    port: u16,
    bus_port: u16,
    hostname: Option<&'a str>,
}

impl<'a> Endpoint<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        // Neither an ip nor a port holds an `@`, a later field may; an ip may hold colons (`::1:7000@17000`).
        let (client, bus) = text.split_once('@')?;
        let (ip, port) = client.rsplit_once(':')?;
        let mut bus = bus.split(',');
        Some(Self {
            ip,
            port: port.parse().ok()?,
            bus_port: bus.next()?.parse().ok()?,
            hostname: bus.next().filter(|name| !name.is_empty() && !name.contains('=')),
        })
    }

    fn address(&self) -> Option<Address> {
        (!self.ip.is_empty() && self.port != 0).then(|| Address::new(self.ip, self.port))
    }
}

fn parse_slots<'a>(fields: impl Iterator<Item = &'a str>) -> Result<(SlotSet, Vec<Marker>), LineFault> {
    let mut slots = SlotSet::new();
    let mut markers = Vec::new();
    for field in fields.filter(|field| !field.is_empty()) {
        if field.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            // Never passed over: a range misread is an owner misread.
            slots.insert_range(field.parse::<SlotRange>()?);
        } else if let Some(inside) = field.strip_prefix('[') {
            markers.extend(parse_marker(inside).map_err(|()| LineFault::Marker(field.to_owned()))?);
        }
    }
    Ok((slots, markers))
}

/// The marker behind a `[`, or `None` for something else that a later version may write in brackets.
fn parse_marker(inside: &str) -> Result<Option<Marker>, ()> {
    let read = |slot: &str, id: &str| -> Option<(Slot, NodeId)> {
        Some((slot.parse().ok()?, id.strip_suffix(']')?.parse().ok()?))
    };
    if let Some((slot, to)) = inside.split_once("->-") {
        let (slot, to) = read(slot, to).ok_or(())?;
        Ok(Some(Marker::Migrating { slot, to }))
    } else if let Some((slot, from)) = inside.split_once("-<-") {
        let (slot, from) = read(slot, from).ok_or(())?;
        Ok(Some(Marker::Importing { slot, from }))
    } else {
        Ok(None)
    }
}
