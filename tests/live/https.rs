//! The page, the API and the metrics over TLS, and the commands that ask for them so.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Daemon, Evenkeel, SOON, TlsFiles, directory, eventually};

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A new connection, whose handshake is done.
fn connect(daemon: &Daemon, ca: &Path) -> Result<Connection, String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(ca)).expect("it is an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("it is an IP");
    let client = ClientConnection::new(Arc::new(config), name).expect("nothing is wrong with it");
    let stream = TcpStream::connect(daemon.address().to_string()).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(SOON)).expect("it is not zero");
    let mut connection = StreamOwned::new(client, stream);
    connection.conn.complete_io(&mut connection.sock).map_err(|error| error.to_string())?;
    Ok(connection)
}

fn certificate(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("it is a certificate")
}

/// The whole answer to a GET, headers and all.
fn get(daemon: &Daemon, ca: &Path, path: &str) -> Result<String, String> {
    let mut connection = connect(daemon, ca)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer)
}

fn await_answer(daemon: &Daemon, ca: &Path, path: &str, says: &str) {
    eventually(path, SOON, || match get(daemon, ca, path) {
        Ok(answer) if answer.contains(says) => Ok(()),
        Ok(answer) | Err(answer) => Err(answer),
    });
}

/// Waits until this is the certificate that a new connection is shown.
fn await_shown(daemon: &Daemon, ca: &Path, cert: &Path) {
    eventually("the certificate is shown", SOON, || {
        let connection = connect(daemon, ca)?;
        let shown = connection.conn.peer_certificates().and_then(|chain| chain.first());
        if shown == Some(&certificate(cert)) { Ok(()) } else { Err("another one is".to_owned()) }
    });
}

fn await_log(daemon: &Daemon, text: &str) {
    eventually(text, SOON, || if daemon.stderr().contains(text) { Ok(()) } else { Err(daemon.stderr()) });
}

#[test]
fn everything_is_served_over_tls_with_certificates_that_change_under_it_and_nothing_without() {
    let (files, others) = (directory("https"), directory("https"));
    let tls = TlsFiles::create(files.path(), vec!["127.0.0.1".to_owned()]);
    let other = TlsFiles::create(others.path(), vec!["127.0.0.1".to_owned()]);
    let config = format!(
        "[cluster]\nname = \"story\"\nseeds = [\"127.0.0.1:1\"]\n[http.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        tls.cert.display(),
        tls.key.display()
    );
    let mut daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    await_answer(&daemon, &tls.ca, "/healthz", "ok: ");

    // Who says nothing holds up nobody.
    let silent: Vec<_> =
        (0..20).map(|_| TcpStream::connect(daemon.address().to_string()).expect("it listens")).collect();
    await_answer(&daemon, &tls.ca, "/", "keeps a Redis or Valkey Cluster");
    let metric = "evenkeel_certificate_expiry_timestamp_seconds{certificate=\"http_server\",cluster=\"story\"} ";
    await_answer(&daemon, &tls.ca, "/metrics", metric);
    drop(silent);

    // Without TLS it says what to do, and nothing else.
    let (code, told) = daemon.try_http_get("/metrics").expect("it is answered");
    assert!(code == 400 && told.contains("https is spoken here"), "{code} {told}");
    let host = daemon.address().to_string();
    let (url, plain) = (format!("https://{host}"), format!("http://{host}"));
    let call = |args: &[&str], url: &str, ca: &Path| {
        let ca = ca.display().to_string();
        Evenkeel::new(&[args, &["--url", url, "--ca-file", &ca]].concat()).run_to_end()
    };
    call(&["status", "--health"], &plain, &tls.ca).assert(1, &["https is spoken here"]);
    call(&["status"], &plain, &tls.ca).assert(1, &["https is spoken here"]);

    // The commands trust the authorities that they are told of, and nobody else.
    assert!(call(&["status", "--health"], &url, &tls.ca).exited(0).starts_with("ok: "));
    let by_environment = Evenkeel::new(&["status", "--health"]).env("EVENKEEL_URL", &url);
    by_environment.clone().env("EVENKEEL_CA_FILE", &tls.ca.display().to_string()).run_to_end().assert(0, &["ok: "]);
    by_environment.run_to_end().assert(64, &["--ca-file", "EVENKEEL_CA_FILE"]);
    let nobody = format!("by the authorities of {}", other.ca.display());
    call(&["status", "--health"], &url, &other.ca).assert(1, &["no answer from", &nobody, "invalid peer certificate"]);
    let elsewhere = url.replace("127.0.0.1", "localhost");
    call(&["status"], &elsewhere, &tls.ca).assert(1, &["not one for this address", "not valid for name"]);
    call(&["pause"], &url, &tls.ca).assert(0, &["paused"]);
    call(&["resume"], &url, &tls.ca).assert(0, &["it was paused"]);

    // A certificate without its key changes nothing, and is named; with it, the next connection is shown it.
    let old = files.path().join("old.pem");
    fs::copy(&tls.cert, &old).expect("the directory is writable");
    let key = files.path().join("new.key");
    tls.sign_server(2101, &tls.cert, &key);
    await_log(&daemon, "https goes on to show the certificate that it had");
    await_answer(&daemon, &tls.ca, "/api/v1/status", "\"certificate\":\"http_server\"");
    await_answer(&daemon, &tls.ca, "/api/v1/status", &format!("{} with {}", tls.cert.display(), tls.key.display()));
    await_shown(&daemon, &tls.ca, &old);
    fs::rename(&key, &tls.key).expect("it can be moved");
    await_shown(&daemon, &tls.ca, &tls.cert);
    // The first of January 2101.
    await_answer(&daemon, &tls.ca, "/metrics", &format!("{metric}4133980800"));
    assert!(!daemon.stderr().contains("connections were made anew"), "it is no certificate of the cluster's");

    // A stream that is open does not hold up the end.
    let mut stream = connect(&daemon, &tls.ca).expect("it is trusted");
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it listens");
    let mut told = String::new();
    while !told.contains("event: status") {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).expect("the stream goes on");
        told += &String::from_utf8_lossy(&piece[..length]);
    }
    daemon.sigterm();
    daemon.output(Duration::from_secs(10)).assert(0, &["no slot is open"]);
    assert!(!daemon.stderr().contains("did not end in time"), "{}", daemon.stderr());
    stream.read_to_end(&mut Vec::new()).expect("it is ended in due form");
}

#[test]
fn a_certificate_that_cannot_be_shown_ends_the_start() {
    let files = directory("https");
    let absent = files.path().join("absent.pem").display().to_string();
    let config = format!(
        "[cluster]\nseeds = [\"127.0.0.1:1\"]\n[http.tls]\ncert_file = \"{absent}\"\nkey_file = \"{absent}\"\n"
    );
    Evenkeel::new(&["run"]).config(&config).spawn().output(SOON).assert(1, &["http.tls", &absent]);
}
