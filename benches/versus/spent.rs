//! Whose time the processors spent: the servers', by command, and the tool's.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use super::support::Cluster;

/// Ticks a second in `/proc/*/stat`, on every Linux of today.
const TICKS: u64 = 100;
/// Commands that are named.
const NAMED: usize = 6;

/// Time of processors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    /// Of the program, or the threads, that moved the slots.
    pub(crate) tool: Duration,
    /// Of all servers together.
    pub(crate) servers: Duration,
    /// Calls of each command, and how long they held the servers by their own count.
    commands: BTreeMap<String, (u64, Duration)>,
    /// Calls of `MIGRATE` by how long they held their source at the most, in microseconds.
    migrates: BTreeMap<u64, u64>,
}

impl Spent {
    /// What the program, or the threads, spent that moved the slots.
    pub(crate) fn by(tool: Duration) -> Self {
        Self { tool, ..Self::default() }
    }

    /// Adds what another run spent.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tool += other.tool;
        self.servers += other.servers;
        for (name, (calls, time)) in &other.commands {
            let sum = self.commands.entry(name.clone()).or_default();
            *sum = (sum.0 + calls, sum.1 + *time);
        }
        for (limit, calls) in &other.migrates {
            *self.migrates.entry(*limit).or_default() += calls;
        }
    }

    /// How long that part of all calls of `MIGRATE` held their source at the most, by the source's own histogram; its steps
    /// double. `None` without any call.
    pub(crate) fn migrates_within(&self, part: f64) -> Option<Duration> {
        let wanted = self.migrates.values().sum::<u64>() as f64 * part;
        let mut calls = 0;
        let reached = |(_, more): &(&u64, &u64)| {
            calls += **more;
            calls as f64 >= wanted
        };
        self.migrates.iter().find(reached).map(|(limit, _)| Duration::from_micros(*limit))
    }

    /// The commands that held the servers longest: `migrate 1.24 s (4,116 calls)`.
    pub(crate) fn commands(&self, runs: usize) -> String {
        let mut commands: Vec<_> = self.commands.iter().collect();
        commands.sort_unstable_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
        let parts = commands.into_iter().take(NAMED).map(|(name, (calls, time))| {
            let (calls, seconds) = (*calls / runs as u64, time.as_secs_f64() / runs as f64);
            format!("{name} {seconds:.2} s ({calls})")
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Counters as they were at the start.
#[derive(Debug)]
pub(crate) struct Meter {
    children: Duration,
    servers: Duration,
}

impl Meter {
    /// Starts to count.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        for node in cluster.nodes() {
            cluster.cmd::<()>(node, &["CONFIG", "RESETSTAT"]);
        }
        Self { children: children(), servers: servers(cluster) }
    }

    /// What was spent since.
    pub(crate) fn stop(self, cluster: &Cluster) -> Spent {
        let mut spent = Spent {
            tool: children().saturating_sub(self.children),
            servers: servers(cluster).saturating_sub(self.servers),
            ..Spent::default()
        };
        for node in cluster.nodes() {
            let text: String = cluster.cmd(node, &["INFO", "commandstats"]);
            for (name, calls, time) in text.lines().filter_map(counters) {
                let sum = spent.commands.entry(name.to_owned()).or_default();
                *sum = (sum.0 + calls, sum.1 + time);
            }
            let mut told: BTreeMap<String, BTreeMap<String, redis::Value>> =
                cluster.cmd(node, &["LATENCY", "HISTOGRAM", "migrate"]);
            let steps = told.get_mut("migrate").and_then(|fields| fields.remove("histogram_usec"));
            let steps: Vec<(u64, u64)> =
                steps.map_or_else(Vec::new, |steps| redis::from_redis_value(steps).expect("pairs of numbers"));
            let mut shorter = 0;
            for (limit, calls) in steps {
                // Each step counts those before it too.
                *spent.migrates.entry(limit).or_default() += calls - shorter;
                shorter = calls;
            }
        }
        spent
    }
}

/// `cmdstat_migrate:calls=5,usec=1234,…`
fn counters(line: &str) -> Option<(&str, u64, Duration)> {
    let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    let (calls, rest) = fields.split_once(",usec=")?;
    let usec = rest.split(',').next()?;
    Some((name, calls.parse().ok()?, Duration::from_micros(usec.trim_end().parse().ok()?)))
}

fn servers(cluster: &Cluster) -> Duration {
    let of = |node, name| cluster.info_field(node, name).parse().map_or(Duration::ZERO, Duration::from_secs_f64);
    cluster.nodes().into_iter().map(|node| of(node, "used_cpu_sys") + of(node, "used_cpu_user")).sum()
}

/// Of children of this process that have ended: the tools, one after the other. `cutime` and `cstime` are the fourteenth and
/// fifteenth field after the name.
fn children() -> Duration {
    ticks("/proc/self/stat", 13..15)
}

/// Of this thread so far: `utime` and `stime`.
pub(crate) fn this_thread() -> Duration {
    ticks("/proc/thread-self/stat", 11..13)
}

fn ticks(stat: &str, fields: Range<usize>) -> Duration {
    let text = fs::read_to_string(stat).expect("Linux tells of its processes");
    // The name, in parentheses, may hold anything.
    let after: Vec<&str> = text.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks: u64 = after[fields].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}
