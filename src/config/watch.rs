//! Whether a file is still the one that was read.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells one state of a file from another, without reading it. Compare it with an older one of the same path.
///
/// Links are followed at every look: Kubernetes updates a mounted `ConfigMap` by pointing a link at another directory,
/// which changes the inode and may change nothing else. A file that cannot be looked at has a stamp too, so that its
/// going and its coming back are changes.
///
/// A file rewritten in place within one tick of the file system's clock, to the same length, looks unchanged. Take the
/// stamp *before* reading: then a change during the read is seen at the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp(Option<Seen>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds and nanoseconds of the last change of the content.
    modified: (i64, i64),
    /// The same of the last change of anything; unlike `modified`, no program can set it back (`cp -p`, `rsync -t`).
    changed: (i64, i64),
}

impl FileStamp {
    /// The file's state now. Blocking, and short: one `stat`.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().as_ref().map(Seen::of))
    }

    /// Whether the file could be looked at.
    #[must_use]
    pub fn is_there(self) -> bool {
        self.0.is_some()
    }
}

impl Seen {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            len: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Takes the stamp of `evenkeel.toml` before and after something is done to its directory.
    fn check(done: impl FnOnce(&Path), changed: bool) {
        let dir = tempfile::tempdir().unwrap();
        for (version, content) in [("v1", "a = 1\n"), ("v2", "a = 2\n")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("evenkeel.toml"), content).unwrap();
        }
        symlink("v1", dir.path().join("data")).unwrap();
        symlink("data/evenkeel.toml", dir.path().join("evenkeel.toml")).unwrap();
        let file = dir.path().join("evenkeel.toml");
        let before = FileStamp::of(&file);
        assert!(before.is_there());
        done(dir.path());
        assert_eq!(before != FileStamp::of(&file), changed);
    }

    #[test]
    fn a_file_that_is_only_read_stays_the_same() {
        check(|dir| assert_eq!(fs::read_to_string(dir.join("evenkeel.toml")).unwrap(), "a = 1\n"), false);
    }

    #[test]
    fn a_link_that_points_elsewhere_is_a_change_though_length_and_name_stay() {
        let swap = |dir: &Path| {
            symlink("v2", dir.join("data.new")).unwrap();
            fs::rename(dir.join("data.new"), dir.join("data")).unwrap();
        };
        check(swap, true);
    }

    #[test]
    fn a_file_that_is_written_in_place_is_a_change() {
        check(|dir| fs::write(dir.join("v1/evenkeel.toml"), "a = 10\n").unwrap(), true);
    }

    #[test]
    fn a_file_that_goes_away_is_a_change() {
        check(|dir| fs::remove_file(dir.join("v1/evenkeel.toml")).unwrap(), true);
        assert_eq!(FileStamp::of(Path::new("/no/such/file")), FileStamp::of(Path::new("/no/such/other")));
    }
}
