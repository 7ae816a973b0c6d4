//! The running system: a poller that looks, a supervisor that decides what runs, workers that carry moves out, and one
//! status value that tells everybody else.

mod account;
mod approval;
mod aside;
mod big_keys;
mod canary;
mod checks;
mod command;
mod decide;
mod drains;
mod drive;
mod ends;
mod failpoints;
mod files;
mod finalise;
mod finished;
mod fit;
mod followers;
mod functions;
mod given;
mod heirs;
mod imports;
mod jobs;
mod lease;
mod leftovers;
mod lineage;
mod memory;
mod meter;
mod own;
mod pacer;
mod paces;
mod patience;
mod permissions;
mod policy;
mod poller;
mod raise;
mod reason;
mod records;
mod repair;
mod replica_marks;
mod room;
mod scout;
mod status;
mod supervisor;
mod turns;
mod whose;
mod worker;

pub use aside::SetAside;
#[cfg(test)]
pub(crate) use command::obeying;
pub use command::{
    Agreed, ApproveError, Commands, DrainError, Drained, DrainedNode, NotHeard, Orders, PAUSE_MAX, Paused, Resumed,
    Retried, Undrained, commands,
};
pub use decide::{Goal, shard_inputs};
pub use drains::Drains;
pub use failpoints::{Moment, Phase, Point};
pub use files::{CertificateFile, CertificateRole, Files, watch_files};
pub use fit::{SettingsByNode, misfits};
pub use functions::Lacking;
pub use lease::{Lease, Ours, Tenure};
pub use pacer::PaceStatus;
pub use policy::{node_name, policy};
pub use poller::{Glance, Look, Patience, PollOrders, PollSettings, Poller, Sight, poll};
pub use reason::{Fate, Reason};
pub use records::Records;
pub use repair::{Case, Diagnosis, Doctor, Done, Left, Outcome, Prefer, RepairError, Wishes, repair};
pub use room::{PlannedRoom, RoomRules, planned_room};
pub use status::{MoveStatus, Status, View, Work};
pub use supervisor::{Ended, Parts, Supervisor};

/// A number for each move of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MoveId(u64);
