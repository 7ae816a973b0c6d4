//! `evenkeel rebalance` and `evenkeel move`: the engine with a goal that ends.

use std::time::Duration;

use serde::Serialize;

use super::engine::Engine;
use super::output::outln;
use super::{logging, progress};
use crate::cli::{ExitStatus, MoveArgs, PlanArgs};
use crate::cluster::Slots;
use crate::config::{Config, LogLevel, Mode};
use crate::daemon::{Ended, Goal, Reason, Work, node_name};
use crate::wording::plural;

/// How often a command looks: it is awaited by a person. Two looks this far apart must agree before it acts.
const POLL: Duration = Duration::from_secs(1);

/// `evenkeel rebalance`.
pub(super) async fn rebalance(args: &PlanArgs) -> anyhow::Result<ExitStatus> {
    carry_out(args.config()?, Goal::Level, args.json).await
}

/// `evenkeel move`.
pub(super) async fn move_slots(args: &MoveArgs) -> anyhow::Result<ExitStatus> {
    let goal = Goal::Move { slots: args.slots.clone(), to: node_name(&args.to) };
    carry_out(args.cluster.config()?, goal, args.json).await
}

async fn carry_out(mut config: Config, goal: Goal, json: bool) -> anyhow::Result<ExitStatus> {
    config.schedule.mode = Mode::Act;
    config.schedule.poll = config.schedule.poll.min(POLL);
    if config.log.level > LogLevel::Warn {
        // The progress tells what the log of a daemon would.
        config.log.level = LogLevel::Warn;
    }
    logging::init(&config.log);
    let engine = Engine::start(config, goal).await?;
    let status = engine.status.clone();
    let showing = tokio::spawn(progress::show(status.clone(), engine.stop.clone()));
    let ended = engine.ended().await;
    showing.abort();
    let _ = showing.await;
    let ended = ended?;
    let work = status.borrow().work;
    let result = result(&ended);
    if json {
        outln!("{}", serde_json::to_string_pretty(&Document::new(&ended, &work, result))?);
    } else {
        outln!("{}", summary(&ended, &work));
    }
    Ok(result)
}

/// The exit status that the end amounts to.
fn result(ended: &Ended) -> ExitStatus {
    if ended.settled {
        return ExitStatus::Done;
    }
    let others_act = |reason: &Reason| matches!(reason, Reason::OtherInstance { .. } | Reason::LeaseHeld { .. });
    if ended.left_open.is_empty() && ended.reasons.iter().any(others_act) {
        return ExitStatus::Failed;
    }
    let something_is_left = ended.interrupted
        || !ended.left_open.is_empty()
        || !ended.set_aside.is_empty()
        || ended.reasons.iter().any(|reason| {
            matches!(
                reason,
                Reason::VersionSkew { .. }
                    | Reason::TargetFull { .. }
                    | Reason::SavesFailing { .. }
                    | Reason::TooFewReplicas { .. }
                    | Reason::SetAside { .. }
                    | Reason::ForeignOpenSlots { .. }
                    | Reason::ServerSideJob { .. }
            )
        });
    if ended.reasons.iter().any(|reason| matches!(reason, Reason::Targets(_))) {
        ExitStatus::Usage
    } else if something_is_left {
        ExitStatus::Left
    } else {
        ExitStatus::Failed
    }
}

fn summary(ended: &Ended, work: &Work) -> String {
    let moved = format!(
        "{} and {} moved in {:.1} s",
        plural(work.slots_moved, "slot"),
        plural(work.keys_moved, "key"),
        work.elapsed.as_secs_f64()
    );
    let mut lines = vec![match (ended.settled, work.slots_moved) {
        (true, 0) => "nothing to move: the cluster is as it should be".to_owned(),
        (true, _) => format!("done: {moved}"),
        (false, _) if ended.interrupted => format!("stopped: {moved}"),
        (false, _) => format!("not finished: {moved}"),
    }];
    if !ended.left_open.is_empty() {
        let slots = Slots(&ended.left_open);
        let (their, them) = if ended.left_open.len() == 1 { ("its", "it") } else { ("their", "them") };
        lines.push(format!(
            "{slots} {} open, with {their} marks; clients reach every key. The next run finishes {them}",
            slots.are()
        ));
    }
    lines.extend(
        ended.reasons.iter().filter(|reason| **reason != Reason::Stopping).map(|reason| format!("because: {reason}")),
    );
    lines.join("\n")
}

/// The JSON document of a command that moves slots.
#[derive(Serialize)]
struct Document {
    settled: bool,
    interrupted: bool,
    slots_moved: usize,
    keys_moved: u64,
    seconds: f64,
    open_slots: String,
    set_aside: String,
    reasons: Vec<ReasonDocument>,
    exit_status: u8,
}

#[derive(Serialize)]
struct ReasonDocument {
    name: &'static str,
    text: String,
}

impl Document {
    fn new(ended: &Ended, work: &Work, result: ExitStatus) -> Self {
        let set_aside: crate::cluster::SlotSet = ended.set_aside.keys().copied().collect();
        let reasons =
            ended.reasons.iter().map(|reason| ReasonDocument { name: reason.name(), text: reason.to_string() });
        Self {
            settled: ended.settled,
            interrupted: ended.interrupted,
            slots_moved: work.slots_moved,
            keys_moved: work.keys_moved,
            seconds: work.elapsed.as_secs_f64(),
            open_slots: ended.left_open.to_string(),
            set_aside: set_aside.to_string(),
            reasons: reasons.collect(),
            exit_status: result.code(),
        }
    }
}
