//! Migrations that the servers carry out by themselves: jobs of `CLUSTER MIGRATESLOTS` (Valkey 9) and tasks of
//! `CLUSTER MIGRATION` (Redis 8.4 and newer).
//!
//! What one node says of its own jobs, as a value. Asking it, and what follows, is for others.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::{NodeId, SlotSet};

/// Which of the two kinds of servers' own migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// `CLUSTER MIGRATESLOTS`, which the source carries out.
    MigrateSlots,
    /// `CLUSTER MIGRATION`, which the target carries out.
    Migration,
}

/// A migration that a server carries out by itself and that has not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerJob {
    /// The node that gives the slots, where it is told.
    pub source: Option<NodeId>,
    /// The node that takes them, where it is told.
    pub target: Option<NodeId>,
    /// The slots.
    pub slots: SlotSet,
    /// How it is carried out.
    pub kind: JobKind,
    /// How far it is, in the server's word.
    pub state: String,
    /// What went wrong with it last, in the server's words; empty when nothing did.
    pub message: String,
}

/// What a node says of a job, where nothing can be concluded from it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JobError {
    /// A field without which a job cannot be told from another.
    #[error("a job without the field `{0}`")]
    Missing(&'static str),
    /// A field that cannot be read.
    #[error("a job whose `{field}` is `{value}`")]
    Value {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
}

impl ServerJob {
    /// Reads what a node says of one job; `None` when the job is over.
    ///
    /// A state that is not known counts as one of a job that goes on: later versions may have more of them.
    pub fn parse(kind: JobKind, fields: &BTreeMap<String, String>) -> Result<Option<Self>, JobError> {
        let field = |name: &'static str| fields.get(name).map(String::as_str).ok_or(JobError::Missing(name));
        let (state, operation) = (field("state")?, field("operation")?);
        if is_over(kind, operation, state) {
            return Ok(None);
        }
        let (slots, source, target, message) = match kind {
            JobKind::MigrateSlots => ("slot_ranges", "source_node", "target_node", "message"),
            JobKind::Migration => ("slots", "source", "dest", "last_error"),
        };
        let value = |field: &'static str, value: &str| JobError::Value { field, value: value.to_owned() };
        let text = field(slots)?;
        let node = |name: &'static str| match fields.get(name).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| value(name, text)),
        };
        Ok(Some(Self {
            source: node(source)?,
            target: node(target)?,
            slots: text.split_whitespace().collect::<Vec<_>>().join(",").parse().map_err(|_| value(slots, text))?,
            kind,
            state: state.to_owned(),
            message: fields.get(message).cloned().unwrap_or_default(),
        }))
    }

    /// Whether this node gives slots by it, or takes some.
    #[must_use]
    pub fn concerns(&self, node: NodeId) -> bool {
        self.source == Some(node) || self.target == Some(node)
    }

    /// Whether it is the same job, told by the node at its other end.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.kind, self.source, self.target, &self.slots) == (other.kind, other.source, other.target, &other.slots)
    }
}

/// Whether nothing more comes of a job.
///
/// A `CLUSTER MIGRATION` that failed goes on at its target: the server tries again every second, for ever, until it
/// succeeds or is cancelled (measured on Redis 8.4). At its source a failed one is over.
fn is_over(kind: JobKind, operation: &str, state: &str) -> bool {
    match kind {
        JobKind::MigrateSlots => matches!(state, "success" | "failed" | "cancelled"),
        JobKind::Migration => matches!(state, "completed" | "canceled") || (state, operation) == ("failed", "migrate"),
    }
}

