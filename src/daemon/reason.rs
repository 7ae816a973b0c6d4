//! Why nothing new is opened: one enum, shown under the same names in log, metrics, API, page and command line.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::clock::rfc3339;
use crate::cluster::{Address, NodeId, ServerJob, ServerVersion, SlotSet, Slots, Unclear};
use crate::journal::Pause;
use crate::plan::TargetFault;
use crate::redis::grant;
use crate::wording::plural;

/// A reason not to open any further slot. What is open already is finished all the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The cluster has not been read yet, or none of the seeds answers.
    NoView {
        /// What was seen instead; empty before the first look has ended.
        errors: Vec<String>,
    },
    /// The picture of the cluster is unclear.
    Unclear(Unclear),
    /// The set of primaries, or the epoch, changed a moment ago.
    Settling {
        /// Looks in a row that saw the same.
        have: u32,
        /// Looks in a row that are wanted.
        want: u32,
    },
    /// The daemon was told to observe only.
    Observing,
    /// An operator told the daemon to begin nothing new.
    Paused(Pause),
    /// It is none of the hours in which slots may be moved.
    OutsideWindows {
        /// The window that comes next.
        window: String,
        /// How long until it begins.
        begins_in: Duration,
    },
    /// The plan waits until somebody approves it.
    AwaitingApproval {
        /// What it is approved by.
        hash: String,
        /// How many slots it moves.
        slots: u32,
    },
    /// Another evenkeel moves slots in this cluster.
    OtherInstance {
        /// The name of its connections.
        name: String,
        /// The address that it connects from.
        from: String,
    },
    /// Another instance has the lease.
    LeaseHeld {
        /// Its name.
        holder: String,
        /// The machine that it runs on.
        host: String,
        /// How long it has it still, unless it renews it.
        left: Duration,
    },
    /// The lease is not ours, or ran out before it could be renewed: nothing may be changed.
    LeaseLost {
        /// Why.
        why: String,
    },
    /// Slots are open that are not ours.
    ForeignOpenSlots {
        /// The slots.
        slots: SlotSet,
        /// For how long nobody has touched the one that was touched first, as far as we have seen.
        untouched: Duration,
        /// What becomes of them.
        fate: Fate,
    },
    /// Somebody else moved slots a moment ago.
    ForeignMove {
        /// How long until that is long enough ago.
        quiet_in: Duration,
    },
    /// The servers move slots by themselves, as somebody told them to: the nodes concerned are left alone meanwhile.
    ServerSideJob {
        /// One of these migrations.
        job: ServerJob,
        /// How many more there are.
        more: usize,
    },
    /// The targets cannot be met.
    Targets(TargetFault),
    /// The checker found fault with the plan: a bug of evenkeel's.
    PlanUnsound {
        /// What it found.
        why: String,
    },
    /// Our user may not do what moving slots needs.
    PermissionMissing {
        /// The nodes that do not permit it, in the order of their ids, and where they were reached.
        nodes: Vec<(NodeId, Address)>,
        /// The user.
        user: String,
        /// The ACL rules that are missing.
        rules: Vec<&'static str>,
    },
    /// `migration.migrate_timeout` is too long for the cluster: a hung target would make a healthy source fail over.
    TimeoutTooLong {
        /// The node that has the shortest limit.
        node: NodeId,
        /// Our time-out.
        migrate_timeout: Duration,
        /// The node's `cluster-node-timeout`.
        node_timeout: Duration,
    },
    /// A target cannot read the keys of the source: it is of an older version, or of another family.
    VersionSkew {
        /// The source.
        source: NodeId,
        /// What it runs.
        source_version: ServerVersion,
        /// The target.
        target: NodeId,
        /// What it runs.
        target_version: ServerVersion,
    },
    /// A target has no room for what the plan gives it.
    TargetFull {
        /// The target.
        node: NodeId,
        /// Bytes that it uses.
        used: u64,
        /// Bytes that it is to take, estimated.
        incoming: u64,
        /// Bytes that it may use: the configured part of its `maxmemory`.
        limit: u64,
    },
    /// An end of a move refuses writes, because it could not save its data.
    SavesFailing {
        /// The node.
        node: NodeId,
        /// What it says of that in `INFO`.
        field: &'static str,
    },
    /// An end of a move refuses writes, because it has too few replicas in step.
    TooFewReplicas {
        /// The node.
        node: NodeId,
        /// How many it has.
        good: u64,
        /// How many it wants (`min-replicas-to-write`).
        wanted: u64,
    },
    /// A node cannot take part in a move now.
    NodeNotUsable {
        /// The node.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// The checks before the first move did not get through.
    ChecksFailed {
        /// What went wrong.
        why: String,
    },
    /// Slots that could not be moved wait for their next try, or for a human.
    SetAside {
        /// The slots.
        slots: SlotSet,
        /// Why the first of them could not.
        why: String,
        /// None of them is tried again before a human says so.
        given_up: bool,
    },
    /// evenkeel was asked to stop.
    Stopping,
}

