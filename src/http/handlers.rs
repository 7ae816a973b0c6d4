//! One function for each path, and what decides between 200 and 503.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::guard::Closed;
use super::json::{
    ErrorDocument, HistoryDocument, PlanDocument, StatusDocument, TopologyDocument, history_document, plan_document,
    reason_document, status_document, topology_document,
};
use super::rate::Limited;
use super::{AppState, orders};
use crate::clock::Now;
use crate::daemon::Status;
use crate::journal::HISTORY_MAX;
use crate::metrics;

/// Polls that may fail to happen before somebody should look: one may be late, two may fall on a failover.
const POLLS_MISSED_MAX: u32 = 3;

/// What happened so far, as Prometheus takes it.
#[utoipa::path(get, path = "/metrics", tag = "operations", security((), ("token" = [])), responses(Closed, (status = OK, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    match state.metrics.render(&state.latest()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be told: {error}")),
    }
}

/// Whether the process lives; never because of what the cluster does.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = OK, content_type = "text/plain", body = String), (status = SERVICE_UNAVAILABLE, description = "The supervisor has not turned for long", content_type = "text/plain", body = String)))]
pub(super) async fn healthz(State(state): State<AppState>) -> Response {
    told(state.health())
}

/// Whether what it says of the cluster is up to date.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = OK, content_type = "text/plain", body = String), (status = SERVICE_UNAVAILABLE, description = "The cluster has not been read for long", content_type = "text/plain", body = String)))]
pub(super) async fn readyz(State(state): State<AppState>) -> Response {
    told(readiness(&state.latest(), Now::read(), (state.poll)()))
}

/// What runs, how far it has come, and why nothing (more) is moved.
#[utoipa::path(get, path = "/api/v1/status", tag = "state", security((), ("token" = [])), responses(Closed, (status = OK, body = StatusDocument), Limited))]
pub(super) async fn status(State(state): State<AppState>) -> Response {
    fresh(status_document(&state.latest(), Now::read()))
}

/// Shards, slots, open slots, findings.
#[utoipa::path(get, path = "/api/v1/topology", tag = "state", security((), ("token" = [])), responses(Closed, (status = OK, body = TopologyDocument), (status = SERVICE_UNAVAILABLE, description = "The cluster has not been read yet", body = ErrorDocument), Limited))]
pub(super) async fn topology(State(state): State<AppState>) -> Response {
    let status = state.latest();
    match &status.view {
        Some(view) => fresh(topology_document(&view.topology, &view.infos)),
        None => unavailable("the cluster has not been read yet", &status),
    }
}

/// What is to move, and why.
#[utoipa::path(get, path = "/api/v1/plan", tag = "state", security((), ("token" = [])), responses(Closed, (status = OK, body = PlanDocument), (status = SERVICE_UNAVAILABLE, description = "There is none at present", body = ErrorDocument), Limited))]
pub(super) async fn plan(State(state): State<AppState>) -> Response {
    let status = state.latest();
    match &status.plan {
        Some(plan) => fresh(plan_document(plan)),
        None => unavailable("there is no plan at present", &status),
    }
}

/// Which part of the history is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// How many moves at the most; all that there are without it, which are a thousand at the most.
    limit: Option<usize>,
}

/// Moves that ended, newest first.
#[utoipa::path(get, path = "/api/v1/history", tag = "state", params(HistoryQuery), security((), ("token" = [])), responses(Closed, (status = OK, body = HistoryDocument), (status = BAD_REQUEST, description = "`limit` is no number", body = ErrorDocument), Limited))]
pub(super) async fn history(
    State(state): State<AppState>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => fresh(history_document(state.latest().history.iter(), query.limit.unwrap_or(HISTORY_MAX))),
        Err(rejection) => failure(rejection.status(), rejection.body_text()),
    }
}

pub(super) async fn not_found(uri: Uri) -> Response {
    failure(StatusCode::NOT_FOUND, format!("there is nothing at {}; / lists what there is", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let takes = if orders::PATHS.contains(&uri.path()) { "POST" } else { "GET and HEAD" };
    failure(StatusCode::METHOD_NOT_ALLOWED, format!("{} takes {takes}, not {method}", uri.path()))
}

/// Whether the process lives: 503 asks for a restart, so it never depends on what the cluster does.
pub(super) fn health(status: &Status, now: Now, poll: Duration) -> Result<String, String> {
    let (age, limit) = (now.since(status.turned), poll * POLLS_MISSED_MAX);
    let what = format!("the supervisor turned {} ago", seconds(age));
    if age < limit { Ok(what) } else { Err(format!("{what}; it should every {}", seconds(poll))) }
}

/// Whether what it says of the cluster is up to date: 503 asks nobody to do anything but to wait.
pub(super) fn readiness(status: &Status, now: Now, poll: Duration) -> Result<String, String> {
    let limit = poll * POLLS_MISSED_MAX;
    let seen = match &status.view {
        None => Err("the cluster has not been read yet".to_owned()),
        Some(view) => {
            let age = now.since(view.at);
            let what = format!("the cluster was last read {} ago", seconds(age));
            if age < limit { Ok(what) } else { Err(format!("{what}, a view is fresh for {}", seconds(limit))) }
        }
    };
    seen.map_err(|why| match status.look_errors.as_slice() {
        [] => why,
        errors => format!("{why}: {}", errors.join("; ")),
    })
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

impl AppState {
    /// The status as last published. A copy: nothing is locked while an answer is made.
    pub(super) fn latest(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Whether the process lives, as `/healthz` tells it, and why not.
    pub fn health(&self) -> Result<String, String> {
        health(&self.latest(), Now::read(), (self.poll)())
    }
}

fn told(judged: Result<String, String>) -> Response {
    match judged {
        Ok(text) => (StatusCode::OK, format!("ok: {text}\n")),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ok: {text}\n")),
    }
    .into_response()
}

/// A document that is true only now.
pub(super) fn fresh(document: impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(document)).into_response()
}

/// There is no such document yet, or none at present.
fn unavailable(what: &str, status: &Status) -> Response {
    let reasons = status.reasons.iter().map(reason_document).collect();
    (StatusCode::SERVICE_UNAVAILABLE, Json(ErrorDocument { error: what.to_owned(), reasons })).into_response()
}

pub(super) fn failure(code: StatusCode, error: String) -> Response {
    (code, Json(ErrorDocument { error, reasons: Vec::new() })).into_response()
}
