//! What a test must have for itself on this machine while others run beside it: ports and directories.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

/// The bus port of a node is its data port plus this (Redis 6.2 knows no other).
pub(crate) const BUS_OFFSET: u16 = 10_000;
/// The first data port. Data ports (12,000 to 21,999) and their bus ports (22,000 to 31,999) do not overlap, and lie
/// below the ports that Linux gives to outgoing connections (32,768 up).
const FIRST: u16 = 12_000;
const COUNT: u16 = 10_000;

/// A free data port whose bus port is free too, reserved among all test processes of this machine while it lives.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    /// Holding the abstract socket is the reservation: one process can bind a name, and the kernel releases it
    /// however that process ends.
    _reservation: UnixListener,
}

impl Port {
    /// Reserves a port. Panics when all are taken.
    pub(super) fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes that start together begin their search in different places.
        let start = u16::try_from(process::id().wrapping_mul(131) % u32::from(COUNT)).expect("below the count");
        (0..COUNT)
            .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
            .find_map(Self::try_reserve)
            .expect("there is a free port from 12,000 to 21,999")
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("evenkeel-test-port-{number}")).ok()?;
        let reservation = UnixListener::bind_addr(&name).ok()?;
        let free = |port| TcpListener::bind(("0.0.0.0", port)).is_ok();
        (free(number) && free(number + BUS_OFFSET)).then_some(Self { number, _reservation: reservation })
    }

    /// The data port's number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// A new directory for the files of tests, removed when dropped: in that of `EVENKEEL_TEST_DIR`, which may lie in memory, or
/// else in Cargo's.
///
/// What earlier test processes left there because they were killed is removed too.
pub(crate) fn directory(purpose: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    let parent = env::var_os("EVENKEEL_TEST_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    SWEPT.call_once(|| sweep(&parent));
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-{purpose}-", process::id()))
        .tempdir_in(&parent)
        .unwrap_or_else(|error| panic!("no directory can be made in {}: {error}", parent.display()))
}

const PREFIX: &str = "live-";

/// Removes the directories whose process (the first number in their name) is gone.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another test process may be sweeping too: what is gone is gone.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
