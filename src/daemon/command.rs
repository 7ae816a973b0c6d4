//! What a running daemon can be told: a bounded queue to the supervisor, and its answer.
//!
//! Whoever has a [`Commands`] can change what the daemon does; what only reads is given a [`super::Status`] instead.

use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::{Address, NodeId, SlotSet, Topology};
use crate::journal::{Drain, Pause};
use crate::plan::{Member, NodeName, TargetFault};

/// Commands that may wait. They come from people: one that finds no room is refused, not kept waiting.
const WAITING_MAX: usize = 16;
/// How long the supervisor may take to answer. It turns several times a second; only a disk that hangs holds it up.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The longest pause with an end, a year: longer ones are meant to have none.
pub const PAUSE_MAX: Duration = Duration::from_hours(366 * 24);

/// One command, with the place for its answer.
#[derive(Debug)]
pub(super) enum Command {
    /// Put these slots back that were set aside: they are tried again at once, as if for the first time.
    Retry { slots: SlotSet, answer: oneshot::Sender<Retried> },
    /// Begin nothing new, until then or until told to go on.
    Pause { until: Option<SystemTime>, answer: oneshot::Sender<Paused> },
    /// Go on.
    Resume { answer: oneshot::Sender<Resumed> },
    /// Leave this node's shard nothing, whatever the targets say.
    Drain { node: NodeName, answer: oneshot::Sender<Result<Drained, DrainError>> },
    /// Give it its share again.
    Undrain { node: NodeName, answer: oneshot::Sender<Result<Undrained, DrainError>> },
    /// Carry out the plan with this hash.
    Approve { hash: String, answer: oneshot::Sender<Result<Agreed, ApproveError>> },
}

/// What became of slots that were to be tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// They were set aside and are no longer.
    pub put_back: SlotSet,
    /// They were not set aside: nothing was done about them.
    pub not_set_aside: SlotSet,
}

/// What became of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paused {
    /// The pause in force.
    pub pause: Pause,
    /// Whether it is on record, so that a restart does not end it.
    pub survives_restart: bool,
}

/// What became of a pause that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The pause that was in force; `None` where there was none.
    pub pause: Option<Pause>,
    /// Whether a restart would bring it back, because its end could not be recorded.
    pub returns_at_restart: bool,
}

/// A drain that an operator told of, and what has become of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainedNode {
    /// The drain: of the primary of the shard that was named.
    pub drain: Drain,
    /// Where the node is; `None` where the cluster does not know it any more.
    pub address: Option<Address>,
    /// Whose replica it has become: it has slots again when it is a primary.
    pub replica_of: Option<NodeId>,
}

impl DrainedNode {
    /// As things are; `topology` is `None` while the cluster has not been read.
    #[must_use]
    pub fn of(drain: Drain, topology: Option<&Topology>) -> Self {
        let shard = topology.and_then(|topology| topology.shard_of(drain.node));
        let member = shard.and_then(|shard| {
            std::iter::once(&shard.primary).chain(&shard.replicas).find(|member| member.id == drain.node)
        });
        Self {
            drain,
            address: member.and_then(|member| member.address.clone()),
            replica_of: shard.map(|shard| shard.primary.id).filter(|primary| *primary != drain.node),
        }
    }
}

/// What became of a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The drain.
    pub drained: DrainedNode,
    /// Whether it is on record, so that a restart does not end it.
    pub survives_restart: bool,
}

/// What became of a drain that was to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undrained {
    /// The drain that was in force; `None` where an operator had told of none.
    pub drained: Option<DrainedNode>,
    /// Whether the configuration drains that shard too, and goes on to.
    pub by_configuration: bool,
    /// Whether a restart would bring it back, because its end could not be recorded.
    pub returns_at_restart: bool,
}

