//! `[lease]`: who of several instances may act, decided by a key in a server of the operator's choice.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::raw::RawLease;
use super::validate::{Validator, one_word, tls_files};
use super::{MigrationConfig, TlsFiles};
use crate::cluster::Address;

/// Call time-outs that a lease must last: an owner is changed only while more than two remain of it, and a renewal
/// takes its time too.
const CALLS_MIN: u32 = 3;

/// `[lease]`: the server that keeps the lease, and for how long it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The Redis or Valkey that keeps it; `None` for no lease.
    pub address: Option<Address>,
    /// The key; `None` is `evenkeel:lease:` and `cluster.name`.
    pub key: Option<String>,
    /// How long it is given; at least three times `migration.call_timeout`.
    pub ttl: Duration,
    /// The user to sign in as at that server.
    pub username: Option<String>,
    /// The file that holds that user's password.
    pub password_file: Option<PathBuf>,
    /// TLS to that server, when it is to be used.
    pub tls: Option<TlsFiles>,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        // Takes over half a minute after a crash, and leaves twice the default call time-out for an owner's change.
        let ttl = Duration::from_secs(30);
        Self { address: None, key: None, ttl, username: None, password_file: None, tls: None }
    }
}

impl LeaseConfig {
    /// The key for a cluster of this name.
    #[must_use]
    pub fn key(&self, cluster: &str) -> String {
        self.key.clone().unwrap_or_else(|| format!("evenkeel:lease:{cluster}"))
    }
}

pub(super) fn lease(raw: RawLease, migration: &MigrationConfig, v: &mut Validator<'_>) -> LeaseConfig {
    let default = LeaseConfig::default();
    let ttl_at = raw.ttl.as_ref().or(raw.address.as_ref()).map(Spanned::span);
    let address = raw.address.and_then(|address| v.address(address.span(), address.get_ref().as_str()));
    let lease = LeaseConfig {
        address,
        key: v.text(raw.key, one_word, "a key, without spaces"),
        ttl: v.duration(raw.ttl, Duration::from_secs(1)..=Duration::from_mins(10), default.ttl),
        username: v.text(raw.username, one_word, "a user's name, without spaces"),
        password_file: v.path(raw.password_file),
        tls: raw.tls.and_then(|tls| tls_files(tls, v)),
    };
    let least = migration.call_timeout * CALLS_MIN;
    if let (true, Some(at)) = (lease.address.is_some() && lease.ttl < least, ttl_at) {
        let [ttl, least] = [lease.ttl, least].map(humantime::format_duration);
        v.conflict(at, format!("lease.ttl ({ttl}) is below three times migration.call_timeout ({least})"));
    }
    lease
}
