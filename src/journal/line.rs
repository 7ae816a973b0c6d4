//! The journal as text: a header with the version, then one record a line, all JSON.
//!
//! A change to what a line may hold raises [`VERSION`]; an older program then refuses the file instead of guessing.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Drain, Moved, Opened, Pause, Process};
use crate::cluster::{NodeId, SlotSet};

/// The version that is written, and the newest that is read. Each reads what the ones before it wrote.
///
/// 2 added `paused` and `resumed`, 3 `drained` and `undrained`, 4 `bytes_estimated`, 5 `imports`, 6 `so_far`.
pub(super) const VERSION: u32 = 6;

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record {
    /// Slots are about to be opened.
    Opened(#[serde(with = "OpenedLine")] Opened),
    /// Slots are closed, whichever records opened them.
    Closed {
        /// The slots.
        #[serde(with = "text")]
        slots: SlotSet,
    },
    /// A node that did not answer may have importing marks of slots that went on without it.
    Imports {
        /// The node.
        #[serde(with = "text")]
        node: NodeId,
        /// All such slots of it; none when it has been seen without marks.
        #[serde(with = "text")]
        slots: SlotSet,
    },
    /// How far a move has come: the slots since the last such record, and all else since it began; as it is told of when no
    /// other record comes.
    SoFar(#[serde(with = "MovedLine")] Moved),
    /// A move ended.
    Moved(#[serde(with = "MovedLine")] Moved),
    /// An operator told the daemon to begin nothing new.
    Paused(#[serde(with = "PauseLine")] Pause),
    /// It begins what it likes again.
    Resumed {},
    /// An operator told the daemon to drain a node.
    Drained(#[serde(with = "DrainLine")] Drain),
    /// It is to have its share again.
    Undrained {
        /// The node.
        #[serde(with = "text")]
        node: NodeId,
    },
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Read {
    /// The records, oldest first.
    pub(super) records: Vec<Record>,
    /// Whether the file ended in half a line, which is not among the records.
    pub(super) torn: bool,
}

/// A file that is not a journal that we can read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// Of a version above [`VERSION`].
    Newer {
        /// Its version.
        version: u32,
    },
    /// A whole line that says nothing we understand.
    Damaged {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// The first line, with its newline.
pub(super) fn header() -> String {
    line(&Header { evenkeel_journal: VERSION })
}

/// The line of a record, with its newline.
pub(super) fn write(record: &Record) -> String {
    line(record)
}

/// Reads a whole file; an empty one is a journal without records.
pub(super) fn read(file: &[u8]) -> Result<Read, ReadError> {
    // A line is whole when its newline is there: header and record are each written in one piece that ends with it.
    let whole = file.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let (whole, rest) = file.split_at(whole);
    let torn = !rest.is_empty();
    let mut lines = (1..).zip(lines(whole));
    let Some((_, first)) = lines.next() else {
        // Somebody else's file without a newline must not be taken for a header that was cut off, and overwritten.
        if !header().as_bytes().starts_with(rest) {
            return Err(ReadError::Damaged { line: 1, why: NOT_A_JOURNAL.to_owned() });
        }
        return Ok(Read { records: Vec::new(), torn });
    };
    read_header(first)?;
    let record = |(line, bytes): (usize, &[u8])| {
        serde_json::from_slice(bytes).map_err(|error| ReadError::Damaged { line, why: error.to_string() })
    };
    Ok(Read { records: lines.map(record).collect::<Result<_, _>>()?, torn })
}

const NOT_A_JOURNAL: &str = "it is not the first line of a journal of evenkeel";

fn read_header(line: &[u8]) -> Result<(), ReadError> {
    match serde_json::from_slice(line) {
        Ok(Header { evenkeel_journal: 1..=VERSION }) => Ok(()),
        Ok(Header { evenkeel_journal: version }) if version > VERSION => Err(ReadError::Newer { version }),
        Ok(Header { .. }) | Err(_) => Err(ReadError::Damaged { line: 1, why: NOT_A_JOURNAL.to_owned() }),
    }
}

fn line(value: &impl Serialize) -> String {
    // JSON writes a newline in a text as `\n`, so that the only newline of a line is its end.
    let mut line = serde_json::to_string(value).expect("records are made of texts and numbers only");
    line.push('\n');
    line
}

/// The lines of a text whose every line ends with a newline, without it.
fn lines(whole: &[u8]) -> impl Iterator<Item = &[u8]> {
    whole.split_inclusive(|&byte| byte == b'\n').map(|line| &line[..line.len() - 1])
}

/// Further fields are allowed here alone: a newer version must still be told as newer.
#[derive(Serialize, Deserialize)]
struct Header {
    evenkeel_journal: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Opened", deny_unknown_fields)]
struct OpenedLine {
    #[serde(with = "time")]
    at: SystemTime,
    #[serde(with = "text")]
    slots: SlotSet,
    #[serde(with = "ProcessLine")]
    source: Process,
    #[serde(with = "ProcessLine")]
    target: Process,
    #[serde(with = "texts", default, skip_serializing_if = "Vec::is_empty")]
    source_replicas: Vec<NodeId>,
    #[serde(with = "texts", default, skip_serializing_if = "Vec::is_empty")]
    target_replicas: Vec<NodeId>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Process", deny_unknown_fields)]
struct ProcessLine {
    #[serde(with = "text")]
    node: NodeId,
    run_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Moved", deny_unknown_fields)]
struct MovedLine {
    #[serde(with = "time")]
    at: SystemTime,
    #[serde(with = "text")]
    slots: SlotSet,
    #[serde(with = "text")]
    source: NodeId,
    #[serde(with = "text")]
    target: NodeId,
    why: String,
    keys: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes_estimated: Option<u64>,
    #[serde(with = "span")]
    took: Duration,
    outcome: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Pause", deny_unknown_fields)]
struct PauseLine {
    #[serde(with = "time")]
    since: SystemTime,
    #[serde(with = "optional_time", default, skip_serializing_if = "Option::is_none")]
    until: Option<SystemTime>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Drain", deny_unknown_fields)]
struct DrainLine {
    #[serde(with = "time")]
    since: SystemTime,
    #[serde(with = "text")]
    node: NodeId,
}

/// A value as the text that it is written as everywhere: slots as `0-99,866`, a node as its id.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Several nodes, each as its id.
mod texts {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::cluster::NodeId;

    pub(super) fn serialize<S: Serializer>(nodes: &[NodeId], serializer: S) -> Result<S::Ok, S::Error> {
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeId>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A moment as `2026-03-01T12:00:00.25Z`, to the nanosecond.
mod time {
    use std::time::{SystemTime, UNIX_EPOCH};

    use jiff::Timestamp;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        // Only a clock that is off by thousands of years is out of range; that is no reason to stop recording.
        let nearest = if *at < UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        super::text::serialize(&Timestamp::try_from(*at).unwrap_or(nearest), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        super::text::deserialize::<D, Timestamp>(deserializer).map(SystemTime::from)
    }
}

/// A moment, or none.
mod optional_time {
    use std::time::SystemTime;

    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands a reference to the field")]
    pub(super) fn serialize<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::time::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        super::time::deserialize(deserializer).map(Some)
    }
}

/// A length of time as `2m 3s 40ms`, to the nanosecond.
mod span {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        super::text::serialize(&humantime::format_duration(*took), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::text::deserialize::<D, humantime::Duration>(deserializer).map(Duration::from)
    }
}
