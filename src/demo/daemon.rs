//! The daemon as an operator runs it: `evenkeel run` with a configuration file, watched over HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use super::process::Process;
use super::show::say;
use crate::cluster::Address;
use crate::http::json::StatusDocument;
use crate::http::{self, BindError};

/// Where it listens unless told otherwise: where a daemon of one's own does.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7380);
/// How long it may take to see the cluster for the first time.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// How long one answer may take; all are made from memory, on a machine that is busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The running daemon. Killed when dropped: what it worked on goes too.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Mutex<Process>,
    config_file: PathBuf,
    listen: SocketAddr,
    agent: ureq::Agent,
}

/// Takes the port for the daemon's HTTP, another one where that is in use. Held until the daemon starts.
pub(super) fn listen(wanted: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let wanted = wanted.unwrap_or(LISTEN);
    match http::bind(wanted) {
        Err(BindError::InUse { .. }) => {
            let listener = http::bind(SocketAddr::new(wanted.ip(), 0))?;
            say(format!("({wanted} is in use: evenkeel will listen at {} instead)", listener.local_addr()?));
            Ok(listener)
        }
        other => Ok(other?),
    }
}

impl Daemon {
    /// Writes its configuration file and starts it.
    pub(super) fn start(directory: &Path, listener: TcpListener, seeds: &[Address]) -> anyhow::Result<Self> {
        let listen = listener.local_addr()?;
        let (config_file, state) = (directory.join("evenkeel.toml"), directory.join("state"));
        std::fs::create_dir(&state)?;
        std::fs::write(&config_file, config(seeds, listen, &state))?;
        let program = std::env::current_exe().context("cannot find the program that runs")?;
        let args = ["run".to_owned(), "--config".to_owned(), config_file.display().to_string()];
        drop(listener);
        let process = Mutex::new(Process::start(&program, &args, &directory.join("evenkeel"))?);
        let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).build().new_agent();
        Ok(Self { process, config_file, listen, agent })
    }

    /// Waits until it has seen the cluster.
    pub(super) async fn answers(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            match self.status().await {
                Ok(status) if status.look.number > 0 => return Ok(()),
                Ok(_) | Err(_) if start.elapsed() < UP_WITHIN => self.lives()?,
                Ok(status) => bail!("the daemon does not see the cluster: {}", status.look.errors.join("; ")),
                Err(error) => return Err(error.context(format!("the daemon does not answer within {UP_WITHIN:?}"))),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it says of itself at present.
    pub(super) async fn status(&self) -> anyhow::Result<StatusDocument> {
        self.lives()?;
        let (agent, url) = (self.agent.clone(), format!("{}/api/v1/status", self.url()));
        let read = move || agent.get(&url).call()?.body_mut().read_json();
        tokio::task::spawn_blocking(read).await?.context("the daemon does not tell its status")
    }

    /// Where people and programs find it: `http://127.0.0.1:7380`.
    pub(super) fn url(&self) -> String {
        let here = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        format!("http://{}", SocketAddr::new(here, self.listen.port()))
    }

    /// Its configuration file.
    pub(super) fn config_file(&self) -> &Path {
        &self.config_file
    }

    fn lives(&self) -> anyhow::Result<()> {
        let mut process = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match process.ended()? {
            Some(status) => bail!("the daemon ended ({status})"),
            None => Ok(()),
        }
    }
}

/// The configuration file's text.
fn config(seeds: &[Address], listen: SocketAddr, state: &Path) -> String {
    let seeds: Vec<_> = seeds.iter().map(|seed| quoted(&seed.to_string())).collect();
    format!(
        r#"# What `evenkeel demo` runs with. `evenkeel config example` prints every key with its default.

[cluster]
# The label of every metric.
name = "demo"
# Any nodes of the cluster: all others, and those that join later, are found from there.
seeds = [{seeds}]

# No [targets]: every primary is to hold the same number of slots.

[schedule]
# "act" moves slots; "observe" would only watch and plan.
mode = "act"
# How often the cluster is looked at. The default is 5 s; one second makes the demonstration lively.
poll = "1s"
# For how many polls the set of primaries must have held before slots are moved: here for two seconds.
settle = 2

[state]
# The journal: which slots are open, for the next start.
dir = {state}

[http]
# /metrics for Prometheus, /api/v1/status and more as JSON.
listen = {listen}
"#,
        seeds = seeds.join(", "),
        state = quoted(&state.display().to_string()),
        listen = quoted(&listen.to_string()),
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_that_is_written_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("evenkeel.toml");
        let seeds = [Address::new("127.0.0.1", 7001), Address::new("127.0.0.1", 7002)];
        std::fs::write(&file, config(&seeds, LISTEN, directory.path())).unwrap();
        let read = crate::config::Config::load(&file).unwrap();
        assert_eq!(read.cluster.seeds, seeds);
        assert_eq!(read.http.listen, LISTEN);
        assert_eq!(read.schedule.poll, Duration::from_secs(1));
        assert_eq!(read.state.dir.as_deref(), Some(directory.path()));
    }
}
