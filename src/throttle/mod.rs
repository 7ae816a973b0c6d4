//! How fast and how many: the batch of one call, the slots of one group, and which moves may run side by side.
//!
//! Pure values: measured times come in as arguments.

mod admit;
mod batch;
mod group;

pub use admit::{Limits, Order, admit};
pub use batch::BatchSize;
pub use group::{GroupLimits, next_group};
