//! `[lease]`: who of several instances may act, decided by a key in a server of the operator's choice, or by a Lease of
//! Kubernetes.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::raw::{RawKubernetesLease, RawLease};
use super::validate::{Validator, one_word, tls_files};
use super::{MigrationConfig, TlsFiles};
use crate::cluster::Address;

/// Call time-outs that a lease must last: an owner is changed only while more than two remain of it, and a renewal
/// takes its time too.
const CALLS_MIN: u32 = 3;

/// `[lease]`: what keeps the lease, and for how long it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The Redis or Valkey that keeps it. Never beside `kubernetes`; without either there is no lease.
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
    /// The Lease of Kubernetes that is used in place of a server. Only in builds with the feature `kubernetes`.
    pub kubernetes: Option<KubernetesLease>,
}

/// `[lease.kubernetes]`: the object of `coordination.k8s.io/v1` that keeps the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesLease {
    /// Its name: 1 to 253 characters.
    pub name: String,
    /// Its namespace, 1 to 63 characters; `None` is that of the service account, else of the kubeconfig.
    pub namespace: Option<String>,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        // Takes over half a minute after a crash, and leaves twice the default call time-out for an owner's change.
        let ttl = Duration::from_secs(30);
        Self { address: None, key: None, ttl, username: None, password_file: None, tls: None, kubernetes: None }
    }
}

impl LeaseConfig {
    /// Whether there is a lease at all.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.address.is_some() || self.kubernetes.is_some()
    }

    /// The key for a cluster of this name.
    #[must_use]
    pub fn key(&self, cluster: &str) -> String {
        self.key.clone().unwrap_or_else(|| format!("evenkeel:lease:{cluster}"))
    }
}

pub(super) fn lease(raw: RawLease, migration: &MigrationConfig, v: &mut Validator<'_>) -> LeaseConfig {
    let default = LeaseConfig::default();
    let kubernetes_at = raw.kubernetes.as_ref().map(Spanned::span);
    let ttl_at = raw.ttl.as_ref().or(raw.address.as_ref()).map(Spanned::span).or(kubernetes_at);
    if raw.kubernetes.is_some() {
        of_one_home(&raw, v);
    }
    let address = raw.address.and_then(|address| v.address(address.span(), address.get_ref().as_str()));
    let lease = LeaseConfig {
        address,
        key: v.text(raw.key, one_word, "a key, without spaces"),
        ttl: v.duration(raw.ttl, Duration::from_secs(1)..=Duration::from_mins(10), default.ttl),
        username: v.text(raw.username, one_word, "a user's name, without spaces"),
        password_file: v.path(raw.password_file),
        tls: raw.tls.and_then(|tls| tls_files(tls, v)),
        kubernetes: raw.kubernetes.and_then(|kubernetes| in_kubernetes(kubernetes, v)),
    };
    let least = migration.call_timeout * CALLS_MIN;
    if let (true, Some(at)) = (lease.is_configured() && lease.ttl < least, ttl_at) {
        let [ttl, least] = [lease.ttl, least].map(humantime::format_duration);
        v.conflict(at, format!("lease.ttl ({ttl}) is below three times migration.call_timeout ({least})"));
    }
    lease
}

/// What tells how a server is reached is of no use to the other home, and a sign that both were meant.
fn of_one_home(raw: &RawLease, v: &mut Validator<'_>) {
    let RawLease { address, key, ttl: _, username, password_file, tls, kubernetes: _ } = raw;
    let of_a_server = [address, key, username, password_file].map(|raw| raw.as_ref().map(Spanned::span));
    for at in of_a_server.into_iter().chain([tls.as_ref().map(Spanned::span)]).flatten() {
        v.conflict(at, "tells of a lease in a server, and does not go with lease.kubernetes");
    }
}

fn in_kubernetes(raw: Spanned<RawKubernetesLease>, v: &mut Validator<'_>) -> Option<KubernetesLease> {
    let whole = raw.span();
    let RawKubernetesLease { name, namespace } = raw.into_inner();
    if name.is_none() {
        v.missing_in(whole.clone(), "name", "the name of the Lease, as in name = \"evenkeel-cache\"");
    }
    let name = v.text(name, object_name, "the name of a Lease: up to 253 of a-z, 0-9, - and .");
    let namespace = v.text(namespace, namespace_name, "the name of a namespace: up to 63 of a-z, 0-9 and -");
    if !cfg!(feature = "kubernetes") {
        v.conflict(
            whole,
            "this evenkeel was built without support for Kubernetes: use the image of the Dockerfile, build with \
             `cargo build --release --features kubernetes`, or keep the lease in a server (lease.address)",
        );
    }
    Some(KubernetesLease { name: name?, namespace })
}

/// A DNS subdomain of RFC 1123, as Kubernetes wants for the names of Leases.
fn object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(dns_label)
}

/// A DNS label of RFC 1123.
fn namespace_name(text: &str) -> bool {
    text.len() <= 63 && dns_label(text)
}

fn dns_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}
