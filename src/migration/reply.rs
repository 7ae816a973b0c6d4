//! What the servers' words mean for a move: replies to `MIGRATE` and `SETSLOT`, by what follows from them.

use std::fmt;

/// What a reply to `MIGRATE` says of the keys of the batch, by what the machine does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrateReply {
    /// `OK` or `NOKEY`: no key of the batch is left at the source.
    Moved,
    /// The same, and after it the source did not send clients on to the target: somebody has cleared its mark.
    MovedUnmarked,
    /// `IOERR`, or no answer: some keys may have moved, others may be on both ends.
    Ambiguous(String),
    /// A key of the batch is at the target already; the others may have moved.
    KeyExists,
    /// The target does not import the slot: its mark is gone, or another process answers there.
    NotImporting(String),
    /// The move cannot go on now and nothing moved with this reply; the same call may work later.
    Blocked(Blocked),
    /// The source does not serve the slot (any more): look again before anything else.
    NotServed(String),
}

/// Why keys cannot move for the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The target is at its memory limit.
    TargetFull(String),
    /// The target does not let the `MIGRATE` user in, or not do its work.
    TargetCredentials(String),
    /// The target does not write at present: loading, a failed save, too few replicas, its cluster down.
    TargetNotReady(String),
    /// The target cannot read what the source writes: an older version, a missing module, no such database.
    Incompatible(String),
    /// The source does not write at present.
    SourceNotReady(String),
    /// An error that is not known to evenkeel.
    Unknown(String),
}

impl Blocked {
    /// The name under which logs and metrics count it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TargetFull(_) => "target_full",
            Self::TargetCredentials(_) => "target_credentials",
            Self::TargetNotReady(_) => "target_not_ready",
            Self::Incompatible(_) => "incompatible",
            Self::SourceNotReady(_) => "source_not_ready",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            Self::TargetFull(text) => ("the target is out of memory", text),
            Self::TargetCredentials(text) => ("the target refuses the user that MIGRATE logs in as", text),
            Self::TargetNotReady(text) => ("the target does not take writes", text),
            Self::Incompatible(text) => ("the target cannot read the source's data", text),
            Self::SourceNotReady(text) => ("the source does not take writes", text),
            Self::Unknown(text) => ("the servers answered", text),
        };
        write!(f, "{what}: {text}")
    }
}

/// How Redis and Valkey begin an error that the target gave to a `MIGRATE`.
const FROM_TARGET: &str = "ERR Target instance replied with error: ";

impl MigrateReply {
    /// Reads an error reply to `MIGRATE`: the whole line, without the leading `-`.
    ///
    /// The texts are those of Redis 6.2 to 8.8 and Valkey 8.0 to 9.1, measured.
    #[must_use]
    pub fn from_error(line: &str) -> Self {
        if line.starts_with("IOERR") {
            return Self::Ambiguous(line.to_owned());
        }
        match line.strip_prefix(FROM_TARGET) {
            Some(inner) => Self::from_target(inner.trim_start_matches('-')),
            None => Self::from_source(line),
        }
    }

    fn from_target(line: &str) -> Self {
        let text = line.to_owned();
        match code(line) {
            "BUSYKEY" => Self::KeyExists,
            "MOVED" | "ASK" => Self::NotImporting(text),
            "OOM" => Self::Blocked(Blocked::TargetFull(text)),
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Blocked(Blocked::TargetCredentials(text)),
            "MISCONF" | "READONLY" | "LOADING" | "NOREPLICAS" | "CLUSTERDOWN" | "MASTERDOWN" | "BUSY" => {
                Self::Blocked(Blocked::TargetNotReady(text))
            }
            _ if line.contains("AUTH <password> called") => Self::Blocked(Blocked::TargetCredentials(text)),
            _ if ["DUMP payload", "Bad data format", "SELECT is not allowed", "DB index"]
                .iter()
                .any(|known| line.contains(known)) =>
            {
                Self::Blocked(Blocked::Incompatible(text))
            }
            _ => Self::Blocked(Blocked::Unknown(text)),
        }
    }

    fn from_source(line: &str) -> Self {
        let text = line.to_owned();
        match code(line) {
            "MOVED" | "ASK" | "CROSSSLOT" => Self::NotServed(text),
            "NOREPLICAS" | "CLUSTERDOWN" | "MISCONF" | "READONLY" | "LOADING" | "MASTERDOWN" | "BUSY" | "OOM" => {
                Self::Blocked(Blocked::SourceNotReady(text))
            }
            _ => Self::Blocked(Blocked::Unknown(text)),
        }
    }
}

