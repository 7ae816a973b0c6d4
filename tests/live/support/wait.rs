//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How long to wait between two looks: short against what servers take, long against what a look costs two cores.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A deadline for what takes seconds on an idle machine: one that others use too can be ten times slower for minutes.
pub(crate) const SOON: Duration = Duration::from_mins(3);

/// Looks until `look` returns `Ok`, and returns that value.
///
/// Panics when `deadline` has passed, with `what` was awaited and the last `Err`: what was the case instead. The
/// cluster and the daemons of the test print the rest when the panic drops them.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(instead) if start.elapsed() >= deadline => {
                panic!("not within {deadline:?}: {what}; instead: {instead}")
            }
            Err(_) => thread::sleep(BETWEEN_LOOKS),
        }
    }
}
