//! Passwords and certificates that change under a running daemon.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    Cluster, Daemon, Evenkeel, Flavour, HASTY, SOON, Spec, Standalone, TlsFiles, Workload, directory, eventually,
    settings,
};

fn await_log(daemon: &Daemon, text: &str, times: usize) {
    eventually(text, SOON, || match daemon.stderr().matches(text).count() {
        count if count >= times => Ok(()),
        count => Err(format!("said {count} times")),
    });
}

/// Ends every connection of the user, and waits until the daemon has looked at the cluster again and is at rest.
fn cut_and_await_rest(cluster: &Cluster, daemon: &Daemon) {
    let status = || -> Value { serde_json::from_str(&daemon.http_get("/api/v1/status")).expect("JSON") };
    let number = |status: &Value| status["look"]["number"].as_u64().expect("looks are counted");
    for node in cluster.nodes() {
        cluster.cmd::<()>(node, &["CLIENT", "KILL", "USER", "evenkeel"]);
    }
    let before = number(&status());
    eventually("it looks again and is at rest", SOON, || {
        let status = status();
        let rests = status["reasons"] == json!([]) && status["moves"] == json!([]) && number(&status) > before + 3;
        if rests { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn what_is_wrong_with_tls_is_told_in_words_with_what_to_set() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).tls().config(&["--tls-auth-clients", "yes"]));
    let plain = Standalone::start(Flavour::Redis70);
    let tls = cluster.tls_files().expect("it speaks TLS");
    let [node, ..] = cluster.primaries()[..] else { panic!("three primaries") };
    let files = directory("faults");
    let other = TlsFiles::create(files.path(), vec!["127.0.0.1".to_owned()]);
    let show = |path: &Path| path.display().to_string();
    let (ca, cert, key) = (show(&tls.ca), show(&tls.cert), show(&tls.key));
    let [other_ca, other_cert, other_key] = [&other.ca, &other.cert, &other.key].map(|path| show(path));
    let (old_cert, old_key) = (files.path().join("old.pem"), files.path().join("old.key.pem"));
    tls.sign_client(2020, &old_cert, &old_key);
    let check = |seed: &str, tls: &[&str], told: &[&str]| {
        let output = Evenkeel::new(&[&["plan", "--seed", seed], tls].concat()).run_to_end();
        output.assert(1, &[&[seed], told].concat());
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(!said.contains("Custom {") && !said.contains("login"), "{said}");
    };
    let seed = cluster.address(node).to_string();
    let ours = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    check(&seed, &["--tls-ca", &other_ca], &["signed by no authority in", &other_ca, "ca_file"]);
    let named = [&ours[..], &["--tls-server-name", "other.example"]].concat();
    check(&seed, &named, &["and not for other.example", "127.0.0.1", "server_name"]);
    check(&seed, &["--tls-ca", &ca], &["demands a certificate of ours", "cluster.tls.cert_file"]);
    let of_others = ["--tls-ca", &ca, "--tls-cert", &other_cert, "--tls-key", &other_key];
    check(&seed, &of_others, &["refuses our certificate", &other_cert]);
    let expired = ["--tls-ca", &ca, "--tls-cert", &show(&old_cert), "--tls-key", &show(&old_key)];
    check(&seed, &expired, &["refuses our certificate", "it has expired"]);
    check(&plain.address().to_string(), &ours, &["plain-text port", "tls-port"]);
    Evenkeel::new(&[&["plan", "--seed", &seed], &ours[..]].concat()).run_to_end().exited(0);

    tls.sign_server(2020, &old_cert, &old_key);
    let renewed = ["CONFIG", "SET", "tls-cert-file", &show(&old_cert), "tls-key-file", &show(&old_key)];
    cluster.cmd::<()>(node, &renewed);
    check(&seed, &ours, &["its certificate expired at 2020-01-01", "renew it there"]);
}

#[test]
fn passwords_and_certificates_change_under_a_running_daemon_and_it_goes_on() {
    let spec = Spec::new(Flavour::Redis70).password("the default user's").tls();
    let cluster = Cluster::start(spec.config(&["--tls-auth-clients", "yes"]));
    let workload = Workload::start(&cluster, 2_000);
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let acl = |words: &[&str]| {
        for node in cluster.nodes() {
            cluster.cmd::<()>(node, &[&["ACL", "SETUSER", "evenkeel"], words].concat());
        }
    };
    acl(&["on", ">first", "~*", "+@all"]);

    let files = directory("secrets");
    let path = |name: &str| files.path().join(name);
    let (password, cert, key) = (path("password"), path("cert.pem"), path("key.pem"));
    let tls = cluster.tls_files().expect("it speaks TLS");
    // A certificate and its key change together: a directory is swapped where that must not be seen half done.
    let sign = |expires: i32| {
        let (new_cert, new_key) = (path("cert.new"), path("key.new"));
        tls.sign_client(expires, &new_cert, &new_key);
        fs::rename(new_key, &key).expect("it can be moved");
        fs::rename(new_cert, &cert).expect("it can be moved");
    };
    fs::write(&password, "first").expect("the directory is writable");
    sign(2101);
    let show = |path: &Path| path.display().to_string();
    let of_cluster = format!(
        "username = \"evenkeel\"\npassword_file = \"{}\"\n[cluster.tls]\nca_file = \"{}\"\ncert_file = \"{}\"\n\
         key_file = \"{}\"\n",
        show(&password),
        show(&tls.ca),
        show(&cert),
        show(&key)
    );
    let config = |more: &str| settings(&cluster, &format!("{of_cluster}{HASTY}{more}"));
    let mut daemon = Evenkeel::new(&["run"]).config(&config("")).spawn();
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[],\"moves\":[]"));
    let expiry = |certificate: &str| -> String {
        let name = format!(
            "evenkeel_certificate_expiry_timestamp_seconds{{certificate=\"{certificate}\",cluster=\"story\"}} "
        );
        let text = daemon.http_get("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        value.unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    };
    let await_expiry = |seconds: &str| {
        eventually("the metric tells of the certificate", SOON, || {
            let now = expiry("cluster_client");
            if now == seconds { Ok(()) } else { Err(now) }
        });
    };
    // The first of January 2101.
    await_expiry("4133980800");
    assert_eq!(expiry("lease_ca"), "NaN");
    assert_ne!(expiry("cluster_ca"), "NaN");

    // Two passwords, then the new one in the file, then only the new one.
    acl(&[">second"]);
    fs::write(&password, "second").expect("the directory is writable");
    await_log(&daemon, "connections were made anew", 1);
    acl(&["<first"]);
    cut_and_await_rest(&cluster, &daemon);
    // The certificate is renewed: seen, and used.
    sign(2102);
    await_log(&daemon, "connections were made anew", 2);
    await_expiry("4165516800");
    cut_and_await_rest(&cluster, &daemon);
    // With both it still moves slots; the source signs in at the target with the new password.
    let weight = format!("[[targets.nodes]]\nnode = \"{}\"\nweight = 2.0\n", cluster.node_id(first));
    daemon.rewrite_config(&config(&weight));
    cluster.assert_settled(&[(first, 8192), (second, 4096), (third, 4096)]);

    // One that has expired is named, and what is connected goes on with what it has.
    sign(2020);
    await_log(&daemon, "holds a certificate that has expired", 1);
    let status = daemon.await_http("/api/v1/status", SOON, |status| status.contains("has expired"));
    assert!(status.contains(&show(&cert)), "{status}");
    assert!(daemon.http_get("/readyz").starts_with("ok: "));
    fs::remove_file(&password).expect("it was there");
    await_log(&daemon, &format!("cannot read the password file {}", show(&password)), 1);
    fs::write(&password, "second").expect("the directory is writable");
    sign(2102);
    await_log(&daemon, "connections were made anew", 3);
    cut_and_await_rest(&cluster, &daemon);
    // A password that no node takes is told where people look, and offered again until one does.
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"warnings\":[]"));
    fs::write(&password, "too early").expect("the directory is writable");
    let status =
        daemon.await_http("/api/v1/status", SOON, |status| status.contains("the connection of before goes on"));
    assert!(status.contains("refuses the login: "), "{status}");
    acl(&[">too early"]);
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"warnings\":[]"));
    cut_and_await_rest(&cluster, &daemon);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    workload.assert_unharmed(&cluster);
}
