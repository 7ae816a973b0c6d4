//! An operator pauses a daemon, and has it go on.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Cluster, Daemon, Data, Evenkeel, Flavour, HASTY, Points, SOON, Spec, directory, settings};

/// A file with this token, in a directory that goes with the value.
fn token_file(token: &str) -> (TempDir, String) {
    let dir = directory("token");
    let file = dir.path().join("token");
    std::fs::write(&file, token).expect("a file in our own directory");
    (dir, file.display().to_string())
}

fn await_paused(daemon: &Daemon) -> Value {
    let paused = |status: &str| {
        let status: Value = serde_json::from_str(status).expect("JSON");
        status["reasons"][0]["name"] == "paused" && status["moves"] == Value::Array(Vec::new())
    };
    serde_json::from_str(&daemon.await_http("/api/v1/status", SOON, paused)).expect("JSON")
}

#[test]
fn a_pause_finishes_what_is_open_begins_nothing_outlasts_the_process_and_ends_as_told() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).empty_primaries(1));
    let data = Data::fill_database(&cluster, 2_000, 0);
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let state = directory("state");
    let state = format!("[state]\ndir = \"{}\"\n[migration]\ngroup_slots = 16\n", state.path().display());
    let config = settings(&cluster, &format!("{HASTY}{state}"));
    let call = || Evenkeel::new(&["run"]).config(&config);

    // In the middle of a group of slots.
    let (points, call_with_points) = Points::order(call(), "migrate.before=pause@20");
    let mut daemon = call_with_points.spawn();
    points.await_reached("migrate.before");
    assert!(!cluster.open_slots().expect("all nodes answer").is_empty());
    daemon.is_told(&["pause"], &["paused until told to go on", "open slots are finished"]);
    points.go("migrate.before");
    let status = await_paused(&daemon);
    assert!(status["paused"]["until"].is_null() && status["paused"]["since"].is_string(), "{status}");
    assert!(status["reasons"][0]["text"].as_str().expect("text").contains("evenkeel resume"), "{status}");
    let taken = cluster.slots_of(empty);
    assert!(cluster.open_slots().expect("all nodes answer").is_empty(), "what was open is finished");
    assert!((1..4_096).contains(&taken.len()), "{taken}");
    let metrics = daemon.http_get("/metrics");
    let told_of =
        |line: &str| line.starts_with("evenkeel_reason{") && line.contains("\"paused\"") && line.ends_with(" 1");
    assert!(metrics.lines().any(told_of), "{metrics}");
    let url = format!("http://{}", daemon.address());
    Evenkeel::new(&["status", "--url", &url]).run_to_end().assert(2, &["because: paused: paused by an operator"]);

    // The next process knows of it; and a command with an end is a human's own word.
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    let mut daemon = call().spawn();
    await_paused(&daemon);
    assert_eq!(cluster.slots_of(empty), taken, "nothing new was begun");

    // A pause with an end ends by itself, and is forgotten.
    daemon.is_told(&["pause", "--for", "1s"], &["paused until 20"]);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4_096)).collect::<Vec<_>>());
    daemon.is_told(&["resume"], &["it was not paused"]);
    daemon.is_told(&["pause"], &["paused until told to go on"]);
    daemon.is_told(&["resume"], &["it goes on; it was paused until told to go on"]);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["the pause ends", "no slot is open"]);
    data.verify_all(&cluster);
}

#[test]
fn without_a_state_directory_a_pause_says_that_it_ends_with_the_process() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, HASTY)).spawn();
    daemon.await_http("/healthz", SOON, |_| true);
    daemon.is_told(&["pause", "--for", "1h"], &["paused until 20", "it lasts until a restart at the most"]);
}

#[test]
fn with_a_token_whoever_shows_it_pauses_the_daemon_and_nobody_else() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let (_dir, right) = token_file("s3cret\n");
    let (_other_dir, wrong) = token_file("guess");
    let config = settings(&cluster, &format!("{HASTY}[http]\ntoken_file = \"{right}\"\n"));
    let daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    daemon.await_http("/healthz", SOON, |_| true);
    let url = format!("http://{}", daemon.address());
    for (refused, why) in [
        (&["pause", "--url", &url][..], "the daemon asks for its token"),
        (&["pause", "--url", &url, "--token-file", &wrong], "it is not the daemon's token"),
    ] {
        let output = Evenkeel::new(refused).run_to_end();
        output.assert(1, &[why, "--token-file", "EVENKEEL_HTTP_TOKEN"]);
        assert!(!output.stderr.contains("401") && !output.stderr.contains("Bearer"), "{}", output.stderr);
    }
    daemon.is_told(&["pause", "--token-file", &right], &["paused until told to go on"]);
    await_paused(&daemon);
}
