//! Open slots as one text, for where another process than ours may have to take them over.

use super::Opened;
use super::line::{self, Record};

/// Writes down which slots are open, and between which processes.
#[must_use]
pub fn write_open_slots<'a>(opened: impl IntoIterator<Item = &'a Opened>) -> String {
    let records: Vec<String> = opened.into_iter().cloned().map(|opened| line::write(&Record::Opened(opened))).collect();
    format!("[{}]", records.iter().map(|record| record.trim_end()).collect::<Vec<_>>().join(","))
}

/// Reads what [`write_open_slots`] wrote; the empty text for none. The error says what is wrong with the text.
pub fn read_open_slots(text: &str) -> Result<Vec<Opened>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let records: Vec<Record> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let opened = |record| match record {
        Record::Opened(opened) => Ok(opened),
        Record::Closed { .. }
        | Record::Imports { .. }
        | Record::SoFar(_)
        | Record::Moved(_)
        | Record::Paused(_)
        | Record::Resumed {}
        | Record::Drained(_)
        | Record::Undrained { .. } => Err("a record that is not of open slots".to_owned()),
    };
    records.into_iter().map(opened).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::cluster::fixtures::id;
    use crate::journal::Process;

    #[test]
    fn open_slots_are_read_as_they_were_written_and_anything_else_is_refused() {
        let process = |name: &str| Process { node: id(name), run_id: format!("run of {name}") };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let opened = |slots: &str, source, target| Opened {
            slots: slots.parse().unwrap(),
            source: process(source),
            target: process(target),
            source_replicas: vec![id("d")],
            target_replicas: Vec::new(),
            at,
        };
        let opened = [opened("5,7-9", "a", "b"), opened("866", "b", "c")];
        assert_eq!(read_open_slots(&write_open_slots(&opened)), Ok(opened.to_vec()));
        assert_eq!(read_open_slots(&write_open_slots(&[])), Ok(Vec::new()));
        assert_eq!(read_open_slots(""), Ok(Vec::new()));
        for text in ["5,7-9", "{}", "[{\"closed\":{\"slots\":\"5\"}}]"] {
            assert!(read_open_slots(text).is_err(), "{text}");
        }
    }
}