/// What a reply to `CLUSTER SETSLOT` says of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSlotReply {
    /// Done.
    Ok,
    /// Valkey: the replicas have it, the primary does not yet; the same command again until `OK`, nothing else before.
    NoReplicas,
    /// The node is a replica now; at the end of a move this is what a source that gave its last slot away says.
    NotPrimary,
    /// The order came later than it was valid for, and nothing changed.
    Late,
    /// Refused, and nothing changed.
    Refused(String),
}

impl SetSlotReply {
    /// Reads an error reply to `CLUSTER SETSLOT`: the whole line, without the leading `-`.
    #[must_use]
    pub fn from_error(line: &str) -> Self {
        if code(line) == "NOREPLICAS" {
            Self::NoReplicas
        // `UNBLOCKED`: Valkey, the role changed while the call waited for its replicas.
        } else if line.contains("Please use SETSLOT only with masters") || code(line) == "UNBLOCKED" {
            Self::NotPrimary
        // By evenkeel's own script.
        } else if code(line) == "LATE" {
            Self::Late
        } else {
            Self::Refused(line.to_owned())
        }
    }
}

fn code(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_reply_to_migrate_has_its_meaning() {
        let check = |line: &str, expect: &str| {
            let got = match MigrateReply::from_error(line) {
                MigrateReply::Moved => "moved",
                MigrateReply::MovedUnmarked => "moved, unmarked",
                MigrateReply::Ambiguous(_) => "ambiguous",
                MigrateReply::KeyExists => "key exists",
                MigrateReply::NotImporting(_) => "not importing",
                MigrateReply::Blocked(blocked) => blocked.name(),
                MigrateReply::NotServed(_) => "not served",
            };
            assert_eq!(got, expect, "{line}");
        };
        let target = |inner: &str| format!("ERR Target instance replied with error: {inner}");
        check("IOERR error or timeout reading to target instance", "ambiguous");
        check("IOERR error or timeout connecting to the client", "ambiguous");
        check(&target("BUSYKEY Target key name already exists."), "key exists");
        check(&target("MOVED 866 127.0.0.1:7001"), "not importing");
        check(&target("ASK 866 127.0.0.1:7001"), "not importing");
        check(&target("OOM command not allowed when used memory > 'maxmemory'."), "target_full");
        check(&target("NOAUTH Authentication required."), "target_credentials");
        check(&target("WRONGPASS invalid username-password pair"), "target_credentials");
        check(&target("ERR AUTH <password> called without any password configured"), "target_credentials");
        check(&target("-NOPERM this user has no permissions"), "target_credentials");
        check(&target("MISCONF Redis is configured to save RDB snapshots"), "target_not_ready");
        check(&target("CLUSTERDOWN The cluster is down"), "target_not_ready");
        check(&target("ERR DUMP payload version or checksum are wrong"), "incompatible");
        check(&target("ERR Bad data format"), "incompatible");
        check(&target("ERR DB index is out of range"), "incompatible");
        check(&target("ERR something new"), "unknown");
        check("NOREPLICAS Not enough good replicas to write.", "source_not_ready");
        check("CLUSTERDOWN The cluster is down", "source_not_ready");
        check("MOVED 866 127.0.0.1:7001", "not served");
        check("CROSSSLOT Keys in request don't hash to the same slot", "not served");
        check("", "unknown");
    }

    #[test]
    fn replies_to_setslot_part_into_again_replica_late_and_refused() {
        let read = SetSlotReply::from_error;
        assert_eq!(read("NOREPLICAS Not enough good replicas to write."), SetSlotReply::NoReplicas);
        assert_eq!(read("ERR Please use SETSLOT only with masters."), SetSlotReply::NotPrimary);
        assert_eq!(read("UNBLOCKED force unblock from blocking operation"), SetSlotReply::NotPrimary);
        assert_eq!(read("LATE the order was valid until 1764316800000"), SetSlotReply::Late);
        let line = "ERR I'm not the owner of hash slot 866";
        assert_eq!(read(line), SetSlotReply::Refused(line.to_owned()));
    }
}
