//! The commands that evenkeel sends, typed. One function a command; none decides anything.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use secrecy::{ExposeSecret, SecretString};

use super::{CallError, Conn, Value};
use crate::cluster::{Address, NodeId, NodeSettings, Slot, SlotSet};
use crate::migration::{Batch, Comparison, Key, Mark, MigrateReply, Pair, SetSlotReply};

/// How long a Valkey primary waits for its replicas to take a `SETSLOT`, in ms; its default of 2,000 would hold a
/// group of slots up for two seconds each time one replica hangs.
pub(super) const SETSLOT_TIMEOUT_MS: u32 = 500;

/// A script that counts as one that may write, and does nothing.
pub(super) const A_WRITE: [&str; 2] = ["return 0", "0"];

/// Keys counted slot by slot.
pub type Counted = BTreeMap<Slot, u64>;

/// The user that `MIGRATE` logs in as at the target.
#[derive(Clone)]
pub struct MigrateLogin {
    /// ACL user; `None` is the default user with a plain password.
    pub username: Option<String>,
    /// The password.
    pub password: SecretString,
}

impl fmt::Debug for MigrateLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrateLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

/// One `MIGRATE`.
#[derive(Debug)]
pub struct MigrateCall<'a> {
    /// The target's address as the *source* lists it.
    pub target: &'a Address,
    /// The login at the target, where it asks for one.
    pub login: Option<&'a MigrateLogin>,
    /// What to move.
    pub batch: &'a Batch,
    /// The server's own limit for each write and each reply line.
    pub timeout: Duration,
    /// How long the keys are expected to hold the source, where that is long.
    pub expected: Duration,
    /// Whether the source is asked, right behind it, where it sends a client that wants one of the keys.
    pub ask: bool,
}

impl Conn {
    /// The text of `CLUSTER NODES`.
    pub async fn cluster_nodes(&self) -> Result<String, CallError> {
        self.text("CLUSTER", &["NODES"]).await
    }

    /// The text of `CLUSTER INFO`.
    pub async fn cluster_info(&self) -> Result<String, CallError> {
        self.text("CLUSTER", &["INFO"]).await
    }

    /// Answers once the server carries out writes. A primary that is about to hand over to a replica, by an operator's
    /// `CLUSTER FAILOVER`, has clients that may write wait until it is over, those of any script included (Redis from 6.2, Valkey).
    pub async fn await_writes(&self) -> Result<(), CallError> {
        self.call("EVAL", words(&A_WRITE)).await.map(drop)
    }

    /// The text of `INFO`, of one section or of the default ones.
    pub async fn info(&self, section: Option<&str>) -> Result<String, CallError> {
        self.text("INFO", section.as_slice()).await
    }

    /// The databases that hold any key, in ascending order.
    pub async fn databases(&self) -> Result<Vec<u32>, CallError> {
        Ok(self.keys_by_database().await?.into_keys().collect())
    }

    /// How many keys each database holds, those that hold any; keys that the server shows in no slot are among them.
    pub async fn keys_by_database(&self) -> Result<BTreeMap<u32, u64>, CallError> {
        Ok(keys_by_database_in(&self.info(Some("keyspace")).await?))
    }

    /// One value of the server's configuration, or `None` if it knows no such name.
    pub async fn config_get(&self, name: &'static str) -> Result<Option<String>, CallError> {
        let reply = self.call("CONFIG", words(&["GET", name])).await?;
        let Value::Array(pair) = reply else { return Err(self.unexpected("CONFIG GET", "no list")) };
        Ok(pair.get(1).and_then(Value::text).map(str::to_owned))
    }

    /// What the server is configured to do, as far as it matters to a move. All asked at once.
    pub async fn settings(&self) -> Result<NodeSettings, CallError> {
        let values = join_all(NodeSettings::NAMES.map(|name| self.config_get(name))).await;
        let mut settings = NodeSettings::default();
        for (name, value) in NodeSettings::NAMES.into_iter().zip(values) {
            if let Some(value) = value? {
                settings.set(name, &value);
            }
        }
        Ok(settings)
    }

    /// The names of all connections to this server, with the address of their other end.
    pub async fn client_names(&self) -> Result<Vec<(String, String)>, CallError> {
        let list = self.text("CLIENT", &["LIST"]).await?;
        let field = |line: &str, name: &str| {
            line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned()
        };
        Ok(list.lines().map(|line| (field(line, "name="), field(line, "addr="))).collect())
    }

    /// Makes another database the one that this connection's commands work on.
    pub async fn select(&self, db: u32) -> Result<(), CallError> {
        self.call("SELECT", vec![db.to_string().into()]).await.map(drop)
    }

