//! What the stories are told with: servers, clusters, data, verifying clients, and evenkeel itself.

mod calls;
mod cluster;
mod commands;
mod data;
mod evenkeel;
mod families;
mod node;
mod process;
mod reserve;
mod servers;
mod settings;
mod slots;
mod spec;
mod standalone;
mod tagged;
mod tls;
mod verifier;
mod views;
mod wait;
mod workload;

pub(crate) use cluster::Cluster;
pub(crate) use data::{Data, Findings};
pub(crate) use evenkeel::{Daemon, Evenkeel, Output};
pub(crate) use families::look_alike_slots;
pub(crate) use node::Node;
pub(crate) use reserve::directory;
pub(crate) use servers::Flavour;
pub(crate) use settings::{HASTY, settings};
pub(crate) use spec::Spec;
pub(crate) use standalone::Standalone;
pub(crate) use tagged::Tagged;
pub(crate) use verifier::{Options, Verifier};
pub(crate) use views::Member;
pub(crate) use wait::eventually;
pub(crate) use workload::Workload;
