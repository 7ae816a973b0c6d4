//! How fast and how many: the pace of a source, the slots of one group, and which moves may run side by side.
//!
//! Pure values: measured times come in as arguments.

mod admit;
mod block;
mod cost;
mod group;
mod latency;
mod pace;
mod rate;

pub use admit::{Limits, Order, admit};
pub use group::{GroupLimits, next_group};
pub use latency::Latency;
pub use pace::{Budget, Limit, Pace};
pub use rate::Rate;
