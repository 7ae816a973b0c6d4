//! `evenkeel run`: the daemon.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::engine::Engine;
use super::{logging, reload, systemd};
use crate::cli::{ExitStatus, RunArgs, UsageError};
use crate::config::{Reads, TokenSource};
use crate::daemon::Goal;
use crate::http;

/// `evenkeel run`.
pub(super) async fn run(args: RunArgs) -> anyhow::Result<ExitStatus> {
    let config = args.config()?;
    let token = TokenSource::of(&config.http);
    if config.http.reads == Reads::Token && token.token().map_err(UsageError::TokenToRead)?.is_none() {
        return Err(UsageError::NoTokenToRead.into());
    }
    let level = logging::init(&config.log);
    // Bound before anything is started: a port in use is an error at once, not after the first move.
    let listener = http::bind(config.http.listen)?;
    let listen = listener.local_addr()?;
    // Likewise a certificate that cannot be shown.
    let tls = config.http.tls.clone().map(http::Tls::read).transpose()?;
    let scheme = if tls.is_some() { http::Scheme::Https } else { http::Scheme::Http };
    info!(
        cluster = config.cluster.name, mode = %config.schedule.mode, %listen, scheme = scheme.name(),
        version = env!("CARGO_PKG_VERSION"), "evenkeel starts"
    );
    let engine = Engine::start(config.clone(), Goal::Keep).await?;
    let http_stop = CancellationToken::new();
    let (poll_sender, poll) = watch::channel(config.schedule.poll);
    let state = http::AppState {
        status: engine.status.clone(),
        metrics: Arc::clone(&engine.metrics),
        commands: engine.commands.clone(),
        guard: http::Guard { listen, scheme, token, reads: config.http.reads },
        streams: http::Streams::new(http_stop.clone()),
        poll: Arc::new(move || *poll.borrow()),
    };
    let renewing = tls.clone().map(|tls| {
        let files = engine.files.clone();
        tokio::spawn(async move { tls.renew(files).await })
    });
    let server = tokio::spawn(http::serve(listener, tls, http::router(state.clone()), http_stop.clone()));
    let reloading = tokio::spawn(reload::watch(reload::Reload {
        args,
        config: engine.config.clone(),
        config_error: engine.config_error.clone(),
        poll: poll_sender,
        metrics: Arc::clone(&engine.metrics),
        level,
    }));
    // Last: who is told that it is ready may ask for a reload at once.
    let telling = tokio::spawn(systemd::tell(state, engine.stop.clone(), http_stop.clone()));
    let ended = engine.ended().await;
    reloading.abort();
    if let Some(renewing) = renewing {
        renewing.abort();
    }
    http_stop.cancel();
    telling.await.context("what tells systemd ended by a bug")?;
    server.await.context("the HTTP server ended by a bug")?.context("the HTTP server failed")?;
    let ended = ended?;
    if ended.left_open.is_empty() {
        info!("evenkeel ends; no slot is open that is its own");
        return Ok(ExitStatus::Done);
    }
    warn!(slots = %ended.left_open, "evenkeel ends; these slots of its own are open with their marks, and the next start finishes them");
    Ok(ExitStatus::Left)
}
