//! The log: events with fields, to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Changes the level of the running log.
pub(super) struct LevelHandle(reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl LevelHandle {
    /// Takes the level of a new configuration, unless `RUST_LOG` decides.
    pub(super) fn set(&self, level: LogLevel) {
        if std::env::var_os("RUST_LOG").is_none() {
            let _ = self.0.reload(filter(level));
        }
    }
}

/// Begins to log. `RUST_LOG`, where it is set, decides what; else the configured level.
pub(super) fn init(config: &LogConfig) -> LevelHandle {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| filter(config.level));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // A log that cannot be set up twice is no fault: tests do so.
    let _ = match config.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
    };
    LevelHandle(handle)
}

fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(format!("{level},{}=off,rustls=warn,hyper=warn", crate::redis::LOG_TARGET))
}
