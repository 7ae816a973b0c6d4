//! What a new configuration changes, and whether a running daemon can take it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{
    ClusterConfig, Config, HttpConfig, KubernetesLease, LeaseConfig, LogConfig, MigrateUser, MigrationConfig,
    ScheduleConfig, ServerTlsFiles, StateConfig, Targets, TlsFiles,
};

/// The keys that a running daemon cannot change: its metrics' label, its socket, its journal, its lease and the
/// log's shape.
const RESTART_ONLY: [&str; 19] = [
    "cluster.name",
    "state.dir",
    "lease.address",
    "lease.key",
    "lease.ttl",
    "lease.username",
    "lease.password_file",
    "lease.tls.ca_file",
    "lease.tls.cert_file",
    "lease.tls.key_file",
    "lease.tls.server_name",
    "lease.kubernetes.name",
    "lease.kubernetes.namespace",
    "http.listen",
    "http.token_file",
    "http.reads",
    "http.tls.cert_file",
    "http.tls.key_file",
    "log.format",
];

/// One key whose value differs. Written as `schedule.poll: 5s -> 10s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key's whole path; `targets.nodes` is one key.
    pub key: &'static str,
    /// The value that was in force.
    pub from: String,
    /// The value of the new configuration.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.key, self.from, self.to)
    }
}

/// A new configuration that only a restart could put in force. Nothing of it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("only a restart can change {}; the running configuration is kept", keys(changes))]
pub struct RestartOnly {
    /// The changes that need the restart; at least one.
    pub changes: Vec<Change>,
}

fn keys(changes: &[Change]) -> String {
    changes.iter().map(Change::to_string).collect::<Vec<_>>().join(", ")
}

impl Config {
    /// What the new configuration would change, in the order of the file; empty when nothing.
    ///
    /// The new configuration is taken whole or not at all: one change that needs a restart refuses it.
    pub fn reload(&self, new: &Self) -> Result<Vec<Change>, RestartOnly> {
        let changes = self.changes(new);
        let refused: Vec<Change> =
            changes.iter().filter(|change| RESTART_ONLY.contains(&change.key)).cloned().collect();
        if refused.is_empty() { Ok(changes) } else { Err(RestartOnly { changes: refused }) }
    }

    fn changes(&self, new: &Self) -> Vec<Change> {
        let pairs = self.entries().into_iter().zip(new.entries());
        pairs.filter(|(old, new)| old != new).map(|((key, from), (_, to))| Change { key, from, to }).collect()
    }

    /// Every key with its value as text, always the same keys in the same order.
    ///
    /// Each structure is taken apart by name: a new field does not compile until it is here too. Holds no secret, for
    /// the configuration holds none.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let Self { cluster, targets, migration, schedule, state, lease, http, log } = self;
        let mut entries = Vec::with_capacity(48);
        entries.extend(of_cluster(cluster));
        entries.extend(of_targets(targets));
        entries.extend(of_migration(migration));
        entries.extend(of_schedule(schedule));
        let StateConfig { dir } = state;
        let HttpConfig { listen, token_file, reads, tls } = http;
        let served =
            tls.as_ref().map(|ServerTlsFiles { cert_file, key_file }| (cert_file.as_path(), key_file.as_path()));
        let (cert, key) = served.unzip();
        let LogConfig { level, format } = log;
        entries.push(("state.dir", path(dir.as_deref())));
        entries.extend(of_lease(lease));
        entries.push(("http.listen", listen.to_string()));
        entries.push(("http.token_file", path(token_file.as_deref())));
        entries.push(("http.reads", reads.to_string()));
        entries.push(("http.tls.cert_file", path(cert)));
        entries.push(("http.tls.key_file", path(key)));
        entries.push(("log.level", level.to_string()));
        entries.push(("log.format", format.to_string()));
        entries
    }
}