    /// How many keys of each slot the node holds, in this connection's database. All asked at once.
    pub async fn count_keys(&self, slots: &SlotSet) -> Result<Counted, CallError> {
        let slots: Vec<Slot> = slots.iter().collect();
        let counts = self.count_keys_in_slots(&slots).await?;
        slots.iter().zip(&counts).map(|(&slot, count)| Ok((slot, self.number_of_keys(count)?))).collect()
    }

    /// What the server says that a slot holds.
    pub(super) fn number_of_keys(&self, count: &Value) -> Result<u64, CallError> {
        match count {
            Value::Integer(keys) => Ok(u64::try_from(*keys).unwrap_or_default()),
            Value::Null | Value::Bytes(_) | Value::Array(_) => {
                Err(self.unexpected("CLUSTER COUNTKEYSINSLOT", "no number"))
            }
        }
    }

    /// Names of keys of each slot, at most `count` of each, in this connection's database. The connection is a bare one
    /// ([`Dialer::bare`]).
    ///
    /// [`Dialer::bare`]: super::Dialer::bare
    pub async fn list_keys(&self, slots: &[Slot], count: u32) -> Result<Vec<(Slot, Vec<Key>)>, CallError> {
        let ask = |slot: &Slot| vec!["GETKEYSINSLOT".into(), slot.to_string().into(), count.to_string().into()];
        let replies = self.call_each("CLUSTER", slots.iter().map(ask)).await?;
        let keys = |value: Result<Value, CallError>| match value? {
            Value::Array(keys) => keys.into_iter().map(|key| self.key(key)).collect(),
            Value::Null | Value::Integer(_) | Value::Bytes(_) => {
                Err(self.unexpected("CLUSTER GETKEYSINSLOT", "no list"))
            }
        };
        slots.iter().copied().zip(replies).map(|(slot, value)| Ok((slot, keys(value)?))).collect()
    }

    /// A key's name in a list of such.
    pub(super) fn key(&self, value: Value) -> Result<Key, CallError> {
        match value {
            Value::Bytes(key) => Ok(key),
            Value::Null | Value::Integer(_) | Value::Array(_) => {
                Err(self.unexpected("CLUSTER GETKEYSINSLOT", "a key that is no string"))
            }
        }
    }

