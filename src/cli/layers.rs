//! Which cluster and which targets: options that are laid over what a configuration file says.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use thiserror::Error;

use super::{PlanArgs, RunArgs};
use crate::cluster::Address;
use crate::config::{Config, ConfigError, MAX_WEIGHT, Mode, SecretError, TargetEntry, TlsFiles};

/// Which cluster, and how it is reached. Options go before what a file says.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Cluster", group = ArgGroup::new("cluster").args(["config", "seeds"]).required(true))]
pub struct ClusterArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any node of the cluster, instead of a file; repeatable
    #[arg(long = "seed", value_name = "HOST:PORT", value_parser = address)]
    pub seeds: Vec<Address>,
    /// The user to sign in as; the password comes from EVENKEEL_PASSWORD or a file
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub username: Option<String>,
    /// The file that holds the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Use TLS; the file with the authorities that sign the servers' certificates
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Our own certificate
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// The key of our own certificate
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub tls_key: Option<PathBuf>,
    /// The name that the servers' certificates must carry
    #[arg(long, value_name = "NAME", requires = "tls_ca", value_parser = NonEmptyStringValueParser::new())]
    pub tls_server_name: Option<String>,
}

/// What the layout should be. Options go before what a file says.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(next_help_heading = "Targets")]
pub struct TargetArgs {
    /// Give the node's shard this weight, as in 10.0.0.7:6379=2; repeatable
    #[arg(long = "weight", value_name = "NODE=W", value_parser = weight)]
    pub weights: Vec<(String, f64)>,
    /// Move all slots away from the node's shard; repeatable
    #[arg(long = "drain", value_name = "NODE", value_parser = NonEmptyStringValueParser::new())]
    pub drains: Vec<String>,
    /// Act when a node is off its share by more than this
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub threshold: Option<f64>,
}

/// A command line that cannot be obeyed. The process exits with [`ExitStatus::Usage`](super::ExitStatus::Usage).
#[derive(Debug, Error)]
pub enum UsageError {
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Two options speak of one node.
    #[error("--weight and --drain name `{node}` twice: give one of them for a node, once")]
    NamedTwice {
        /// The node, as it was written.
        node: String,
    },
    /// Nobody could be trusted.
    #[error(
        "{url}: https needs the file with the authorities that sign the daemon's certificate: --ca-file, or EVENKEEL_CA_FILE"
    )]
    NobodyToTrust {
        /// The daemon's address.
        url: String,
    },
    /// Nobody could read anything.
    #[error(
        "http.reads is \"token\", and there is no token: name the file that holds it in http.token_file, or set \
         EVENKEEL_HTTP_TOKEN"
    )]
    NoTokenToRead,
    /// The same with a token that cannot be had.
    #[error("http.reads is \"token\", so that nobody could read: {0}")]
    TokenToRead(SecretError),
}

impl RunArgs {
    /// The configuration that these options amount to. Reads the file anew at each call: a reload is another call.
    pub fn config(&self) -> Result<Config, UsageError> {
        let mut config = self.cluster.config()?;
        self.targets.overlay(&mut config)?;
        if self.observe {
            config.schedule.mode = Mode::Observe;
        }
        if let Some(listen) = self.listen {
            config.http.listen = listen;
        }
        Ok(config)
    }
}

impl PlanArgs {
    /// The configuration that these options amount to.
    pub fn config(&self) -> Result<Config, UsageError> {
        let mut config = self.cluster.config()?;
        self.targets.overlay(&mut config)?;
        Ok(config)
    }
}

impl ClusterArgs {
    /// The configuration of the file or of the seeds, with these options laid over it.
    pub fn config(&self) -> Result<Config, UsageError> {
        let mut config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::from_seeds(self.seeds.clone()),
        };
        let cluster = &mut config.cluster;
        if let Some(username) = &self.username {
            cluster.username = Some(username.clone());
        }
        if let Some(file) = &self.password_file {
            cluster.password_file = Some(file.clone());
        }
        if let Some(ca_file) = self.tls_ca.clone() {
            // Together they replace the file's table: half of one and half of the other is what nobody meant.
            let cert_key = self.tls_cert.clone().zip(self.tls_key.clone());
            cluster.tls = Some(TlsFiles { ca_file, cert_key, server_name: self.tls_server_name.clone() });
        }
        Ok(config)
    }
}

impl TargetArgs {
    /// Lays these options over the targets of a configuration.
    ///
    /// A node is compared by its text only. An entry of the file that names the same shard otherwise is found when the
    /// cluster is known.
    fn overlay(&self, config: &mut Config) -> Result<(), UsageError> {
        let named = self.weights.iter().map(|(node, _)| node).chain(&self.drains);
        for (at, node) in named.clone().enumerate() {
            if named.clone().skip(at + 1).any(|other| other == node) {
                return Err(UsageError::NamedTwice { node: node.clone() });
            }
        }
        let targets = &mut config.targets;
        if let Some(percent) = self.threshold {
            targets.threshold_percent = percent;
        }
        for (node, weight) in &self.weights {
            let entry = entry_of(&mut targets.nodes, node);
            *entry = TargetEntry { weight: Some(*weight), drain: false, ignore: false, ..entry.clone() };
        }
        for node in &self.drains {
            let entry = entry_of(&mut targets.nodes, node);
            *entry = TargetEntry { drain: true, ..TargetEntry::of(node) };
        }
        Ok(())
    }
}

/// The entry with this node text, which is made when there is none.
fn entry_of<'a>(entries: &'a mut Vec<TargetEntry>, node: &str) -> &'a mut TargetEntry {
    let at = entries.iter().position(|entry| entry.node == node).unwrap_or_else(|| {
        entries.push(TargetEntry::of(node));
        entries.len() - 1
    });
    &mut entries[at]
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| "an address is host:port, as in 10.0.0.1:6379".to_owned())
}

fn weight(text: &str) -> Result<(String, f64), String> {
    let (node, weight) = text.rsplit_once('=').ok_or("a weight is NODE=W, as in 10.0.0.7:6379=2")?;
    if node.trim().is_empty() {
        return Err("no node stands before the `=`".to_owned());
    }
    number(weight, MAX_WEIGHT).map(|weight| (node.to_owned(), weight))
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 100.0)
}

/// A number from 0 to `most`; NaN is none.
fn number(text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=most).contains(number));
    number.ok_or_else(|| format!("not a number from 0 to {most}"))
}
