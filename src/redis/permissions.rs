//! What the user may do, asked before the first slot is opened.

use bytes::Bytes;

use super::{CallError, Conn, JobSupport};
use crate::cluster::{JobKind, Product};
use crate::config::{Config, Functions};

/// The rule that permits a call which changes nothing, the call's command, and its arguments.
type Probe = (&'static str, &'static str, &'static [&'static str]);

/// Calls that change nothing, and the rules that permit them.
///
/// Servers check permissions before arguments, so a call with arguments that are certainly refused tells whether the
/// user may make it (Redis 6.2 to 8.2 and Valkey 8.1 to 9.1, measured).
const PROBES: [Probe; 20] = [
    ("+cluster|myid", "CLUSTER", &["MYID"]),
    ("+cluster|nodes", "CLUSTER", &["NODES"]),
    ("+info", "INFO", &["server"]),
    // There is no slot 16384.
    ("+cluster|setslot", "CLUSTER", &["SETSLOT", "16384", "STABLE"]),
    ("+cluster|getkeysinslot", "CLUSTER", &["GETKEYSINSLOT", "16384", "1"]),
    ("+cluster|countkeysinslot", "CLUSTER", &["COUNTKEYSINSLOT", "16384"]),
    ("+cluster|info", "CLUSTER", &["INFO"]),
    // A time that is no number: without the key it would be answered with NOKEY, and be counted like a move.
    ("+migrate ~*", "MIGRATE", &["127.0.0.1", "1", "", "0", "no-number", "KEYS", "evenkeel"]),
    ("+dump ~*", "DUMP", &["evenkeel"]),
    ("+asking", "ASKING", &[]),
    // For orders that are refused once they are late.
    ("+time", "TIME", &[]),
    // For these, and to find big keys.
    ("+eval", "EVAL", &["return 0", "0"]),
    ("+memory|usage ~*", "MEMORY", &["USAGE", "evenkeel"]),
    ("+type ~*", "TYPE", &["evenkeel"]),
    ("+hlen ~*", "HLEN", &["evenkeel"]),
    ("+scard ~*", "SCARD", &["evenkeel"]),
    ("+zcard ~*", "ZCARD", &["evenkeel"]),
    ("+ping", "PING", &[]),
    ("+client|list", "CLIENT", &["LIST", "ID", "0"]),
    ("+config|get", "CONFIG", &["GET", "maxmemory"]),
];

/// What the `MIGRATE` user needs at the target: here asked of our own user, which is the same unless configured.
const AT_TARGET: [Probe; 2] = [
    ("+restore-asking ~*", "RESTORE-ASKING", &["evenkeel", "0", "no-payload"]),
    // A source begins with it, whatever the database.
    ("+select", "SELECT", &["no-number"]),
];

/// To compare the libraries of functions, and to copy some: a library without a name, which no server takes.
const FUNCTIONS: [Probe; 2] =
    [("+function|list", "FUNCTION", &["LIST"]), ("+function|load", "FUNCTION", &["LOAD", "no library"])];

/// What a Valkey needs to take a group of slots at once: there is no slot 16384.
const OF_VALKEY: [Probe; 2] = [("+cluster|delslots", "CLUSTER", &["DELSLOTS", "16384"]), ADD_SLOTS];

/// What a repair needs to give a slot that nobody owns to a node.
const ADD_SLOTS: Probe = ("+cluster|addslots", "CLUSTER", &["ADDSLOTS", "16384"]);
/// What a repair needs to drop a second copy of a key: asked with keys of two slots, which are refused together.
const DELETE: Probe = ("+del ~*", "DEL", &["{evenkeel}1", "{evenkeel}2", "evenkeel 3"]);

/// Asking for the server's own migrations: a rule that is needed only where the server has them, and is not known to
/// others.
async fn may_ask_for_jobs(conn: &Conn) -> Result<Option<&'static str>, CallError> {
    let kind = match conn.job_support().await? {
        JobSupport::None => return Ok(None),
        JobSupport::NotPermitted => return Ok(Some("+command|info")),
        JobSupport::Has(kind) => kind,
    };
    let rule = match kind {
        JobKind::MigrateSlots => "+cluster|getslotmigrations",
        JobKind::Migration => "+cluster|migration",
    };
    Ok(conn.server_jobs(kind).await?.is_none().then_some(rule))
}

/// Raising an epoch: from Redis 7.0 and on Valkey a wrong number of arguments is refused before permissions are looked at, and a
/// script can ask; where no script may be run, both are named.
async fn may_raise_epochs(conn: &Conn) -> Result<Option<&'static str>, CallError> {
    const RULE: &str = "+cluster|bumpepoch";
    const LACKS: &str =
        "return redis.acl_check_cmd and not redis.acl_check_cmd('CLUSTER', 'BUMPEPOCH') and 'lacks' or 'has'";
    let script = [LACKS, "0"].map(|word| Bytes::from_static(word.as_bytes())).to_vec();
    match conn.call("EVAL", script).await {
        Ok(reply) if reply.text() == Some("lacks") => return Ok(Some(RULE)),
        // Granted twice is granted once.
        Err(CallError::Refused { text, .. }) if text.starts_with("NOPERM") => return Ok(Some(RULE)),
        Ok(_) | Err(CallError::Refused { .. } | CallError::Unexpected { .. }) => {}
        Err(error @ CallError::NoAnswer { .. }) => return Err(error),
    }
    let on_redis_6_2: Probe = (RULE, "CLUSTER", &["BUMPEPOCH", "wrong"]);
    Ok(missing(conn, [&on_redis_6_2].into_iter()).await?.pop())
}