/// A node that cannot be drained, or not be given its share again.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DrainError {
    /// The cluster has not been read yet.
    #[error("the cluster has not been read yet, so nobody knows which node that is; /api/v1/status says why")]
    NoPicture,
    /// No node or several have that name.
    #[error("{0}")]
    Name(TargetFault),
    /// It is a replica: its shard may be another one than who names it means, that of a drained primary that has gone over.
    #[error("{}", of_replica(replica, *primary, *drained))]
    Replica {
        /// The node.
        replica: Box<Member>,
        /// Whose replica it is.
        primary: NodeId,
        /// Whether it was drained, and has become a replica since.
        drained: bool,
    },
    /// No plan can leave it nothing.
    #[error("it cannot be drained: {0}")]
    Infeasible(String),
}

fn of_replica(replica: &Member, primary: NodeId, drained: bool) -> String {
    let (address, id, primary) = (&replica.address, replica.id.short(), primary.short());
    if drained {
        format!(
            "{address} ({id}) was drained, and has become a replica of {primary} since: it has nothing left to give"
        )
    } else {
        format!(
            "{address} ({id}) is a replica of {primary}, and holds no slots of its own; to empty that shard, name {primary}"
        )
    }
}

/// A plan that was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Its hash.
    pub hash: String,
    /// Its slots.
    pub slots: SlotSet,
}

/// A plan that cannot be approved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApproveError {
    /// No plan waits for that.
    #[error("schedule.approval is \"automatic\": no plan waits for approval")]
    NotAsked,
    /// This daemon observes, or another one has the lease.
    #[error("this evenkeel moves nothing itself: it observes, or does not have the lease; /api/v1/status says which")]
    NotActing,
    /// Another one is carried out, and nothing is left to be planned beside it.
    #[error("the plan {approved} was approved and is being carried out; no other one waits for approval")]
    UnderWay {
        /// Its hash.
        approved: String,
    },
    /// There is no plan, or none with moves.
    #[error("there is no plan with moves at present; /api/v1/status says why")]
    NoPlan,
    /// It is not the hash of the plan, which may have changed.
    #[error("the plan of now has the hash {current}: look at it, and approve that")]
    Changed {
        /// Its hash.
        current: String,
    },
}

/// Sends commands to the supervisor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commands {
    queue: mpsc::Sender<Command>,
}

/// Where the supervisor takes commands from.
#[derive(Debug)]
pub struct Orders {
    pub(super) queue: mpsc::Receiver<Command>,
}

/// A command that was not carried out, or of which that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotHeard {
    /// Too many commands wait. It was not carried out.
    #[error("too many commands wait for the supervisor; try again")]
    Full,
    /// The daemon is on its way down. It was not carried out.
    #[error("evenkeel is stopping and takes no commands")]
    Stopping,
    /// No answer came in time. It may still be carried out.
    #[error("the supervisor did not answer within {} s; the command may still be carried out", ANSWER_WITHIN.as_secs())]
    NoAnswer,
}

/// Both ends of the queue.
#[must_use]
pub fn commands() -> (Commands, Orders) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Commands { queue: sender }, Orders { queue: receiver })
}

impl Commands {
    /// Puts slots back that were set aside. The answer comes when the supervisor has taken it in.
    pub async fn retry(&self, slots: SlotSet) -> Result<Retried, NotHeard> {
        self.ask(|answer| Command::Retry { slots, answer }).await
    }

    /// Has nothing new begun until then, or until told to go on; open slots are finished. Takes the place of a pause
    /// before it. The answer comes when it is on record.
    pub async fn pause(&self, until: Option<SystemTime>) -> Result<Paused, NotHeard> {
        self.ask(|answer| Command::Pause { until, answer }).await
    }

    /// Ends a pause.
    pub async fn resume(&self) -> Result<Resumed, NotHeard> {
        self.ask(|answer| Command::Resume { answer }).await
    }

    /// Drains a node's shard, whatever the targets say. The answer comes when it is on record.
    pub async fn drain(&self, node: NodeName) -> Result<Result<Drained, DrainError>, NotHeard> {
        self.ask(|answer| Command::Drain { node, answer }).await
    }

