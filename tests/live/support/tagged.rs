//! Keys that share one slot, for stories about that slot.

use evenkeel::cluster::Slot;
use redis::{Pipeline, RedisResult};

use super::cluster::Cluster;
use super::families::look_alike_slots;
use super::node::Node;

/// How many keys are written or read at once.
const BATCH: usize = 1000;

/// A slot with a known number of keys in it, all with one tag in their names.
#[derive(Clone, Debug)]
pub(crate) struct Tagged {
    pub(crate) slot: Slot,
    tag: String,
    keys: usize,
}

impl Tagged {
    /// Writes so many keys to a slot of this node: the `number`th that it owns, counted by the tags' names.
    #[track_caller]
    pub(crate) fn fill(cluster: &Cluster, node: Node, number: usize, keys: usize) -> Self {
        let slots = cluster.slots_of(node).difference(&look_alike_slots());
        let mut tags = (0..).map(|number: usize| format!("tag {number}"));
        let tag = tags.by_ref().filter(|tag| slots.contains(Slot::of_key(tag.as_bytes()))).nth(number);
        let tag = tag.expect("there is no end of tags");
        let tagged = Self { slot: Slot::of_key(tag.as_bytes()), tag, keys };
        let mut connection = cluster.connect(node, 0).expect("the owner of the slot can be reached");
        for batch in (0..keys).collect::<Vec<_>>().chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for &number in batch {
                pipeline.cmd("SET").arg(tagged.key(number)).arg(tagged.value(number)).ignore();
            }
            pipeline.exec(&mut connection).expect("the owner of the slot takes every key");
        }
        tagged
    }

    /// The name of one key.
    pub(crate) fn key(&self, number: usize) -> String {
        format!("{{{}}}{number}", self.tag)
    }

    /// What that key holds.
    pub(crate) fn value(&self, number: usize) -> String {
        format!("value {number} of {}", self.tag)
    }

    /// Runs a command about the slot at a node that does not own it, as one who imports it from its owner.
    #[track_caller]
    pub(crate) fn at_importer(&self, cluster: &Cluster, (from, to): (Node, Node), command: &[&str]) {
        let (slot, from) = (self.slot.to_string(), cluster.node_id(from).to_string());
        cluster.cmd::<()>(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]);
        let mut asking = Pipeline::new();
        asking.cmd("ASKING").ignore();
        let words = asking.cmd(command[0]);
        for word in &command[1..] {
            words.arg(*word);
        }
        asking.exec(&mut cluster.connect(to, 0).expect("it runs")).expect("an importer takes what is asked of it");
        cluster.cmd::<()>(to, &["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    }

    /// Reads every key from the slot's owner, and where that redirects, wherever it redirects to; panics if one is gone
    /// or holds something else.
    #[track_caller]
    pub(crate) fn verify(&self, cluster: &Cluster) {
        let owner = cluster.nodes().into_iter().find(|&node| cluster.slots_of(node).contains(self.slot));
        let owner = owner.expect("all nodes agree on an owner of every slot");
        let mut direct = cluster.connect(owner, 0).expect("the owner of the slot can be reached");
        let mut client = None;
        let mut wrong = Vec::new();
        for batch in (0..self.keys).collect::<Vec<_>>().chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for &number in batch {
                pipeline.cmd("GET").arg(self.key(number));
            }
            let replies: Vec<RedisResult<Option<String>>> =
                pipeline.ignore_errors().query(&mut direct).expect("the owner of a slot answers");
            for (&number, reply) in batch.iter().zip(replies) {
                let found = reply.or_else(|_| {
                    let client = client.get_or_insert_with(|| {
                        let client = cluster.client().build().and_then(|client| client.get_connection());
                        client.expect("a client can connect")
                    });
                    redis::cmd("GET").arg(self.key(number)).query(client)
                });
                if found.as_ref().ok().and_then(Option::as_deref) != Some(&self.value(number)) {
                    wrong.push(format!("{}: {found:?}", self.key(number)));
                }
            }
        }
        let (count, first) = (wrong.len(), &wrong[..wrong.len().min(5)]);
        assert!(wrong.is_empty(), "{count} of {} keys of slot {} are gone or differ: {first:#?}", self.keys, self.slot);
    }
}