impl fmt::Display for ServerJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: Option<NodeId>| node.map_or_else(|| "a node".to_owned(), |node| node.short());
        let command = match self.kind {
            JobKind::MigrateSlots => "CLUSTER MIGRATESLOTS",
            JobKind::Migration => "CLUSTER MIGRATION",
        };
        let (slots, source, target) = (&self.slots, name(self.source), name(self.target));
        write!(f, "{command} moves slots {slots} from {source} to {target}: {}", self.state)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, " ({})", self.message) }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cluster::fixtures::id;

    /// What a node says of a job, one field a line, and what is made of it.
    fn check(kind: JobKind, told: &str, expect: Expect) {
        let told = told.replace("ID-A", &id("a").to_string()).replace("ID-B", &id("b").to_string());
        let field = |line: &str| {
            let (name, value) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            (name.to_owned(), value.to_owned())
        };
        let fields = told.lines().map(str::trim).filter(|line| !line.is_empty()).map(field).collect();
        expect.assert_eq(&match ServerJob::parse(kind, &fields) {
            Ok(Some(job)) => job.to_string(),
            Ok(None) => "over".to_owned(),
            Err(error) => format!("error: {error}"),
        });
    }

    /// As Valkey 9.1 tells it.
    fn migrate_slots(state: &str) -> String {
        format!(
            "name 9836647887ba244f3e40f14c686e8cecf6e7e6a6\noperation EXPORT\nslot_ranges 0-8000 10000-10002\n\
             target_node ID-B\nsource_node ID-A\ncreate_time 1795548845\nlast_update_time 1795548845\n\
             last_ack_time 1795548846\nstate {state}\nmessage\ncow_size 0\nremaining_repl_size 0\n"
        )
    }

    /// As Redis 8.4 tells it.
    fn migration(operation: &str, state: &str, last_error: &str) -> String {
        format!(
            "id 9836647887ba244f3e40f14c686e8cecf6e7e6a6\nslots 0-99\nsource ID-A\ndest ID-B\noperation {operation}\n\
             state {state}\nlast_error {last_error}\nretries 3\ncreate_time 1\nstart_time 1\nend_time -1\n"
        )
    }

    #[test]
    fn a_job_of_valkey_goes_on_until_it_succeeds_fails_or_is_cancelled() {
        let check = |state: &str, expect| check(JobKind::MigrateSlots, &migrate_slots(state), expect);
        check(
            "waiting-to-pause",
            expect!["CLUSTER MIGRATESLOTS moves slots 0-8000,10000-10002 from aaaaaaaa to bbbbbbbb: waiting-to-pause"],
        );
        check(
            "a-state-of-later-versions",
            expect![
                "CLUSTER MIGRATESLOTS moves slots 0-8000,10000-10002 from aaaaaaaa to bbbbbbbb: a-state-of-later-versions"
            ],
        );
        for state in ["success", "failed", "cancelled"] {
            check(state, expect!["over"]);
        }
    }

    #[test]
    fn a_failed_import_of_redis_goes_on_and_a_failed_export_does_not() {
        let check =
            |operation, state, error, expect| check(JobKind::Migration, &migration(operation, state, error), expect);
        check(
            "import",
            "failed",
            "unknown subcommand 'SYNCSLOTS'",
            expect![
                "CLUSTER MIGRATION moves slots 0-99 from aaaaaaaa to bbbbbbbb: failed (unknown subcommand 'SYNCSLOTS')"
            ],
        );
        check(
            "import",
            "connecting",
            "",
            expect!["CLUSTER MIGRATION moves slots 0-99 from aaaaaaaa to bbbbbbbb: connecting"],
        );
        check("migrate", "failed", "", expect!["over"]);
        check("import", "completed", "", expect!["over"]);
        check("import", "canceled", "", expect!["over"]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_job_that_is_over() {
        let kind = JobKind::MigrateSlots;
        check(kind, "state snapshotting\noperation EXPORT", expect!["error: a job without the field `slot_ranges`"]);
        check(kind, "operation EXPORT", expect!["error: a job without the field `state`"]);
        let told = migrate_slots("snapshotting");
        check(kind, &told.replace("0-8000", "all"), expect!["error: a job whose `slot_ranges` is `all 10000-10002`"]);
        check(kind, &told.replace("ID-B", "b"), expect!["error: a job whose `target_node` is `b`"]);
        // A node that only follows a job of others may not name its source.
        check(
            kind,
            &told.replace("source_node ID-A\n", ""),
            expect!["CLUSTER MIGRATESLOTS moves slots 0-8000,10000-10002 from a node to bbbbbbbb: snapshotting"],
        );
    }
}
