//! Talking to servers: the one place that names the client library.
//!
//! What is here: connections that prove which node they reach, by the client library or bare, the commands that evenkeel
//! sends, and the errors by what the caller does next. What is not: any decision about slots.

mod assign;
mod big_keys;
mod commands;
mod conn;
mod dial;
mod error;
mod functions;
mod jobs;
mod lease;
mod look;
mod permissions;
mod tls_fault;
mod traffic;
mod wire;

/// Under which name the client library logs: of every lost connection, which evenkeel tells of once.
pub const LOG_TARGET: &str = "fred";

pub use assign::{RaisedEpoch, ServerTime};
pub use big_keys::SlotLook;
pub use commands::{Counted, MigrateCall, MigrateLogin};
pub use conn::{Conn, Value};
pub use dial::{Dialer, Intent};
pub use error::{CallError, OpenError};
pub use functions::Libraries;
pub use jobs::JobSupport;
pub use lease::LeaseServer;
pub use look::{Answers, Questions};
pub use permissions::{
    Wanted, explained, grant, missing_for_repair, missing_permissions, missing_permissions_while_down,
};
pub use traffic::{TrafficClient, TrafficError};
