//! What a running evenkeel can be told: one function for each `POST`.
//!
//! A body must be announced as JSON. So a page of somebody else's, open in the browser of an operator, cannot send one:
//! browsers ask first whether they may, and are not answered.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use utoipa::IntoResponses;

use super::AppState;
use super::handlers::{failure, fresh};
use super::json::{
    ApproveRequest, ApprovedDocument, DrainRequest, DrainedDocument, ErrorDocument, PauseRequest, PausedDocument,
    ResumeRequest, ResumedDocument, RetryDocument, RetryRequest, UndrainedDocument, approved_document,
    drained_document, paused_document, resumed_document, retry_document, undrained_document,
};
use crate::cluster::SlotSet;
use crate::daemon::{DrainError, NotHeard, PAUSE_MAX, node_name};

/// Where slots are put back that were set aside.
pub(super) const RETRY: &str = "/api/v1/retry";
/// Where the daemon is told to begin nothing new.
pub(super) const PAUSE: &str = "/api/v1/pause";
/// Where it is told to go on.
pub(super) const RESUME: &str = "/api/v1/resume";
/// Where it is told to leave a node's shard nothing.
pub(super) const DRAIN: &str = "/api/v1/drain";
/// Where it is told to give it its share again.
pub(super) const UNDRAIN: &str = "/api/v1/undrain";
/// Where a plan is approved.
pub(super) const APPROVE: &str = "/api/v1/approve";
/// Every path that takes `POST`.
pub(super) const PATHS: [&str; 6] = [RETRY, PAUSE, RESUME, DRAIN, UNDRAIN, APPROVE];

/// Why an order may be refused, whichever it is.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "for the description of the API")]
enum Refused {
    /// The body is no JSON, or a value is out of its range.
    #[response(status = BAD_REQUEST)]
    Malformed(ErrorDocument),
    /// A token is needed, or this is not the one.
    #[response(status = UNAUTHORIZED)]
    NoToken(ErrorDocument),
    /// Without a token only programs on the daemon's own machine are believed.
    #[response(status = FORBIDDEN)]
    Elsewhere(ErrorDocument),
    /// The body is longer than any order.
    #[response(status = PAYLOAD_TOO_LARGE)]
    TooLong(ErrorDocument),
    /// `Content-Type` is not `application/json`.
    #[response(status = UNSUPPORTED_MEDIA_TYPE)]
    NotJson(ErrorDocument),
    /// The body is JSON and not this order.
    #[response(status = UNPROCESSABLE_ENTITY)]
    Other(ErrorDocument),
    /// Too many orders came in a short time.
    #[response(status = TOO_MANY_REQUESTS)]
    TooMany(ErrorDocument),
    /// The daemon is stopping, too many orders wait, it has not read the cluster yet, or cannot read its token.
    #[response(status = SERVICE_UNAVAILABLE)]
    Busy(ErrorDocument),
    /// No answer came in time; the order may still be carried out.
    #[response(status = GATEWAY_TIMEOUT)]
    NoAnswer(ErrorDocument),
}

/// The body of an order; what is wrong with it is answered as every other refusal is.
pub(super) struct Order<T>(T);

impl<S: Send + Sync, T> FromRequest<S> for Order<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
{
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        match Json::from_request(request, state).await {
            Ok(Json(order)) => Ok(Self(order)),
            Err(rejection) => Err(failure(rejection.status(), rejection.body_text())),
        }
    }
}