fn of_cluster(cluster: &ClusterConfig) -> [(&'static str, String); 11] {
    let ClusterConfig { name, seeds, username, password_file, migrate, tls, address_map } = cluster;
    let (migrate_user, migrate_file) = match migrate {
        Some(MigrateUser { username, password_file }) => (Some(username), Some(password_file)),
        None => (None, None),
    };
    let [ca, cert, key, server_name] = of_tls(tls.as_ref());
    let file = |file: Option<&PathBuf>| path(file.map(PathBuf::as_path));
    [
        ("cluster.name", name.clone()),
        ("cluster.seeds", list(seeds)),
        ("cluster.username", optional(username.as_ref())),
        ("cluster.password_file", path(password_file.as_deref())),
        ("cluster.migrate_username", optional(migrate_user)),
        ("cluster.migrate_password_file", file(migrate_file)),
        ("cluster.tls.ca_file", ca),
        ("cluster.tls.cert_file", cert),
        ("cluster.tls.key_file", key),
        ("cluster.tls.server_name", server_name),
        ("cluster.address_map", list(address_map.iter().map(|(from, to)| format!("{from} = {to}")))),
    ]
}

/// The authorities, our certificate, its key, and the servers' name.
fn of_tls(tls: Option<&TlsFiles>) -> [String; 4] {
    let Some(TlsFiles { ca_file, cert_key, server_name }) = tls else { return [(); 4].map(|()| path(None)) };
    let (cert, key) = cert_key.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path())).unzip();
    [path(Some(ca_file)), path(cert), path(key), optional(server_name.as_ref())]
}

