//! evenkeel keeps a Redis or Valkey Cluster on an even keel.

pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod http;
pub mod journal;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod lease;
pub mod metrics;
pub mod migration;
pub mod plan;
pub mod redis;
pub mod throttle;
pub mod tls;
mod wording;