/// Has slots tried again that were set aside.
#[utoipa::path(post, path = "/api/v1/retry", tag = "orders", request_body = RetryRequest, security((), ("token" = [])), responses(
    (status = OK, body = RetryDocument),
    Refused,
))]
pub(super) async fn retry(State(state): State<AppState>, Order(request): Order<RetryRequest>) -> Response {
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

/// Has open slots finished and nothing new begun.
#[utoipa::path(post, path = "/api/v1/pause", tag = "orders", request_body = PauseRequest, security((), ("token" = [])), responses(
    (status = OK, body = PausedDocument),
    Refused,
))]
pub(super) async fn pause(State(state): State<AppState>, Order(request): Order<PauseRequest>) -> Response {
    let length = request.for_s.map(Duration::from_secs);
    if length.is_some_and(|length| length.is_zero() || length > PAUSE_MAX) {
        let bounds =
            format!("for_s: 1 to {} seconds; without it, the pause lasts until /api/v1/resume", PAUSE_MAX.as_secs());
        return failure(StatusCode::BAD_REQUEST, bounds);
    }
    match state.commands.pause(length.map(|length| SystemTime::now() + length)).await {
        Ok(paused) => fresh(paused_document(&paused)),
        Err(error) => not_heard(error),
    }
}

/// Ends a pause.
#[utoipa::path(post, path = "/api/v1/resume", tag = "orders", request_body = ResumeRequest, security((), ("token" = [])), responses(
    (status = OK, body = ResumedDocument),
    Refused,
))]
pub(super) async fn resume(State(state): State<AppState>, Order(ResumeRequest {}): Order<ResumeRequest>) -> Response {
    match state.commands.resume().await {
        Ok(resumed) => fresh(resumed_document(&resumed)),
        Err(error) => not_heard(error),
    }
}

/// Has all slots moved away from the shard of a node, whatever the targets say.
#[utoipa::path(post, path = "/api/v1/drain", tag = "orders", request_body = DrainRequest, security((), ("token" = [])), responses(
    (status = OK, body = DrainedDocument),
    (status = NOT_FOUND, description = "No node or several have that name", body = ErrorDocument),
    (status = CONFLICT, description = "It is a replica, or no plan can leave it nothing", body = ErrorDocument),
    Refused,
))]
pub(super) async fn drain(State(state): State<AppState>, Order(request): Order<DrainRequest>) -> Response {
    match state.commands.drain(node_name(&request.node)).await {
        Ok(Ok(drained)) => fresh(drained_document(&drained)),
        Ok(Err(error)) => no_such_shard(&error),
        Err(error) => not_heard(error),
    }
}

/// Ends such a drain.
#[utoipa::path(post, path = "/api/v1/undrain", tag = "orders", request_body = DrainRequest, security((), ("token" = [])), responses(
    (status = OK, body = UndrainedDocument),
    (status = NOT_FOUND, description = "No node or several have that name", body = ErrorDocument),
    Refused,
))]
pub(super) async fn undrain(State(state): State<AppState>, Order(request): Order<DrainRequest>) -> Response {
    match state.commands.undrain(node_name(&request.node)).await {
        Ok(Ok(undrained)) => fresh(undrained_document(&undrained)),
        Ok(Err(error)) => no_such_shard(&error),
        Err(error) => not_heard(error),
    }
}

/// Has the plan with this hash carried out, exactly as it is.
#[utoipa::path(post, path = "/api/v1/approve", tag = "orders", request_body = ApproveRequest, security((), ("token" = [])), responses(
    (status = OK, body = ApprovedDocument),
    (status = CONFLICT, description = "The plan is another one by now, or none waits", body = ErrorDocument),
    Refused,
))]
pub(super) async fn approve(State(state): State<AppState>, Order(request): Order<ApproveRequest>) -> Response {
    match state.commands.approve(request.hash).await {
        Ok(Ok(agreed)) => fresh(approved_document(&agreed)),
        Ok(Err(error)) => failure(StatusCode::CONFLICT, error.to_string()),
        Err(error) => not_heard(error),
    }
}

fn no_such_shard(error: &DrainError) -> Response {
    let code = match error {
        DrainError::NoPicture => StatusCode::SERVICE_UNAVAILABLE,
        DrainError::Name(_) => StatusCode::NOT_FOUND,
        DrainError::Replica { .. } | DrainError::Infeasible(_) => StatusCode::CONFLICT,
    };
    failure(code, error.to_string())
}

fn not_heard(error: NotHeard) -> Response {
    let code = match error {
        NotHeard::Full | NotHeard::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        NotHeard::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
    };
    failure(code, error.to_string()).into_response()
}
