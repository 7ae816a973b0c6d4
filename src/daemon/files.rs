//! The files that passwords and certificates come from: when a certificate expires, and whether one of them has changed.
//!
//! They are read at each connect by whoever connects, and at each change by whoever listens; here they are only watched, so
//! that a change is put to use, and a file that cannot be used is named, before the old connections end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, FileStamp, Secrets, TlsFiles, TokenSource};
use crate::tls::{certificate_expiry, server_config};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a file of certificates is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateRole {
    /// The authorities of the cluster's servers.
    ClusterCa,
    /// Our own certificate for the cluster.
    ClusterClient,
    /// The authorities of the server that keeps the lease.
    LeaseCa,
    /// Our own certificate for that server.
    LeaseClient,
    /// What our own listener shows.
    HttpServer,
}

impl CertificateRole {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::ClusterCa, Self::ClusterClient, Self::LeaseCa, Self::LeaseClient, Self::HttpServer];

    /// The name in metrics and API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterCa => "cluster_ca",
            Self::ClusterClient => "cluster_client",
            Self::LeaseCa => "lease_ca",
            Self::LeaseClient => "lease_client",
            Self::HttpServer => "http_server",
        }
    }
}

/// A file of certificates, as last read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// What it is for.
    pub role: CertificateRole,
    /// Where it is.
    pub path: PathBuf,
    /// When the first of its certificates expires; the error says why that cannot be told.
    pub expires: Result<SystemTime, String>,
}

impl CertificateFile {
    /// What is wrong with it at this time, if anything is.
    #[must_use]
    pub fn fault(&self, now: SystemTime) -> Option<String> {
        match &self.expires {
            Ok(expires) if *expires > now => None,
            Ok(_) => Some(format!("{} holds a certificate that has expired", self.path.display())),
            Err(why) => Some(why.clone()),
        }
    }
}

/// What was seen of all the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The files of certificates that the configuration names.
    pub certificates: Vec<CertificateFile>,
    /// How often any of the files that connections are made with, those of passwords included, has changed.
    pub changes: u64,
    /// The same of the files of our own listener.
    pub served_changes: u64,
    /// What is wrong with any of them now, that of the token included, for people.
    pub faults: Vec<String>,
}