/// What becomes of open slots that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are adopted after this time, if nobody touches them.
    AdoptedIn(Duration),
    /// They would be adopted, but for what an operator told us.
    LeftAlone {
        /// What that is, as in `this evenkeel is paused`.
        because: &'static str,
    },
    /// Only a human can decide.
    ForHuman,
}

impl Reason {
    /// The name under which it is shown everywhere.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoView { .. } => "no_view",
            Self::Unclear(unclear) => unclear.name(),
            Self::Settling { .. } => "settling",
            Self::Observing => "observing",
            Self::Paused(_) => "paused",
            Self::OutsideWindows { .. } => "outside_windows",
            Self::AwaitingApproval { .. } => "awaiting_approval",
            Self::OtherInstance { .. } => "other_instance",
            Self::LeaseHeld { .. } => "lease_held",
            Self::LeaseLost { .. } => "lease_lost",
            Self::ForeignOpenSlots { .. } => "foreign_open_slots",
            Self::ForeignMove { .. } => "foreign_move",
            Self::ServerSideJob { .. } => "server_side_job",
            Self::Targets(fault) => fault.name(),
            Self::PlanUnsound { .. } => "plan_unsound",
            Self::PermissionMissing { .. } => "permission_missing",
            Self::TimeoutTooLong { .. } => "timeout_too_long",
            Self::VersionSkew { .. } => "version_skew",
            Self::TargetFull { .. } => "target_full",
            Self::SavesFailing { .. } => "saves_failing",
            Self::TooFewReplicas { .. } => "too_few_replicas",
            Self::NodeNotUsable { .. } => "node_not_usable",
            Self::ChecksFailed { .. } => "checks_failed",
            Self::SetAside { .. } => "set_aside",
            Self::Stopping => "stopping",
        }
    }

    /// What it is about, where several of one name may hold side by side; the same for as long as it goes on, unlike its
    /// text, which may count seconds.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Targets(fault) => fault.to_string(),
            // What is to be typed may become more once the first of it was.
            Self::Unclear(Unclear::NodeSilent { node, why, .. }) => {
                format!("{} {}", node.short(), why.split_once("ACL SETUSER").map_or("", |(_, rules)| rules))
            }
            Self::PermissionMissing { nodes, rules, .. } => {
                let nodes: Vec<String> = nodes.iter().map(|(node, _)| node.short()).collect();
                format!("{}: {}", nodes.join(" "), rules.join(" "))
            }
            Self::AwaitingApproval { hash, .. } => hash.clone(),
            Self::VersionSkew { source, target, .. } => format!("{} {}", source.short(), target.short()),
            Self::TimeoutTooLong { node, .. }
            | Self::TargetFull { node, .. }
            | Self::SavesFailing { node, .. }
            | Self::TooFewReplicas { node, .. }
            | Self::NodeNotUsable { node, .. } => node.short(),
            Self::NoView { .. }
            | Self::Unclear(_)
            | Self::Settling { .. }
            | Self::Observing
            | Self::Paused(_)
            | Self::OutsideWindows { .. }
            | Self::OtherInstance { .. }
            | Self::LeaseHeld { .. }
            | Self::LeaseLost { .. }
            | Self::ForeignOpenSlots { .. }
            | Self::ForeignMove { .. }
            | Self::ServerSideJob { .. }
            | Self::PlanUnsound { .. }
            | Self::ChecksFailed { .. }
            | Self::SetAside { .. }
            | Self::Stopping => String::new(),
        }
    }

    /// Every name that [`Reason::name`] can give.
    pub fn names() -> impl Iterator<Item = &'static str> {
        const OWN: [&str; 23] = [
            "outside_windows",
            "awaiting_approval",
            "lease_held",
            "lease_lost",
            "server_side_job",
            "no_view",
            "settling",
            "observing",
            "paused",
            "other_instance",
            "foreign_open_slots",
            "foreign_move",
            "plan_unsound",
            "permission_missing",
            "timeout_too_long",
            "version_skew",
            "target_full",
            "saves_failing",
            "too_few_replicas",
            "node_not_usable",
            "checks_failed",
            "set_aside",
            "stopping",
        ];
        OWN.into_iter().chain(Unclear::NAMES).chain(TargetFault::NAMES)
    }

    /// Whether waiting alone can make it go away within seconds, as a cluster that is settling does.
    #[must_use]
    pub const fn passes_by_itself(&self) -> bool {
        match self {
            // Seeds that name two clusters are an operator's mistake; any other unclear picture may become clear.
            Self::Unclear(Unclear::TwoClusters { .. })
            | Self::Observing
            | Self::Paused(_)
            | Self::OutsideWindows { .. }
            | Self::AwaitingApproval { .. }
            | Self::OtherInstance { .. }
            | Self::LeaseHeld { .. }
            | Self::ForeignOpenSlots { fate: Fate::LeftAlone { .. } | Fate::ForHuman, .. }
            | Self::Targets(_)
            | Self::PlanUnsound { .. }
            | Self::PermissionMissing { .. }
            | Self::TimeoutTooLong { .. }
            | Self::VersionSkew { .. }
            | Self::TargetFull { .. }
            | Self::SavesFailing { .. }
            | Self::TooFewReplicas { .. }
            | Self::SetAside { given_up: true, .. }
            | Self::Stopping => false,
            Self::NoView { .. }
            | Self::Unclear(_)
            | Self::Settling { .. }
            | Self::ForeignOpenSlots { fate: Fate::AdoptedIn(_), .. }
            | Self::ForeignMove { .. }
            | Self::ServerSideJob { .. }
            | Self::LeaseLost { .. }
            | Self::NodeNotUsable { .. }
            | Self::ChecksFailed { .. }
            | Self::SetAside { given_up: false, .. } => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoView { errors } if errors.is_empty() => f.write_str("the cluster has not been read yet"),
            Self::NoView { errors } => write!(f, "no seed answers: {}", errors.join("; ")),
            Self::Unclear(unclear) => unclear.fmt(f),
            Self::Settling { have, want } => {
                write!(f, "waiting until the same primaries were seen {want} times in a row ({have} so far)")
            }
            Self::Observing => f.write_str("told to observe only (schedule.mode, --observe)"),
            Self::Paused(Pause { since, until }) => {
                let until = until.map_or_else(String::new, |until| format!("until {} or ", at(until)));
                write!(f, "paused by an operator at {}, {until}until told to go on (`evenkeel resume`)", at(*since))
            }
            Self::OutsideWindows { window, begins_in } => write!(
                f,
                "slots are moved in the hours of schedule.windows only, and the next ones, {window}, begin in {}",
                humantime::format_duration(Duration::from_secs(begins_in.as_secs()))
            ),
            Self::AwaitingApproval { hash, slots } => write!(
                f,
                "the plan, which moves {}, waits for `evenkeel approve {hash}` (schedule.approval)",
                plural(*slots, "slot")
            ),
            Self::OtherInstance { name, from } => {
                write!(
                    f,
                    "another evenkeel acts on this cluster: {name}, connected from {from}; it was started first and goes \
                     on: wait until it is done (`evenkeel status` asks a daemon), or stop one of the two"
                )
            }
            Self::LeaseHeld { holder, host, left } => write!(
                f,
                "{holder} on {host} has the lease for another {} s, unless it renews it; this one waits",
                left.as_secs()
            ),
            Self::LeaseLost { why } => write!(f, "the lease is not ours, so nothing is changed: {why}"),
            Self::ForeignOpenSlots { slots, untouched, fate } => {
                f.write_str(&foreign(&Slots(slots), *untouched, *fate))
            }
            Self::ForeignMove { quiet_in } => {
                write!(f, "somebody else moved slots a moment ago; waiting another {} s", quiet_in.as_secs())
            }
            Self::ServerSideJob { job, more } => {
                write!(
                    f,
                    "the servers move slots by themselves, and these nodes are left alone until they have: {job}"
                )?;
                if *more == 0 { Ok(()) } else { write!(f, "; and {more} more such jobs") }
            }
            Self::Targets(fault) => fault.fmt(f),
            Self::PlanUnsound { why } => {
                write!(f, "the plan is not carried out, because it breaks its own rules (please report this): {why}")
            }
            Self::PermissionMissing { nodes, user, rules } => f.write_str(&lacking(nodes, user, rules)),
            Self::TimeoutTooLong { node, migrate_timeout, node_timeout } => write!(
                f,
                "migration.migrate_timeout of {} ms is not below half of the cluster-node-timeout of {} ms at {}; lower it",
                migrate_timeout.as_millis(),
                node_timeout.as_millis(),
                node.short()
            ),
            Self::VersionSkew { source, source_version, target, target_version } => write!(
                f,
                "{} runs {source_version} and {} runs {target_version}, which cannot read the keys of the former; \
                 upgrade the latter, or plan no move from the one to the other",
                source.short(),
                target.short()
            ),
            Self::TargetFull { node, used, incoming, limit } => write!(
                f,
                "{} has no room: it uses {used} bytes, is to take about {incoming}, and may use {limit} \
                 (migration.memory_limit_percent of its maxmemory)",
                node.short()
            ),
            Self::SavesFailing { node, field } => write!(
                f,
                "{} refuses writes, and MIGRATE is one at both ends, because it could not save its data ({field}:err); \
                 its log says why",
                node.short()
            ),
            Self::TooFewReplicas { node, good, wanted } => write!(
                f,
                "{} refuses writes, and MIGRATE is one at both ends: {good} of its replicas are in step, and it wants \
                 {wanted} (min-replicas-to-write)",
                node.short()
            ),
            Self::NodeNotUsable { node, why } => write!(f, "{} cannot take part in a move: {why}", node.short()),
            Self::ChecksFailed { why } => write!(f, "the checks before the first move failed: {why}"),
            Self::SetAside { slots, why, given_up } => {
                let slots = Slots(slots);
                let until = if *given_up { " until `evenkeel retry`" } else { "" };
                write!(f, "{slots} {} set aside{until}: {why}", slots.are())
            }
            Self::Stopping => f.write_str("asked to stop"),
        }
    }
}