    /// Ends such a drain.
    pub async fn undrain(&self, node: NodeName) -> Result<Result<Undrained, DrainError>, NotHeard> {
        self.ask(|answer| Command::Undrain { node, answer }).await
    }

    /// Has the plan with this hash carried out, exactly as it is now.
    pub async fn approve(&self, hash: String) -> Result<Result<Agreed, ApproveError>, NotHeard> {
        self.ask(|answer| Command::Approve { hash, answer }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, NotHeard> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(command(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotHeard::Full,
            mpsc::error::TrySendError::Closed(_) => NotHeard::Stopping,
        })?;
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(NotHeard::Stopping),
            Err(_) => Err(NotHeard::NoAnswer),
        }
    }
}

/// A daemon that has set these slots aside, is paused since that time, and does nothing but obey, for the tests of
/// whoever tells it something.
#[cfg(test)]
pub(crate) fn obeying(set_aside: &SlotSet, since: SystemTime) -> Commands {
    let (commands, mut orders) = commands();
    let mut set_aside = set_aside.clone();
    let mut pause = Some(Pause { since, until: None });
    tokio::spawn(async move {
        while let Some(command) = orders.queue.recv().await {
            let heard = match command {
                Command::Retry { slots, answer } => {
                    let (put_back, not_set_aside) = (slots.intersection(&set_aside), slots.difference(&set_aside));
                    set_aside = set_aside.difference(&slots);
                    answer.send(Retried { put_back, not_set_aside }).is_ok()
                }
                Command::Pause { until, answer } => {
                    let new = Pause { since, until };
                    pause = Some(new);
                    answer.send(Paused { pause: new, survives_restart: true }).is_ok()
                }
                Command::Resume { answer } => {
                    answer.send(Resumed { pause: pause.take(), returns_at_restart: false }).is_ok()
                }
                Command::Drain { node, answer } => {
                    let drained = if let NodeName::Id(node) = node {
                        Ok(Drained { drained: DrainedNode::of(Drain { node, since }, None), survives_restart: true })
                    } else {
                        Err(DrainError::Name(TargetFault::TargetUnmatched { node }))
                    };
                    answer.send(drained).is_ok()
                }
                Command::Undrain { answer, .. } => {
                    let undrained = Undrained { drained: None, by_configuration: true, returns_at_restart: false };
                    answer.send(Ok(undrained)).is_ok()
                }
                Command::Approve { hash, answer } => {
                    let current = "0123456789ab".to_owned();
                    let same = hash == current;
                    let agreed = Agreed { hash, slots: SlotSet::full() };
                    answer.send(if same { Ok(agreed) } else { Err(ApproveError::Changed { current }) }).is_ok()
                }
            };
            assert!(heard, "somebody waits for the answer");
        }
    });
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_is_answered_by_whoever_takes_it() {
        let (commands, mut orders) = commands();
        let asked = tokio::spawn(async move { commands.retry("5,7".parse().unwrap()).await });
        let Some(Command::Retry { slots, answer }) = orders.queue.recv().await else { panic!("a command comes") };
        let retried = Retried { put_back: slots, not_set_aside: SlotSet::new() };
        answer.send(retried.clone()).unwrap();
        assert_eq!(asked.await.unwrap(), Ok(retried));
    }

    #[tokio::test]
    async fn commands_that_nobody_takes_are_refused_and_never_pile_up() {
        let (commands, orders) = commands();
        let retry = || {
            let commands = commands.clone();
            tokio::spawn(async move { commands.retry(SlotSet::full()).await })
        };
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| retry()).collect();
        while commands.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(commands.retry(SlotSet::full()).await, Err(NotHeard::Full));
        drop(orders);
        for asked in waiting {
            assert_eq!(asked.await.unwrap(), Err(NotHeard::Stopping));
        }
        assert_eq!(commands.retry(SlotSet::full()).await, Err(NotHeard::Stopping));
    }
}
