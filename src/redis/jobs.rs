//! The servers' own migrations, as a node tells of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CallError, Conn, Value};
use crate::cluster::{JobKind, ServerJob};

/// How a server can be asked for its own migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobSupport {
    /// It has no migration of its own.
    None,
    /// It has this one.
    Has(JobKind),
    /// Our user may not ask.
    NotPermitted,
}

impl Conn {
    /// What the server can do, by its own word: versions are no proof (Valkey calls itself Redis 7.2.4).
    pub async fn job_support(&self) -> Result<JobSupport, CallError> {
        const KINDS: [(&[u8], JobKind); 2] =
            [(b"cluster|getslotmigrations", JobKind::MigrateSlots), (b"cluster|migration", JobKind::Migration)];
        let names = KINDS.map(|(name, _)| Bytes::from_static(name));
        let args = std::iter::once(Bytes::from_static(b"INFO")).chain(names).collect();
        match self.call("COMMAND", args).await {
            // One reply for each name: its description, or nothing. Never a word first, as in a message of pub/sub.
            Ok(Value::Array(known)) if known.len() == KINDS.len() => {
                let has = |reply: &Value| matches!(reply, Value::Array(description) if !description.is_empty());
                let found = KINDS.iter().zip(&known).find(|(_, reply)| has(reply));
                Ok(found.map_or(JobSupport::None, |((_, kind), _)| JobSupport::Has(*kind)))
            }
            Ok(_) => Err(self.unexpected("COMMAND INFO", "no list of two")),
            Err(CallError::Refused { text, .. }) if text.starts_with("NOPERM") => Ok(JobSupport::NotPermitted),
            Err(error) => Err(error),
        }
    }

    /// The node's own migrations that go on; `None` when our user may not ask.
    ///
    /// The reply is a list of maps with words of the server's own choosing: nothing in it can be taken for a message.
    pub async fn server_jobs(&self, kind: JobKind) -> Result<Option<Vec<ServerJob>>, CallError> {
        let words: &[&'static [u8]] = match kind {
            JobKind::MigrateSlots => &[b"GETSLOTMIGRATIONS"],
            JobKind::Migration => &[b"MIGRATION", b"STATUS", b"ALL"],
        };
        let args = words.iter().map(|word| Bytes::from_static(word)).collect();
        let jobs = match self.call("CLUSTER", args).await {
            Ok(Value::Array(jobs)) => jobs,
            Ok(_) => return Err(self.unexpected("CLUSTER", "no list of migrations")),
            Err(CallError::Refused { text, .. }) if text.starts_with("NOPERM") => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = |job: &Value| {
            let fields = fields(job).ok_or_else(|| self.unexpected("CLUSTER", "a migration that is no map"))?;
            ServerJob::parse(kind, &fields).map_err(|error| self.unexpected("CLUSTER", error.to_string()))
        };
        let jobs: Vec<Option<ServerJob>> = jobs.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Some(jobs.into_iter().flatten().collect()))
    }
}

/// A map whose keys and values are words or numbers, whatever their order.
fn fields(map: &Value) -> Option<BTreeMap<String, String>> {
    let Value::Array(words) = map else { return None };
    let text = |value: &Value| match value {
        Value::Bytes(_) => value.text().map(str::to_owned),
        Value::Integer(number) => Some(number.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) => None,
    };
    let (pairs, []) = words.as_chunks::<2>() else { return None };
    pairs.iter().map(|[name, value]| Some((text(name)?, text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &'static str) -> Value {
        Value::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_map_is_read_whatever_its_order_and_nothing_else_is() {
        let map = Value::Array(vec![
            word("state"),
            word("success"),
            word("cow_size"),
            Value::Integer(7),
            word("x"),
            Value::Null,
        ]);
        let read: Vec<(String, String)> = fields(&map).expect("a map").into_iter().collect();
        let expected = [("cow_size", "7"), ("state", "success"), ("x", "")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(fields(&Value::Array(vec![word("state")])), None, "half a pair");
        assert_eq!(fields(&Value::Array(vec![word("state"), Value::Array(Vec::new())])), None);
        assert_eq!(fields(&word("state")), None);
    }
}
