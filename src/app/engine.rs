//! Poller and supervisor, started together: the same engine for the daemon and for the commands that move slots.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::instance;
use crate::config::{Config, Mode};
use crate::daemon::{
    Commands, Ended, Files, Goal, Lease, Parts, PollOrders, PollSettings, Records, Sight, Status, Supervisor, commands,
    poll, watch_files,
};
use crate::metrics::Metrics;
use crate::redis::{Dialer, Intent};

/// A running engine.
pub(super) struct Engine {
    /// What it knows and does.
    pub(super) status: watch::Receiver<Arc<Status>>,
    /// Its counters.
    pub(super) metrics: Arc<Metrics>,
    /// Takes a new configuration.
    pub(super) config: watch::Sender<Arc<Config>>,
    /// Takes the fault of a configuration that was refused.
    pub(super) config_error: watch::Sender<Option<String>>,
    /// What was seen of the files of passwords and certificates.
    pub(super) files: watch::Receiver<Files>,
    /// Tells it what to do while it runs.
    pub(super) commands: Commands,
    /// Asks it to come to rest: open slots are finished within `schedule.stop_grace`.
    pub(super) stop: CancellationToken,
    supervisor: JoinHandle<Ended>,
    poller: JoinHandle<()>,
    poller_stop: CancellationToken,
    /// What keeps the lease, and asks it to give it back.
    keeper: Option<JoinHandle<()>>,
    keeper_stop: CancellationToken,
}

impl Engine {
    /// Starts it. Fails when the journal that is configured cannot be used.
    pub(super) async fn start(config: Config, goal: Goal) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new(&config.cluster.name).context("the metrics cannot be registered")?);
        let instance = instance();
        let records = Records::open(config.state.dir.clone(), &instance).await?;
        let intent = if config.schedule.mode == Mode::Act { Intent::Acting } else { Intent::Observing };
        let dialer = Dialer::new(&config, intent, &instance);
        let settings =
            PollSettings { dialer, seeds: config.cluster.seeds.clone(), every: config.schedule.poll, file_changes: 0 };
        let (poll_settings, settings) = watch::channel(settings);
        let (sights_sender, sights) = watch::channel(Sight::default());
        let (config_sender, config) = watch::channel(config);
        let (config_error, config_error_receiver) = watch::channel(None);
        let (stop, hurry, poller_stop) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let (commands, orders) = commands();
        let keeper_stop = CancellationToken::new();
        let (files_sender, files) = watch::channel(Files::default());
        tokio::spawn(watch_files(config.clone(), files_sender, poller_stop.clone()));
        let nudge = Arc::new(Notify::new());
        let first = Status::first(&Arc::clone(&config.borrow()), &instance);
        let (status_sender, status) = watch::channel(Arc::new(first));
        let (lease, keeper) = Lease::keep(config.clone(), Some(status.clone()), &instance, keeper_stop.clone());
        let (alarmed, alarm) = watch::channel(false);
        let (rest_sender, rest) = watch::channel(None);
        let orders_of_poller = PollOrders { alarm, rest, nudge: Arc::clone(&nudge) };
        let poller = tokio::spawn(poll(settings, orders_of_poller, sights_sender, poller_stop.clone()));
        let supervisor = Supervisor::new(Parts {
            config,
            config_error: config_error_receiver,
            goal,
            instance,
            sights,
            nudge,
            alarmed,
            rest: rest_sender,
            poll_settings,
            status: status_sender,
            metrics: Arc::clone(&metrics),
            records,
            lease,
            files: files.clone(),
            orders,
            stop: stop.clone(),
            hurry: hurry.clone(),
        });
        let supervisor = tokio::spawn(Box::pin(supervisor.run()));
        tokio::spawn(heed_signals(stop.clone(), hurry));
        let config = config_sender;
        Ok(Self {
            status,
            metrics,
            config,
            config_error,
            files,
            commands,
            stop,
            supervisor,
            poller,
            poller_stop,
            keeper,
            keeper_stop,
        })
    }

    /// Waits until it has come to rest.
    pub(super) async fn ended(self) -> anyhow::Result<Ended> {
        let ended = self.supervisor.await.context("the supervisor ended by a bug")?;
        self.keeper_stop.cancel();
        if let Some(keeper) = self.keeper {
            keeper.await.context("the lease's keeper ended by a bug")?;
        }
        self.poller_stop.cancel();
        self.poller.await.context("the poller ended by a bug")?;
        Ok(ended)
    }
}

/// The first SIGTERM or Ctrl-C asks to stop, a second one not to wait for the grace period.
pub(super) async fn heed_signals(stop: CancellationToken, hurry: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            warn!(%error, "signals cannot be heeded");
            return;
        }
    };
    for token in [stop, hurry] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    }
}
