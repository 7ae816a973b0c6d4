//! `evenkeel drain` and `evenkeel undrain`: tell a running daemon to leave a node's shard nothing, and to give it its share again.

use super::output::outln;
use super::remote::{Remote, short};
use crate::cli::{DrainArgs, ExitStatus};
use crate::http::json::{DrainDocument, DrainRequest, DrainedDocument, UndrainedDocument};

/// `evenkeel drain`.
pub(super) async fn drain(args: &DrainArgs) -> anyhow::Result<ExitStatus> {
    let request = DrainRequest { node: args.node.clone() };
    let told: DrainedDocument = Remote::new(&args.daemon)?.post("/api/v1/drain", request).await?.document()?;
    let shard = shard_of(&args.node, &told.drained.node);
    outln!("{shard} is to be drained, and to stay so until `evenkeel undrain`");
    outln!("its slots begin to move when nothing forbids it; `evenkeel status` tells how far that is");
    outln!(
        "without slots its primary may make itself a replica of another, with a full synchronisation \
         (cluster-allow-replica-migration); `evenkeel plan --config FILE --drain {}` tells of whom",
        args.node
    );
    if !told.survives_restart {
        outln!("it lasts until a restart at the most: the daemon has no state.dir, or cannot write to it");
    }
    Ok(ExitStatus::Done)
}

/// `evenkeel undrain`.
pub(super) async fn undrain(args: &DrainArgs) -> anyhow::Result<ExitStatus> {
    let request = DrainRequest { node: args.node.clone() };
    let told: UndrainedDocument = Remote::new(&args.daemon)?.post("/api/v1/undrain", request).await?.document()?;
    match &told.was_drained {
        Some(DrainDocument { node, replica_of: None, address: None, .. }) => {
            outln!("the drain of {} is forgotten; it is no node of the cluster", named(&args.node, node));
        }
        Some(DrainDocument { node, replica_of: None, .. }) => {
            outln!("{} is to have its share again, as long as it is a primary", shard_of(&args.node, node));
        }
        Some(DrainDocument { node, replica_of: Some(primary), .. }) => {
            outln!(
                "{} is drained no more; it is a replica of {} now, and has its share again when it is a primary once more",
                named(&args.node, node),
                short(primary)
            );
        }
        None => outln!("nobody had told the daemon to drain it"),
    }
    if told.by_configuration {
        outln!("it is drained all the same: the daemon's file says so, with drain = true");
    }
    if told.returns_at_restart {
        outln!("a restart brings the drain back: the daemon cannot write to its state.dir");
    }
    Ok(ExitStatus::Done)
}

/// The shard that was meant: as the operator named it, and by the id of its primary.
fn shard_of(named: &str, primary: &str) -> String {
    let short = short(primary);
    if primary.starts_with(named) { short.to_owned() } else { format!("{named} (the shard of {short})") }
}

/// The node that was meant.
fn named(named: &str, id: &str) -> String {
    let short = short(id);
    if id.starts_with(named) { short.to_owned() } else { format!("{named} ({short})") }
}
