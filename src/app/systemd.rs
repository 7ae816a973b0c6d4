//! What systemd is told of the daemon: that it is ready, that it reloads, that it lives, that it stops.
//!
//! It asks for this by `NOTIFY_SOCKET`, and for signs of life by `WATCHDOG_USEC`; unasked, nothing is told. The variables
//! stay set: to unset them is unsafe code, and the daemon starts no process that would heed them.

use std::env;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Mode;
use crate::http::AppState;

/// Tells it from the supervisor's first turn until all is over. That `stop` was cancelled is told before this returns.
pub(super) async fn tell(state: AppState, stop: CancellationToken, over: CancellationToken) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let mut status = state.status.clone();
    // The supervisor publishes a status at every turn, and ends without one only by a bug.
    if status.changed().await.is_err() {
        return;
    }
    let mode = status.borrow_and_update().mode;
    ready(mode, true);
    let stopping = async {
        tokio::select! {
            // Both may be cancelled by now: `stop` is looked at first.
            biased;
            () = stop.cancelled() => say(&[NotifyState::Stopping, NotifyState::Status("finishes the slots that are open")]),
            () = over.cancelled() => {}
        }
    };
    // Also while it stops, which takes as long as open slots do.
    let living = async {
        if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) {
            let fed = feed(limit, || state.health(), || say(&[NotifyState::Watchdog]));
            over.run_until_cancelled(fed).await;
        }
    };
    tokio::join!(stopping, living);
}

/// A reload begins. [`ready`] ends it.
pub(super) fn reloading() {
    // The time tells systemd which of several reloads this is.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "systemd is not told of a reload: there is no clock"),
    }
}

/// It does its work: from now on, or again after a reload that was taken or was refused.
pub(super) fn ready(mode: Mode, taken: bool) {
    let refused = if taken { "" } else { "; the changed configuration was refused" };
    say(&[NotifyState::Ready, NotifyState::Status(&format!("mode {mode}{refused}"))]);
}

/// Looks at the daemon's health for ever, and tells the watchdog of it where it is good.
async fn feed(limit: Duration, health: impl Fn() -> Result<String, String>, tell: impl Fn()) {
    let mut fed = true;
    loop {
        match health() {
            Ok(_) => {
                tell();
                fed = true;
            }
            Err(why) => {
                if fed {
                    warn!(%why, "systemd's watchdog is not told until this has passed");
                }
                fed = false;
            }
        }
        tokio::time::sleep(next_look(fed, limit)).await;
    }
}

/// How long after this look at the supervisor comes the next.
///
/// Half of the limit, as `sd_watchdog_enabled(3)` advises. One that was late is looked at again soon: that it was late at
/// the moment of one look must not cost a restart.
fn next_look(fed: bool, limit: Duration) -> Duration {
    if fed { limit / 2 } else { limit / 20 }
}

/// One datagram. The socket's queue is systemd's and empty as a rule, so this does not wait.
fn say(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Each look is `look`, and `told` where the watchdog was told of it.
    async fn check(healthy: &[bool], expect: &str) {
        let (answers, log, over) = (RefCell::new(healthy.iter()), RefCell::new(Vec::new()), CancellationToken::new());
        let health = || {
            let Some(healthy) = answers.borrow_mut().next() else {
                over.cancel();
                return Err("the story is over".to_owned());
            };
            log.borrow_mut().push("look");
            if *healthy { Ok("it turns".to_owned()) } else { Err("it stands".to_owned()) }
        };
        let fed = feed(Duration::from_millis(1), health, || log.borrow_mut().push("told"));
        over.run_until_cancelled(fed).await;
        assert_eq!(log.into_inner().join(" "), expect);
    }

    #[tokio::test]
    async fn the_watchdog_is_told_only_while_the_supervisor_turns() {
        check(&[true, true], "look told look told").await;
        check(&[true, false, false, true, false], "look told look look look told look").await;
        check(&[false], "look").await;
    }

    #[test]
    fn a_supervisor_that_is_late_at_some_looks_costs_no_restart() {
        let limit = Duration::from_secs(30);
        let (after_told, after_late) = (next_look(true, limit), next_look(false, limit));
        assert_eq!(after_told, Duration::from_secs(15));
        assert!(after_told + after_late * 5 < limit);
    }
}
