//! What is true at present, read from a [`Status`].

use std::collections::BTreeSet;
use std::time::SystemTime;

use prometheus::Error;

use super::families::Families;
use crate::clock::Now;
use crate::cluster::{NodeId, Shard};
use crate::config::Mode;
use crate::daemon::{CertificateRole, Reason, Status};
use crate::migration::Trouble;
use crate::plan::Line;
use crate::throttle::Limit;

/// What a gauge says that has no value at present. Comparisons with it are false, so no alert fires by it.
const NOT_KNOWN: f64 = f64::NAN;

/// Every gauge, made anew: what the status does not mention has no series.
pub(super) fn read(cluster: &str, status: &Status, now: Now) -> Result<Families, Error> {
    let families = Families::new(cluster)?;
    process(&families, status, now)?;
    view(&families, status, now)?;
    plan(&families, status)?;
    moves(&families, status, now)?;
    work(&families, status)?;
    Ok(families)
}

fn process(families: &Families, status: &Status, now: Now) -> Result<(), Error> {
    families.gauges(
        "evenkeel_build_info",
        "Always 1; the label tells the version.",
        ["version"],
        [([env!("CARGO_PKG_VERSION").to_owned()], 1.0)],
    )?;
    families.gauge(
        "evenkeel_lease_remaining_seconds",
        "What remains of the lease, 0 while it is not ours; NaN where none is configured.",
        status.lease.remaining(now.instant).map_or(NOT_KNOWN, |remaining| remaining.as_secs_f64()),
    )?;
    let expiry = |role: CertificateRole| {
        let file = status.certificates.iter().find(|file| file.role == role);
        let expires = file.and_then(|file| file.expires.as_ref().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok());
        expires.map_or(NOT_KNOWN, |since_epoch| since_epoch.as_secs_f64())
    };
    families.gauges(
        "evenkeel_certificate_expiry_timestamp_seconds",
        "When the first certificate of a file expires, since unix epoch; NaN where none is configured, or it cannot be read.",
        ["certificate"],
        CertificateRole::ALL.map(|role| ([role.name().to_owned()], expiry(role))),
    )?;
    families.gauges(
        "evenkeel_mode",
        "1 for the mode that evenkeel is in: act moves slots, observe only watches and plans.",
        ["mode"],
        [("act", Mode::Act), ("observe", Mode::Observe)].map(|(name, mode)| one_of(name, status.mode == mode)),
    )?;
    families.gauge(
        "evenkeel_config_generation",
        "Reloads of the configuration that were taken over since the start.",
        count(status.config_generation),
    )?;
    families.gauge(
        "evenkeel_config_reload_failed",
        "1 while the configuration file was refused and an older one is in use.",
        flag(status.config_error.is_some()),
    )?;
    families.gauge(
        "evenkeel_warnings",
        "What the status warns of: nodes that are left out of the plan, passwords and certificates that are not taken.",
        count(status.warnings.len() as u64),
    )
}

fn view(families: &Families, status: &Status, now: Now) -> Result<(), Error> {
    let age = status.view.as_ref().map_or_else(|| now.since_wall(status.started), |view| now.since(view.at));
    families.gauge(
        "evenkeel_poll_age_seconds",
        "Age of the last successful look at the cluster; while there was none, time since the start.",
        age.as_secs_f64(),
    )?;
    let read = status.view.as_ref().map_or_else(|| now.since_wall(status.started), |view| now.since(view.read_at));
    families.gauge(
        "evenkeel_full_read_age_seconds",
        "Age of the last look that read every node in full: more than that of the last look while the cluster is at rest, \
         when a look asks whether anything has changed since, and memory and keys of a node are those of one of the last \
         ten looks.",
        read.as_secs_f64(),
    )?;
    let topology = status.view.as_ref().map(|view| &view.topology);
    let shards: Vec<&Shard> = topology.iter().flat_map(|topology| topology.shards.values()).collect();
    families.gauges(
        "evenkeel_node_slots",
        "Slots that a primary owns by the word of all primaries.",
        ["node"],
        shards.iter().map(|shard| ([shard.primary.id.to_string()], count(shard.slots.len() as u64))),
    )?;
    families.gauges(
        "evenkeel_node_info",
        "Always 1; the labels tell a node's address and the least node id of its shard, which no failover changes.",
        ["node", "address", "shard"],
        shards.iter().flat_map(|shard| node_info(shard)),
    )?;
    families.gauge(
        "evenkeel_open_slots",
        "Slots that are marked as migrating or importing at any primary.",
        count(topology.map_or(0, |topology| topology.open.len()) as u64),
    )
}

