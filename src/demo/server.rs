//! One Redis or Valkey server of the demonstration: the program, its ports, its process.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::process::{Process, find_in_path};
use crate::cluster::Address;
use crate::redis::{Conn, Dialer};

/// Where data ports are looked for: above those that servers are commonly installed on, and so low that the bus port
/// lies below those that Linux gives to outgoing connections (32,768 up).
const PORTS: Range<u16> = 7001..22_000;
/// A server's bus port is its data port plus this.
const BUS_OFFSET: u16 = 10_000;
/// How many ports are tried when others are quicker to bind them.
const ATTEMPTS: usize = 5;
/// How long a server may take to accept connections. It takes a few hundredths of a second.
const UP_WITHIN: Duration = Duration::from_secs(15);

/// A `redis-server` or `valkey-server`.
#[derive(Debug)]
pub(super) struct Program(PathBuf);

impl Program {
    /// The given one, else the first in `PATH`.
    pub(super) fn find(given: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(given) = given {
            // Servers are started in directories of their own, where a relative path leads elsewhere.
            return match std::path::absolute(given) {
                Ok(program) if program.is_file() => Ok(Self(program)),
                Ok(_) | Err(_) => bail!("there is no server at {} (--server)", given.display()),
            };
        }
        let found = ["redis-server", "valkey-server"].into_iter().find_map(find_in_path);
        found.map(Self).context(
            "neither redis-server nor valkey-server is in PATH: install one of them, name one with --server, or call \
             ./demo in the source tree, which fetches one",
        )
    }
}

/// A running server, and a connection to it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Address,
    pub(super) conn: Conn,
    _process: Process,
}

impl Server {
    /// Starts a server on a free port that is not below `from`, with its files below `directory`.
    pub(super) async fn start(program: &Program, directory: &Path, from: u16) -> anyhow::Result<Self> {
        let mut from = from.max(PORTS.start);
        for _ in 0..ATTEMPTS {
            let port = (from..PORTS.end).find(|&port| is_free(port) && is_free(port + BUS_OFFSET));
            let port = port.with_context(|| format!("no port from {from} to {} is free", PORTS.end - 1))?;
            let mut process = Process::start(&program.0, &arguments(port), &directory.join(format!("server-{port}")))?;
            if listens(&mut process).await? {
                let address = Address::new(Ipv4Addr::LOCALHOST.to_string(), port);
                let conn = Dialer::of_demo(&address).open_any(&address, None).await?;
                return Ok(Self { address, conn, _process: process });
            }
            // Somebody else was quicker.
            from = port + 1;
        }
        bail!("{ATTEMPTS} ports that were free were taken a moment later")
    }
}

/// Everything that differs from the server's defaults: nothing is saved, nobody from outside gets in.
fn arguments(port: u16) -> Vec<String> {
    let port = port.to_string();
    let settings = [
        ["--port", &port],
        ["--bind", "127.0.0.1"],
        ["--cluster-enabled", "yes"],
        ["--cluster-config-file", "nodes.conf"],
        ["--cluster-node-timeout", "5000"],
        ["--save", ""],
        ["--appendonly", "no"],
        ["--daemonize", "no"],
        ["--logfile", ""],
    ];
    settings.into_iter().flatten().map(str::to_owned).collect()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Waits until the server accepts connections; false when it ended because its port is in use.
///
/// By its own log: what answers at the port may be another server.
async fn listens(process: &mut Process) -> anyhow::Result<bool> {
    let start = Instant::now();
    loop {
        let log = process.log();
        if log.contains("eady to accept connections") {
            return Ok(true);
        }
        if let Some(status) = process.ended()? {
            if log.contains("in use") {
                return Ok(false);
            }
            bail!("the server ended at once ({status}): it may be too old, or not a Redis or Valkey");
        }
        if start.elapsed() > UP_WITHIN {
            bail!("the server does not accept connections within {UP_WITHIN:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
