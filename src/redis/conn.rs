//! One connection to one node.
//!
//! The client library is used in the narrowest way that was measured to be safe: one server a client, no automatic
//! reconnection, no second attempt of any command, a time-out on every call, and no command whose reply it could take
//! for a pub/sub message (an array of three to five elements that begins with a word like `message`, as a listing of
//! keys may). A connection that failed once is closed and never used again. Bare ones ([`Wire`]) are those that last and
//! only look, for which the library's take too much memory, those that carry commands which are to arrive together, and
//! those that keys are listed and moved by.
//!
//! [`Wire`]: super::wire::Wire

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, ClusterInterface};
use fred::types::config::Options;
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value as FredValue};
use futures::future::join_all;

use super::wire::{Reply, Wire};
use super::{CallError, Wanted};
use crate::cluster::{Address, NodeId, Product, Slot};

/// A server's reply, without the client library's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A number.
    Integer(i64),
    /// A string of any bytes; status replies such as `OK` too.
    Bytes(Bytes),
    /// A list; maps become lists of keys and values in turn.
    Array(Vec<Value>),
}

impl Value {
    /// The text, or `None` for anything else than a string in UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null | Self::Integer(_) | Self::Array(_) => None,
        }
    }

    /// The same, without a copy where nobody else has the bytes.
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Self::Bytes(bytes) => String::from_utf8(bytes.into()).ok(),
            Self::Null | Self::Integer(_) | Self::Array(_) => None,
        }
    }
}

impl From<FredValue> for Value {
    fn from(value: FredValue) -> Self {
        match value {
            FredValue::Null => Self::Null,
            FredValue::Boolean(value) => Self::Integer(value.into()),
            FredValue::Integer(value) => Self::Integer(value),
            FredValue::Double(value) => Self::Bytes(value.to_string().into()),
            FredValue::String(text) => Self::Bytes(text.into_inner()),
            FredValue::Bytes(bytes) => Self::Bytes(bytes),
            FredValue::Queued => Self::Bytes(Bytes::from_static(b"QUEUED")),
            FredValue::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            FredValue::Map(map) => Self::Array(
                map.inner()
                    .into_iter()
                    .flat_map(|(key, value)| [Self::Bytes(key.into_bytes()), value.into()])
                    .collect(),
            ),
        }
    }
}

/// A live connection to the process of one node.
///
/// Proven at opening: [`Conn::node`] and [`Conn::run_id`] are the answering process's own words.
pub struct Conn {
    link: Link,
    address: Address,
    call_timeout: Duration,
    failed: AtomicBool,
    login: Login,
    pub(super) proof: Option<Proof>,
}

/// As whom it signed in, and what that user is wanted for.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) wanted: Wanted,
}

/// What carries the commands.
pub(super) enum Link {
    /// The client library.
    Library { client: Client, handle: ConnectHandle },
    /// A connection of ours.
    Bare(Wire),
}

/// Who answers at the other end.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) node: NodeId,
    pub(super) run_id: String,
    pub(super) product: Product,
}

