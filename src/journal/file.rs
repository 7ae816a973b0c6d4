//! The journal's file: locked, appended to, begun anew when it grows too long or a write fails.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::JournalError;
use super::contents::Contents;
use super::line::{self, Record};

/// The file is begun anew beyond this: some thousand moves, read in milliseconds at start.
pub(super) const COMPACT_AT: u64 = 1024 * 1024;

/// How safe a record must be before the caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// On disk: it outlives the machine.
    Disk,
    /// With the operating system: it outlives this process, not a loss of power.
    SystemCache,
}

/// The journal's file, in a directory that is ours as long as this value lives.
#[derive(Debug)]
pub(super) struct JournalFile {
    dir: PathBuf,
    path: PathBuf,
    /// Its lock ends when it is closed. Not the journal itself, which is replaced by another file again and again. It holds the
    /// name of who has it, or had it last.
    lock: File,
    /// Where the next line goes. `None` when it is not known what the file ends with, because a write or a sync failed:
    /// the next record then begins the file anew. Half a line may be there, and after a failed sync even lines from
    /// before may be missing on disk without another error, so that cutting the half line off would not be enough.
    end: Option<File>,
    len: u64,
    compact_at: u64,
}

impl JournalFile {
    /// Takes the directory; makes it if only its last part is missing. Reads and writes no journal yet.
    pub(super) fn lock(dir: &Path) -> Result<Self, JournalError> {
        make(dir).map_err(unusable("make", dir))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(unusable("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(unusable("lock", &path)(error)),
        }
        let path = dir.join("journal.jsonl");
        Ok(Self { dir: dir.to_owned(), path, lock, end: None, len: 0, compact_at: 0 })
    }

    /// Leaves this name for whoever has the directory next. Says which one was left by who had it before.
    pub(super) fn sign(&mut self, name: &str) -> Result<Option<String>, JournalError> {
        let sign = |lock: &mut File| {
            let mut before = String::new();
            lock.rewind()?;
            lock.read_to_string(&mut before)?;
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(name.as_bytes())?;
            Ok((!before.is_empty()).then_some(before))
        };
        sign(&mut self.lock).map_err(unusable("write", &self.dir.join("lock")))
    }

    /// Where the journal is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it is; empty when there is none.
    pub(super) fn read(&self) -> Result<Vec<u8>, JournalError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(unusable("read", &self.path)(error)),
        }
    }

    /// Puts a file with just these contents in the place of the journal, all or nothing; on disk when it returns.
    pub(super) fn begin_anew(&mut self, contents: &Contents) -> Result<(), JournalError> {
        self.end = Some(self.replace(contents)?);
        Ok(())
    }

    /// Appends a record to a file that holds `contents`, which is begun anew first when it has grown too long or its end
    /// is not known. After an error the record does not count, although a reader may yet find it.
    pub(super) fn append(
        &mut self,
        record: &Record,
        durability: Durability,
        contents: &Contents,
    ) -> Result<(), JournalError> {
        // Taken, so that every way out but the last leaves the end unknown.
        let mut end = match self.end.take() {
            Some(end) if self.len <= self.compact_at => end,
            Some(_) | None => self.replace(contents)?,
        };
        let line = line::write(record);
        end.write_all(line.as_bytes()).map_err(unusable("write", &self.path))?;
        if durability == Durability::Disk {
            end.sync_data().map_err(unusable("write", &self.path))?;
        }
        self.len += line.len() as u64;
        self.end = Some(end);
        Ok(())
    }

    /// The end of the file that is now in the place of the journal.
    fn replace(&mut self, contents: &Contents) -> Result<File, JournalError> {
        let text: String = std::iter::once(line::header()).chain(contents.records().map(|r| line::write(&r))).collect();
        // The lock makes the name ours; what a process left there that died on the way is overwritten.
        let new = self.dir.join("journal.jsonl.new");
        let mut file = File::create(&new).map_err(unusable("write", &new))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unusable("write", &new))?;
        fs::rename(&new, &self.path).map_err(unusable("replace", &self.path))?;
        // The rename is on disk only with the directory.
        sync_dir(&self.dir).map_err(unusable("write", &self.dir))?;
        self.len = text.len() as u64;
        // At least twice what counts, lest long records make every write begin the file anew.
        self.compact_at = COMPACT_AT.max(2 * self.len);
        Ok(file)
    }

    /// The length beyond which the file is begun anew.
    #[cfg(test)]
    pub(super) fn limit(&self) -> u64 {
        self.compact_at
    }

    /// Makes every write fail until the file is begun anew, as on a full disk.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self) {
        self.end = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    }
}

/// One level only: a whole missing path is a mistyped one, or a volume that is not mounted.
fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
            Some(_) | None => sync_dir(Path::new(".")),
        },
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn unusable(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |error| JournalError::Unusable { doing, path, error }
}
