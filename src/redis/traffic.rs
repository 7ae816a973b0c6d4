//! A cluster client for the demonstration's traffic: it follows redirections, as any application's client does.
//!
//! Built on [`Conn`], not on the client library's own cluster mode. That one was tried and stalls while slots move
//! (fred 10.1.0): an `ASK` that names a node which owns no slot yet finds no connection, and everybody who shares the
//! client waits until its retries are used up.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use super::{CallError, Conn, Dialer, OpenError, Value};
use crate::cluster::{Address, Slot};

/// How often one command is sent on. One `MOVED` and one `ASK` are ordinary; a slot in mid-handover may add a few.
const MAX_REDIRECTIONS: usize = 16;

/// A client of the whole cluster: one command at a time, because `ASKING` counts for the connection's next command.
#[derive(Debug)]
pub struct TrafficClient {
    dialer: Dialer,
    seed: Address,
    /// The owner of each slot as far as redirections have told it; the seed is asked for the others.
    owners: BTreeMap<Slot, Address>,
    conns: BTreeMap<Address, Conn>,
}

/// A command that brought no result.
#[derive(Debug, Error)]
pub enum TrafficError {
    /// A node that is named as the slot's owner cannot be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The node's answer is an error, or there is none. Whether a write was carried out is then not known.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The nodes send the command round and round.
    #[error("redirected {MAX_REDIRECTIONS} times, the last time to {to}")]
    Redirected {
        /// Where the last answer sent it.
        to: Address,
    },
}

impl TrafficClient {
    /// Connects to one node; to the others when they are named by a redirection.
    pub async fn connect(dialer: Dialer, seed: &Address) -> Result<Self, TrafficError> {
        let mut client = Self { dialer, seed: seed.clone(), owners: BTreeMap::new(), conns: BTreeMap::new() };
        client.conn(seed).await?;
        Ok(client)
    }

    /// Writes a value.
    pub async fn set(&mut self, key: &str, value: &str) -> Result<(), TrafficError> {
        self.call("SET", key, &[value]).await.map(drop)
    }

    /// Reads a value; `None` when there is none, or none that is text.
    pub async fn get(&mut self, key: &str) -> Result<Option<String>, TrafficError> {
        Ok(self.call("GET", key, &[]).await?.text().map(str::to_owned))
    }

    async fn call(&mut self, command: &'static str, key: &str, more: &[&str]) -> Result<Value, TrafficError> {
        let args: Vec<Bytes> = std::iter::once(&key).chain(more).map(|&arg| Bytes::from(arg.to_owned())).collect();
        let slot = Slot::of_key(key.as_bytes());
        let mut to = self.owners.get(&slot).unwrap_or(&self.seed).clone();
        let mut asking = false;
        for _ in 0..MAX_REDIRECTIONS {
            let conn = self.conn(&to).await?;
            if asking {
                conn.call("ASKING", Vec::new()).await?;
            }
            let error = match conn.call(command, args.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match Redirection::of(&error) {
                Some(Redirection::Moved(owner)) => {
                    self.owners.insert(slot, owner.clone());
                    (to, asking) = (owner, false);
                }
                Some(Redirection::Ask(target)) => (to, asking) = (target, true),
                None => return Err(error.into()),
            }
        }
        Err(TrafficError::Redirected { to })
    }

    /// The connection to an address, opened anew where there is none that works.
    async fn conn(&mut self, address: &Address) -> Result<&Conn, OpenError> {
        if self.conns.get(address).is_none_or(Conn::is_dead) {
            let conn = self.dialer.open_any(address, None).await?;
            self.conns.insert(address.clone(), conn);
        }
        Ok(&self.conns[address])
    }
}

/// Where an answer sends a command.
#[derive(Debug, PartialEq, Eq)]
enum Redirection {
    /// For good: `MOVED 866 127.0.0.1:7004`.
    Moved(Address),
    /// For this command only, announced by `ASKING`: `ASK 866 127.0.0.1:7004`.
    Ask(Address),
}

impl Redirection {
    fn of(error: &CallError) -> Option<Self> {
        let CallError::Refused { text, .. } = error else { return None };
        let (code, rest) = text.split_once(' ')?;
        let address = rest.split_once(' ')?.1.parse().ok()?;
        match code {
            "MOVED" => Some(Self::Moved(address)),
            "ASK" => Some(Self::Ask(address)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_told_from_other_errors() {
        let check = |text: &str, expected: Option<Redirection>| {
            let address = Address::new("127.0.0.1", 7000);
            let error = CallError::Refused { address, command: "GET", text: text.to_owned() };
            assert_eq!(Redirection::of(&error), expected, "{text}");
        };
        check("MOVED 866 127.0.0.1:7004", Some(Redirection::Moved(Address::new("127.0.0.1", 7004))));
        check("ASK 866 ::1:7004", Some(Redirection::Ask(Address::new("::1", 7004))));
        check("ASK 866", None);
        check("CLUSTERDOWN Hash slot not served", None);
    }
}
