//! `evenkeel approve`: has a running daemon carry a plan out that waits for it.

use super::output::outln;
use super::remote::Remote;
use crate::cli::{ApproveArgs, ExitStatus};
use crate::http::json::{ApproveRequest, ApprovedDocument};
use crate::wording::plural;

/// `evenkeel approve`.
pub(super) async fn approve(args: &ApproveArgs) -> anyhow::Result<ExitStatus> {
    let request = ApproveRequest { hash: args.hash.clone() };
    let told: ApprovedDocument = Remote::new(&args.daemon)?.post("/api/v1/approve", request).await?.document()?;
    outln!("approved: plan {}, which moves {}", told.hash, plural(told.slots.count, "slot"));
    outln!("it is carried out while nothing forbids it; `evenkeel status` tells how far that is");
    Ok(ExitStatus::Done)
}
