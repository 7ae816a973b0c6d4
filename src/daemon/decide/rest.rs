//! Whether the cluster is at rest: then it need not be read in full to learn that it still is.

use super::{Decision, Goal, Situation};

/// Whether nothing is to be done, finished, waited for or judged by what later looks bring: until something changes, a
/// glance will do. Without its full readings a daemon would not see what it waits for.
pub(in crate::daemon) fn is_at_rest(situation: &Situation<'_>, decision: &Decision) -> bool {
    let Situation { topology, memory, look, .. } = situation;
    let all_told = look.observation.silent.is_empty() && look.observation.alone.is_empty();
    let clear = topology.unclear.is_empty() && topology.jobs_unread.is_empty() && all_told;
    let nobody_moves = topology.open.is_empty()
        && topology.jobs.is_empty()
        && situation.running.is_empty()
        && situation.own.is_empty()
        && situation.orphan.is_none()
        && memory.quiet_in(situation.now, situation.foreign_quiet).is_none();
    // A plan that is only shown waits for nothing.
    let nothing_waits =
        decision.plan.as_ref().is_some_and(|plan| plan.moves.is_empty() || situation.observing) && !situation.at_work;
    *situation.goal == Goal::Keep
        && !situation.stopping
        && clear
        && nobody_moves
        && nothing_waits
        && situation.set_aside.is_empty()
        && memory.settled() >= situation.settle
}
