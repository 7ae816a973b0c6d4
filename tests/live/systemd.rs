//! What a service manager is told of the daemon.

use std::time::Duration;

use crate::support::{Evenkeel, Manager, SOON};

/// Nobody listens there: a start does not wait for the cluster.
const OBSERVE: &str = "[cluster]\nseeds = [\"127.0.0.1:1\"]\n[schedule]\nmode = \"observe\"\n";

#[test]
fn a_manager_is_told_that_it_is_ready_and_lives_and_reloads_and_stops() {
    let mut manager = Manager::new();
    let mut daemon = manager.supervise(Evenkeel::new(&["run"]).config(OBSERVE), Duration::from_millis(500)).spawn();
    let ready = manager.await_told("READY=1", 0, SOON);
    assert_eq!(manager.told()[ready], "READY=1\nSTATUS=mode observe\n");
    assert!(daemon.http_get("/healthz").starts_with("ok: "));
    let first = manager.await_told("WATCHDOG=1", ready + 1, SOON);
    let second = manager.await_told("WATCHDOG=1", first + 1, SOON);
    let so_far = manager.told()[..=second].concat();
    assert_eq!((so_far.matches("READY=1").count(), so_far.contains("RELOADING=1")), (1, false), "{so_far}");

    let before = manager.told().len();
    daemon.sighup();
    let reloading = manager.await_told("RELOADING=1", before, SOON);
    let message = manager.told()[reloading].clone();
    let time = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
    assert!(time.is_some_and(|time| time > 0), "{message}");
    let again = manager.await_told("READY=1", reloading + 1, SOON);
    manager.await_told("WATCHDOG=1", again + 1, SOON);

    daemon.rewrite_config(&OBSERVE.replace("observe", "perhaps"));
    let reloading = manager.await_told("RELOADING=1", again + 1, SOON);
    let refused = manager.await_told("READY=1", reloading + 1, SOON);
    assert_eq!(manager.told()[refused], "READY=1\nSTATUS=mode observe; the changed configuration was refused\n");

    daemon.sigterm();
    manager.await_told("STOPPING=1", refused + 1, SOON);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}
