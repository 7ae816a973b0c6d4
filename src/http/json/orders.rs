//! What a running evenkeel can be told, and what it answers.

use serde::{Deserialize, Serialize};

use super::Slots;
use crate::daemon::Retried;

/// `POST /api/v1/retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// The slots, as in `866,900-910`.
    pub slots: String,
}

/// What became of the slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryDocument {
    /// They were set aside, and are tried again as if for the first time.
    pub put_back: Slots,
    /// They were not set aside: nothing was done about them.
    pub not_set_aside: Slots,
}

/// The answer as JSON.
#[must_use]
pub fn retry_document(retried: &Retried) -> RetryDocument {
    RetryDocument { put_back: Slots::from(&retried.put_back), not_set_aside: Slots::from(&retried.not_set_aside) }
}
