//! A known set of keys in a cluster, and whether it is all still there.

use std::collections::BTreeMap;

use redis::{Connection, Pipeline, RedisResult, Value};

use super::cluster::Cluster;
use super::families::{self, Entry, LIFETIME_MS};
use super::node::Node;
use super::wait::{SOON, eventually};

/// How many keys go to a node in one pipeline.
const BATCH: usize = 1000;

/// Keys that were written to one database of a cluster: plain ones by number, and the special ones.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    plain: usize,
    database: i64,
}

/// What became of a data set; keys by name, non-printing bytes escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// How many keys were looked for.
    pub(crate) checked: usize,
    /// Keys that no node has.
    pub(crate) lost: Vec<String>,
    /// Keys that hold something else, or whose reading was refused, with what it is.
    pub(crate) wrong: Vec<String>,
}

impl Data {
    /// Writes `EVENKEEL_TEST_KEYS` plain keys (100,000 where it is not set) and the special ones.
    #[track_caller]
    pub(crate) fn fill(cluster: &Cluster) -> Self {
        Self::fill_or(cluster, 100_000)
    }

    /// Writes `EVENKEEL_TEST_KEYS` plain keys (so many where it is not set) and the special ones.
    #[track_caller]
    pub(crate) fn fill_or(cluster: &Cluster, keys: usize) -> Self {
        let asked = std::env::var("EVENKEEL_TEST_KEYS");
        let keys = asked.map_or(keys, |text| text.parse().expect("EVENKEEL_TEST_KEYS is a number of keys"));
        Self::fill_database(cluster, keys, 0)
    }

    /// Writes this many plain keys, and the special ones, to this database.
    #[track_caller]
    pub(crate) fn fill_database(cluster: &Cluster, plain: usize, database: i64) -> Self {
        let data = Self { plain, database };
        data.each_batch(cluster, |connection, batch| {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for command in batch.iter().flat_map(Entry::write) {
                pipeline.add_command(command).ignore();
            }
            pipeline.exec(connection).expect("every key can be written to the owner of its slot");
        });
        data
    }

    /// How many keys there are.
    pub(crate) fn keys(&self) -> usize {
        self.entries().count()
    }

    /// Reads every key back and panics, with their names, if any is lost or wrong.
    #[track_caller]
    pub(crate) fn verify_all(&self, cluster: &Cluster) {
        let findings = self.verify(cluster);
        let Findings { checked, lost, wrong } = &findings;
        let some = |names: &[String]| names.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
        assert!(
            lost.is_empty() && wrong.is_empty(),
            "of {checked} keys {} lost:\n  {}\n{} wrong:\n  {}",
            lost.len(),
            some(lost),
            wrong.len(),
            some(wrong),
        );
    }

    /// Reads every key back: from the owner of its slot, and where that redirects, wherever it redirects to.
    #[track_caller]
    pub(crate) fn verify(&self, cluster: &Cluster) -> Findings {
        let mut findings = Findings::default();
        let mut client = None;
        self.each_batch(cluster, |connection, batch| {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for entry in batch {
                pipeline.add_command(entry.read()).add_command(entry.read_lifetime());
            }
            let replies: Vec<RedisResult<Value>> =
                pipeline.ignore_errors().query(connection).expect("the owner of a slot answers");
            for (entry, replies) in batch.iter().zip(replies.chunks(2)) {
                let direct = replies.iter().cloned().collect::<RedisResult<Vec<Value>>>();
                let replies = direct.or_else(|_| {
                    let client = client.get_or_insert_with(|| {
                        let client = cluster.client().database_id(self.database).build();
                        client.and_then(|client| client.get_connection()).expect("a client can connect")
                    });
                    Ok(vec![entry.read().query(client)?, entry.read_lifetime().query(client)?])
                });
                findings.judge(entry, replies);
            }
        });
        findings
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let taken = families::look_alike_slots();
        let plain = (0..self.plain).map(|number| Entry::text(format!("key:{number}")));
        plain.filter(move |entry| !taken.contains(entry.slot())).chain(families::special())
    }

    /// Calls `act` with all keys, in batches of those that one node owns, and a connection to that node.
    #[track_caller]
    fn each_batch(&self, cluster: &Cluster, mut act: impl FnMut(&mut Connection, &[Entry])) {
        let owner = owners_by_slot(cluster);
        let mut batches: BTreeMap<Node, (Connection, Vec<Entry>)> = BTreeMap::new();
        for entry in self.entries() {
            let node = owner[entry.slot().index()];
            let (connection, batch) = batches.entry(node).or_insert_with(|| {
                let connection = cluster.connect(node, self.database).expect("the owner of a slot can be reached");
                (connection, Vec::with_capacity(BATCH))
            });
            batch.push(entry);
            if batch.len() == BATCH {
                act(connection, batch);
                batch.clear();
            }
        }
        // A node whose keys filled the last batch to the brim has none left, and a pipeline without commands is an error.
        for (mut connection, batch) in batches.into_values().filter(|(_, batch)| !batch.is_empty()) {
            act(&mut connection, &batch);
        }
    }
}

impl Findings {
    fn judge(&mut self, entry: &Entry, replies: RedisResult<Vec<Value>>) {
        self.checked += 1;
        let name = entry.key.escape_ascii().to_string();
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => return self.wrong.push(format!("{name}: {error}")),
        };
        let mut strings = Vec::new();
        flatten(&replies[0], &mut strings);
        let lives = matches!(replies[1], Value::Int(lifetime) if (1..=LIFETIME_MS).contains(&lifetime));
        let for_ever = matches!(replies[1], Value::Int(-1));
        if strings.is_empty() {
            self.lost.push(name);
        } else if entry.order(strings) != entry.expected() {
            self.wrong.push(format!("{name}: holds something else"));
        } else if !(if entry.expires { lives } else { for_ever }) {
            self.wrong.push(format!("{name}: PTTL is {:?}", replies[1]));
        }
    }
}

/// The node that owns each slot, once all nodes agree on that.
#[track_caller]
fn owners_by_slot(cluster: &Cluster) -> Vec<Node> {
    let owners = eventually("all views agree on the owners", SOON, || cluster.agreed_owners());
    let mut by_slot = BTreeMap::new();
    for node in cluster.nodes() {
        let slots = owners.get(&cluster.node_id(node)).cloned().unwrap_or_default();
        by_slot.extend(slots.iter().map(|slot| (slot, node)));
    }
    by_slot.into_values().collect()
}

/// The strings in a reply, in their order; integers as text.
#[expect(clippy::wildcard_enum_match_arm, reason = "the client library may add kinds of values")]
fn flatten(value: &Value, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::BulkString(bytes) => into.push(bytes.clone()),
        Value::SimpleString(text) => into.push(text.clone().into_bytes()),
        Value::Int(number) => into.push(number.to_string().into_bytes()),
        Value::Array(values) | Value::Set(values) => values.iter().for_each(|value| flatten(value, into)),
        Value::Nil => {}
        other => panic!("no reply to a read is {other:?}"),
    }
}
