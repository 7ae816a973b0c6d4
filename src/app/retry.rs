//! `evenkeel retry`: tells a running daemon to try slots again that it has set aside.

use super::output::outln;
use super::remote::Remote;
use crate::cli::{ExitStatus, RetryArgs};
use crate::http::json::{RetryDocument, RetryRequest};

/// `evenkeel retry`.
pub(super) async fn retry(args: &RetryArgs) -> anyhow::Result<ExitStatus> {
    let request = RetryRequest { slots: args.slots.to_string() };
    let retried: RetryDocument = Remote::new(&args.daemon)?.post("/api/v1/retry", request).await?.document()?;
    if retried.put_back.count > 0 {
        outln!("put back, and tried again now: {}", retried.put_back.ranges);
    }
    if retried.put_back.count == 0 {
        outln!("none of these slots is set aside");
    } else if args.slots.len() < ALL_MEANT && retried.not_set_aside.count > 0 {
        outln!("not set aside: {}", retried.not_set_aside.ranges);
    }
    Ok(ExitStatus::Done)
}

/// Who names as many slots means all of them, and wants no list of those that are in order.
const ALL_MEANT: usize = 16_384;
