//! What a cluster is: slots, nodes, what one node says (`CLUSTER NODES`), and what all of them say together.
//!
//! Pure values: nothing here reads a clock, waits or talks to a server.

mod agreement;
mod calls;
#[cfg(test)]
pub(crate) mod fixtures;
mod format;
mod job;
mod node;
mod observation;
mod settings;
mod slot;
mod topology;
mod unclear;
mod view;

pub use calls::{CallCount, client_calls};
pub use job::{JobError, JobKind, ServerJob};
pub use node::{Address, AddressError, NodeId, NodeIdError};
pub use observation::{
    EvictionPolicy, InfoError, MemoryUse, NodeInfo, Observation, Observed, PrimaryLink, Product, ReplicaLink,
    Replication, ServerVersion, Silent,
};
pub use settings::NodeSettings;
pub use slot::{Slot, SlotRange, SlotSet, SlotTextError};
pub use topology::{Member, NameError, OpenSlot, Shard, Standing, Topology};
pub(crate) use unclear::Slots;
pub use unclear::{Finding, Unclear};
pub use view::{Failing, KnownLines, LineFault, Link, Marker, NodeLine, NodeView, Role, ViewError};