/// Open slots that are not ours, for how long nobody has touched them, and what becomes of them.
fn foreign(slots: &Slots<'_>, untouched: Duration, fate: Fate) -> String {
    let (are, untouched) = (slots.are(), untouched.as_secs());
    match fate {
        Fate::AdoptedIn(left) => {
            let left = left.as_secs();
            format!(
                "{slots} {are} open and not ours, untouched for {untouched} s; what nobody touches for another {left} s \
                 is finished"
            )
        }
        Fate::LeftAlone { because } => {
            format!("{slots} {are} open and not ours, untouched for {untouched} s, and left alone: {because}")
        }
        Fate::ForHuman => format!(
            "{slots} {are} open in a way that a human must look at, untouched for {untouched} s; run `evenkeel check`"
        ),
    }
}

/// What nodes do not permit, and what is to be typed there.
fn lacking(nodes: &[(NodeId, Address)], user: &str, rules: &[&str]) -> String {
    let name = |(node, address): &(NodeId, Address)| format!("{address} ({})", node.short());
    let names = nodes.iter().map(name).collect::<Vec<_>>().join(", ");
    let verb = if nodes.len() == 1 { "does" } else { "do" };
    format!("{names} {verb} not permit what moving slots needs; run there: {}", grant(user, rules))
}

fn at(time: SystemTime) -> String {
    rfc3339(time).unwrap_or_else(|| "a time that cannot be written".to_owned())
}
