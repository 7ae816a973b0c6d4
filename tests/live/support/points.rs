//! Points of a move at which evenkeel stands still, so that something can happen right there.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::evenkeel::Evenkeel;
use super::reserve::directory;
use super::wait::{SOON, eventually};

/// Orders to one evenkeel, and the signals to and from it.
pub(crate) struct Points(TempDir);

impl Points {
    /// A call that is under these orders, such as `migrate.before=pause@2`.
    pub(crate) fn order(call: Evenkeel, orders: &str) -> (Self, Evenkeel) {
        let directory = directory("points");
        let path = directory.path().display().to_string();
        (Self(directory), call.env("EVENKEEL_FAILPOINTS", orders).env("EVENKEEL_FAILPOINTS_DIR", &path))
    }

    /// Waits until evenkeel stands still at this point.
    #[track_caller]
    pub(crate) fn await_reached(&self, point: &str) {
        eventually(point, SOON, || {
            if self.file(point, "reached").exists() { Ok(()) } else { Err("not reached yet".to_owned()) }
        });
    }

    /// Lets it go on.
    #[track_caller]
    pub(crate) fn go(&self, point: &str) {
        fs::write(self.file(point, "go"), "").expect("the directory is ours");
        eventually("it goes on", SOON, || {
            if self.file(point, "go").exists() { Err("not yet".to_owned()) } else { Ok(()) }
        });
    }

    fn file(&self, point: &str, what: &str) -> PathBuf {
        self.0.path().join(format!("{point}.{what}"))
    }
}