fn node_info(shard: &Shard) -> impl Iterator<Item = ([String; 3], f64)> {
    let members = || std::iter::once(&shard.primary).chain(&shard.replicas);
    let key = members().map(|member| member.id).min().unwrap_or(shard.primary.id);
    members().map(move |member| {
        let address = member.address.as_ref().map_or_else(String::new, ToString::to_string);
        ([member.id.to_string(), address, key.to_string()], 1.0)
    })
}

fn plan(families: &Families, status: &Status) -> Result<(), Error> {
    let plan = status.plan.as_ref();
    let lines: &[Line] = plan.map_or(&[], |plan| &plan.lines);
    // Of nodes that are gone the view is newer than the plan.
    let present: BTreeSet<NodeId> = status.view.iter().flat_map(|view| view.topology.shards.keys().copied()).collect();
    families.gauges(
        "evenkeel_node_target_slots",
        "Slots that a primary should own by the targets; no series while there is no plan.",
        ["node"],
        lines
            .iter()
            .filter(|line| present.contains(&line.primary))
            .map(|line| ([line.primary.to_string()], f64::from(line.target))),
    )?;
    let worst = |off: fn(&Line) -> f64| plan.map_or(NOT_KNOWN, |_| lines.iter().map(off).fold(0.0, f64::max));
    families.gauge(
        "evenkeel_imbalance_slots",
        "Slots that the primary furthest from its target is off by now; NaN while there is no plan.",
        worst(slots_off),
    )?;
    families.gauge(
        "evenkeel_imbalance_ratio",
        "The largest distance of a primary from its target now, as a part of the target, a target of 0 taken as 1; \
         NaN while there is no plan.",
        worst(|line| slots_off(line) / f64::from(line.target.max(1))),
    )?;
    families.gauge(
        "evenkeel_moves_planned_slots",
        "Slots that are still to move: those of the present plan and those under way; 0 while there is no plan.",
        plan.map_or(0.0, |plan| f64::from(plan.slots_to_move())),
    )
}

fn slots_off(line: &Line) -> f64 {
    f64::from(line.now.abs_diff(line.target))
}

fn moves(families: &Families, status: &Status, now: Now) -> Result<(), Error> {
    families.gauge("evenkeel_moves_running", "Moves that run now.", count(status.moves.len() as u64))?;
    families.gauge(
        "evenkeel_moves_waiting",
        "Moves of the plan that wait for their turn.",
        count(status.waiting as u64),
    )?;
    set_aside(families, status, now)?;
    pace(families, status)?;
    let reasons: BTreeSet<&str> = status.reasons.iter().map(Reason::name).collect();
    families.gauges(
        "evenkeel_reason",
        "1 for each reason why no further slot is opened now.",
        ["reason"],
        Reason::names().map(|name| one_of(name, reasons.contains(name))),
    )
}

