//! What a running evenkeel can be told: one function for each `POST`.
//!
//! A body must be announced as JSON. So a page of somebody else's, open in the browser of an operator, cannot send one:
//! browsers ask first whether they may, and are not answered.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::handlers::{failure, fresh};
use super::json::{RetryRequest, retry_document};
use crate::cluster::SlotSet;
use crate::daemon::NotHeard;

/// Where slots are put back that were set aside.
pub(super) const RETRY: &str = "/api/v1/retry";
/// Every path that takes `POST`.
pub(super) const PATHS: [&str; 1] = [RETRY];

pub(super) async fn retry(State(state): State<AppState>, body: Result<Json<RetryRequest>, JsonRejection>) -> Response {
    let Json(request) = match body {
        Ok(body) => body,
        Err(rejection) => return failure(rejection.status(), rejection.body_text()),
    };
    let slots = match request.slots.parse::<SlotSet>() {
        Ok(slots) if slots.is_empty() => return failure(StatusCode::BAD_REQUEST, "no slot is named".to_owned()),
        Ok(slots) => slots,
        Err(error) => return failure(StatusCode::BAD_REQUEST, format!("slots: {error}")),
    };
    match state.commands.retry(slots).await {
        Ok(retried) => fresh(retry_document(&retried)),
        Err(error) => not_heard(error),
    }
}

fn not_heard(error: NotHeard) -> Response {
    let code = match error {
        NotHeard::Full | NotHeard::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        NotHeard::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
    };
    failure(code, error.to_string()).into_response()
}
