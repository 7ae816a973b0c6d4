//! The file's shape as serde reads it: which tables there are and which keys in them, every key optional.
//!
//! The values are whatever TOML allows. Their types are checked together with their ranges, in [`super::validate`], so
//! that a fault always tells the range. What a key is for is told in `config/evenkeel.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

/// A value that may be absent, with its place in the file.
pub(super) type Raw = Option<Spanned<Value>>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawConfig {
    pub(super) cluster: Option<Spanned<RawCluster>>,
    pub(super) targets: RawTargets,
    pub(super) migration: RawMigration,
    pub(super) schedule: RawSchedule,
    pub(super) state: RawState,
    pub(super) lease: RawLease,
    pub(super) http: RawHttp,
    pub(super) log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawCluster {
    pub(super) name: Raw,
    pub(super) seeds: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(super) username: Raw,
    pub(super) password_file: Raw,
    pub(super) migrate_username: Raw,
    pub(super) migrate_password_file: Raw,
    pub(super) tls: Option<Spanned<RawTls>>,
    pub(super) address_map: BTreeMap<Spanned<String>, Spanned<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with ca_file, and cert_file and key_file or neither")]
pub(super) struct RawTls {
    pub(super) ca_file: Raw,
    pub(super) cert_file: Raw,
    pub(super) key_file: Raw,
    pub(super) server_name: Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTargets {
    pub(super) threshold_percent: Raw,
    pub(super) threshold_slots: Raw,
    pub(super) default_weight: Raw,
    pub(super) nodes: Vec<Spanned<RawTarget>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table, as in [[targets.nodes]]")]
pub(super) struct RawTarget {
    pub(super) node: Raw,
    pub(super) weight: Raw,
    pub(super) drain: Raw,
    pub(super) ignore: Raw,
    pub(super) min_slots: Raw,
    pub(super) max_slots: Raw,
    pub(super) slots: Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawMigration {
    pub(super) block_max: Raw,
    pub(super) latency_max: Raw,
    pub(super) slots_per_second: Raw,
    pub(super) keys_per_second: Raw,
    pub(super) bytes_per_second: Raw,
    pub(super) migrate_timeout: Raw,
    pub(super) call_timeout: Raw,
    pub(super) connect_timeout: Raw,
    pub(super) parallel: Raw,
    pub(super) per_target: Raw,
    pub(super) group_slots: Raw,
    pub(super) group_keys: Raw,
    pub(super) batch_keys_max: Raw,
    pub(super) attempts: Raw,
    pub(super) retry_delay: Raw,
    pub(super) retry_delay_max: Raw,
    pub(super) memory_limit_percent: Raw,
    pub(super) full_target: Raw,
    pub(super) functions: Raw,
    pub(super) big_keys: Raw,
    pub(super) big_key_block_max: Raw,
    pub(super) big_key_window: Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawSchedule {
    pub(super) mode: Raw,
    pub(super) poll: Raw,
    pub(super) settle: Raw,
    pub(super) stop_grace: Raw,
    pub(super) adopt_after: Raw,
    pub(super) foreign_quiet: Raw,
    pub(super) windows: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(super) approval: Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawState {
    pub(super) dir: Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawLease {
    pub(super) address: Raw,
    pub(super) key: Raw,
    pub(super) ttl: Raw,
    pub(super) username: Raw,
    pub(super) password_file: Raw,
    pub(super) tls: Option<Spanned<RawTls>>,
    pub(super) kubernetes: Option<Spanned<RawKubernetesLease>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with name, and namespace or not")]
pub(super) struct RawKubernetesLease {
    pub(super) name: Raw,
    pub(super) namespace: Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawHttp {
    pub(super) listen: Raw,
    pub(super) token_file: Raw,
    pub(super) reads: Raw,
    pub(super) tls: Option<Spanned<RawServerTls>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with cert_file and key_file")]
pub(super) struct RawServerTls {
    pub(super) cert_file: Raw,
    pub(super) key_file: Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct RawLog {
    pub(super) level: Raw,
    pub(super) format: Raw,
}