impl Conn {
    pub(super) fn new(link: Link, address: Address, call_timeout: Duration, login: Login) -> Self {
        Self { link, address, call_timeout, failed: AtomicBool::new(false), login, proof: None }
    }

    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    /// Where it was dialled.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The node that answers.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.proof().node
    }

    /// The process that answers: every start of a server has another `run_id`.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.proof().run_id
    }

    /// What it runs; `None` before its proof.
    pub(super) fn product(&self) -> Option<Product> {
        self.proof.as_ref().map(|proof| proof.product)
    }

    fn proof(&self) -> &Proof {
        self.proof.as_ref().expect("a connection is handed out only after its proof")
    }

    /// Whether a call on it failed, or the server has closed it: it must not be used again.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
            || match &self.link {
                // The library's task ends with the connection; a call that came after it would only be noticed by its
                // time-out.
                Link::Library { handle, .. } => handle.is_finished(),
                Link::Bare(wire) => wire.is_closed(),
            }
    }

    /// Sends one command and awaits its reply, within the time of an ordinary call.
    ///
    /// Not for replies that are lists of names or values chosen by users (see the module's head), unless the connection is a
    /// bare one.
    pub async fn call(&self, command: &'static str, args: Vec<Bytes>) -> Result<Value, CallError> {
        self.call_within(command, args, self.call_timeout).await
    }

    /// Sends one command and awaits its reply for this long. Dropping the future does not call the command back.
    pub async fn call_within(
        &self,
        command: &'static str,
        args: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        self.refuse_if_dead(command)?;
        let client = match &self.link {
            Link::Library { client, .. } => client,
            Link::Bare(wire) => return self.sort_bare(command, wire.call(command, &args, timeout).await),
        };
        let args = args.into_iter().map(FredValue::Bytes).collect();
        // Boxed: the library's futures are kilobytes, and would be copied into those of every caller.
        let reply = Box::pin(client.with_options(&options(timeout)).custom(custom(command), args)).await;
        self.sort(command, reply)
    }

    /// Sends the same command with these arguments each, in one piece, over a bare connection, and awaits their replies; the
    /// server mostly carries them out in one turn.
    pub(super) async fn call_each(
        &self,
        command: &'static str,
        calls: impl IntoIterator<Item = Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let calls = calls.into_iter().map(|args| (command, args)).collect();
        self.call_together(calls).await
    }

    /// Sends several commands in one piece, over a bare connection, and awaits their replies; the server mostly carries
    /// them out in one turn.
    pub(super) async fn call_together(
        &self,
        calls: Vec<(&'static str, Vec<Bytes>)>,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.call_together_within(calls, self.call_timeout).await
    }

    /// The same, and awaits the replies for this long.
    pub(super) async fn call_together_within(
        &self,
        calls: Vec<(&'static str, Vec<Bytes>)>,
        timeout: Duration,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let Some(&(first, _)) = calls.first() else { return Ok(Vec::new()) };
        self.refuse_if_dead(first)?;
        let Link::Bare(wire) = &self.link else {
            return Err(self.unexpected(first, "the client library sends every command by itself"));
        };
        let sent: Vec<_> = calls.iter().map(|(command, args)| (*command, &args[..])).collect();
        let replies = Box::pin(wire.call_together(&sent, timeout)).await.map_err(|why| self.unanswered(first, why))?;
        Ok(calls.iter().zip(replies).map(|((command, _), reply)| self.sort_bare(command, Ok(reply))).collect())
    }

    /// `CLUSTER COUNTKEYSINSLOT` of each.
    pub(super) async fn count_keys_in_slots(&self, slots: &[Slot]) -> Result<Vec<Value>, CallError> {
        const COMMAND: &str = "CLUSTER COUNTKEYSINSLOT";
        self.refuse_if_dead(COMMAND)?;
        let Link::Library { client, .. } = &self.link else {
            let args = |slot: &Slot| vec![Bytes::from_static(b"COUNTKEYSINSLOT"), slot.to_string().into()];
            return self.call_each("CLUSTER", slots.iter().map(args)).await?.into_iter().collect();
        };
        let client = client.with_options(&options(self.call_timeout));
        // Not by `Conn::call`: the library flushes after each command that it does not know by name, and of the many counts
        // that are asked at once every one would travel, and be served, alone.
        let replies = join_all(slots.iter().map(|slot| client.cluster_count_keys_in_slot(slot.number()))).await;
        replies.into_iter().map(|reply: Result<FredValue, _>| self.sort(COMMAND, reply)).collect()
    }

    /// A reply that does not fit the command.
    pub(super) fn unexpected(&self, command: &'static str, what: impl Into<String>) -> CallError {
        CallError::Unexpected { address: self.address.clone(), command, what: what.into() }
    }

    /// Ends the connection. Without it the library's task, and the socket, would stay.
    pub fn close(&self) {
        self.failed.store(true, Ordering::Relaxed);
        match &self.link {
            Link::Library { handle, .. } => handle.abort(),
            Link::Bare(wire) => wire.close(),
        }
    }

    fn refuse_if_dead(&self, command: &'static str) -> Result<(), CallError> {
        if self.is_dead() {
            let why = "the connection was closed after an earlier failure".to_owned();
            return Err(CallError::NoAnswer { address: self.address.clone(), command, why });
        }
        Ok(())
    }

    fn sort_bare(&self, command: &'static str, reply: Result<Reply, String>) -> Result<Value, CallError> {
        match reply {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(text)) => Err(CallError::Refused { address: self.address.clone(), command, text }),
            Err(why) => Err(self.unanswered(command, why)),
        }
    }

    /// A bare connection that brought no reply; it is never used again.
    fn unanswered(&self, command: &'static str, why: String) -> CallError {
        self.close();
        CallError::NoAnswer { address: self.address.clone(), command, why }
    }

    fn sort(&self, command: &'static str, reply: Result<FredValue, fred::error::Error>) -> Result<Value, CallError> {
        reply.map(Value::from).map_err(|error| {
            let error = CallError::from_fred(&self.address, command, &error);
            if let CallError::NoAnswer { .. } = error {
                // After a time-out the next reply may be the one that is late: never use this connection again.
                self.close();
            }
            error
        })
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("address", &self.address).field("proof", &self.proof).finish_non_exhaustive()
    }
}

fn custom(command: &'static str) -> CustomCommand {
    CustomCommand::new_static(command, ClusterHash::FirstKey, false)
}

fn options(timeout: Duration) -> Options {
    Options { max_attempts: Some(1), timeout: Some(timeout), fail_fast: true, ..Options::default() }
}
