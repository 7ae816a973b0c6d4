//! The programs that `tests/tools/fetch` gets.

use std::path::{Path, PathBuf};

/// A program of the tool `of`. Panics, saying how to get it, where it is absent.
pub(crate) fn tool(of: &str, name: &str) -> PathBuf {
    // Cargo's directory for the files of tests is `tmp` in the target directory.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory has a parent");
    let tool = target.join("tools").join(of).join(name);
    assert!(tool.is_file(), "no {name} here: run `tests/tools/fetch {of}`");
    tool
}
