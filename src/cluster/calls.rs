//! How often a server has carried out a command, and how long that took it.

use std::time::Duration;

/// The counters of one command in `INFO commandstats`: since the start of the server, or the last `CONFIG RESETSTAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCount {
    /// Calls.
    pub calls: u64,
    /// For how long they held the server.
    pub time: Duration,
}

impl CallCount {
    /// The counters of a command; zero where it has none, which is so before its first call.
    ///
    /// Subcommands have counters of their own from Redis 7.0 on: `cluster|setslot`.
    #[must_use]
    pub fn of(command: &str, commandstats: &str) -> Self {
        let counters = |fields| {
            Some(Self { calls: number(fields, "calls")?, time: Duration::from_micros(number(fields, "usec")?) })
        };
        fields_of(command, commandstats).and_then(counters).unwrap_or_default()
    }

    /// How many calls of a command were not answered with an error.
    #[must_use]
    pub fn succeeded(command: &str, commandstats: &str) -> u64 {
        let failed = fields_of(command, commandstats).and_then(|fields| number(fields, "failed_calls"));
        Self::of(command, commandstats).calls.saturating_sub(failed.unwrap_or(0))
    }
}

/// `calls=5,usec=1234,usec_per_call=246.80,…`
fn fields_of<'a>(command: &str, commandstats: &'a str) -> Option<&'a str> {
    let fields = |line: &'a str| line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(':');
    commandstats.lines().find_map(fields)
}

fn number(fields: &str, name: &str) -> Option<u64> {
    let mut fields = fields.split(',').filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    fields.next()?.trim_end().parse().ok()
}

/// Commands that replicas, monitors and evenkeel itself send; those with subcommands stand for all of these.
const UPKEEP: [&str; 25] = [
    "asking",
    "auth",
    "client",
    "cluster",
    "command",
    "config",
    "dbsize",
    "dump",
    "eval",
    "function",
    "hello",
    "info",
    "latency",
    "memory",
    "migrate",
    "ping",
    "psync",
    "replconf",
    "restore-asking",
    "role",
    "select",
    "slowlog",
    "time",
    "type",
    "wait",
];

/// How many commands of clients a server has carried out, by `INFO commandstats`: of all commands but those of upkeep.
#[must_use]
pub fn client_calls(commandstats: &str) -> u64 {
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let command = name.split('|').next()?;
        let calls = rest.split(',').next()?.parse().ok()?;
        (!UPKEEP.contains(&command)).then_some(calls)
    };
    commandstats.lines().filter_map(calls).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_clients_are_told_from_upkeep() {
        let text = "# Commandstats\r\n\
                    cmdstat_get:calls=5,usec=1\r\n\
                    cmdstat_ping:calls=100,usec=1\r\n\
                    cmdstat_cluster|countkeysinslot:calls=100,usec=1\r\n\
                    cmdstat_memory|usage:calls=100,usec=1\r\n\
                    cmdstat_restore-asking:calls=100,usec=1\r\n\
                    cmdstat_xgroup|create:calls=2,usec=1\r\n\
                    cmdstat_set:calls=broken,usec=1\r\n";
        assert_eq!((client_calls(text), client_calls("")), (7, 0));
    }

    #[test]
    fn a_commands_counters_are_told_from_those_of_others() {
        let text = "# Commandstats\r\n\
                    cmdstat_migrate:calls=5,usec=1234,usec_per_call=246.80,rejected_calls=0,failed_calls=0\r\n\
                    cmdstat_migrate2:calls=7,usec=1\r\n\
                    cmdstat_cluster|setslot:calls=12,usec=34\r\n\
                    cmdstat_cluster:calls=3,usec=broken\r\n";
        let check = |command: &str, calls: u64, us: u64| {
            let expect = CallCount { calls, time: Duration::from_micros(us) };
            assert_eq!(CallCount::of(command, text), expect, "{command}");
        };
        check("migrate", 5, 1_234);
        check("cluster|setslot", 12, 34);
        check("cluster", 0, 0);
        check("restore-asking", 0, 0);
    }

    #[test]
    fn calls_that_were_answered_with_an_error_are_told_apart() {
        let text = "cmdstat_migrate:calls=5,usec=1,usec_per_call=0.2,rejected_calls=9,failed_calls=3\r\n\
                    cmdstat_restore-asking:calls=2,usec=1\r\n";
        assert_eq!(["migrate", "restore-asking", "get"].map(|command| CallCount::succeeded(command, text)), [2, 2, 0]);
    }
}
