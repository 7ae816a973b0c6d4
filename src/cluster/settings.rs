//! The part of a server's configuration that decides what may be moved, read with `CONFIG GET`.

use std::time::Duration;

/// What a server is configured to do. Read before work begins, so it may have been changed since.
///
/// The default is what servers do that know no such setting, and what they do unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// `cluster-node-timeout`; `None` where it was not told.
    pub node_timeout: Option<Duration>,
    /// `rdb-version-check relaxed` of Valkey 8.1 and newer: keys in the format of a newer version are read all the same.
    pub reads_newer_formats: bool,
    /// `proto-max-bulk-len`: how many bytes of one key it takes.
    pub proto_max_bulk_len: Option<u64>,
    /// `client-query-buffer-limit`: how many bytes it takes before a command is complete.
    pub query_buffer_limit: Option<u64>,
    /// `save`, where background saves are made by themselves.
    pub saves: bool,
    /// `stop-writes-on-bgsave-error`: after a background save that failed it refuses writes, if it makes such saves.
    pub stops_writes: bool,
    /// `min-replicas-to-write`: with fewer replicas in step it refuses writes.
    pub min_replicas: u64,
}

impl NodeSettings {
    /// The settings that are read. A server that does not know one says nothing about it.
    pub const NAMES: [&'static str; 7] = [
        "cluster-node-timeout",
        "rdb-version-check",
        "proto-max-bulk-len",
        "client-query-buffer-limit",
        "save",
        "stop-writes-on-bgsave-error",
        "min-replicas-to-write",
    ];

    /// Takes one of [`Self::NAMES`] in; what cannot be read leaves the default.
    pub fn set(&mut self, name: &str, value: &str) {
        match name {
            "cluster-node-timeout" => self.node_timeout = value.parse().ok().map(Duration::from_millis),
            "rdb-version-check" => self.reads_newer_formats = value == "relaxed",
            "proto-max-bulk-len" => self.proto_max_bulk_len = value.parse().ok(),
            "client-query-buffer-limit" => self.query_buffer_limit = value.parse().ok(),
            "save" => self.saves = value.split(' ').all(|word| word.parse::<u64>().is_ok()),
            "stop-writes-on-bgsave-error" => self.stops_writes = value == "yes",
            "min-replicas-to-write" => self.min_replicas = value.parse().unwrap_or_default(),
            _ => {}
        }
    }

    /// How many bytes of one key a server of these settings takes: 512 MB where nothing else was told.
    #[must_use]
    pub fn bulk_max(&self) -> u64 {
        const PROTO_MAX_BULK_LEN: u64 = 512 * 1024 * 1024;
        let bulk = self.proto_max_bulk_len.unwrap_or(PROTO_MAX_BULK_LEN);
        self.query_buffer_limit.map_or(bulk, |limit| limit.min(bulk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_is_read_is_taken_in_and_nonsense_is_not() {
        for (name, value) in
            NodeSettings::NAMES.into_iter().zip(["15000", "relaxed", "1024", "1024", "3600 1 60 100", "yes", "1"])
        {
            let mut settings = NodeSettings::default();
            settings.set(name, value);
            assert_ne!(settings, NodeSettings::default(), "{name}");
            let mut settings = NodeSettings::default();
            settings.set(name, "nonsense");
            assert_eq!(settings, NodeSettings::default(), "{name}");
        }
    }
}