/// Of each source, one move at a time.
fn pace(families: &Families, status: &Status) -> Result<(), Error> {
    let sources = || status.moves.iter().map(|running| (running.pair.source.to_string(), &running.pace));
    families.gauges(
        "evenkeel_node_batch_keys",
        "The most keys of one MIGRATE at present, of each primary that gives slots away.",
        ["node"],
        sources().map(|(node, pace)| ([node], count(pace.batch_keys as u64))),
    )?;
    families.gauges(
        "evenkeel_node_block_seconds",
        "How long a MIGRATE held such a primary of late, by its own count.",
        ["node"],
        sources().filter_map(|(node, pace)| Some(([node], pace.block?.as_secs_f64()))),
    )?;
    families.gauges(
        "evenkeel_node_limit",
        "1 for what keeps such a primary from being faster: growing (nothing yet), keys, block, latency, network, turns, rate.",
        ["node", "limit"],
        sources().flat_map(|(node, pace)| {
            Limit::ALL.map(|limit| ([node.clone(), limit.name().to_owned()], flag(pace.limit == limit)))
        }),
    )?;
    families.gauges(
        "evenkeel_node_latency_seconds",
        "How long other clients wait for an answer of a node that is part of a move, beyond the time of the network: \
         nineteen in twenty of a hundred calls a second took no longer.",
        ["node"],
        status.latencies.iter().map(|(node, latency)| ([node.to_string()], latency.as_secs_f64())),
    )
}

fn set_aside(families: &Families, status: &Status, now: Now) -> Result<(), Error> {
    let aside = || status.set_aside.values();
    let of = |trouble: &str| aside().filter(|slot| slot.trouble == trouble).count() as u64;
    families.gauges(
        "evenkeel_set_aside_slots",
        "Slots that could not be moved and wait for their next try, or for a human, by the trouble of the last try.",
        ["class"],
        Trouble::NAMES.map(|trouble| ([trouble.to_owned()], count(of(trouble)))),
    )?;
    families.gauge(
        "evenkeel_set_aside_given_up_slots",
        "Slots set aside that are not tried again until somebody puts them back (evenkeel retry).",
        count(aside().filter(|slot| slot.next_try.is_none()).count() as u64),
    )?;
    families.gauge(
        "evenkeel_set_aside_attempts",
        "Tries of the slot that was tried most often, of those set aside.",
        count(aside().map(|slot| u64::from(slot.attempts)).max().unwrap_or(0)),
    )?;
    let next = aside().filter_map(|slot| slot.next_try).min().map(|at| now.until(at).as_secs_f64());
    families.gauge(
        "evenkeel_set_aside_next_try_seconds",
        "Time until the first of the slots set aside is tried again; NaN when none is.",
        next.unwrap_or(NOT_KNOWN),
    )
}

fn work(families: &Families, status: &Status) -> Result<(), Error> {
    let work = &status.work;
    // At rest there is nothing to count; in mid-work it may not have been counted yet.
    let or_unless_active = |known: Option<f64>| known.unwrap_or(if work.active { NOT_KNOWN } else { 0.0 });
    let states = |planned: f64, moved: u64| {
        [("planned", planned), ("moved", count(moved))].map(|(state, value)| ([state.to_owned()], value))
    };
    families.gauges(
        "evenkeel_work_slots",
        "Slots of the present work, which lasts from the first move to the next rest: planned (moved ones included) \
         and moved.",
        ["state"],
        states(count(work.slots_planned as u64), work.slots_moved as u64),
    )?;
    families.gauges(
        "evenkeel_work_keys",
        "Keys of the present work: planned (moved ones included; an estimate by the sources' keys a slot, NaN until there is one) and moved.",
        ["state"],
        states(or_unless_active(work.keys_planned.map(count)), work.keys_moved),
    )?;
    families.gauge(
        "evenkeel_work_seconds_left",
        "Time that the present work still takes at the rate so far; 0 at rest, NaN until anything has moved.",
        or_unless_active(work.time_left().map(|left| left.as_secs_f64())),
    )
}

fn one_of(name: &str, is_it: bool) -> ([String; 1], f64) {
    ([name.to_owned()], flag(is_it))
}

const fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// Prometheus counts in floating point; beyond 2^53 the last digits are rounded.
const fn count(number: u64) -> f64 {
    number as f64
}