fn of_lease(lease: &LeaseConfig) -> [(&'static str, String); 11] {
    let LeaseConfig { address, key, ttl, username, password_file, tls, kubernetes } = lease;
    let (name, namespace) = match kubernetes {
        Some(KubernetesLease { name, namespace }) => (Some(name), namespace.as_ref()),
        None => (None, None),
    };
    let [ca, cert, tls_key, server_name] = of_tls(tls.as_ref());
    [
        ("lease.address", optional(address.as_ref())),
        ("lease.key", optional(key.as_ref())),
        ("lease.ttl", duration(*ttl)),
        ("lease.username", optional(username.as_ref())),
        ("lease.password_file", path(password_file.as_deref())),
        ("lease.tls.ca_file", ca),
        ("lease.tls.cert_file", cert),
        ("lease.tls.key_file", tls_key),
        ("lease.tls.server_name", server_name),
        ("lease.kubernetes.name", optional(name)),
        ("lease.kubernetes.namespace", optional(namespace)),
    ]
}

fn of_targets(targets: &Targets) -> [(&'static str, String); 4] {
    let Targets { threshold_percent, threshold_slots, default_weight, nodes } = targets;
    [
        ("targets.threshold_percent", threshold_percent.to_string()),
        ("targets.threshold_slots", threshold_slots.to_string()),
        ("targets.default_weight", default_weight.to_string()),
        ("targets.nodes", list(nodes)),
    ]
}

fn of_migration(migration: &MigrationConfig) -> [(&'static str, String); 22] {
    let MigrationConfig {
        block_max,
        latency_max,
        slots_per_second,
        keys_per_second,
        bytes_per_second,
        migrate_timeout,
        call_timeout,
        connect_timeout,
        parallel,
        per_target,
        group_slots,
        group_keys,
        batch_keys_max,
        attempts,
        retry_delay,
        retry_delay_max,
        memory_limit_percent,
        full_target,
        functions,
        big_keys,
        big_key_block_max,
        big_key_window,
    } = migration;
    [
        ("migration.block_max", duration(*block_max)),
        ("migration.latency_max", duration(*latency_max)),
        ("migration.slots_per_second", optional(*slots_per_second)),
        ("migration.keys_per_second", optional(*keys_per_second)),
        ("migration.bytes_per_second", optional(*bytes_per_second)),
        ("migration.migrate_timeout", duration(*migrate_timeout)),
        ("migration.call_timeout", duration(*call_timeout)),
        ("migration.connect_timeout", duration(*connect_timeout)),
        ("migration.parallel", parallel.to_string()),
        ("migration.per_target", per_target.to_string()),
        ("migration.group_slots", group_slots.to_string()),
        ("migration.group_keys", group_keys.to_string()),
        ("migration.batch_keys_max", batch_keys_max.to_string()),
        ("migration.attempts", attempts.to_string()),
        ("migration.retry_delay", duration(*retry_delay)),
        ("migration.retry_delay_max", duration(*retry_delay_max)),
        ("migration.memory_limit_percent", memory_limit_percent.to_string()),
        ("migration.full_target", full_target.to_string()),
        ("migration.functions", functions.to_string()),
        ("migration.big_keys", big_keys.to_string()),
        ("migration.big_key_block_max", duration(*big_key_block_max)),
        ("migration.big_key_window", optional(big_key_window.as_ref())),
    ]
}

fn of_schedule(schedule: &ScheduleConfig) -> [(&'static str, String); 8] {
    let ScheduleConfig { mode, poll, settle, stop_grace, adopt_after, foreign_quiet, windows, approval } = schedule;
    [
        ("schedule.mode", mode.to_string()),
        ("schedule.poll", duration(*poll)),
        ("schedule.settle", settle.to_string()),
        ("schedule.stop_grace", duration(*stop_grace)),
        ("schedule.adopt_after", duration(*adopt_after)),
        ("schedule.foreign_quiet", duration(*foreign_quiet)),
        ("schedule.windows", optional((!windows.is_empty()).then(|| list(windows)))),
        ("schedule.approval", approval.to_string()),
    ]
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn optional<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unset".to_owned(), |value| value.to_string())
}

fn path(path: Option<&Path>) -> String {
    optional(path.map(Path::display))
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(new: &str, expect: Expect) {
        let parse = |text: &str| Config::parse(text, "test.toml").expect("the texts of these stories have no fault");
        let old = parse("[cluster]\nseeds = ['a:1']\n[[targets.nodes]]\nnode = 'a:1'\nweight = 2.0");
        let said = match old.reload(&parse(new)) {
            Ok(changes) => changes.iter().map(Change::to_string).collect::<Vec<_>>().join("\n"),
            Err(refused) => format!("refused: {refused}"),
        };
        expect.assert_eq(&said);
    }

    #[test]
    fn a_file_that_is_only_written_differently_changes_nothing() {
        check(
            "# moved\n\n[cluster]\nseeds = ['a:1']\nname = 'default'\n\n\n[[targets.nodes]]\nnode = 'a:1'\nweight = 2",
            expect![""],
        );
    }

    #[test]
    fn changed_keys_are_named_with_both_values() {
        check(
            "[cluster]\nseeds = ['a:1', 'b:1']\ntls.ca_file = '/ca.pem'\n[[targets.nodes]]\nnode = 'a:1'\n\
             drain = true\n[schedule]\npoll = '10s'\nmode = 'observe'\n[log]\nlevel = 'debug'",
            expect![[r#"
                cluster.seeds: [a:1] -> [a:1, b:1]
                cluster.tls.ca_file: unset -> /ca.pem
                targets.nodes: [{ node = "a:1", weight = 2 }] -> [{ node = "a:1", drain = true }]
                schedule.mode: act -> observe
                schedule.poll: 5s -> 10s
                log.level: info -> debug"#]],
        );
    }

    #[test]
    fn a_change_that_needs_a_restart_refuses_the_whole_file_and_is_named() {
        check(
            "cluster = { seeds = ['a:1'], name = 'eu' }\nhttp.listen = '0.0.0.0:80'\nschedule.poll = '1s'\n\
             state.dir = '/var/lib'\nlog.format = 'json'",
            expect![["refused: only a restart can change cluster.name: default -> eu, state.dir: unset -> /var/lib, \
                 http.listen: 127.0.0.1:7380 -> 0.0.0.0:80, log.format: text -> json; the running configuration is kept"]],
        );
    }

    #[test]
    fn every_key_that_needs_a_restart_is_a_key() {
        let config = Config::parse(Config::example(), "example").expect("the example has no fault");
        let keys: Vec<&str> = config.entries().into_iter().map(|(key, _)| key).collect();
        for key in RESTART_ONLY {
            assert!(keys.contains(&key), "{key}");
        }
    }
}
