//! Driving one move: the machine names a step, a carrier takes it, its answer goes back to the machine.
//!
//! The same loop for the daemon's workers and for a repair: they differ in whom they ask for the finalise, and in what
//! they do while a move waits.

use std::time::Duration;

use tracing::warn;

use super::failpoints::{self, Moment, Phase};
use crate::migration::{CallLimit, Ending, Mark, MigrateReply, Migration, Reply, Step, Trouble};

/// What carries out the steps of a move.
pub(super) trait Carrier {
    /// How much the next call may carry.
    fn limit(&self) -> CallLimit;

    /// Whether the slots are to be left at the next step at which that is safe.
    fn is_to_leave(&self) -> bool;

    /// Whether this step may be taken now. One that may not ends the move as it stands, under the finalise too: it is for
    /// those who have lost the right to change anything, and leave the rest to whoever has it.
    fn may_send(&self, _step: &Step) -> bool {
        true
    }

    /// Whether a failover has replaced an end, so that nothing done between these two leads anywhere.
    fn has_failed_over(&self) -> bool {
        false
    }

    /// A step on the servers. Never dropped once it is sent, unless it only reads; `None` when it was not sent: a
    /// failover has made it pointless, or the slots are to be left; the machine is asked again.
    async fn perform(&mut self, step: Step) -> Option<Reply>;

    /// Waits until the replicas of both ends have what was moved, and for the permission to finalise: then [`Reply::Go`],
    /// or what else the servers answered. `None`: not now, ask the machine again.
    async fn take_finalise(&mut self) -> Option<Reply>;

    /// Gives the permission back.
    async fn yield_finalise(&mut self);

    /// Waits a little; this is the so manieth pause since keys came forward. `None` gives the move up as it stands,
    /// even under the finalise: only for one after which nobody finalises anything.
    async fn pause(&mut self, machine: &Migration, why: &Trouble, pauses: u32) -> Option<Reply>;

    /// Hears of slots that the machine has set apart, as soon as it has.
    async fn heed_set_apart(&mut self, _machine: &Migration) {}

    /// So many slots and keys more are done.
    fn came_forward(&mut self, slots: usize, keys: u64);
}

/// Between looks at a node that is to hear of something from another one, at first and at most: a claim is told to all nodes
/// at once, and is heard as soon as the node is not busy with a `MIGRATE` or the like.
const LISTENS_FIRST_FOR: Duration = Duration::from_millis(1);
const LISTENS_AT_MOST_FOR: Duration = Duration::from_millis(10);

/// Drives one machine to its end.
pub(super) async fn drive(machine: &mut Migration, carrier: &mut impl Carrier) -> Ending {
    let (mut pauses, mut listens_for) = (0, LISTENS_FIRST_FOR);
    loop {
        if carrier.has_failed_over() {
            machine.supersede();
        } else if carrier.is_to_leave() {
            machine.interrupt(Trouble::Interrupted);
        }
        let _busy = failpoints::busy();
        let step = machine.next_step(carrier.limit());
        let phase = Phase::of(&step);
        failpoints::pass_before(&step, carrier).await;
        if !carrier.may_send(&step) {
            return Ending::Left(Trouble::Interrupted);
        }
        let redirects = matches!(step, Step::SetSlots { mark: Mark::Redirected, .. });
        let reply = match step {
            Step::End(ending) => return ending,
            Step::TakeFinalise => match carrier.take_finalise().await {
                Some(reply) => reply,
                None => continue,
            },
            Step::YieldFinalise => {
                carrier.yield_finalise().await;
                Reply::Go
            }
            Step::Listen => {
                tokio::time::sleep(listens_for).await;
                listens_for = (listens_for * 2).min(LISTENS_AT_MOST_FOR);
                Reply::Go
            }
            Step::Pause(why) => {
                pauses += 1;
                match carrier.pause(machine, &why, pauses).await {
                    Some(reply) => reply,
                    None => return Ending::Left(why),
                }
            }
            Step::ReadEnds { .. }
            | Step::SetSlots { .. }
            | Step::ListKeys { .. }
            | Step::MoveKeys(_)
            | Step::CompareKeys(_)
            | Step::DropCopies(_) => match carrier.perform(step).await {
                Some(reply) => reply,
                None => continue,
            },
        };
        failpoints::pass(phase, Moment::After).await;
        if let Reply::Moved(MigrateReply::Moved | MigrateReply::MovedUnmarked) = reply {
            pauses = 0;
        }
        if matches!(reply, Reply::Marked(_)) && !redirects {
            listens_for = LISTENS_FIRST_FOR;
        }
        let before = machine.progress();
        if let Err(error) = machine.on_reply(reply) {
            // A bug: nothing can be concluded from such a reply, so the slots stay as they are.
            warn!(%error, "the state machine refused a reply");
            return Ending::Left(Trouble::Stuck);
        }
        let after = machine.progress();
        carrier.came_forward(after.slots - before.slots, after.keys - before.keys);
        carrier.heed_set_apart(machine).await;
    }
}

/// How long the so manieth pause lasts: a quarter of a second at first, five at most.
///
/// Long enough for a failover or a full disk to be noticed by others.
pub(super) fn pause_length(pauses: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(5);
    (FIRST * 2u32.saturating_pow(pauses.saturating_sub(1).min(8))).min(LONGEST)
}
