//! How people name nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::cluster::{Address, NodeId};

/// How many digits of an id name a node at least: as many as a line of text shows.
const PREFIX_MIN: usize = 8;

/// What each node can be called by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<NodeId, Known>);

/// One node's names besides its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Where it was announced, by whomever, and where it was dialled.
    pub(super) addresses: BTreeSet<Address>,
    /// Its announced hostnames; more than one only while a change of it spreads.
    pub(super) hostnames: BTreeSet<String>,
    pub(super) answered: bool,
}

/// A name that stands for no node, or for several.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// No node of the cluster is called that.
    #[error(
        "no node is called `{name}` (a node is named by its id, at least {PREFIX_MIN} digits of it, its address \
         host:port, or its announced hostname); the nodes are {}",
        Called(known)
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// Every node, with one of its addresses.
        known: Vec<(NodeId, Option<Address>)>,
    },
    /// Several nodes are called that.
    #[error("`{name}` is ambiguous: it names {}", Called(matches))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The nodes that it could mean, with one of their addresses.
        matches: Vec<(NodeId, Option<Address>)>,
    },
}

impl Names {
    pub(super) fn insert(&mut self, id: NodeId, known: Known) {
        self.0.insert(id, known);
    }

    pub(super) fn resolve(&self, name: &str) -> Result<NodeId, NameError> {
        let name = name.trim();
        let mut matches: Vec<(NodeId, &Known)> =
            self.0.iter().map(|(id, known)| (*id, known)).filter(|(id, known)| known.is_called(*id, name)).collect();
        if matches.iter().any(|(_, known)| known.answered) {
            matches.retain(|(_, known)| known.answered);
        }
        let list = |nodes: &mut dyn Iterator<Item = (NodeId, &Known)>| {
            nodes.map(|(id, known)| (id, known.addresses.first().cloned())).collect()
        };
        match matches.as_slice() {
            [(id, _)] => Ok(*id),
            [] => Err(NameError::Unknown {
                name: name.to_owned(),
                known: list(&mut self.0.iter().map(|(id, known)| (*id, known))),
            }),
            [_, _, ..] => Err(NameError::Ambiguous { name: name.to_owned(), matches: list(&mut matches.into_iter()) }),
        }
    }
}

impl Known {
    fn is_called(&self, id: NodeId, name: &str) -> bool {
        let is_prefix = name.len() >= PREFIX_MIN && id.to_string().starts_with(name);
        let is_hostname = || self.hostnames.iter().any(|hostname| hostname.eq_ignore_ascii_case(name));
        is_prefix || is_hostname() || name.parse().is_ok_and(|address| self.is_at(&address))
    }

    fn is_at(&self, wanted: &Address) -> bool {
        self.addresses.iter().any(|address| {
            let named = |host: &String| host.eq_ignore_ascii_case(&wanted.host);
            address.port == wanted.port && (named(&address.host) || self.hostnames.iter().any(named))
        })
    }
}

/// The nodes with commas between them: short id and address.
struct Called<'a>(&'a [(NodeId, Option<Address>)]);

impl fmt::Display for Called<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (id, address)) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, id.short())?;
            if let Some(address) = address {
                write!(f, " ({address})")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::fixtures::{id, observation, with_names};
    use crate::cluster::{SlotSet, Topology};

    fn check(name: &str, expected: &str) {
        let observation = observation(
            "aab 0-5460 host=cache-0.example
         b 5461-10922 host=cache-1.example
         c 10923-16383 at=:6379@16379
         aac of aab host=cache-1.example
         d of b at=10.0.0.1:6379@16379
         d silent refused",
        );
        let topology = Topology::merge(&observation, &SlotSet::new());
        let got = match topology.resolve(name) {
            Ok(id) => id.short(),
            Err(error) => error.to_string(),
        };
        assert_eq!(with_names(&got, &observation), expected, "{name}");
    }

    #[test]
    fn a_node_is_called_by_id_address_or_hostname() {
        check(&id("c").to_string(), "c");
        check("cccccccc", "c");
        check("10.0.0.2:6379", "b");
        check("cache-0.example", "aab");
        check("CACHE-0.example:6379", "aab");
        // Announced nowhere, but dialled.
        check("10.0.0.3:6379", "c");
        // The silent `d` is announced there as well.
        check("10.0.0.1:6379", "aab");
        check("cache-1.example", "`cache-1.example` is ambiguous: it names aac (10.0.0.4:6379), b (10.0.0.2:6379)");
        let known = "no node is called `ccccccc` (a node is named by its id, at least 8 digits of it, its address \
                 host:port, or its announced hostname); the nodes are aab (10.0.0.1:6379), aac (10.0.0.4:6379), \
                 b (10.0.0.2:6379), c (10.0.0.3:6379), d (10.0.0.1:6379)";
        check("ccccccc", known);
    }
}
