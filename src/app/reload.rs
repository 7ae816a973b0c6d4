//! Takes a changed configuration over: on SIGHUP, and when the file changes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::logging::LevelHandle;
use super::systemd;
use crate::cli::RunArgs;
use crate::config::{Config, FileStamp};
use crate::metrics::Metrics;

/// How often the file is looked at. A link that is swapped, as Kubernetes does with a mounted configuration, is seen too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a reload works with.
pub(super) struct Reload {
    pub(super) args: RunArgs,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) config_error: watch::Sender<Option<String>>,
    pub(super) poll: watch::Sender<Duration>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) level: LevelHandle,
}

/// Watches until it is aborted. SIGHUP is heeded from the call on: until then it ends the process.
pub(super) fn watch(reload: Reload) -> impl Future<Output = ()> {
    let hangup = signal(SignalKind::hangup());
    keep_watching(reload, hangup)
}

async fn keep_watching(reload: Reload, hangup: io::Result<Signal>) {
    let mut hangup = match hangup {
        Ok(hangup) => hangup,
        Err(error) => {
            warn!(%error, "SIGHUP cannot be heeded");
            return;
        }
    };
    let file = reload.args.cluster.config.clone();
    let stamp = || file.as_deref().map(FileStamp::of);
    let mut seen = stamp();
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {
                let now = stamp();
                // A file that is being replaced may be gone for a moment.
                let there = now.as_ref().is_some_and(|stamp| stamp.is_there());
                if now == seen || !there {
                    continue;
                }
            }
        }
        seen = stamp();
        reload.take();
    }
}

impl Reload {
    /// Reads the file; what is wrong with it is said, and the old configuration stays.
    fn take(&self) {
        systemd::reloading();
        let current = Arc::clone(&self.config.borrow());
        let read = self.args.config().map_err(|error| error.to_string());
        let taken = read.and_then(|new| {
            let changes = current.reload(&new).map_err(|error| error.to_string())?;
            Ok((new, changes))
        });
        match taken {
            Ok((new, changes)) => {
                let mode = new.schedule.mode;
                for change in &changes {
                    info!(%change, "configuration changed");
                }
                info!(changes = changes.len(), "configuration reloaded");
                self.level.set(new.log.level);
                self.poll.send_replace(new.schedule.poll);
                self.config_error.send_replace(None);
                self.config.send_replace(Arc::new(new));
                self.metrics.config_reloaded(true);
                systemd::ready(mode, true);
            }
            Err(why) => {
                error!(%why, "the configuration is kept as it was: the new one cannot be used");
                self.config_error.send_replace(Some(why));
                self.metrics.config_reloaded(false);
                systemd::ready(current.schedule.mode, false);
            }
        }
    }
}
