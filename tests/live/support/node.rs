//! One server of a cluster: its process, its directory, its port.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use evenkeel::cluster::{Address, NodeId};
use redis::Connection;
use tempfile::TempDir;

use super::process::{Process, Signal, text_of};
use super::reserve::{self, Port};
use super::wait::SOON;

/// One node of a [`super::Cluster`], by the order in which it was started. Means nothing to another cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node(pub(super) usize);

/// Whether a node's process takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// By SIGSTOP.
    Stopped,
    Ended,
}

/// A server and what it needs; killed, and its directory removed, when dropped.
pub(super) struct Server {
    program: PathBuf,
    args: Vec<String>,
    directory: TempDir,
    port: Port,
    /// The IP that it announces, where that is not 127.0.0.1.
    pub(super) announced: Option<String>,
    /// Its id, once asked: a node keeps it for life.
    pub(super) id: Option<NodeId>,
    process: Mutex<(Process, Life)>,
    /// The connection for raw commands, while it is good.
    pub(super) connection: Mutex<Option<Connection>>,
}

impl Server {
    /// Starts a server on a reserved port, on another one where somebody else is quicker to bind it.
    ///
    /// `args` are the arguments for a port.
    pub(super) fn start(program: PathBuf, announced: Option<String>, args: impl Fn(u16) -> Vec<String>) -> Self {
        const ATTEMPTS: usize = 5;
        for _ in 0..ATTEMPTS {
            let port = Port::reserve();
            let directory = reserve::directory(&format!("node-{}", port.number()));
            let args = args(port.number());
            let process = Process::start(&program, &args, &[], directory.path());
            let (announced, program) = (announced.clone(), program.clone());
            let process = Mutex::new((process, Life::Running));
            let connection = Mutex::new(None);
            let server = Self { program, args, directory, port, announced, id: None, process, connection };
            match server.listening() {
                Ok(()) => return server,
                Err(log) if log.contains("in use") => eprintln!("port {} was taken", server.address().port),
                Err(log) => panic!("the server did not start:\n{log}"),
            }
        }
        panic!("none of {ATTEMPTS} reserved ports could be bound");
    }

    /// Waits until it accepts connections; the error is its log.
    pub(super) fn listening(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", self.port.number())) {
                // It may be another server's port: then ours has ended, or is about to.
                Ok(_) if self.log().contains("eady to accept connections") => return Ok(()),
                Ok(_) | Err(_) if self.lock().0.ended().is_some() || start.elapsed() > SOON => {
                    return Err(self.log());
                }
                Ok(_) | Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Where a client reaches it.
    pub(super) fn address(&self) -> Address {
        Address::new("127.0.0.1", self.port.number())
    }

    pub(super) fn life(&self) -> Life {
        let mut process = self.lock();
        if process.0.ended().is_some() {
            process.1 = Life::Ended;
        }
        process.1
    }

    pub(super) fn pid(&self) -> u32 {
        self.lock().0.pid()
    }

    pub(super) fn kill9(&self) {
        self.forget_connection();
        let mut process = self.lock();
        process.0.kill();
        process.1 = Life::Ended;
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn sigterm(&self) {
        self.forget_connection();
        let mut process = self.lock();
        process.0.signal(Signal::Term);
        assert!(process.0.wait(Duration::from_secs(20)).is_some(), "the server ends on SIGTERM");
        process.1 = Life::Ended;
    }

    pub(super) fn sigstop(&self) {
        self.forget_connection();
        let mut process = self.lock();
        process.0.signal(Signal::Stop);
        process.1 = Life::Stopped;
    }

    pub(super) fn sigcont(&self) {
        let mut process = self.lock();
        process.0.signal(Signal::Cont);
        process.1 = Life::Running;
    }

    /// Starts it again where it was; waits until it accepts connections.
    pub(super) fn restart(&self) {
        self.kill9();
        // The log of the life before must not be mistaken for that of the new one.
        let log = self.directory.path().join("stdout");
        let mut past = log.clone();
        past.set_file_name("stdout.before");
        if let Err(error) = std::fs::rename(log, past)
            && error.kind() != io::ErrorKind::NotFound
        {
            panic!("cannot put the log aside: {error}");
        }
        *self.lock() = (Process::start(&self.program, &self.args, &[], self.directory.path()), Life::Running);
        if let Err(log) = self.listening() {
            panic!("the server did not start again:\n{log}");
        }
    }

    /// What it wrote since it was last started.
    pub(super) fn log(&self) -> String {
        let file = |name| text_of(self.directory.path().join(name));
        file("stdout") + &file("stderr")
    }

    fn forget_connection(&self) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn lock(&self) -> MutexGuard<'_, (Process, Life)> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