    /// `CLUSTER SETSLOT` for every slot, all in one piece: the server saves and spreads them together. The connection is a
    /// bare one ([`Dialer::bare`]).
    ///
    /// [`Dialer::bare`]: super::Dialer::bare
    ///
    /// A node that is to take slots itself is asked by [`Self::assign_before`] or [`Self::assign_together_before`].
    ///
    /// An error means that at least one reply is missing; the others may have been carried out.
    pub async fn set_slots(
        &self,
        slots: &SlotSet,
        mark: Mark,
        pair: Pair,
        valkey: bool,
    ) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
        let words: Vec<Bytes> = match mark {
            Mark::Importing => vec!["IMPORTING".into(), id(pair.source)],
            Mark::Migrating => vec!["MIGRATING".into(), id(pair.target)],
            Mark::Assigned => vec!["NODE".into(), id(pair.target)],
            Mark::Stable => vec!["STABLE".into()],
            Mark::Redirected => vec!["NODE".into(), id(pair.source)],
        };
        let calls = slots.iter().map(|slot: Slot| {
            let mut args: Vec<Bytes> = vec!["SETSLOT".into(), slot.to_string().into()];
            args.extend(words.iter().cloned());
            if valkey {
                args.extend(["TIMEOUT".into(), SETSLOT_TIMEOUT_MS.to_string().into()]);
            }
            args
        });
        let replies = self.call_each("CLUSTER", calls).await?;
        slots.iter().zip(replies).map(|(slot, reply)| Ok((slot, set_slot_reply(reply)?))).collect()
    }

    /// `CLUSTER ADDSLOTS`: these slots, which nobody has, are the node's. All or none.
    pub async fn add_slots(&self, slots: &SlotSet) -> Result<(), CallError> {
        let words = std::iter::once("ADDSLOTS".into()).chain(slots.iter().map(|slot| slot.to_string().into()));
        self.call("CLUSTER", words.collect()).await.map(drop)
    }

    /// Deletes keys of a slot that the node takes in, which only who comes with `ASKING` can see.
    pub async fn delete_asking(&self, keys: &[Key]) -> Result<(), CallError> {
        for key in keys {
            self.call("ASKING", Vec::new()).await?;
            self.call("DEL", vec![key.clone()]).await?;
        }
        Ok(())
    }

    /// One `MIGRATE` in this connection's database. The connection is a bare one ([`Dialer::bare`]).
    ///
    /// [`Dialer::bare`]: super::Dialer::bare
    ///
    /// The server's time-out counts for each piece that it writes or reads, so the reply may take a multiple of it.
    pub async fn migrate(&self, call: &MigrateCall<'_>) -> Result<MigrateReply, CallError> {
        let mut args: Vec<Bytes> = vec![
            call.target.host.clone().into(),
            call.target.port.to_string().into(),
            Bytes::new(),
            call.batch.db.to_string().into(),
            call.timeout.as_millis().to_string().into(),
        ];
        if call.batch.replace {
            args.push("REPLACE".into());
        }
        if let Some(login) = call.login {
            let password = Bytes::from(login.password.expose_secret().to_owned());
            match &login.username {
                Some(username) => args.extend(["AUTH2".into(), username.clone().into(), password]),
                None => args.extend(["AUTH".into(), password]),
            }
        }
        args.push("KEYS".into());
        args.extend(call.batch.keys.iter().cloned());
        let timeout = call.timeout * 2 + call.expected * 3 + Duration::from_secs(2);
        let mut calls = vec![("MIGRATE", args)];
        if let Some(key) = call.batch.keys.first().filter(|_| call.ask) {
            calls.push(("TYPE", vec![key.clone()]));
        }
        let mut replies = self.call_together_within(calls, timeout).await?.into_iter();
        let moved = replies.next().ok_or_else(|| self.unexpected("MIGRATE", "no reply"))?;
        // Answered by `ASK` where the mark is; whatever else is the matter is found by the next call.
        let is_unmarked = replies.next().is_some_and(|kind| kind.is_ok());
        match moved {
            Ok(_) if is_unmarked => Ok(MigrateReply::MovedUnmarked),
            Ok(_) => Ok(MigrateReply::Moved),
            Err(CallError::Refused { text, .. }) => Ok(MigrateReply::from_error(&text)),
            Err(error @ (CallError::NoAnswer { .. } | CallError::Unexpected { .. })) => Err(error),
        }
    }

    /// Compares the copies of keys of an open slot byte by byte; keys that the source has no more are left out.
    pub async fn compare_keys(&self, target: &Conn, keys: &[Key]) -> Result<Comparison, CallError> {
        let mut comparison = Comparison::default();
        for key in keys {
            let Some(ours) = self.dump(key).await? else { continue };
            target.call("ASKING", Vec::new()).await?;
            match target.dump(key).await? {
                None => comparison.only_source.push(key.clone()),
                Some(theirs) if theirs == ours => comparison.same.push(key.clone()),
                Some(_) => comparison.different.push(key.clone()),
            }
        }
        Ok(comparison)
    }

    async fn dump(&self, key: &Key) -> Result<Option<Bytes>, CallError> {
        match self.call("DUMP", vec![key.clone()]).await {
            Ok(Value::Bytes(payload)) => Ok(Some(payload)),
            Ok(Value::Null) => Ok(None),
            Ok(Value::Integer(_) | Value::Array(_)) => Err(self.unexpected("DUMP", "no payload")),
            // A source whose slot migrates says so of a key that it does not hold.
            Err(CallError::Refused { text, .. }) if text.starts_with("ASK ") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn text(&self, command: &'static str, args: &[&str]) -> Result<String, CallError> {
        let reply = self.call(command, words(args)).await?;
        self.text_of(command, reply)
    }

    /// A reply that is a text.
    pub(super) fn text_of(&self, command: &'static str, reply: Value) -> Result<String, CallError> {
        reply.into_text().ok_or_else(|| self.unexpected(command, "no text"))
    }
}

/// What a node says to one order about a slot; what it refuses is its answer.
pub(super) fn set_slot_reply(reply: Result<Value, CallError>) -> Result<SetSlotReply, CallError> {
    match reply {
        Ok(_) => Ok(SetSlotReply::Ok),
        Err(CallError::Refused { text, .. }) => Ok(SetSlotReply::from_error(&text)),
        Err(error @ (CallError::NoAnswer { .. } | CallError::Unexpected { .. })) => Err(error),
    }
}

/// How many keys each database holds, by the section keyspace of `INFO`.
fn keys_by_database_in(info: &str) -> BTreeMap<u32, u64> {
    // `db0:keys=5,expires=0,avg_ttl=0`
    let keys = |line: &str| {
        let (db, rest) = line.strip_prefix("db")?.split_once(":keys=")?;
        Some((db.parse().ok()?, rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(keys).collect()
}

/// The databases that hold any key, likewise.
pub(super) fn databases_in(info: &str) -> Vec<u32> {
    keys_by_database_in(info).into_keys().collect()
}

pub(super) fn words(args: &[&str]) -> Vec<Bytes> {
    args.iter().map(|word| Bytes::from((*word).to_owned())).collect()
}

fn id(node: NodeId) -> Bytes {
    node.to_string().into()
}
