//! A service manager, as far as a daemon sees one: the socket that it tells its state to.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tempfile::TempDir;

use super::evenkeel::Evenkeel;
use super::wait::eventually;

/// What a daemon has told so far, message by message.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
    told: Vec<String>,
}

impl Manager {
    /// One that nobody has told anything.
    pub(crate) fn new() -> Self {
        // Not below Cargo's directory: the path of a socket has 107 bytes at the most.
        let directory = tempfile::tempdir().expect("the system's temporary directory is writable");
        let socket = UnixDatagram::bind(directory.path().join(SOCKET)).expect("nobody else has this path");
        socket.set_nonblocking(true).expect("a socket can be told not to block");
        Self { socket, directory, told: Vec::new() }
    }

    /// This call as the main process of a service with a watchdog of this limit.
    pub(crate) fn supervise(&self, call: Evenkeel, watchdog: Duration) -> Evenkeel {
        let socket = self.directory.path().join(SOCKET).display().to_string();
        call.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", &watchdog.as_micros().to_string())
    }

    /// Everything that it was told up to now.
    pub(crate) fn told(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.told.push(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return &self.told,
                Err(error) => panic!("the manager's socket: {error}"),
            }
        }
    }

    /// Waits until it has been told this line, after the first `skip` messages, and says in which message it was.
    #[track_caller]
    pub(crate) fn await_told(&mut self, line: &str, skip: usize, deadline: Duration) -> usize {
        eventually(line, deadline, || {
            let told = self.told();
            let says = |message: &String| message.lines().any(|said| said == line);
            match told.iter().skip(skip).position(says) {
                Some(after) => Ok(skip + after),
                None => Err(format!("told {told:?}")),
            }
        })
    }
}

const SOCKET: &str = "notify";
