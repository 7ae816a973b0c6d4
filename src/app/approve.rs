//! `evenkeel approve`: has a running daemon carry a plan out that waits for it.

use super::remote::Remote;
use crate::cli::{ApproveArgs, ExitStatus};
use crate::http::json::{ApproveRequest, ApprovedDocument};

/// `evenkeel approve`.
pub(super) async fn approve(args: &ApproveArgs) -> anyhow::Result<ExitStatus> {
    let request = ApproveRequest { hash: args.hash.clone() };
    let told: ApprovedDocument = Remote::new(&args.daemon)?.post("/api/v1/approve", request).await?.document()?;
    let (hash, slots) = (told.hash, told.slots.count);
    println!("approved: plan {hash} is carried out, which moves {slots} slot{}", if slots == 1 { "" } else { "s" });
    Ok(ExitStatus::Done)
}