/// What a configuration makes of our user, beyond what every move needs.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    as_target: bool,
    functions: Functions,
}

impl Wanted {
    /// By what is configured.
    #[must_use]
    pub fn by(config: &Config) -> Self {
        Self { as_target: config.cluster.migrate.is_none(), functions: config.migration.functions }
    }

    fn probes(self) -> impl Iterator<Item = &'static Probe> {
        let functions = match self.functions {
            Functions::Ignore => 0,
            Functions::Warn => 1,
            Functions::Copy => 2,
        };
        AT_TARGET.iter().filter(move |_| self.as_target).chain(&FUNCTIONS[..functions]).chain(&PROBES)
    }
}

/// The ACL rules that this connection's user lacks for moving slots; empty when it may do everything.
pub async fn missing_permissions(conn: &Conn, wanted: Wanted) -> Result<Vec<&'static str>, CallError> {
    let mut rules = beyond_probes(conn).await?;
    rules.extend(missing(conn, of_valkey(conn).iter().chain(wanted.probes())).await?);
    Ok(rules)
}

/// The same, of a node that says that the cluster is down: what concerns keys cannot be asked there.
///
/// Such a node refuses every key before it looks at permissions, with an error at which the client library drops the
/// connection.
pub async fn missing_permissions_while_down(conn: &Conn) -> Result<Vec<&'static str>, CallError> {
    let mut rules = beyond_probes(conn).await?;
    let no_keys = PROBES.iter().filter(|(rule, ..)| !rule.ends_with('*'));
    rules.extend(missing(conn, of_valkey(conn).iter().chain(no_keys)).await?);
    Ok(rules)
}

async fn beyond_probes(conn: &Conn) -> Result<Vec<&'static str>, CallError> {
    Ok(may_ask_for_jobs(conn).await?.into_iter().chain(may_raise_epochs(conn).await?).collect())
}

fn of_valkey(conn: &Conn) -> &'static [Probe] {
    if conn.product() == Some(Product::Valkey) { &OF_VALKEY } else { &[] }
}

/// The ACL rules that this connection's user lacks for what a repair does beyond moving slots.
pub async fn missing_for_repair(conn: &Conn, add_slots: bool, delete: bool) -> Result<Vec<&'static str>, CallError> {
    let wanted = [(ADD_SLOTS, add_slots), (DELETE, delete)];
    missing(conn, wanted.iter().filter(|(_, wanted)| *wanted).map(|(probe, _)| probe)).await
}

/// What an operator types to permit these rules to a user: at the prompt of redis-cli, or behind that word in a shell.
#[must_use]
pub fn grant(user: &str, rules: &[&str]) -> String {
    // A shell would take `|` and `*` for itself; the prompt takes the quotes as a shell does.
    let quoted = |word: &str| if word.contains(['|', '*']) { format!("'{word}'") } else { word.to_owned() };
    let mut words: Vec<&str> = Vec::new();
    for word in rules.iter().flat_map(|rule| rule.split(' ')) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    format!("ACL SETUSER {user} {}", words.into_iter().map(quoted).collect::<Vec<_>>().join(" "))
}

/// The error in words, and where a permission is missing, all that is missing and what is to be typed at the server.
pub async fn explained(conn: &Conn, error: CallError) -> String {
    let is_permitted = !matches!(&error, CallError::Refused { text, .. } if text.starts_with("NOPERM"));
    if is_permitted { error.to_string() } else { format!("{error}; {}", lacking_at(conn).await) }
}

/// What is to be typed at the server of this connection, whose user was refused something.
pub(super) async fn lacking_at(conn: &Conn) -> String {
    let login = conn.login();
    match missing_permissions(conn, login.wanted).await {
        Ok(rules) if rules.is_empty() => format!("user {} has been permitted it meanwhile", login.user),
        Ok(rules) => format!("run there: {}", grant(&login.user, &rules)),
        Err(error) => format!("what user {} may do there cannot be asked: {error}", login.user),
    }
}

async fn missing(conn: &Conn, probes: impl Iterator<Item = &Probe>) -> Result<Vec<&'static str>, CallError> {
    let mut missing = Vec::new();
    for &(rule, command, args) in probes {
        let args = args.iter().map(|arg| Bytes::from_static(arg.as_bytes())).collect();
        match conn.call(command, args).await {
            Err(CallError::Refused { text, .. }) if text.starts_with("NOPERM") => missing.push(rule),
            Ok(_) | Err(CallError::Refused { .. } | CallError::Unexpected { .. }) => {}
            Err(error @ CallError::NoAnswer { .. }) => return Err(error),
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::client_calls;

    /// A command of ours that counted as one of clients would have a cluster without any spared for nobody.
    #[test]
    fn what_every_move_calls_counts_as_upkeep() {
        // Of big keys only, and clients may call nothing else.
        let of_few = ["HLEN", "SCARD", "ZCARD"];
        for (_, command, _) in PROBES.iter().chain(&AT_TARGET).chain(&FUNCTIONS).chain(&OF_VALKEY) {
            let calls = client_calls(&format!("cmdstat_{}:calls=1,usec=1", command.to_lowercase()));
            assert_eq!(calls == 1, of_few.contains(command), "{command}");
        }
    }
}
