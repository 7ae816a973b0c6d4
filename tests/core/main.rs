//! Tests that need no server: the pure core against models of what servers do.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]
#![expect(clippy::needless_raw_string_hashes, reason = "written so by expect-test when it updates what is expected")]

mod alerts;
mod architecture;
mod docs;
mod migration;
mod output;
mod reasons;
