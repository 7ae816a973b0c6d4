//! A proxy in front of a server's port, which cuts off chosen processes and no other.
//!
//! Whose connection it is, it sees by the process that has its other end. What is sent over a link that is cut arrives
//! when that is mended, as with TCP on a real network.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use evenkeel::cluster::Address;

/// A proxy; it ends with the test.
pub(crate) struct Proxy {
    port: u16,
    cut: Arc<Cut>,
}

/// The processes that are cut off.
#[derive(Default)]
struct Cut {
    pids: Mutex<BTreeSet<u32>>,
    mended: Condvar,
    /// How often all connections were reset.
    resets: AtomicU32,
}

impl Proxy {
    /// In front of this address, on a free port.
    pub(crate) fn start(to: Address) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let cut = Arc::new(Cut::default());
        {
            let cut = Arc::clone(&cut);
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    // A node that is gone: the client sees its connection end.
                    if let Ok(server) = TcpStream::connect((to.host.as_str(), to.port)) {
                        let _ = join(&client, &server, &cut);
                    }
                }
            });
        }
        Self { port, cut }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts what this process has to say, and the answers.
    pub(crate) fn cut(&self, pid: u32) {
        self.cut.lock().insert(pid);
    }

    /// The same, by new connections: nothing that was held back arrives.
    pub(crate) fn reset(&self) {
        self.cut.resets.fetch_add(1, Ordering::SeqCst);
        self.mend();
    }

    /// Everybody is connected again.
    pub(crate) fn mend(&self) {
        self.cut.lock().clear();
        self.cut.mended.notify_all();
    }
}

impl Cut {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the process that has this end of a connection is cut off.
    fn wait(&self, port: u16) {
        let mut pids = self.lock();
        while pids.iter().any(|pid| ports_of(*pid).contains(&port)) {
            pids = self.mended.wait(pids).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Hands on in both directions what either end sends, until one of them ends.
fn join(client: &TcpStream, server: &TcpStream, cut: &Arc<Cut>) -> std::io::Result<()> {
    let port = client.peer_addr()?.port();
    let resets = cut.resets.load(Ordering::SeqCst);
    for (from, to) in [(client, server), (server, client)] {
        from.set_nodelay(true)?;
        let (mut from, mut to, cut) = (from.try_clone()?, to.try_clone()?, Arc::clone(cut));
        thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                cut.wait(port);
                if cut.resets.load(Ordering::SeqCst) > resets {
                    let _ = from.shutdown(Shutdown::Both);
                    break;
                }
                if to.write_all(&chunk[..length]).is_err() {
                    break;
                }
            }
            cut.wait(port);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

/// The local ports of a process's connections.
fn ports_of(pid: u32) -> BTreeSet<u16> {
    connections_of(pid).into_iter().map(|(local, _)| local).collect()
}

/// The local and the remote port of each connection of a process.
pub(crate) fn connections_of(pid: u32) -> BTreeSet<(u16, u16)> {
    let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    // `  0: 0100007F:1F90 0100007F:D2F0 01 …`, the ports in hexadecimal, the socket's number in the tenth column.
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let ports = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = |column: usize| u16::from_str_radix(columns.get(column)?.split_once(':')?.1, 16).ok();
        sockets.contains(*columns.get(9)?).then_some((port(1)?, port(2)?))
    };
    table.lines().skip(1).filter_map(ports).collect()
}
