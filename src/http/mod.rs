//! What a running evenkeel tells over HTTP: metrics, whether it lives, and its state as JSON; and what it can be told.
//!
//! `GET` changes nothing, and no answer waits for a server of the cluster: it is made from the last [`Status`] that the
//! supervisor published. `POST` asks the supervisor through [`Commands`], the one door, and waits for its word only.

mod events;
mod guard;
mod handlers;
pub mod json;
mod openapi;
mod orders;
mod page;
mod rate;
mod secure;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use axum::serve::Listener;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;
use tracing::warn;

pub use events::Streams;
pub use guard::{Guard, Scheme};
pub use secure::{Tls, TlsError};

use rate::Limit;

use crate::daemon::{Commands, Status};
use crate::metrics::Metrics;

/// How long one answer may take. All are made from memory: one that takes longer than this never comes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest body of a request: every slot by itself, written out, is 96 KiB.
const BODY_MAX: usize = 128 << 10;
/// How long connections may go on when the process ends. Well below `schedule.stop_grace`, which slots need.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// What the answers are made from.
#[derive(Clone)]
pub struct AppState {
    /// The state of the daemon.
    pub status: watch::Receiver<Arc<Status>>,
    /// What happened so far.
    pub metrics: Arc<Metrics>,
    /// Tells the daemon what to do.
    pub commands: Commands,
    /// Who may tell it.
    pub guard: Guard,
    /// Who is told of every change.
    pub streams: Streams,
    /// `schedule.poll` as it is now: a reload may change it.
    pub poll: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// Every path: what tells as `GET` and `HEAD`, what changes something as `POST`. Other paths are answered with 404, other
/// methods with 405, both as JSON.
pub fn router(state: AppState) -> Router {
    let orders = Router::new()
        .route(orders::RETRY, post(orders::retry))
        .route(orders::PAUSE, post(orders::pause))
        .route(orders::RESUME, post(orders::resume))
        .route(orders::DRAIN, post(orders::drain))
        .route(orders::UNDRAIN, post(orders::undrain))
        .route(orders::APPROVE, post(orders::approve))
        .route_layer(middleware::from_fn_with_state(Limit::of_orders(), rate::limit))
        .route_layer(middleware::from_fn_with_state(state.guard.clone(), guard::admit));
    let reads = Router::new()
        .route("/metrics", get(handlers::metrics))
        .route("/api/v1/status", get(handlers::status))
        .route("/api/v1/topology", get(handlers::topology))
        .route("/api/v1/plan", get(handlers::plan))
        .route("/api/v1/history", get(handlers::history))
        .route("/api/v1/events", get(events::events))
        .route_layer(middleware::from_fn_with_state(state.guard.clone(), guard::admit_reader));
    // The rest tells nothing of the cluster.
    Router::new()
        .merge(orders)
        .merge(reads)
        .route("/", get(page::index))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/healthz", get(handlers::healthz))
        .route("/readyz", get(handlers::readyz))
        .route(openapi::PATH, get(openapi::serve))
        .fallback(handlers::not_found)
        .method_not_allowed_fallback(handlers::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Limit::of_requests(), rate::limit))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .with_state(state)
}

/// Answers until the token is cancelled, then waits for connections in mid-request to end, for three seconds at most.
///
/// What has not ended by then is left to end with the runtime. An error means that the listener cannot go on.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    token: CancellationToken,
) -> io::Result<()> {
    match tls {
        Some(tls) => serve_and_drain(tls.listener(listener), router, token, DRAIN_MAX).await,
        None => serve_and_drain(listener, router, token, DRAIN_MAX).await,
    }
}

async fn serve_and_drain<L: Listener<Addr = SocketAddr>>(
    listener: L,
    router: Router,
    token: CancellationToken,
    drain_max: Duration,
) -> io::Result<()> {
    let served = axum::serve(listener, router).with_graceful_shutdown(token.clone().cancelled_owned());
    let out_of_time = async {
        token.cancelled().await;
        tokio::time::sleep(drain_max).await;
    };
    tokio::select! {
        ended = served.into_future() => ended,
        () = out_of_time => {
            warn!(after_s = drain_max.as_secs_f64(), "http connections did not end in time and are left behind");
            Ok(())
        }
    }
}

/// Listens at an address. Must be called within a tokio runtime.
pub fn bind(listen: SocketAddr) -> Result<TcpListener, BindError> {
    let listening = || {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listening().map_err(|why| BindError::new(listen, why))
}

/// Why nothing listens at the address, and what to do about it.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another program has the port.
    #[error(
        "{listen} is in use: another evenkeel or another program listens there; stop it, or listen elsewhere \
         (http.listen, --listen, EVENKEEL_LISTEN)"
    )]
    InUse {
        /// The address.
        listen: SocketAddr,
    },
    /// The system does not let us.
    #[error("not permitted to listen at {listen}: ports below 1024 need privileges; choose a higher one (http.listen)")]
    NotPermitted {
        /// The address.
        listen: SocketAddr,
    },
    /// No network interface has the address.
    #[error(
        "cannot listen at {listen}: this machine does not have that address; use one that it has, or 0.0.0.0 for all \
         (http.listen)"
    )]
    NotOurs {
        /// The address.
        listen: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen at {listen}: {why}")]
    Other {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        why: io::Error,
    },
}

impl BindError {
    fn new(listen: SocketAddr, why: io::Error) -> Self {
        let kind = why.kind();
        if kind == io::ErrorKind::AddrInUse {
            Self::InUse { listen }
        } else if kind == io::ErrorKind::PermissionDenied {
            Self::NotPermitted { listen }
        } else if kind == io::ErrorKind::AddrNotAvailable {
            Self::NotOurs { listen }
        } else {
            Self::Other { listen, why }
        }
    }
}