/// Watches the files that the configuration in force names, until `stop`.
pub async fn watch_files(config: watch::Receiver<Arc<Config>>, files: watch::Sender<Files>, stop: CancellationToken) {
    let (mut connecting, mut served) = (Stamps::default(), Stamps::default());
    let mut faults: Vec<String> = Vec::new();
    while !stop.is_cancelled() {
        let config = Arc::clone(&config.borrow());
        let looked = tokio::task::spawn_blocking(move || look(&config)).await;
        let Ok(Looked { of_connecting, of_serving, certificates, faults: now }) = looked else { return };
        for fault in now.iter().filter(|fault| !faults.contains(fault)) {
            warn!(fault, "a file of a password, a token or a certificate cannot be used");
        }
        faults.clone_from(&now);
        let (changed, served_changed) = (connecting.replace(of_connecting), served.replace(of_serving));
        files.send_if_modified(|files| {
            let new = Files {
                certificates,
                changes: files.changes + u64::from(changed),
                served_changes: files.served_changes + u64::from(served_changed),
                faults: now,
            };
            let differs = *files != new;
            *files = new;
            differs
        });
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Files and what was seen of them.
#[derive(Default)]
struct Stamps(Vec<(PathBuf, FileStamp)>);

impl Stamps {
    fn of(paths: Vec<&Path>) -> Self {
        Self(paths.into_iter().map(|path| (path.to_path_buf(), FileStamp::of(path))).collect())
    }

    /// Takes what is seen now, and says whether that is a change; what is seen first is none.
    fn replace(&mut self, now: Self) -> bool {
        let before = std::mem::replace(&mut self.0, now.0);
        let changed = !before.is_empty() && before != self.0;
        if changed {
            let names = self.0.iter().filter(|stamp| !before.contains(stamp)).map(|(path, _)| path);
            info!(files = %Paths(names.collect()), "files of passwords or certificates have changed");
        }
        changed
    }
}

struct Looked {
    of_connecting: Stamps,
    of_serving: Stamps,
    certificates: Vec<CertificateFile>,
    faults: Vec<String>,
}

fn look(config: &Config) -> Looked {
    // Before reading: a change in between is then seen at the next look.
    let (of_connecting, of_serving) = (Stamps::of(connecting(config)), Stamps::of(serving(config)));
    let certificates = certificates(config);
    let now = SystemTime::now();
    let mut faults: Vec<String> = certificates.iter().filter_map(|file| file.fault(now)).collect();
    let secrets = [Secrets::of(&config.cluster), Secrets::of_file(config.lease.password_file.clone())];
    let passwords = secrets.iter().flat_map(|secrets| [secrets.password(), secrets.migrate_password()]);
    faults.extend(passwords.filter_map(|password| password.err().map(|error| error.to_string())));
    // Told now, and not when somebody shows a token for the first time.
    faults.extend(TokenSource::of(&config.http).token().err().map(|error| error.to_string()));
    faults.dedup();
    Looked { of_connecting, of_serving, certificates, faults }
}

/// Every file that is read at a connect.
fn connecting(config: &Config) -> Vec<&Path> {
    let tls = config.cluster.tls.iter().chain(&config.lease.tls);
    let of_tls = tls.flat_map(|tls| {
        let own = tls.cert_key.iter().flat_map(|(cert, key)| [cert, key]);
        std::iter::once(&tls.ca_file).chain(own)
    });
    let migrate = config.cluster.migrate.as_ref().map(|migrate| &migrate.password_file);
    let passwords = [config.cluster.password_file.as_ref(), migrate, config.lease.password_file.as_ref()];
    of_tls.chain(passwords.into_iter().flatten()).map(PathBuf::as_path).collect()
}

/// The files of our own listener.
fn serving(config: &Config) -> Vec<&Path> {
    let tls = config.http.tls.iter();
    tls.flat_map(|tls| [&tls.cert_file, &tls.key_file]).map(PathBuf::as_path).collect()
}

fn certificates(config: &Config) -> Vec<CertificateFile> {
    let (cluster, lease) = (config.cluster.tls.as_ref(), config.lease.tls.as_ref());
    let file = |role, path: &PathBuf| CertificateFile { role, path: path.clone(), expires: certificate_expiry(path) };
    let ca = |tls: Option<&TlsFiles>, role| tls.map(|tls| file(role, &tls.ca_file));
    let own = |tls: Option<&TlsFiles>, role| {
        let cert_key = tls.and_then(|tls| tls.cert_key.as_ref());
        cert_key.map(|(cert, _)| file(role, cert))
    };
    let all = [
        ca(cluster, CertificateRole::ClusterCa),
        own(cluster, CertificateRole::ClusterClient),
        ca(lease, CertificateRole::LeaseCa),
        own(lease, CertificateRole::LeaseClient),
        config.http.tls.as_ref().map(|tls| CertificateFile {
            role: CertificateRole::HttpServer,
            path: tls.cert_file.clone(),
            // What cannot be served is not in use: the key is looked at too.
            expires: server_config(tls).and_then(|_| certificate_expiry(&tls.cert_file)),
        }),
    ];
    all.into_iter().flatten().collect()
}

/// Paths with commas between them.
struct Paths<'a>(Vec<&'a PathBuf>);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_at_fault_from_the_moment_at_which_it_expires() {
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let file =
            |expires| CertificateFile { role: CertificateRole::ClusterCa, path: PathBuf::from("/ca.pem"), expires };
        assert_eq!(file(Ok(expires)).fault(expires - Duration::from_secs(1)), None);
        let fault = file(Ok(expires)).fault(expires).expect("it has expired");
        assert!(fault.contains("/ca.pem") && fault.contains("expired"), "{fault}");
        let why = "/ca.pem: no such file".to_owned();
        assert_eq!(file(Err(why.clone())).fault(expires), Some(why));
    }

    #[test]
    fn a_token_that_cannot_be_read_is_a_fault_before_anybody_shows_one() {
        let config = Config::parse("cluster.seeds = ['a:1']\nhttp.token_file = '/absent/token'", "x").expect("valid");
        let faults = look(&config).faults;
        assert_eq!(faults, ["cannot read the token file /absent/token: No such file or directory (os error 2)"]);
    }

    #[test]
    fn every_file_that_is_read_again_is_watched() {
        let text = "cluster = { seeds = ['a:1'], password_file = '/p', migrate_username = 'm', migrate_password_file = '/m', \
                    tls = { ca_file = '/ca', cert_file = '/c', key_file = '/k' } }\n\
                    lease = { address = 'b:1', password_file = '/lp', tls = { ca_file = '/lca' } }\n\
                    http.tls = { cert_file = '/s', key_file = '/sk' }";
        let config = Config::parse(text, "x").expect("nothing is wrong with it");
        let names =
            |paths: Vec<&Path>| -> Vec<String> { paths.iter().map(|path| path.display().to_string()).collect() };
        assert_eq!(names(serving(&config)), ["/s", "/sk"]);
        let mut watched = names(connecting(&config));
        watched.sort();
        assert_eq!(watched, ["/c", "/ca", "/k", "/lca", "/lp", "/m", "/p"]);
        let roles: Vec<_> = certificates(&config).iter().map(|file| file.role.name()).collect();
        assert_eq!(roles, ["cluster_ca", "cluster_client", "lease_ca", "http_server"]);
    }
}
