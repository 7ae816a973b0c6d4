//! How many requests are answered a second. All answers are made from memory; what is more than this is no monitor and no
//! person, but a loop that has gone wrong, or somebody who guesses tokens.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use utoipa::IntoResponses;

use super::handlers::failure;
use super::json::ErrorDocument;

/// What monitors and orchestrators ask.
const EXEMPT: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// Requests a second: some dashboards, some pages that are opened, and room.
const REQUESTS: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
/// Orders a second of those who may give any: they come from people, and each waits for the supervisor and a disk.
const ORDERS: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

/// A limit on requests of one kind.
#[derive(Clone)]
pub(super) struct Limit {
    limiter: Arc<DefaultDirectRateLimiter>,
    rate: NonZeroU32,
    what: &'static str,
}

impl Limit {
    /// On all requests but those of monitors and orchestrators, who would take a refusal for a fault of the process.
    pub(super) fn of_requests() -> Self {
        Self::new(REQUESTS, "requests")
    }

    /// On orders, once it is known that whoever gives them may.
    pub(super) fn of_orders() -> Self {
        Self::new(ORDERS, "orders")
    }

    /// After a rest a second's worth is answered at once.
    fn new(rate: NonZeroU32, what: &'static str) -> Self {
        Self { limiter: Arc::new(RateLimiter::direct(Quota::per_second(rate))), rate, what }
    }
}

/// What is answered to any request but those of monitors and orchestrators.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) enum Limited {
    /// Too many requests came in a short time.
    #[response(status = TOO_MANY_REQUESTS)]
    TooMany(ErrorDocument),
}

/// Answers with 429 what is too much.
pub(super) async fn limit(State(limit): State<Limit>, request: Request, next: Next) -> Response {
    let Limit { limiter, rate, what } = limit;
    if EXEMPT.contains(&request.uri().path()) || limiter.check().is_ok() {
        return next.run(request).await;
    }
    let why = format!("no more than {rate} {what} a second are answered");
    let mut response = failure(StatusCode::TOO_MANY_REQUESTS, why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
