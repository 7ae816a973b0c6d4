//! `evenkeel config check`: what is wrong with a file, and with those that it names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::output::outln;
use crate::cli::{ConfigCheckArgs, ExitStatus};
use crate::config::{Config, Reads, SecretError, Secrets, ServerTlsFiles, TlsFiles, TokenSource};
use crate::tls;

/// `evenkeel config check`.
pub(super) fn check(args: &ConfigCheckArgs) -> ExitStatus {
    let file = args.file();
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            if !args.no_files && file.exists() {
                eprintln!("The files that it names are looked at once its text is in order.");
            }
            return ExitStatus::Usage;
        }
    };
    let faults = if args.no_files { Vec::new() } else { faults(&config) };
    if faults.is_empty() {
        outln!("{}: nothing is wrong with it", file.display());
        return ExitStatus::Done;
    }
    let text = fs::read_to_string(file).unwrap_or_default();
    for (key, why) in faults {
        let place = Config::place_of(&text, &key).map(|(line, column)| format!(":{line}:{column}"));
        eprintln!("{}{}: {key}: {why}", file.display(), place.unwrap_or_default());
    }
    ExitStatus::Usage
}

/// What is wrong with the files that a configuration names: the key that names one, and what.
fn faults(config: &Config) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut password = |key: &str, file: Option<&PathBuf>| {
        let fault = Secrets::of_file(file.cloned()).password().err();
        faults.extend(fault.map(|fault: SecretError| (key.to_owned(), fault.to_string())));
    };
    password("cluster.password_file", config.cluster.password_file.as_ref());
    password("cluster.migrate_password_file", config.cluster.migrate.as_ref().map(|migrate| &migrate.password_file));
    password("lease.password_file", config.lease.password_file.as_ref());
    for (table, files) in [("cluster.tls", &config.cluster.tls), ("lease.tls", &config.lease.tls)] {
        faults.extend(files.iter().flat_map(|files| of_client(table, files)));
    }
    let token = TokenSource::of_file(config.http.token_file.clone()).token().err();
    faults.extend(token.map(|fault| ("http.token_file".to_owned(), fault.to_string())));
    if config.http.reads == Reads::Token && matches!(TokenSource::of(&config.http).token(), Ok(None)) {
        let why =
            "\"token\" lets nobody read without a token, and neither http.token_file nor EVENKEEL_HTTP_TOKEN names one";
        faults.push(("http.reads".to_owned(), why.to_owned()));
    }
    faults.extend(config.http.tls.iter().flat_map(of_server));
    faults.extend(config.state.dir.as_deref().and_then(of_state).map(|why| ("state.dir".to_owned(), why)));
    faults
}

fn of_client(table: &str, files: &TlsFiles) -> Vec<(String, String)> {
    let key = |name: &str| format!("{table}.{name}");
    let mut faults: Vec<(String, String)> =
        certificate(&files.ca_file).map(|why| (key("ca_file"), why)).into_iter().collect();
    if let Some((cert_file, key_file)) = &files.cert_key {
        faults.extend(certificate(cert_file).map(|why| (key("cert_file"), why)));
        faults.extend(tls::private_key(key_file).err().map(|why| (key("key_file"), why)));
    }
    // Each by itself may do, and not the two of a pair.
    let together = faults.is_empty().then(|| tls::client_config(files).err()).flatten();
    faults.extend(together.map(|why| (table.to_owned(), why)));
    faults
}

fn of_server(files: &ServerTlsFiles) -> Vec<(String, String)> {
    let key = |name: &str| format!("http.tls.{name}");
    let mut faults: Vec<(String, String)> =
        certificate(&files.cert_file).map(|why| (key("cert_file"), why)).into_iter().collect();
    faults.extend(tls::private_key(&files.key_file).err().map(|why| (key("key_file"), why)));
    let together = faults.is_empty().then(|| tls::server_config(files).err()).flatten();
    faults.extend(together.map(|why| ("http.tls".to_owned(), why)));
    faults
}

