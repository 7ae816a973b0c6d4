//! Child processes that never outlive their test, however that ends.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// A running program, its output going to files. Killed when dropped.
///
/// The kernel kills it too when the test process dies (`PR_SET_PDEATHSIG`, set by `setpriv`), so that not even
/// `kill -9` of a test leaves a server behind.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

/// A signal, by the name that `kill -s` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Hup,
    Int,
    Term,
    Stop,
    Cont,
}

impl Process {
    /// Starts a program in `directory`; its output goes to `stdout` and `stderr` there, what they held is kept.
    pub(super) fn start(program: &Path, args: &[String], env: &[(String, String)], directory: &Path) -> Self {
        let open = |name| File::options().create(true).append(true).open(directory.join(name));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args).current_dir(directory);
        // The caller's own settings (EVENKEEL_PASSWORD, RUST_LOG …) must not change what a story sees.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EVENKEEL_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        command.envs(env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command.stdout(open("stdout").expect("the directory is writable"));
        command.stderr(open("stderr").expect("the directory is writable"));
        match spawn(command) {
            Ok(child) => Self { child },
            Err(error) => panic!("cannot start {} by setpriv (package util-linux): {error}", program.display()),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs (or is stopped).
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child's status can be asked")
    }

    /// Waits until it ends; `None` when it has not within `deadline`.
    pub(super) fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            match self.ended() {
                Some(status) => return Some(status),
                None if start.elapsed() >= deadline => return None,
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Sends a signal; does nothing when the process has ended.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        let name = match signal {
            Signal::Hup => "HUP",
            Signal::Int => "INT",
            Signal::Term => "TERM",
            Signal::Stop => "STOP",
            Signal::Cont => "CONT",
        };
        // The shell's own `kill`: the program of that name is not everywhere.
        let script = format!("kill -s {name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &script]).status().expect("there is a shell");
        assert!(status.success(), "`{script}`: {status}");
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a child from a thread that lives as long as this process.
///
/// The kernel sends the death signal when the *thread* that started the child ends, and a test's thread may end
/// before what it started does.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in received {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).expect("the thread that starts children never ends");
    child.recv().expect("the thread that starts children answers")
}

/// The text of a file, or an empty one where there is none.
pub(super) fn text_of(path: PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last `count` lines of a text.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
