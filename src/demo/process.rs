//! Child processes that never outlive the demonstration, however it ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use anyhow::Context;

/// The file in a process's directory that takes all that it writes.
const LOG: &str = "log";

/// A running program. Killed, with all that it started, when dropped.
///
/// Where `setpriv` can arrange it, the kernel kills it too when the *thread* that started it ends: not even `kill -9`
/// of the demonstration leaves it behind.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    directory: PathBuf,
}

impl Process {
    /// Starts a program in a directory that is made for it, in a process group of its own: a terminal's Ctrl-C reaches
    /// the demonstration alone, which then ends what it started in order.
    pub(super) fn start(program: &Path, args: &[String], directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let log = File::create(directory.join(LOG))?;
        let mut command = if death_signal_works() {
            // A demonstration that dies before this is arranged is nobody's parent afterwards.
            let script = format!(r#"[ "$PPID" = {} ] && exec "$0" "$@""#, std::process::id());
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--", "sh", "-c", &script]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // The caller's own settings (EVENKEEL_PASSWORD, RUST_LOG …) are meant for another cluster than this.
        for (name, _) in std::env::vars_os() {
            if name == "RUST_LOG" || name.to_string_lossy().starts_with("EVENKEEL_") {
                command.env_remove(name);
            }
        }
        command.args(args).current_dir(directory).process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, directory: directory.to_owned() })
    }

    /// How it ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// All that it wrote.
    pub(super) fn log(&self) -> String {
        text_of(&self.directory.join(LOG))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its group first, while its number cannot yet be another's: the program may be a script around the server.
        // The shell's own `kill`: the program of that name is not everywhere.
        let script = format!("kill -s KILL -- -{} 2>/dev/null", self.child.id());
        let _ = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints the end of every log below the directory to stderr.
pub(super) fn print_logs(directory: &Path, lines: usize) {
    let mut directories: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    directories.sort();
    for directory in directories.into_iter().filter(|directory| directory.join(LOG).is_file()) {
        let text = text_of(&directory.join(LOG));
        let all: Vec<&str> = text.lines().collect();
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        eprintln!("\n--- {name}: the end of its log");
        for line in &all[all.len().saturating_sub(lines)..] {
            eprintln!("{line}");
        }
    }
}

/// The program of this name in `PATH`.
pub(super) fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Whether there is a `setpriv` that knows `--pdeathsig` (that of util-linux does, that of busybox does not).
fn death_signal_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let mut trial = Command::new("setpriv");
        trial.args(["--pdeathsig", "KILL", "--", "true"]);
        trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success())
    })
}

fn text_of(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