/// Why a directory cannot be used, or be made: of what is missing, only its last part is. Whether it can be written to is
/// for the user that the daemon runs as to find.
fn of_state(dir: &Path) -> Option<String> {
    if dir.exists() {
        return (!dir.is_dir()).then(|| format!("{} is no directory", dir.display()));
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (!parent.is_dir()).then(|| format!("{} cannot be made: there is no directory {}", dir.display(), parent.display()))
}

/// What is wrong with a file of certificates, if anything is.
fn certificate(file: &Path) -> Option<String> {
    match tls::certificate_expiry(file) {
        Ok(expires) if expires > SystemTime::now() => None,
        Ok(_) => Some(format!("{}: holds a certificate that has expired", file.display())),
        Err(why) => Some(why),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn every_file_that_is_named_is_opened_and_each_fault_told_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let pair = |name: &str, expires: i32| {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_after = date_time_ymd(expires, 1, 1);
            let key = KeyPair::generate().unwrap();
            fs::write(at(&format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
            fs::write(at(&format!("{name}.key")), key.serialize_pem()).unwrap();
        };
        pair("one", 2101);
        pair("two", 2101);
        pair("old", 2020);
        fs::write(at("empty"), "\n").unwrap();
        fs::write(at("secret"), "secret").unwrap();
        let check = |text: &str, expect: &[&str]| {
            let text = text.replace("DIR", &dir.path().display().to_string());
            let config = Config::parse(&text, "x").expect("its text is in order");
            let told = faults(&config).into_iter().map(|(key, why)| format!("{key}: {why}").replace(&at(""), ""));
            assert_eq!(told.collect::<Vec<_>>(), expect, "{text}");
        };
        let absent = "No such file or directory (os error 2)";
        check(
            "cluster = { seeds = ['a:1'], password_file = 'DIR/absent', username = 'u', migrate_username = 'm', \
             migrate_password_file = 'DIR/empty' }\nhttp.token_file = 'DIR/absent'",
            &[
                &format!("cluster.password_file: cannot read the password file absent: {absent}"),
                "cluster.migrate_password_file: the password file empty is empty",
                &format!("http.token_file: cannot read the token file absent: {absent}"),
            ],
        );
        check(
            "cluster = { seeds = ['a:1'], tls = { ca_file = 'DIR/old.pem', cert_file = 'DIR/one.key', key_file = 'DIR/one.pem' } }\n\
             http.tls = { cert_file = 'DIR/one.pem', key_file = 'DIR/two.key' }",
            &[
                "cluster.tls.ca_file: old.pem: holds a certificate that has expired",
                "cluster.tls.cert_file: one.key: holds no certificate",
                "cluster.tls.key_file: one.pem: no items found",
                "http.tls: one.pem with two.key: keys may not be consistent: KeyMismatch",
            ],
        );
        check("cluster.seeds = ['a:1']\nstate.dir = 'DIR/state'", &[]);
        check(
            "cluster.seeds = ['a:1']\nstate.dir = 'DIR/x/state'",
            &["state.dir: x/state cannot be made: there is no directory x"],
        );
        check("cluster.seeds = ['a:1']\nstate.dir = 'DIR/secret'", &["state.dir: secret is no directory"]);
        check(
            "cluster.seeds = ['a:1']\nhttp.reads = 'token'",
            &[
                "http.reads: \"token\" lets nobody read without a token, and neither http.token_file nor EVENKEEL_HTTP_TOKEN names one",
            ],
        );
        check(
            "cluster = { seeds = ['a:1'], password_file = 'DIR/secret', tls = { ca_file = 'DIR/one.pem', \
             cert_file = 'DIR/two.pem', key_file = 'DIR/two.key' } }\nhttp.token_file = 'DIR/secret'",
            &[],
        );
    }
}
